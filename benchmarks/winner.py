"""What repeats at the end of a noisy run do to the winner that is called, at an equal number of trials.

    python benchmarks/winner.py --engine tpe --seeds 0 30

Each pair is one study by `Agent.tune`, whose last trials may be repeats, and one whose trials are all new, of the same
seed and the same luck in every trial; the mark is the true value of the configuration that each calls the best, less
the best true value of the function, in standard deviations of the function over its space. Noise is normal, its
standard deviation a part of the same unit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np

from tunewright.agent import Agent, Budget, Categorical, Float, Int, Space

TRIALS = 50
Params = Mapping[str, float]


def sphere(c: Params) -> float:
    return sum((c[f"x{i}"] - at) ** 2 for i, at in enumerate((0.3, 0.7, 0.55, 0.2)))


def branin(c: Params) -> float:
    x, y = 15 * c["x0"] - 5, 15 * c["x1"]
    bowl = (y - 5.1 / (4 * np.pi**2) * x * x + 5 / np.pi * x - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 9.602113)


def rastrigin(c: Params) -> float:
    z = (4 * (c[f"x{i}"] - at) for i, at in enumerate((0.35, 0.6, 0.45)))
    return float(sum(v * v - 2 * np.cos(2 * np.pi * v) + 2 for v in z))


def mixed(c: Mapping[str, object]) -> float:
    numbers = (float(c["x0"]) - 0.4) ** 2 + (float(c["x1"]) - 0.6) ** 2 + 0.02 * abs(int(c["n"]) - 7)  # type: ignore
    return numbers + {"a": 0.0, "b": 0.05, "c": 0.3}[str(c["k"])]


def reals(n: int) -> Space:
    return Space({f"x{i}": Float(0, 1) for i in range(n)})


MIXED = Space({"x0": Float(0, 1), "x1": Float(0, 1), "k": Categorical(["a", "b", "c"]), "n": Int(1, 16)})
TASKS: dict[str, tuple[Callable[..., float], Space]] = {
    "sphere": (sphere, reals(4)), "branin": (branin, reals(2)), "rastrigin": (rastrigin, reals(3)),
    "mixed": (mixed, MIXED),
}  # fmt: skip


def called(task: str, engine: str, noise: float, seed: int, again: bool) -> tuple[float, bool]:
    """(the true value of the best, in units; whether anything was run again)."""
    true, space = TASKS[task]
    unit = float(np.std([true(c) for c in space.sample(np.random.default_rng(0), 2000)]))

    def objective(trial: object) -> float:
        params, number = trial.params, trial.number  # type: ignore[attr-defined]
        return true(params) + noise * unit * np.random.default_rng([seed, number]).normal()

    agent = Agent(
        space, metric="loss", engine=engine, advisor=None, store=None, seed=seed, budget=Budget(trials=TRIALS)
    )
    with agent:
        if again:
            agent.tune(objective)
        else:
            for _ in range(TRIALS):
                trial = agent.suggest()
                agent.observe(trial, objective(trial))
        assert agent.best is not None
        repeats = any(t.source == "queue" for t in agent.trials)
        return true(agent.best.params) / unit, repeats


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="tpe")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 30))
    parser.add_argument("--noise", type=float, nargs="+", default=(0.0, 0.1, 0.3))
    given = parser.parse_args()
    print("| engine | noise | pairs | with repeats | regret, all new | regret, with repeats | ratio | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for noise in given.noise:
        rows = []
        for task in TASKS:
            for seed in range(*given.seeds):
                with_repeats, repeats = called(task, given.engine, noise, seed, True)
                # Without a repeat the two are the same study.
                new = called(task, given.engine, noise, seed, False)[0] if repeats else with_repeats
                rows.append((new, with_repeats, repeats))
        new, ours, repeats = np.array(rows, dtype=float).T
        gain = ours - new
        print(
            f"| {given.engine} | {noise:g} | {len(rows)} | {repeats.mean():.0%} | {new.mean():.4f} | {ours.mean():.4f} "
            f"| {ours.mean() / new.mean():.3f} | {gain.mean():+.4f} ± {gain.std() / len(rows) ** 0.5:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
