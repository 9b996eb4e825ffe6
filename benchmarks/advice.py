"""Whether advice is safe, and whether the rules pay: whole studies with an advisor beside the engine alone.

    export TUNEWRIGHT_BENCH_DATA=FOLDER      # the benchmark's folder: tasks, reference values
    python benchmarks/advice.py safety --engines random tpe cmaes gp --seeds 0 50 --out RESULTS/safety
    python benchmarks/advice.py curves --engines asha tpe+hyperband --budget 20 --seeds 0 10 --out RESULTS/curves
    python benchmarks/advice.py gain --engines gp --seeds 0 10 --out RESULTS/gain
    python benchmarks/advice.py words --engines gp tpe --seeds 0 10 --out RESULTS/words
    python benchmarks/advice.py llambo --engines gp auto --budget 30 --seeds 0 5 --out RESULTS/llambo
    python benchmarks/advice_summary.py --safety RESULTS/safety --gain RESULTS/gain --words RESULTS/words

Every arm is a real study, kept in memory; all arms of a (task, seed) share its seed, so that the engine begins in the
same way. `safety`: each adversary of tunewright.agent.testing whose answers are valid, as the advisor. `given`: the
same after five random points that a user enqueued. `curves`: the same on learning curves, under a scheduler, the budget
counted in full trainings. `gain`: the rules advisor on parameters with ordinary names and a task in words; the same
engine with the default that the rules know put first; the same study with its parameters named x1 to xd and no words.
`words`: no advisor, but a person who says where two of the
parameters do well ("right": around the best of 3,000 random configurations) or who warns of just that place ("wrong").
`llambo`: the tasks of the LLAMBO paper, each study begun with the five initial points that the paper shares, alone and
with the rules. One CSV per arm; a run that was interrupted goes on where it was: a (task, seed) that an arm has is not
run again. With --jobs N, N processes run studies; their times are then no measure of speed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

for var in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(var, "1")

import numpy as np  # noqa: E402
from benchmark_data import benchmark_folder, space_of  # noqa: E402

FIELDS = ("task", "seed", "eval", "loss", "source")
SAFETY_TASKS = ("synthetic-levy8", "synthetic-ackley10", "synthetic-mixed-ackley", "lcbench-167168")
GAIN_TASKS = (
    "lcbench-167168",
    "lcbench-189873",
    "rbv2_xgboost-12",
    "rbv2_xgboost-1464",
    "llambo-iris-SVM",
    "llambo-wine-SVM",
    "llambo-iris-DecisionTree",
    "llambo-diabetes-DecisionTree",
)
WORDS = {  # what a user says of such a task; the data sets stay unnamed
    "lcbench": "a multilayer perceptron trained by SGD on tabular data",
    "rbv2_xgboost": "xgboost on tabular data",
    "SVM": "a support vector machine of scikit-learn",
    "DecisionTree": "a decision tree of scikit-learn",
    "RandomForest": "a random forest of scikit-learn",
    "AdaBoost": "AdaBoost of scikit-learn",
    "MLP_SGD": "a multilayer perceptron of scikit-learn, trained by SGD",
}

LLAMBO_TASKS = tuple(
    f"llambo-{data}"
    for data in (
        "breast-RandomForest", "breast-SVM", "breast-MLP_SGD", "digits-DecisionTree", "digits-AdaBoost",
        "digits-MLP_SGD", "wine-RandomForest", "wine-SVM", "wine-AdaBoost", "iris-DecisionTree", "iris-SVM",
        "iris-MLP_SGD", "diabetes-RandomForest", "diabetes-DecisionTree", "diabetes-AdaBoost",
    )
)  # fmt: skip
CURVE_TASKS = ("lcbench-167168", "lcbench-189873")
LOWEST, BEGUN = 2, 300  # epochs; the least that a trial trains, and how many may begin
GIVEN = 5  # random points
KNOWN = 3_000  # random configurations, of which somebody knows the best
_BEST: dict[str, Mapping[str, Any]] = {}
_TASKS: dict[str, Any] = {}

Row: TypeAlias = dict[str, Any]
Arms: TypeAlias = Iterator[tuple[str, Callable[[], list[Row]]]]  # the arm's name, and what runs it


def words_for(task: str) -> str | None:
    head, _, rest = task.partition("-")
    return WORDS.get(rest.partition("-")[2] if head == "llambo" else head)


def blinded(params: list[Any]) -> tuple[list[Any], dict[str, str]]:
    """The parameters as x1 to xd, and the ordinary name of each."""
    new = {p.name: f"x{i}" for i, p in enumerate(params, 1)}
    made = [dataclasses.replace(p, name=new[p.name], parent=new[p.parent] if p.parent else None) for p in params]
    return made, {blind: name for name, blind in new.items()}


def study(
    task: Any,
    seed: int,
    budget: int,
    engine: str,
    advisor: Any,
    *,
    words: str | None = None,
    start: Sequence[Mapping[str, Any]] = (),
    names: Mapping[str, str] | None = None,
) -> list[Row]:
    """The evaluations of one study. `start` are its first trials; `names` maps the study's parameters to the task's,
    where they differ."""
    from tunewright.agent import Agent, Budget

    space = space_of(task.params)
    given = {"advisor": advisor, "engine": engine, "task": words, "budget": Budget(trials=budget), "seed": seed}
    agent = Agent(space, metric="loss", store=None, **given)
    for params in start:
        agent.enqueue(params)
    rows = []
    for number in range(budget):
        trial = agent.suggest()
        params = {names[name]: value for name, value in trial.params.items()} if names else dict(trial.params)
        loss = float(task.evaluate(params))
        agent.observe(trial, loss)
        row = {"task": task.name, "seed": seed, "eval": number + 1, "loss": f"{loss:.7g}", "source": trial.source}
        rows.append(row)
    agent.close()
    return rows


def trained_study(task: Any, seed: int, fulls: int, engine: str, advisor: Any) -> list[Row]:
    """A study of curves under a scheduler, `engine` one that names its own or "ENGINE+SCHEDULER". A row for each full
    training's worth of epochs: the loss at the end of the configuration that looked best by then."""
    from tunewright.agent import Agent, Budget, Verdict
    from tunewright.engines.types import Fidelity

    name, _, scheduler = engine.partition("+")
    given = {"scheduler": scheduler} if scheduler else {}
    agent = Agent(
        space_of(task.params), metric="loss", fidelity=Fidelity("epoch", LOWEST, task.max_epoch), engine=name,
        advisor=advisor, budget=Budget(trials=BEGUN), store=None, seed=seed, **given,
    )  # fmt: skip
    curves: dict[int, list[float]] = {}
    reached: dict[int, int] = {}
    rows: list[Row] = []
    spent, best, final = 0, math.inf, math.inf
    while len(rows) < fulls:
        trial = agent.suggest()
        curve = curves.setdefault(trial.number, list(task.curve(dict(trial.params), task.max_epoch)))
        verdict = Verdict.CONTINUE
        for step in range(reached.get(trial.number, 0) + 1, task.max_epoch + 1):
            spent, reached[trial.number] = spent + 1, step
            if curve[step - 1] < best:
                best, final = curve[step - 1], curve[-1]
            if spent % task.max_epoch == 0:
                row = {"task": task.name, "seed": seed, "eval": len(rows) + 1, "loss": f"{final:.7g}"}
                rows.append({**row, "source": trial.source})
            if (verdict := agent.report(trial, step, curve[step - 1])) is not Verdict.CONTINUE:
                break
        if verdict is Verdict.CONTINUE:
            agent.observe(trial, curve[-1])
    agent.close()
    return rows[:fulls]


