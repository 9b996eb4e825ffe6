"""Our tuners on learning curves, beside the recorded peers: the same tasks and seeds, budgets counted in epochs.

    export TUNEWRIGHT_BENCH_DATA=FOLDER      # the benchmark's folder: tasks, recorded peers, reference values
    python benchmarks/multi_fidelity.py --method tunewright-auto --seeds 0 10 --out FOLDER_FOR_RESULTS
    python benchmarks/multi_fidelity.py --summary FOLDER_FOR_RESULTS

Every option of the benchmark's own run_mf.py is understood. Engine and scheduler are driven as a study drives them, by
one worker: a trial trains to the step that the scheduler names, reports its whole curve, rests, and goes on later from
where it was. No default configuration is given to any arm; the lowest step is the peers'.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from benchmark_data import benchmark_folder, space_of

from tunewright.agent.lineup import choices
from tunewright.agent.scheduling import AUTO, PAIRS, scheduler_of, usual_scheduler
from tunewright.engines import Objective, Observation
from tunewright.engines.schedulers import New, Resume, TrialView
from tunewright.engines.types import Fidelity, State, Verdict
from tunewright.plugins import registry

LOWEST = 2  # epochs; the least that the benchmark gives to every peer
Runs = dict[str, dict[tuple[str, int], dict[int, float]]]  # method -> (task, seed) -> full trainings -> regret
BUDGETS = (3, 5, 10, 20)  # in full trainings
RANDOM = 100  # full trainings of random search, to whose regret the cost is measured
ARMS = {
    **{f"tunewright-{name}": PAIRS[name] for name in ("asha", "bohb", "freeze-thaw", "hyperband")},
    "tunewright-auto": (AUTO, AUTO),  # what a study with a fidelity and nothing else named gets
    "tunewright-gp-asha": ("gp", "asha"),
    "tunewright-tpe-hyperband": ("tpe", "hyperband"),
    "tunewright-tpe-full": ("tpe", None),
}


def arm(engine_name: str, scheduler_name: str | None) -> Callable[[Any, int, Any], None]:
    """A method of the benchmark: trains until its meter says that the budget is spent."""

    def run(task: Any, seed: int, meter: Any) -> None:
        space, loss, fidelity = space_of(task.params), [Objective("loss")], Fidelity("epoch", LOWEST, task.max_epoch)
        modelled = fidelity if scheduler_name else None
        usual = usual_scheduler(AUTO, fidelity, loss) if scheduler_name == AUTO else scheduler_name
        choice = scheduler_of(usual)
        named = choices(engine_name, loss, space, choice and choice.name)[0].source.name
        engine = registry.load("engines", named)(space, loss, seed, fidelity=modelled)
        scheduler = choice and choice.make(loss, fidelity, seed, space)
        trials: list[dict[str, Any]] = []
        while True:
            action = New(fidelity.high) if scheduler is None else scheduler.next([])
            if isinstance(action, Resume):
                number, target = action.number, action.to
            else:
                number, target = len(trials), action.fidelity
                trials.append(dict(engine.ask(1, (), index=number, fidelity=target)[0].params))
            config = trials[number]
            value = float(meter.epoch(config, target))
            verdict = Verdict.CONTINUE
            if scheduler is not None:
                scheduler.started(number, action)
                curve = [(float(step), float(meter.epoch(config, step))) for step in range(1, target + 1)]
                verdict = scheduler.judge(TrialView(number, target, config), curve)
            state = State.PAUSED if verdict is Verdict.PAUSE else State.COMPLETE
            told = Observation(number, config, (value,), state, target)
            if scheduler is not None:
                scheduler.tell(told)
            engine.tell([told])

    return run


def summary(folder: Path, own: Path) -> None:
    """Normalised regret of `final`, mean over seeds, then tasks, by budget: on the peers' seeds, and on all of ours."""
    with (folder / "results" / "reference.csv").open() as file:
        reference = {r["task"]: (float(r["y_best"]), float(r["y_random"])) for r in csv.DictReader(file)}
    runs: Runs = {}
    for path in sorted([*(folder / "results" / "mf_raw").glob("*.csv"), *own.glob("*.csv")]):
        found: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
        with path.open() as file:
            for row in csv.DictReader(file):
                best, ordinary = reference[row["task"]]
                regret = max(0.0, (float(row["final"]) - best) / (ordinary - best))
                found[row["task"], int(row["seed"])][int(row["fulls"])] = regret
        runs[path.stem] = {key: at for key, at in found.items() if at.keys() >= set(BUDGETS)}
    counts = sorted(len(found) for found in runs.values())
    usual = {name: found for name, found in runs.items() if len(found) >= counts[len(counts) // 2]}
    common = set.intersection(*(set(found) for found in usual.values()))
    _table(f"{len(common)} pairs of task and seed that all of these have", usual, common)
    _reach_table(usual, common, _random_search(folder, reference, common))
    ours = {name: found for name, found in runs.items() if (own / f"{name}.csv").exists()}
    if ours:
        _table("all of our seeds", ours, set.intersection(*(set(found) for found in ours.values())))


def _table(title: str, runs: Runs, keys: set[tuple[str, int]]) -> None:
    tasks = {task for task, _ in keys}

    def regret(found: dict[tuple[str, int], dict[int, float]], budget: int) -> float:
        return _mean({key: found[key][budget] for key in keys})

    print(f"\n{title}: {len(tasks)} tasks, {len(keys)} runs each\n\n| method | " + " | ".join(map(str, BUDGETS)) + " |")
    print("|---|" + "---|" * len(BUDGETS))
    for name, found in sorted(runs.items(), key=lambda item: regret(item[1], BUDGETS[-1])):
        print(f"| {name} | " + " | ".join(f"{regret(found, budget):.3f}" for budget in BUDGETS) + " |")


def _random_search(folder: Path, reference: dict[str, tuple[float, float]], keys: set[tuple[str, int]]) -> float:
    """The mean regret after RANDOM full trainings of configurations drawn at random."""
    best: dict[tuple[str, int], list[float]] = defaultdict(list)
    with (folder / "results" / "raw" / "random.csv").open() as file:
        for row in csv.DictReader(file):
            if (key := (row["task"], int(row["seed"]))) in keys and len(best[key]) < RANDOM:
                low, ordinary = reference[row["task"]]
                best[key].append((float(row["loss"]) - low) / (ordinary - low))
    return _mean({key: min(values) for key, values in best.items()})


def _mean(regret: Mapping[tuple[str, int], float]) -> float:
    """Over seeds, then over tasks."""
    tasks = {task for task, _ in regret}
    return mean(mean(value for (of, _), value in regret.items() if of == task) for task in tasks)


def _reach_table(runs: Runs, keys: set[tuple[str, int]], level: float) -> None:
    print(f"\nto {level:.3f}, the regret of random search after {RANDOM} full trainings\n")
    print("| method | full trainings | times fewer |\n|---|---|---|")
    lines = []
    for name, found in runs.items():
        budgets = sorted(set.intersection(*(set(found[key]) for key in keys)))
        at = next((b for b in budgets if _mean({key: found[key][b] for key in keys}) <= level), None)
        lines.append(
            (at or math.inf, f"| {name} | " + (f"{at} | {RANDOM / at:.0f} |" if at else f"more than {budgets[-1]} | |"))
        )
    print("\n".join(line for _, line in sorted(lines)))


def main() -> None:
    folder = benchmark_folder()
    if sys.argv[1:2] == ["--summary"]:
        if len(sys.argv) != 3:
            sys.exit("--summary needs the folder that --out named.")
        summary(folder, Path(sys.argv[2]))
        return
    import run_mf

    run_mf.METHODS.update({name: arm(*pair) for name, pair in ARMS.items()})
    run_mf.main()


if __name__ == "__main__":
    main()
