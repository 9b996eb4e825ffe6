"""What an optimizer itself costs: milliseconds of one suggestion and its result, with N finished trials before it.

    python benchmarks/overhead.py --sizes 100 1000 5000 --peers OTHER_ENVIRONMENT/bin/python --csv times.csv

Every arm gets the same trials of the same mixed space of ten parameters and then goes on by itself. An arm whose
library cannot be imported is left out with a line that says so; with --peers another interpreter, in which the
peers are installed, runs this file for those, and one table is printed of both.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Name: (kind, low, high, log) or the choices.
SPACE: dict[str, tuple[str, float, float, bool] | list[str]] = {
    **{f"float{i}": ("float", 0.0, 1.0, False) for i in range(3)},
    **{f"rate{i}": ("float", 1e-5, 1.0, True) for i in range(2)},
    **{f"count{i}": ("int", 1, 64, False) for i in range(2)},
    "width": ("int", 1, 1024, True),
    "letter": list("abcd"),
    "switch": ["on", "off"],
}
FIELDS = ("arm", "trials", "median_ms", "first_ms", "repeats")
Params = dict[str, Any]
Turn = Callable[[], None]


def sample(rng: np.random.Generator) -> Params:
    params: Params = {}
    for name, p in SPACE.items():
        if isinstance(p, list):
            params[name] = p[rng.integers(len(p))]
            continue
        kind, low, high, log = p
        value = math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high)
        params[name] = round(value) if kind == "int" else value
    return params


def loss(params: Params) -> float:
    bowl = sum((params[f"float{i}"] - 0.3) ** 2 for i in range(3)) + 0.1 * abs(math.log10(params["rate0"]) + 3)
    return float(bowl + (params["letter"] != "b") + params["count0"] / 100)


# ------------------------------------------------------------------------------------------------ arms


def our_space() -> Any:
    from tunewright.engines import Categorical, Float, Int, Space

    kinds = {"float": Float, "int": Int}
    return Space(
        {n: Categorical(p) if isinstance(p, list) else kinds[p[0]](p[1], p[2], log=p[3]) for n, p in SPACE.items()}
    )


def engine(name: str) -> Callable[[list[Params]], Turn]:
    def start(done: list[Params]) -> Turn:
        from tunewright.engines import Objective, Observation
        from tunewright.plugins import registry

        made = registry.load("engines", name)(our_space(), [Objective("loss")], 0)
        made.tell([Observation(k, params, (loss(params),)) for k, params in enumerate(done)])
        number = len(done)

        def turn() -> None:
            nonlocal number
            params = dict(made.ask(1, (), index=number)[0].params)
            made.tell([Observation(number, params, (loss(params),))])
            number += 1

        return turn

    return start


def agent(done: list[Params]) -> Turn:
    from tunewright.agent import Agent

    made = Agent(space=our_space(), metric="loss", engine="tpe", advisor=None, store=None)

    def turn() -> None:
        trial = made.suggest()
        made.observe(trial, loss(trial.params))

    for params in done:
        made.enqueue(params)
        turn()
    return turn


def optuna_sampler(name: str) -> Callable[[list[Params]], Turn]:
    def start(done: list[Params]) -> Turn:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kinds = {"float": optuna.distributions.FloatDistribution, "int": optuna.distributions.IntDistribution}
        space = {
            n: optuna.distributions.CategoricalDistribution(p) if isinstance(p, list) else kinds[p[0]](*p[1:])
            for n, p in SPACE.items()
        }
        study = optuna.create_study(sampler=getattr(optuna.samplers, name)(seed=0))
        study.add_trials([optuna.trial.create_trial(params=p, distributions=space, value=loss(p)) for p in done])

        def turn() -> None:
            trial = study.ask(space)
            study.tell(trial, loss(trial.params))

        return turn

    return start


ARMS: dict[str, Callable[[list[Params]], Turn]] = {
    "tunewright-tpe": engine("tpe"),
    "tunewright-gp": engine("gp"),
    "tunewright-agent": agent,
    "optuna-tpe": optuna_sampler("TPESampler"),
    "optuna-gp": optuna_sampler("GPSampler"),
}
PEERS = ("optuna-tpe", "optuna-gp")


# ------------------------------------------------------------------------------------------------ measuring


def measure(arms: list[str], sizes: list[int], repeats: int, seconds: float, cpu: bool) -> list[dict[str, str]]:
    rows, clock = [], time.process_time if cpu else time.perf_counter
    for arm in arms:
        for size in sorted(sizes):
            rng = np.random.default_rng(0)
            try:
                turn = ARMS[arm]([sample(rng) for _ in range(size)])
            except ImportError as error:
                print(f"{arm} is left out: {error}", file=sys.stderr)
                break
            times: list[float] = []
            while len(times) <= repeats and sum(times) < seconds * 1e3:
                start = clock()
                turn()
                times.append((clock() - start) * 1e3)
            # The first turn also fills caches; it is listed by itself where there is another.
            median = statistics.median(times[1:] or times)
            row = (arm, size, f"{median:.2f}", f"{times[0]:.2f}", max(len(times) - 1, 1))
            rows.append(dict(zip(FIELDS, map(str, row), strict=True)))
            if sum(times) >= seconds * 1e3:
                print(f"{arm}: {seconds:g} seconds are up at {size} trials, larger sizes are left out", file=sys.stderr)
                break
    return rows


def table(rows: list[dict[str, str]]) -> str:
    sizes = sorted({int(row["trials"]) for row in rows})
    times = {(row["arm"], int(row["trials"])): float(row["median_ms"]) for row in rows}
    base = "tunewright-tpe"
    lines = [f"milliseconds per suggestion and result, median (times that of {base})", ""]
    lines.append(f"{'finished trials':20}" + "".join(f"{size:>20}" for size in sizes))
    for arm in dict.fromkeys(row["arm"] for row in rows):
        cells = []
        for size in sizes:
            mine, its = times.get((base, size)), times.get((arm, size))
            ratio = f" ({its / mine:.1f})" if mine and its else ""
            cells.append(f"{'-' if its is None else f'{its:.2f}' + ratio:>20}")
        lines.append(f"{arm:20}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000, 10_000], help="finished trials")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30, help="of measuring for one arm and size")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--peers", metavar="PYTHON", help="the interpreter that has the peers")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall clock, on a busy machine")
    parser.add_argument("--csv", type=Path, help="write the times there too")
    args = parser.parse_args()
    away = [arm for arm in args.only if arm in PEERS] if args.peers else []
    rows = measure([arm for arm in args.only if arm not in away], args.sizes, args.repeats, args.seconds, args.cpu)
    if away:
        theirs = Path(f"{args.csv or 'overhead.csv'}.peers")
        limits = ["--repeats", str(args.repeats), "--seconds", str(args.seconds), "--csv", str(theirs)]
        limits += ["--cpu"] * args.cpu
        command = [args.peers, __file__, "--only", *away, "--sizes", *map(str, args.sizes), *limits]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows += list(csv.DictReader(theirs.read_text().splitlines()))
        theirs.unlink()
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
