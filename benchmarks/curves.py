"""What is read from curves: labelled ones by their names, real ones by where they end.

    python benchmarks/curves.py --labelled 30000 30200      # seeds that nothing was tuned on
    export TUNEWRIGHT_BENCH_DATA=FOLDER                      # the benchmark's folder, for real curves
    python benchmarks/curves.py --real tuned                 # the tasks that the forecast's constants were chosen on
    python benchmarks/curves.py --real others                # those that they were not

A forecast is made of the end of 52 epochs after 5, 10 and 21 of them; its error is held against those of the last value
and of a power law a + b * step ** -c, fitted by least squares, b and c above zero. Ratios are of mean absolute errors
per task, averaged over tasks.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import benchmark_folder

from tunewright.engines.curves import FAULTS, Shape, read

TASKS = {"tuned": ("3945", "167184", "189354"), "others": ("126026", "167168", "189873")}
METRICS = {"accuracy": (1, "maximize"), "cross entropy": (2, "minimize")}  # column of the surrogate, direction
EPOCHS, SEEN = 52, (5, 10, 21)


def labelled(first: int, after_last: int) -> None:
    """The confusion table: rows as drawn, columns as read, in percent."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import labelled_curves

    shapes = [str(shape) for shape in Shape]
    print(f"| drawn as | {' | '.join(shapes)} |", "|---|" + "---|" * len(shapes), sep="\n")
    right = alarms = 0.0
    for fault in (*labelled_curves.HEALTHY, *labelled_curves.FAULTS):
        cases = [labelled_curves.draw(fault, seed) for seed in range(first, after_last)]
        found = Counter(read(c.curves, c.metric, c.direction, c.horizon).shape for c in cases)
        share = {shape: 100 * count / len(cases) for shape, count in found.items()}
        print(f"| {fault} | " + " | ".join(f"{share[s]:.1f}" if s in share else "" for s in Shape) + " |")
        right += share.get(Shape(fault), 0.0)
        if fault in labelled_curves.HEALTHY:
            alarms += sum(share.get(shape, 0.0) for shape in FAULTS)
    print(f"\nnamed rightly {right / len(shapes):.1f}%, false alarms {alarms / len(labelled_curves.HEALTHY):.2f}%")


def curves(task: str, n: int, seed: int) -> np.ndarray:
    """(n, EPOCHS, targets) of n random configurations, as the surrogate has them."""
    import tasks
    from space import sample_config

    rng = np.random.default_rng(seed)
    session, spec, params, codes = tasks._yahpo_scenario("lcbench")
    made = [sample_config(params, rng) for _ in range(n)]
    rows = [{**c, "epoch": e, spec["instance"]: task} for c in made for e in range(1, EPOCHS + 1)]
    words = np.array([[codes[name][row.get(name, "#na#")] for name in spec["cat"]] for row in rows], dtype=np.int32)
    numbers = np.array([[row.get(name, 0) for name in spec["cont"]] for row in rows], dtype=np.float32)
    found = session.run(["output"], {"x_cat": words, "x_cont": numbers})[0]
    return np.asarray(found, dtype=float).reshape(n, EPOCHS, -1)


def power_law(y: np.ndarray) -> float:
    from scipy.optimize import least_squares

    steps, unit = np.arange(1.0, len(y) + 1), float(np.ptp(y)) or 1.0
    first = [y[-1], max(float(y[0] - y[-1]), 1e-3 * unit), 0.5]
    bounds = ([-np.inf, 0, 1e-3], [np.inf, np.inf, 5])
    a, b, c = least_squares(lambda p: (p[0] + p[1] * steps ** -p[2] - y) / unit, first, bounds=bounds).x
    return float(a + b * EPOCHS**-c)


def errors(whole: np.ndarray, seen: int, direction: str) -> tuple[float, float, float, bool]:
    """Of the forecast, the last value and a power law; whether the interval holds the end."""
    points = [(float(step), float(value)) for step, value in enumerate(whole[:seen], start=1)]
    ahead = read({"m": points}, "m", direction, EPOCHS).forecast
    sign, end = (1.0 if direction == "minimize" else -1.0), float(whole[-1])
    mean, inside = (points[-1][1], False) if ahead is None else (ahead.mean, ahead.low <= end <= ahead.high)
    law = sign * power_law(sign * whole[:seen])
    return abs(mean - end), abs(points[-1][1] - end), abs(law - end), inside


def alarms(whole: np.ndarray, seen: int, direction: str) -> tuple[bool, bool]:
    """Whether a fault is read, and whether the end does not bear it out: within 5% of the whole curve's gain, it is as
    good as the best that was seen at the alarm."""
    points = [(float(step), float(value)) for step, value in enumerate(whole[:seen], start=1)]
    if not read({"val_metric": points}, "val_metric", direction, EPOCHS).fault:
        return False, False
    losses = whole if direction == "minimize" else -whole
    gain = float(losses[0] - losses.min())
    return True, bool(losses[-1] <= losses[:seen].min() + 0.05 * gain)


def real(which: str, n: int, seed: int) -> None:
    benchmark_folder()
    tables = {task: curves(task, n, seed) for task in TASKS[which]}
    print("| metric | epochs seen | error / last value | power law / last value | inside the 80% interval |")
    print("|---|---|---|---|---|")
    for metric, seen, rows in _cells(tables):
        ratios, laws, inside = [], [], []
        for whole, direction in rows:
            found = np.array([errors(y, seen, direction) for y in whole])
            ours, last, law, held = found.mean(axis=0)
            ratios.append(ours / last)
            laws.append(law / last)
            inside.append(held)
        print(
            f"| {metric} | {seen} | {np.mean(ratios):.2f} | {np.mean(laws):.2f} | {np.mean(inside):.0%} |", flush=True
        )
    print("\n| metric | epochs seen | a fault is read | and not borne out by the end |\n|---|---|---|---|")
    for metric, seen, rows in _cells(tables):
        found = np.array([alarms(y, seen, direction) for whole, direction in rows for y in whole])
        raised, wrong = found.mean(axis=0)
        print(f"| {metric} | {seen} | {raised:.1%} | {wrong:.1%} |", flush=True)


def _cells(tables: dict[str, np.ndarray]) -> Iterator[tuple[str, int, list[tuple[Any, str]]]]:
    for metric, (column, direction) in METRICS.items():
        for seen in SEEN:
            yield metric, seen, [(table[:, :, column], direction) for table in tables.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", nargs=2, type=int, metavar=("FIRST", "AFTER_LAST"))
    parser.add_argument("--real", choices=TASKS)
    parser.add_argument("--configurations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.labelled:
        labelled(*args.labelled)
    if args.real:
        real(args.real, args.configurations, args.seed)
    if not (args.labelled or args.real):
        parser.error("--labelled or --real")


if __name__ == "__main__":
    main()
