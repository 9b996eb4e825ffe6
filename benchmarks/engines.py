"""Our engines alone, on the same tasks, seeds and budgets as the recorded peers.

    export TUNEWRIGHT_BENCH_DATA=FOLDER      # the benchmark's folder: tasks, recorded peers, reference values
    python benchmarks/engines.py --optimizer tunewright-gp tunewright-tpe --core --seeds 0 10 --out FOLDER_FOR_RESULTS

Every option of the benchmark's own run.py is understood. An engine is driven as a study drives it: asked with the
index of its proposal and told each result; the first proposal is the engine's own, no default is given to any arm.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tunewright.engines import Categorical, Float, Int, Objective, Observation, Space
from tunewright.plugins import registry

VARIABLE = "TUNEWRIGHT_BENCH_DATA"
ENGINES = ("gp", "tpe", "forest", "cmaes", "evolution", "nsga2", "sobol", "random")


def benchmark_folder() -> Path:
    folder = Path(os.environ.get(VARIABLE, ""))
    if not os.environ.get(VARIABLE) or not (folder / "run.py").is_file():
        sys.exit(f"Set {VARIABLE} to the folder of the benchmark (it holds run.py, tasks.py and data/).")
    os.environ.setdefault("YAHPO_DATA", str(folder / "data" / "yahpo"))
    os.environ.setdefault("LLAMBO_REPO", str(folder / "data" / "llambo"))
    return folder


def space_of(params: list[Any]) -> Space:
    """A task's neutral parameters as a Space."""
    made: dict[str, Any] = {}
    for p in params:
        when = {p.parent: list(p.when)} if p.parent else None
        if p.kind == "cat":
            made[p.name] = Categorical(list(p.choices), when=when)
        elif p.kind == "int":
            made[p.name] = Int(int(p.low), int(p.high), log=p.log, when=when)
        else:
            made[p.name] = Float(float(p.low), float(p.high), log=p.log, when=when)
    return Space(made)


def arm(engine: str) -> type:
    """The benchmark's ask and tell around one of our engines."""

    class Arm:
        native_conditions = True

        def __init__(self, params: list[Any], seed: int, budget: int):
            self._engine = registry.load("engines", engine)(space_of(params), [Objective("loss")], seed)
            self._asked = self._told = 0

        def ask(self) -> dict[str, Any]:
            (proposal,) = self._engine.ask(1, (), index=self._asked)
            self._asked += 1
            return dict(proposal.params)

        def tell(self, config: dict[str, Any], loss: float) -> None:
            self._engine.tell([Observation(self._told, config, (float(loss),))])
            self._told += 1

        observe = tell

        def close(self) -> None:
            pass

    return Arm


def main() -> None:
    sys.path.insert(0, str(benchmark_folder()))
    import run
    from optimizers import OPTIMIZERS

    OPTIMIZERS.update({f"tunewright-{name}": arm(name) for name in ENGINES})
    run.main()


if __name__ == "__main__":
    main()
