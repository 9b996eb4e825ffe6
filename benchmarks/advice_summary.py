"""What benchmarks/advice.py measured, as Markdown: regret with an advisor over regret of the engine alone.

    export TUNEWRIGHT_BENCH_DATA=FOLDER      # the benchmark's folder: reference values, recorded random search
    python benchmarks/advice_summary.py --safety RESULTS/safety --gain RESULTS/gain --words RESULTS/words
    python benchmarks/advice_summary.py --llambo RESULTS/llambo --at 10 25 30 --per-task
    python benchmarks/advice_summary.py --lost RESULTS/raw         # what trials that an engine does not get are worth

Normalised regret as in benchmarks/summary.py; its mean is taken over seeds, then over tasks, and of both arms on the
(task, seed) pairs that all arms of an engine have. A ratio of two such means has beside it the 5% and 95% quantiles of
10,000 bootstrap samples, for which pairs are drawn anew within each task, both arms of a pair together. The 95%
quantile is a one-sided 95% upper bound. `--llambo` sets runs from LLAMBO's initial points beside its published means,
on the tasks that every arm has, each with its own seeds; the best known is that of all recorded runs and ours.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from benchmark_data import benchmark_folder
from summary import Pair, Regret, Runs, load, mean_regret, number, read_reference, regrets, shared

APART = "~"  # between an engine's name and its advisor's, in an arm's
GAIN_ARMS = ("default", "rules", "rules, blinded")
RESAMPLES = 10_000


class Ratio(NamedTuple):
    """Of mean regrets; `low` and `high` are quantiles of its bootstrap distribution."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "-"  # the base has no regret left
        bounds = f" ({self.low:.2f} to {self.high:.2f})" if np.isfinite([self.low, self.high]).all() else ""
        return f"{self.value:.2f}{bounds}"


def ratio(arms: Sequence[Regret], base: Regret, pairs: Sequence[Pair], at: int, seed: int = 0) -> Ratio:
    """Of the mean of `arms` to `base`, after `at` evaluations; without bounds where a task has one seed alone."""
    rng = np.random.default_rng(seed)
    by_task: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair in pairs:
        by_task[pair[0]].append((mean(float(arm[pair][at - 1]) for arm in arms), float(base[pair][at - 1])))
    sampled = np.zeros((2, RESAMPLES))
    found = np.zeros(2)
    for values in by_task.values():
        both = np.array(values)  # (seeds, 2)
        drawn = rng.integers(len(both), size=(RESAMPLES, len(both)))
        sampled += both[drawn].mean(axis=1).T / len(by_task)
        found += both.mean(axis=0) / len(by_task)
    with np.errstate(divide="ignore", invalid="ignore"):
        few = min(len(values) for values in by_task.values()) < 2
        low, high = (np.nan, np.nan) if few else np.quantile(sampled[0] / sampled[1], [0.05, 0.95])
        return Ratio(float(found[0] / found[1]), float(low), float(high))


def arms_by_engine(runs: Runs) -> dict[str, list[str]]:
    """Of every engine that ran alone, the arms with an advisor."""
    alone = sorted(arm for arm in runs if APART not in arm)
    return {engine: sorted(arm for arm in runs if arm.startswith(engine + APART)) for engine in alone}


def advised_in(folder: Path, arm: str, pairs: Sequence[Pair], at: int) -> float:
    """Trials per study, among its first `at`, that were the advisor's."""
    wanted, count = set(pairs), 0
    with (folder / f"{arm}.csv").open() as file:
        for row in csv.DictReader(file):
            if (row["task"], int(row["seed"])) in wanted and int(row["eval"]) <= at:
                count += row["source"] == "advisor"
    return count / len(pairs)


