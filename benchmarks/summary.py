"""Compares recorded runs on the (task, seed) pairs that every listed arm has: tables of regret, plots of its course.

    export TUNEWRIGHT_BENCH_DATA=FOLDER      # the benchmark's folder: the peers' recorded runs, reference values
    python benchmarks/summary.py RESULTS --arms tunewright-gp optuna-tpe random --plots docs/img
    python benchmarks/summary.py one=RESULTS four=OTHERS --alone --arms one:tunewright-gp four:tunewright-gp
    python benchmarks/summary.py RESULTS --arms tunewright-gp optuna-tpe random --reach random:100

Normalised regret is (best so far - best known) / (median random configuration - best known), not below 0. Its mean is
taken over seeds, then over tasks. Beside it, for every arm but the base: the mean difference to the base over the
pairs with its standard error (positive: the base is better), the pairs that the base wins and loses, and the p of
Wilcoxon's signed-rank test. With --reach ARM:N, the evaluations that each arm takes to the mean regret that ARM has
after N. FOLDER/results/raw is read too; of two runs of the same pair the longer one counts.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import numpy as np
from benchmark_data import benchmark_folder

Pair = tuple[str, int]  # task, seed
Runs = dict[str, dict[Pair, np.ndarray]]  # arm -> pair -> (evaluations,) losses, or the regret after each of them
Regret = Mapping[Pair, np.ndarray]  # of one arm
SHOWN = (10, 25, 50, 100)


class Difference(NamedTuple):
    """Of an arm to the base, over pairs; positive where the base is better."""

    mean: float
    error: float
    wins: int  # of the base
    losses: int
    p: float


# ------------------------------------------------------------------------------------------------ reading


def load(folders: Iterable[str]) -> Runs:
    """The losses of every run in folders given as FOLDER or LABEL=FOLDER; a label goes before the arm's name."""
    runs: Runs = {}
    for given in folders:
        label, _, folder = given.rpartition("=")
        for path in sorted(Path(folder).glob("*.csv")):
            arm = runs.setdefault(f"{label}:{path.stem}" if label else path.stem, {})
            found: dict[Pair, list[float]] = defaultdict(list)
            with path.open() as file:
                for row in csv.DictReader(file):
                    found[row["task"], int(row["seed"])].append(float(row["loss"]))
            for pair, losses in found.items():
                if len(losses) > len(arm.get(pair, ())):
                    arm[pair] = np.array(losses)
    return runs


def read_reference(path: Path) -> dict[str, tuple[float, float]]:
    with path.open() as file:
        return {row["task"]: (float(row["y_best"]), float(row["y_random"])) for row in csv.DictReader(file)}


def regrets(runs: Runs, reference: Mapping[str, tuple[float, float]], seen: bool = False) -> Runs:
    """Normalised regret after each evaluation. A task without reference values is normalised by the best loss of all
    runs and the median of the arm `random`; with `seen`, every task takes the best loss of these runs."""
    best: dict[str, float] = {}
    ordinary: dict[str, list[float]] = defaultdict(list)
    for arm, pairs in runs.items():
        for (task, _), losses in pairs.items():
            best[task] = min(best.get(task, math.inf), float(losses.min()))
            ordinary[task] += losses.tolist() if arm == "random" else []

    def of(task: str, losses: np.ndarray) -> np.ndarray:
        low, high = reference.get(task) or (best[task], median(ordinary[task]))
        low = best[task] if seen else low
        return np.maximum((np.minimum.accumulate(losses) - low) / (high - low), 0.0)

    known = {task for task in best if task in reference or ordinary[task]}
    return {arm: {p: of(p[0], y) for p, y in pairs.items() if p[0] in known} for arm, pairs in runs.items()}


# ------------------------------------------------------------------------------------------------ comparing


def shared(runs: Runs, arms: Sequence[str], tasks: Iterable[str], at: int) -> list[Pair]:
    """The pairs of these tasks that every arm has evaluated at least `at` times."""
    having = [{pair for pair, values in runs.get(arm, {}).items() if len(values) >= at} for arm in arms]
    return sorted(pair for pair in set.intersection(*having) if pair[0] in set(tasks))


def mean_regret(arm: Regret, pairs: Sequence[Pair], at: int) -> float:
    """Over seeds, then over tasks."""
    seeds: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        seeds[pair[0]].append(float(arm[pair][at - 1]))
    return mean(mean(values) for values in seeds.values())


def difference(arm: Regret, base: Regret, pairs: Sequence[Pair], at: int) -> Difference:
    from scipy.stats import wilcoxon

    d = np.array([arm[pair][at - 1] - base[pair][at - 1] for pair in pairs])
    error = float(d.std(ddof=1) / math.sqrt(len(d))) if len(d) > 1 else math.nan
    p = float(wilcoxon(d).pvalue) if d.any() else 1.0
    return Difference(float(d.mean()), error, int((d > 0).sum()), int((d < 0).sum()), p)


def number(x: float, sign: str = "") -> str:
    return f"{x:{sign}.3f}".replace("0.", ".", 1) if abs(x) < 1 else f"{x:{sign}.3f}"


