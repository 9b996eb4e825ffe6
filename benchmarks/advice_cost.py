"""What an advisor that answers at once adds to a suggestion: milliseconds beside the engine's own time.

    python benchmarks/advice_cost.py --trials 100 --engines random tpe gp

The engine's own time is what passes inside it: asking, telling, scoring of advice. The rest is the product's: history,
digest, prompt, checks, and what is written to the store. A study without an advisor shows how much of the rest there
is anyway. Processor time, so that other programs on the machine count little; wall clock has the disk's waits too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.agent import Agent, Budget, Categorical, Float, Int
from tunewright.agent.lineup import Lineup
from tunewright.agent.testing import FakeAdvisor

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
    "layers": Int(1, 6),
    "dropout": Float(0, 0.5),
    "width": Int(16, 512, log=True),
    "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0, 0.99, when={"opt": "sgd"}),
}
ENGINE = ("ask", "tell", "reference", "score")


class Clock:
    """Adds up the time inside the engine."""

    def __init__(self, now: Callable[[], float]):
        self.now, self.inside, self._depth = now, 0.0, 0

    def around(self, method: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            began = self.now()
            try:
                return method(*args, **kwargs)
            finally:
                self._depth -= 1
                self.inside += (self.now() - began) if self._depth == 0 else 0.0

        return timed


def instant(seed: int) -> FakeAdvisor:
    """Three good configurations at once, so that it keeps its trust and is asked as often as any."""
    rng = np.random.default_rng(seed)

    def answer(request: Any) -> Any:
        points = request.space.sample(rng, 3)
        return [{**p, "lr": float(10 ** rng.normal(-2, 0.2)), "dropout": float(rng.uniform(0, 0.05))} for p in points]

    return FakeAdvisor(answer)


def run(
    engine: str, advisor: Any, trials: int, store: Path | None, now: Callable[[], float]
) -> list[tuple[bool, float]]:
    """For each suggestion after the tenth: whether the advisor was asked, and ms beside the engine's."""
    agent = Agent(
        SPACE, metric="loss", engine=engine, advisor=advisor, store=store, budget=Budget(trials=trials), seed=1
    )
    clock, out = Clock(now), []
    lineup = agent._suggester._engines._own
    for name in ENGINE:
        setattr(lineup, name, clock.around(getattr(Lineup, name).__get__(lineup)))
    for number in range(trials):
        asked, clock.inside, began = len(advisor.requests) if advisor else 0, 0.0, now()
        trial = agent.suggest()
        beside = (now() - began - clock.inside) * 1e3
        if number >= 10:
            out.append((bool(advisor) and len(advisor.requests) > asked, beside))
        agent.observe(trial, (trial["lr"] - 0.01) ** 2 + trial["dropout"])
    agent.close()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--engines", nargs="+", default=["random", "tpe"])
    options = parser.parse_args()
    run("random", instant(0), 40, None, time.perf_counter)  # what is imported late is imported now
    clocks = {"processor": lambda: time.process_time(), "wall": time.perf_counter}
    head = ("engine", "store", "clock", "alone", "with advice", "turns it was asked", "added, mean", "asked")
    print("  ".join(f"{word:>18}" for word in head))
    for engine in options.engines:
        for place in ("memory", "disk"):
            for clock, now in clocks.items():
                with tempfile.TemporaryDirectory() as folder:
                    files = [None, None] if place == "memory" else [Path(folder, f"{i}.db") for i in range(2)]
                    alone = [ms for _, ms in run(engine, None, options.trials, files[0], now)]
                    advised = run(engine, instant(0), options.trials, files[1], now)
                times, turns = [ms for _, ms in advised], [ms for asked, ms in advised if asked]
                added = statistics.mean(times) - statistics.mean(alone)
                row = (statistics.median(alone), statistics.median(times), statistics.median(turns or [0.0]), added)
                cells = [engine, place, clock, *(f"{ms:.2f} ms" for ms in row), str(len(turns))]
                print("  ".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