def safety_table(folder: Path, losses: Runs, reference: Mapping[str, tuple[float, float]], at: int) -> str:
    runs = regrets(losses, reference)
    tasks = sorted({task for pairs in runs.values() for task, _ in pairs})
    lines = ["| engine | advisor | pairs | regret alone | with advice | ratio (5% to 95%) | advised trials |"]
    lines.append("|---" * 7 + "|")
    for engine, arms in arms_by_engine(runs).items():
        pairs = shared(runs, [engine, *arms], tasks, at)
        if not arms or not pairs:
            continue
        alone = mean_regret(runs[engine], pairs, at)
        for name, group in [("**all of them**", arms), *((arm.partition(APART)[2], [arm]) for arm in arms)]:
            advised = mean(mean_regret(runs[arm], pairs, at) for arm in group)
            count = mean(advised_in(folder, arm, pairs, at) for arm in group)
            found = ratio([runs[arm] for arm in group], runs[engine], pairs, at)
            cells = [engine, name, str(len(pairs)), number(alone), number(advised), str(found), f"{count:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def lost_table(runs: Runs, arms: Sequence[str], at: int, lost: Sequence[int] = (1, 2, 3, 5, 7)) -> str:
    """What an engine's last few trials are worth: its regret without them over its regret after `at`."""
    lines = ["| engine alone | pairs | " + " | ".join(f"{n} lost" for n in lost) + " |", "|---" * (len(lost) + 2) + "|"]
    for arm in arms:
        if pairs := [pair for pair, values in runs[arm].items() if len(values) >= at]:
            whole = mean_regret(runs[arm], pairs, at)
            cells = [f"{mean_regret(runs[arm], pairs, at - n) / whole:.2f}" for n in lost]
            lines.append(f"| {arm} | {len(pairs)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def words_table(runs: Runs, tasks: Sequence[str], shown: Sequence[int]) -> str:
    lines = [
        "| engine | at | pairs | alone | right words | wrong words | right / alone | wrong / alone |",
        "|---" * 8 + "|",
    ]
    for engine, arms in arms_by_engine(runs).items():
        right, wrong = (f"{engine}{APART}{name} words" for name in ("right", "wrong"))
        for at in shown:
            if {right, wrong} <= set(arms) and (pairs := shared(runs, [engine, right, wrong], tasks, at)):
                means = [number(mean_regret(runs[arm], pairs, at)) for arm in (engine, right, wrong)]
                ratios = [str(ratio([runs[arm]], runs[engine], pairs, at)) for arm in (right, wrong)]
                lines.append("| " + " | ".join([engine, str(at), str(len(pairs)), *means, *ratios]) + " |")
    return "\n".join([*lines, ""])


def gain_table(title: str, runs: Runs, tasks: Sequence[str], shown: Sequence[int]) -> str:
    """Markdown; the empty text where no pair is shared."""
    lines = []
    for engine, all_arms in arms_by_engine(runs).items():
        arms = [arm for kind in GAIN_ARMS if (arm := engine + APART + kind) in all_arms]
        for at in shown:
            if not (pairs := shared(runs, [engine, *arms], tasks, at)):
                continue
            means = {arm: number(mean_regret(runs[arm], pairs, at)) for arm in (engine, *arms)}
            of = {arm: runs[arm] for arm in arms}
            known, rules, blind = (of.get(engine + APART + kind) for kind in GAIN_ARMS)
            against = [(rules, runs[engine]), (rules, known), (blind, runs[engine])]
            ratios = [str(ratio([a], b, pairs, at)) if a is not None and b is not None else "" for a, b in against]
            cells = [engine, str(at), str(len(pairs)), means[engine]]
            cells += [means.get(engine + APART + kind, "") for kind in GAIN_ARMS]
            lines.append("| " + " | ".join([*cells, *ratios]) + " |")
    if not lines:
        return ""
    heads = ["engine", "at", "pairs", "alone", "default first", "rules", "rules, blinded"]
    heads += ["rules / alone", "rules / default first", "blinded / alone"]
    return "\n".join([f"### {title}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *lines, ""])


def published(path: Path) -> dict[str, dict[int, float]]:
    """LLAMBO's mean loss by task and evaluations. Accuracy is higher better there, squared error lower."""
    found = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            sign, offset = (1, 0) if "lower is better" in row["metric"] else (-1, 1)
            scores = {int(k.partition("@")[2]): float(v) for k, v in row.items() if k.startswith("score@")}
            found[f"llambo-{row['dataset']}-{row['model']}"] = {at: offset + sign * v for at, v in scores.items()}
    return found


def llambo_table(runs: Runs, theirs: Mapping[str, Mapping[int, float]], shown: Sequence[int], per_task: bool) -> str:
    """Regret of every arm, over the seeds that it has, beside `theirs`, LLAMBO's by task and evaluations."""
    tasks = sorted(
        set.intersection(*({t for (t, _), y in pairs.items() if len(y) >= max(shown)} for pairs in runs.values()))
    )
    heads = ["task", "at", "LLAMBO", *runs]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for title, members in [("all", tasks), *((task, [task]) for task in tasks if per_task)]:
        for at in shown:
            cells = [title, str(at), number(mean(theirs[task][at] for task in members))]
            for arm in runs.values():
                own = [pair for pair, values in arm.items() if pair[0] in members and len(values) >= at]
                cells.append(number(mean_regret(arm, own, at)))
            lines.append("| " + " | ".join(cells) + " |")
    seeds = ", ".join(f"{arm} {len({seed for _, seed in pairs})}" for arm, pairs in runs.items())
    return "\n".join([*lines, "", f"Seeds: LLAMBO 5, {seeds}.", ""])


def llambo_text(folder: Path, results: Path, shown: Sequence[int], per_task: bool) -> str:
    """Normalised as the benchmark does: the best of all recorded runs, the median of recorded random search."""
    ours, peers = load([str(results)]), load([str(folder / "results" / "raw")])
    begun_alike = load([f"shared={folder / 'results' / 'llambo_raw'}"])
    losses = published(folder / "results" / "llambo_published.csv")
    everyone = {**peers, **begun_alike, **ours}
    best: dict[str, float] = {}
    for (task, _), values in (pair for pairs in everyone.values() for pair in pairs.items()):
        best[task] = min(best.get(task, np.inf), float(values.min()))
    ordinary = {
        task: float(
            np.median([v for (name, _), values in begun_alike["shared:random"].items() if name == task for v in values])
        )
        for task in losses
    }
    scale = {task: (best[task], ordinary[task]) for task in losses}
    theirs = {
        task: {at: max(0.0, (loss - scale[task][0]) / (scale[task][1] - scale[task][0])) for at, loss in by_at.items()}
        for task, by_at in losses.items()
    }
    return llambo_table(regrets({**ours, **begun_alike}, scale), theirs, shown, per_task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--safety", type=Path, metavar="FOLDER")
    parser.add_argument("--gain", type=Path, metavar="FOLDER")
    parser.add_argument("--words", type=Path, metavar="FOLDER")
    parser.add_argument("--llambo", type=Path, metavar="FOLDER", help="of studies from LLAMBO's initial points")
    parser.add_argument("--lost", type=Path, metavar="FOLDER", help="runs of engines alone, of benchmarks/engines.py")
    parser.add_argument("--at", nargs="+", type=int, default=[10, 25, 50], help="evaluations; safety takes the last")
    parser.add_argument("--per-task", action="store_true", help="gain on every single task too")
    args = parser.parse_args()
    folder = benchmark_folder()
    reference = read_reference(folder / "results" / "reference.csv")
    if args.safety:
        print(safety_table(args.safety, load([str(args.safety)]), reference, max(args.at)))
    if args.words:
        runs = regrets(load([str(args.words)]), reference)
        print(words_table(runs, sorted({task for pairs in runs.values() for task, _ in pairs}), args.at))
    if args.lost:
        runs = regrets(load([str(args.lost)]), reference)
        print(lost_table(runs, sorted(runs), max(args.at)))
    if args.llambo:
        print(llambo_text(folder, args.llambo, args.at, args.per_task))
    if args.gain:
        recorded = [str(folder / "results" / name) for name in ("raw", "llambo_raw")]
        everyone = regrets(load([str(args.gain), *recorded]), reference)  # the best known is the best of all arms
        runs = {arm: everyone[arm] for arm in load([str(args.gain)])}
        tasks = sorted({task for pairs in runs.values() for task, _ in pairs})
        groups: dict[str, list[str]] = {"all": tasks}
        for task in tasks:
            groups.setdefault(task.partition("-")[0], []).append(task)
        if args.per_task:
            groups |= {task: [task] for task in tasks}
        for title, members in groups.items():
            if text := gain_table(title, runs, members, args.at):
                print(text)


if __name__ == "__main__":
    main()