def table(title: str, runs: Runs, arms: Sequence[str], base: str, tasks: Sequence[str], shown: Sequence[int]) -> str:
    """Markdown; the empty text where no pair is shared."""
    common = {at: pairs for at in shown if (pairs := shared(runs, arms, tasks, at))}
    if not common:
        return ""
    heads = [f"at {at} ({len(pairs)} pairs)" for at, pairs in common.items()]
    lines = [f"### {title}", "", "| arm | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for arm in arms:
        cells = []
        for at, pairs in common.items():
            cell = number(mean_regret(runs[arm], pairs, at))
            if arm != base:
                d = difference(runs[arm], runs[base], pairs, at)
                cell += f" ({number(d.mean, '+')} ± {number(d.error)}; {d.wins}:{d.losses}; p {d.p:.2g})"
            cells.append(cell)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def reached(arm: Regret, pairs: Sequence[Pair], level: float) -> int | None:
    """The evaluations after which the mean regret of these pairs is at most `level`; None where it never is."""
    last = min(len(arm[pair]) for pair in pairs)
    return next((at for at in range(1, last + 1) if mean_regret(arm, pairs, at) <= level), None)


def reach_table(title: str, runs: Runs, arms: Sequence[str], tasks: Sequence[str], goal: str, at: int) -> str:
    """Evaluations to the mean regret of the arm `goal` at `at`, in Markdown; the empty text where no pair is shared."""
    pairs = [pair for pair in shared(runs, [*arms, goal], tasks, 1) if len(runs[goal][pair]) >= at]
    if not pairs:
        return ""
    level = mean_regret(runs[goal], pairs, at)
    lines = [f"### {title}: to {number(level)}, the regret of {goal} at {at} ({len(pairs)} pairs)", ""]
    lines += ["| arm | evaluations | times fewer |", "|---|---|---|"]
    for name in arms:
        found = reached(runs[name], pairs, level)
        most = min(len(runs[name][pair]) for pair in pairs)
        lines.append(f"| {name} | " + (f"{found} | {at / found:.1f} |" if found else f"more than {most} | |"))
    return "\n".join([*lines, ""])


def plot(path: Path, title: str, runs: Runs, arms: Sequence[str], tasks: Sequence[str], shown: Sequence[int]) -> bool:
    """Mean regret over evaluations, as far as all arms share pairs. Returns whether there was anything to draw."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tunewright"})  # small, the same every time
    from matplotlib import pyplot

    last = max((at for at in shown if shared(runs, arms, tasks, at)), default=0)
    if not last:
        return False
    pairs = shared(runs, arms, tasks, last)
    figure, axes = pyplot.subplots(figsize=(9, 4.2), layout="constrained")
    axes.set_prop_cycle(color=[*matplotlib.colormaps["tab10"].colors, *matplotlib.colormaps["Dark2"].colors])
    for arm in arms:
        style = {"linewidth": 2.2} if "tunewright" in arm else {"linewidth": 1.2, "linestyle": "--"}
        values = [mean_regret(runs[arm], pairs, at) for at in range(1, last + 1)]
        axes.plot(range(1, last + 1), values, label=arm, **style)
    axes.set(title=f"{title}, {len(pairs)} pairs", xlabel="evaluations", ylabel="normalised regret", xlim=(1, last))
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="[LABEL=]FOLDER", help="of our runs")
    parser.add_argument("--peers", nargs="+", default=[], metavar="FOLDER", help="more runs of peers")
    parser.add_argument("--alone", action="store_true", help="leave out the recorded runs: they are of another setting")
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--base", help="default: the first arm")
    parser.add_argument("--groups", nargs="+", help="default: core, all and every group")
    parser.add_argument("--at", nargs="+", type=int, default=SHOWN, help="evaluations")
    parser.add_argument("--seen", action="store_true", help="the best loss of these runs stands for the best known")
    parser.add_argument("--reach", metavar="ARM:N", help="evaluations to the regret of ARM after N, in place of --at")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="one SVG per group (needs matplotlib)")
    args = parser.parse_args()
    folder = benchmark_folder()
    from tasks import CORE, splits

    recorded = [] if args.alone else [str(folder / "results" / "raw")]
    losses = load([*args.results, *recorded, *args.peers])
    base = args.base or args.arms[0]
    goal, _, after = (args.reach or f"{base}:1").rpartition(":")
    if unknown := {*args.arms, base, goal} - set(losses):
        parser.error(f"no runs of {', '.join(sorted(unknown))}; there are {', '.join(sorted(losses))}")
    runs = regrets(losses, read_reference(folder / "results" / "reference.csv"), args.seen)
    by_group = {group: [t for part in parts.values() for t in part] for group, parts in splits().items()}
    groups = {"core": CORE, "all": [t for tasks in by_group.values() for t in tasks], **by_group}
    for group in args.groups or groups:
        if args.reach:
            text = reach_table(group, runs, args.arms, groups[group], goal, int(after))
        else:
            text = table(group, runs, args.arms, base, groups[group], args.at)
        if text:
            print(text)
        if args.plots:
            plot(args.plots / f"{group}.svg", group, runs, args.arms, groups[group], args.at)


if __name__ == "__main__":
    main()
