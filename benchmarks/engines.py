"""Our engines alone, on the same tasks, seeds and budgets as the recorded peers.

    export TUNEWRIGHT_BENCH_DATA=FOLDER      # the benchmark's folder: tasks, recorded peers, reference values
    python benchmarks/engines.py --optimizer tunewright-gp tunewright-tpe --core --seeds 0 10 --out FOLDER_FOR_RESULTS

Every option of the benchmark's own run.py is understood, and every peer of it runs where its library is installed;
tunewright is imported only for an arm of ours. An engine is driven as a study drives it: asked with the index of its
proposal and told each result; the first proposal is the engine's own, no default is given to any arm.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from typing import Any

from benchmark_data import benchmark_folder, space_of

ENGINES = ("auto", "gp", "tpe", "forest", "cmaes", "evolution", "nsga2", "sobol", "random")
MARGIN = 0.05  # of a float's range, at each end, that --inner cuts off


def narrowed(params: list[Any]) -> list[Any]:
    """The parameters with MARGIN cut off both ends of every float, measured on the parameter's own scale."""

    def inner(p: Any) -> Any:
        if p.kind != "float":
            return p
        low, high = (math.log(p.low), math.log(p.high)) if p.log else (p.low, p.high)
        low, high = low + MARGIN * (high - low), high - MARGIN * (high - low)
        low, high = (math.exp(low), math.exp(high)) if p.log else (low, high)
        return dataclasses.replace(p, low=low, high=high)

    return [inner(p) for p in params]


class Alone:
    """One engine."""

    def __init__(self, engine: str, space: Any, seed: int):
        from tunewright.engines import Objective
        from tunewright.plugins import registry

        self._engine = registry.load("engines", engine)(space, [Objective("loss")], seed)
        self.tell = self._engine.tell

    def ask(self, index: int, pending: list[Any]) -> Any:
        return self._engine.ask(1, pending, index=index)[0]


class Auto:
    """What a study runs with engine="auto": an order of engines, each the fallback of the one before."""

    def __init__(self, space: Any, seed: int):
        from tunewright.agent.lineup import Lineup, choices
        from tunewright.engines import Objective

        objectives = [Objective("loss")]
        self._lineup = Lineup(choices("auto", objectives, space), space, objectives, seed)
        self.tell = self._lineup.tell

    def ask(self, index: int, pending: list[Any]) -> Any:
        asked = self._lineup.ask(index, pending)
        if asked.faults:  # a study would go on with the fallback; a benchmark must not hide that
            raise RuntimeError("; ".join(asked.faults))
        return asked.proposal


def arm(engine: str, batch: int = 1) -> type:
    """The benchmark's ask and tell around one of our engines: `batch` proposals are made, each with those before it
    pending, then all their results are told."""

    class Arm:
        native_conditions = True

        def __init__(self, params: list[Any], seed: int, budget: int):
            space = space_of(params)
            self._inside = Auto(space, seed) if engine == "auto" else Alone(engine, space, seed)
            self._waiting: list[Any] = []  # proposals made and not yet handed out
            self._untold: list[Any] = []
            self._asked = self._seen = 0

        def ask(self) -> dict[str, Any]:
            if not self._waiting:
                for _ in range(batch):
                    self._waiting.append(self._inside.ask(self._asked, list(self._waiting)))
                    self._asked += 1
            return dict(self._waiting.pop(0).params)

        def tell(self, config: dict[str, Any], loss: float) -> None:
            from tunewright.engines import Observation

            self._untold.append(Observation(self._seen, config, (float(loss),)))
            self._seen += 1
            if not self._waiting:
                self._inside.tell(self._untold)
                self._untold = []

        observe = tell

        def close(self) -> None:
            pass

    return Arm


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--inner", action="store_true", help="no arm may use the outer 5%% of any float's range")
    parser.add_argument("--batch", type=int, default=1, help="proposals of our engines that are evaluated at once")
    args, others = parser.parse_known_args()
    if args.inner and "--shared-init" in others:
        parser.error("--inner cannot keep shared initial points inside: leave out --shared-init")
    benchmark_folder()
    import run
    from optimizers import OPTIMIZERS

    OPTIMIZERS.update({f"tunewright-{name}": arm(name, args.batch) for name in ENGINES})
    if args.inner:
        whole = run.make_task

        def make_task(name: str) -> Any:
            task = whole(name)
            return dataclasses.replace(task, params=narrowed(task.params))

        run.make_task = make_task
    sys.argv[1:] = others
    run.main()


if __name__ == "__main__":
    main()