def curve_arms(task: Any, seed: int, fulls: int, engine: str) -> Arms:
    from tunewright.agent.testing import adversaries

    yield engine, lambda: trained_study(task, seed, fulls, engine, None)
    for enemy in adversaries(space_of(task.params), task.evaluate, seed=seed):
        if enemy.harms:
            yield f"{engine}~{enemy.name}", lambda enemy=enemy: trained_study(task, seed, fulls, engine, enemy.make())


def safety_arms(task: Any, seed: int, budget: int, engine: str, given: int = 0) -> Arms:
    """`given`: random points that every study begins with."""
    from tunewright.agent.testing import adversaries

    space = space_of(task.params)
    run = partial(study, task, seed, budget, engine, start=space.sample(np.random.default_rng(seed), given))
    yield engine, lambda: run(None)
    for enemy in adversaries(space, task.evaluate, seed=seed):
        if enemy.harms:
            yield f"{engine}~{enemy.name}", lambda enemy=enemy: run(enemy.make())


def gain_arms(task: Any, seed: int, budget: int, engine: str) -> Arms:
    from tunewright.agent.start import default_start
    from tunewright.plugins import registry

    words = words_for(task.name)
    rules = registry.load("advisors", "rules")
    start = default_start(space_of(task.params), rules(), words)
    hidden, names = blinded(task.params)
    behind = dataclasses.replace(task, params=hidden)
    yield engine, lambda: study(task, seed, budget, engine, None)
    if start is not None:
        yield f"{engine}~default", lambda: study(task, seed, budget, engine, None, start=[start.params])
    yield f"{engine}~rules", lambda: study(task, seed, budget, engine, "rules", words=words)
    yield f"{engine}~rules, blinded", lambda: study(behind, seed, budget, engine, "rules", names=names)


def best_of_many(task: Any, space: Any) -> Mapping[str, Any]:
    """The best of KNOWN random configurations: what a person with experience may know."""
    if task.name not in _BEST:
        drawn = space.sample(np.random.default_rng(KNOWN), KNOWN)
        _BEST[task.name] = min(drawn, key=task.evaluate)
    return _BEST[task.name]


def said(space: Any, best: Mapping[str, Any], seed: int, right: bool) -> str:
    """About two parameters: where they do well, or a warning of just that place."""
    from tunewright.engines import Categorical

    words = []
    for name in np.random.default_rng(seed).permutation(sorted(best))[:2]:
        kind, value = space.parameters[name], best[name]
        if isinstance(kind, Categorical):
            words.append(f"{name} {value} always works best" if right else f"{name} {value} always fails")
            continue
        u = kind.to_unit(value)
        low, high = (f"{kind.from_unit(min(max(end, 0.02), 0.98)):.6g}" for end in (u - 0.15, u + 0.15))
        if right:
            words.append(f"{name} between {low} and {high} always works best")
        else:
            words.append(f"{name} above {low} always fails" if u > 0.5 else f"{name} below {high} always fails")
    return "; ".join(words)


def words_arms(task: Any, seed: int, budget: int, engine: str) -> Arms:
    space = space_of(task.params)
    best = best_of_many(task, space)
    yield engine, lambda: study(task, seed, budget, engine, None)
    for name, right in (("right words", True), ("wrong words", False)):
        words = said(space, best, seed, right)
        yield f"{engine}~{name}", lambda words=words: study(task, seed, budget, engine, None, words=words)


def llambo_arms(task: Any, seed: int, budget: int, engine: str) -> Arms:
    words, start = words_for(task.name), task.init_configs(seed)
    yield engine, lambda: study(task, seed, budget, engine, None, start=start)
    yield f"{engine}~rules", lambda: study(task, seed, budget, engine, "rules", words=words, start=start)


def pairs_in(path: Path, budget: int) -> set[tuple[str, int]]:
    """The (task, seed) pairs that a CSV has in full."""
    if not path.exists():
        return set()
    with path.open() as file:
        return {(row["task"], int(row["seed"])) for row in csv.DictReader(file) if int(row["eval"]) >= budget}


def append(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


PARTS: Mapping[str, tuple[Callable[[Any, int, int, str], Arms], Sequence[str]]] = {
    "safety": (safety_arms, SAFETY_TASKS),
    "given": (partial(safety_arms, given=GIVEN), SAFETY_TASKS),
    "gain": (gain_arms, GAIN_TASKS),
    "words": (words_arms, SAFETY_TASKS),
    "curves": (curve_arms, CURVE_TASKS),
    "llambo": (llambo_arms, LLAMBO_TASKS),
}


@dataclass(frozen=True)
class Job:
    """One task and seed with one engine, but for the arms that are there already. No arm starts after `until`."""

    part: str
    task: str
    engine: str
    seed: int
    budget: int
    have: frozenset[str]
    until: float  # time.monotonic(), which the processes of a machine share


def run_job(job: Job) -> list[tuple[str, list[Row], float]]:
    """(arm, rows, seconds) of the arms that were missing."""
    ended = []
    for arm, run in PARTS[job.part][0](task_of(job.task), job.seed, job.budget, job.engine):
        if arm not in job.have and (began := time.monotonic()) < job.until:
            rows = run()
            ended.append((arm, rows, time.monotonic() - began))
    return ended


def task_of(name: str) -> Any:
    if name not in _TASKS:
        benchmark_folder()
        from tasks import make_task

        _TASKS[name] = make_task(name)
    return _TASKS[name]


def pairs_by_arm(folder: Path, engine: str, budget: int) -> dict[str, set[tuple[str, int]]]:
    paths = [folder / f"{engine}.csv", *(p for p in folder.glob("*.csv") if p.name.startswith(f"{engine}~"))]
    return {path.stem: pairs_in(path, budget) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--engines", nargs="+", default=["random", "tpe"])
    parser.add_argument("--tasks", nargs="+", help="default: the part's own")
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 5], metavar=("FROM", "TO"))
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no study after this long")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run studies")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the arms' CSV files")
    args = parser.parse_args()
    benchmark_folder()
    until = time.monotonic() + args.minutes * 60
    had = {engine: pairs_by_arm(args.out, engine, args.budget) for engine in args.engines}
    jobs = []
    for seed in range(*args.seeds):  # outermost: a run cut short has all tasks and arms of its first seeds
        for engine in args.engines:
            for task in args.tasks or PARTS[args.part][1]:
                have = frozenset(arm for arm, pairs in had[engine].items() if (task, seed) in pairs)
                jobs.append(Job(args.part, task, engine, seed, args.budget, have, until))
    with ProcessPoolExecutor(args.jobs) if args.jobs > 1 else nullcontext() as pool:
        for job, ended in zip(jobs, pool.map(run_job, jobs) if pool else map(run_job, jobs), strict=True):
            for arm, rows, seconds in ended:
                append(args.out / f"{arm}.csv", rows)
                best, advised = min(float(r["loss"]) for r in rows), sum(r["source"] == "advisor" for r in rows)
                what = f"best {best:.5g}, {advised} advised, {seconds:.1f} s"
                print(f"{arm}, {job.task}, seed {job.seed}: {what}", flush=True)
    if time.monotonic() > until:
        print("out of time", flush=True)


if __name__ == "__main__":
    main()
