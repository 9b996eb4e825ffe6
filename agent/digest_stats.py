"""What a study's numbers say so far: effects, gaps and noise. Small, robust statistics for a reader, not a model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.agent.records import Curve
from tunewright.engines.parameters import Categorical, Float, Int
from tunewright.engines.space import Space
from tunewright.engines.types import Objective
from tunewright.prompts.text import plain

CURVES = 3  # trials whose curves are shown
MIN_TRIALS = 6  # fewer say nothing about an effect
RESOLVED = 1e-9  # relative: losses closer than this are one value
FEW_VALUES = 6  # a parameter with at most so many values is read value by value
BINS = 4
MIN_GAP = 0.25  # of a parameter's scale
MIN_ALIKE, ALIKE_WIDTH, ALIKE_SHARE = 3, 0.4, 0.25  # failures, part of the scale, share of the good trials there
SHARED_WIDTH, SHARED_INSIDE = 0.25, 0.7  # part of the scale that the best share, most of the others that lie there
MIN_APART, MAX_APART, APART = 3, 8, 3.0  # trials of a group of the best, and the gap behind it in widths of the group

Row = Mapping[str, Any]

_RATES = ("lr", "learning_rate", "eta", "learning_rate_init", "step_size")
_BATCHES = ("batch", "batch_size")
_MOMENTA = ("momentum",)  # Adam divides by its own steps' size: its beta1 changes nothing of their length
_ROUNDS = ("n_estimators", "num_boost_round", "n_rounds", "num_rounds", "nrounds", "rounds", "iterations", "max_iter")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What several parameters make up together; None where a configuration lacks one of them."""

    name: str
    formula: str
    compute: Callable[[Row], float | None]


def ranks(x: np.ndarray) -> np.ndarray:
    """(n,) ranks from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def relative_ranks(losses: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(n,) from 0 (best) to 1 (worst) among the trials of the same fidelity; NaN where fewer than three share it, and
    where the loss is NaN."""
    out = np.full(len(losses), np.nan)
    for level in np.unique(levels):
        same = (levels == level) & ~np.isnan(losses)
        if (n := int(same.sum())) >= 3:
            out[same] = (ranks(losses[same]) - 1) / (n - 1)
    return out


def short(value: float, digits: int) -> str:
    """A number for a reader: `digits` significant ones, and all of a whole part below a million."""
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"


def few(parameter: Float | Int) -> bool:
    return parameter.count <= FEW_VALUES


def effects(space: Space, units: np.ndarray, rank: np.ndarray) -> list[dict[str, Any]]:
    """How the relative rank varies with each parameter, strongest first.

    units: (n, n_parameters); rank: (n,). `strength` is the share of the rank's variance between groups, less what
    chance alone would give (epsilon squared, Kelley 1935), and `chance` its standard deviation were there no effect
    (from eta squared, a beta variable for normal ranks); `trend` is Spearman's correlation with the loss and
    `error` its standard error under independence, 1 / sqrt(n - 1). A group's `rank` is its mean, in percent, with
    `error` from the spread within all groups.
    """
    out = []
    for name, parameter, column in zip(space.names, space.parameters.values(), units.T, strict=True):
        used = ~np.isnan(column) & ~np.isnan(rank)
        u, y = column[used], rank[used]
        if isinstance(parameter, Categorical) or few(parameter):
            places, group = np.unique(u, return_inverse=True)
            labels = [json.dumps(parameter.from_unit(place)) for place in places]
        else:
            places, group = np.unique(np.clip((u * BINS).astype(int), 0, BINS - 1), return_inverse=True)
            labels = [
                f"{short(parameter.from_unit(b / BINS), 3)} to {short(parameter.from_unit((b + 1) / BINS), 3)}"
                for b in places
            ]
        ordered = not isinstance(parameter, Categorical)
        if effect := _effect(name, u if ordered else None, y, group, labels):
            out.append(effect)
    return sorted(out, key=lambda e: -e["strength"])


def quantity_effects(configs: Sequence[Row], rank: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The same for quantities that several parameters make up together, in quarters of the trials."""
    out = []
    for quantity in quantities(names):
        x = np.array([math.nan if (value := quantity.compute(row)) is None else value for row in configs])
        used = ~np.isnan(x) & ~np.isnan(rank)
        if used.sum() < MIN_TRIALS:
            continue
        x, y = x[used], rank[used]
        edges = np.quantile(x, (0, 0.25, 0.5, 0.75, 1))
        group = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, 3)
        places, group = np.unique(group, return_inverse=True)
        labels = [_span(short(edges[k], 2), short(edges[k + 1], 2)) for k in places]
        if effect := _effect(quantity.name, x, y, group, labels):
            out.append(effect)
    return out


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _effect(
    name: str, x: np.ndarray | None, y: np.ndarray, group: np.ndarray, labels: Sequence[str]
) -> dict[str, Any] | None:
    n, k = len(y), len(labels)
    total = float(((y - y.mean()) ** 2).sum()) if n else 0.0
    if n < MIN_TRIALS or k < 2 or n <= k or total == 0:
        return None
    counts = np.bincount(group, minlength=k)
    means = np.bincount(group, weights=y, minlength=k) / counts
    between = float((counts * (means - y.mean()) ** 2).sum())
    within = (total - between) / (n - k)
    trend = None if x is None else float(np.corrcoef(ranks(x), ranks(y))[0, 1])
    return {
        "name": name,
        "n": n,
        "strength": round(max(0.0, (between - (k - 1) * within) / total), 3),
        "chance": round(math.sqrt(2 * (k - 1) / ((n - k) * (n + 1))), 3),
        "trend": None if trend is None or math.isnan(trend) else round(trend, 2),
        "error": round(1 / math.sqrt(n - 1), 2),
        "groups": [
            {
                "label": label,
                "rank": round(100 * float(m)),
                "error": round(100 * math.sqrt(max(0.0, within) / c)),
                "n": int(c),
            }
            for label, m, c in zip(labels, means, counts, strict=True)
        ],
    }


def quantities(names: Sequence[str]) -> list[Quantity]:
    """Products that decide more than their factors, where the parameters' names allow.

    lr / ((1 - momentum) * batch) is the noise scale of SGD for a given data set (Smith & Le 2018); eta * rounds is
    how far boosting can go in all.
    """
    rate, batch, momentum, rounds = (_only(names, known) for known in (_RATES, _BATCHES, _MOMENTA, _ROUNDS))
    out = []
    if rate and (batch or momentum):
        parts = ([f"(1-{momentum})"] if momentum else []) + ([batch] if batch else [])
        below = "*".join(parts)

        def effective(row: Row) -> float | None:
            if momentum and momentum not in row:  # another optimizer: the product means nothing there
                return None
            return _ratio(row.get(rate), 1 - row[momentum] if momentum else 1, row.get(batch) if batch else 1)

        formula = f"{rate}/({below})" if len(parts) > 1 else f"{rate}/{below}"
        out.append(Quantity(_free("effective_lr", names), formula, effective))
    if rate and rounds:

        def reach(row: Row) -> float | None:
            return row[rate] * row[rounds] if _numbers(row.get(rate), row.get(rounds)) else None

        out.append(Quantity(_free("rate_x_rounds", names), f"{rate}*{rounds}", reach))
    return out


def _free(name: str, names: Sequence[str]) -> str:
    return name if name not in names else f"{name} (computed)"


def _only(names: Sequence[str], known: Sequence[str]) -> str | None:
    found = [name for name in names if name.rpartition(".")[2].lower() in known]
    return found[0] if len(found) == 1 else None


def _numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _ratio(rate: Any, rest: Any, batch: Any) -> float | None:
    if not _numbers(rate, rest, batch) or rest * batch <= 0:
        return None
    return float(rate / (rest * batch))


def untested(space: Space, units: np.ndarray, tried: Callable[[], Sequence[Row]]) -> list[dict[str, Any]]:
    """Values and wide ranges that no trial has used; missing values first, then the widest gaps.

    units: (n, n_parameters) of trials spread over the study; `tried` gives all of them, to be sure of a missing value.
    """
    values: list[dict[str, Any]] = []
    ranges: list[dict[str, Any]] = []
    for name, parameter, column in zip(space.names, space.parameters.values(), units.T, strict=True):
        u = np.sort(column[~np.isnan(column)])
        if isinstance(parameter, Categorical) or few(parameter):
            seen = {parameter.from_unit(float(place)) for place in np.unique(u)}
            missing = [v for v in parameter.values(FEW_VALUES) if v not in seen]
            if missing:
                ever = {row[name] for row in tried() if name in row}
                missing = [v for v in missing if v not in ever]
            if missing:
                values.append({"name": name, "values": missing})
        elif len(u):
            edges = np.concatenate(([0.0], u, [1.0]))
            widest = int(np.argmax(np.diff(edges)))
            low, high = float(edges[widest]), float(edges[widest + 1])
            if high - low >= MIN_GAP:
                entry = {
                    "name": name,
                    "low": parameter.from_unit(low),
                    "high": parameter.from_unit(high),
                    "share": round(high - low, 2),
                }
                ranges.append(entry)
    return values + sorted(ranges, key=lambda entry: -entry["share"])


def common(space: Space, failed: np.ndarray, good: np.ndarray) -> list[dict[str, Any]]:
    """Parameters in which failures lie close together where few good trials are: a likely cause, at most three.

    failed: (n, n_parameters), at least three of them to say anything; good: (m, n_parameters).
    """
    out = []
    if len(failed) < MIN_ALIKE:
        return []
    for name, parameter, bad, well in zip(space.names, space.parameters.values(), failed.T, good.T, strict=True):
        if np.isnan(bad).any():
            continue
        low, high = float(bad.min()), float(bad.max())
        inside = int(((well >= low) & (well <= high)).sum())
        narrow = low == high if isinstance(parameter, Categorical) else high - low <= ALIKE_WIDTH
        if narrow and inside <= ALIKE_SHARE * len(good):
            entry = {
                "name": name,
                "low": parameter.from_unit(low),
                "high": parameter.from_unit(high),
                "good": inside,
                "of": len(good),
            }
            out.append((inside / max(1, len(good)), high - low, entry))
    return [entry for *_, entry in sorted(out, key=lambda item: item[:2])[:3]]


def apart(losses: np.ndarray, n: int, noise: float) -> int | None:
    """How many of the best of n trials stand apart: the gap behind them is at least APART times what they span
    themselves, and more than noise; of several such groups the one with the largest gap. losses: the best, in order."""
    found = None
    for k in range(MIN_APART, min(MAX_APART, n // 2, len(losses) - 1) + 1):
        gap = float(losses[k] - losses[k - 1])
        wide = gap >= APART * float(losses[k - 1] - losses[0]) and gap > 3 * noise
        if wide and gap > RESOLVED * max(1.0, abs(float(losses[k]))) and (found is None or gap > found[1]):
            found = (k, gap)
    return None if found is None else found[0]


def shared(space: Space, best: np.ndarray, others: np.ndarray) -> list[dict[str, Any]]:
    """Parameters in which the best trials lie together although the others do not, what sets them apart most first;
    `others` is how many of the others lie there too, `of` so many that have the parameter.

    best: (m, n_parameters); others: (n, n_parameters), without the best.
    """
    out = []
    for name, parameter, top, column in zip(space.names, space.parameters.values(), best.T, others.T, strict=True):
        if np.isnan(top).any():
            continue
        low, high = float(top.min()), float(top.max())
        having = column[~np.isnan(column)]
        inside = int(((having >= low) & (having <= high)).sum())
        narrow = low == high if isinstance(parameter, Categorical) or few(parameter) else high - low <= SHARED_WIDTH
        if narrow and inside <= SHARED_INSIDE * len(having):
            ends = {"low": parameter.from_unit(low), "high": parameter.from_unit(high)}
            entry = {"name": name, **ends, "others": inside, "of": len(having)}
            out.append((inside / max(1, len(having)), entry))
    return [entry for _, entry in sorted(out, key=lambda item: item[0])]


def noise(configs: Sequence[Row], losses: Sequence[float], levels: Sequence[float]) -> dict[str, Any] | None:
    """The pooled standard deviation of trials that repeat a configuration at the same fidelity; None without any."""
    groups: dict[Any, list[float]] = {}
    for config, loss, level in zip(configs, losses, levels, strict=True):
        groups.setdefault((level, *config.items()), []).append(loss)
    repeated = [g for g in groups.values() if len(g) > 1]
    free = sum(len(g) - 1 for g in repeated)
    if not free:
        return None
    gaps = [x - sum(g) / len(g) for g in repeated for x in g]
    std = math.sqrt(sum(gap * gap for gap in gaps) / free)  # a product overflows to infinity, a power raises
    return {"std": std, "repeats": free, "configurations": len(repeated)} if math.isfinite(std) else None


def spread(n: int, most: int) -> np.ndarray:
    """At most `most` indices below n, evenly spaced, the last one among them."""
    if n <= most:
        return np.arange(n)
    return np.linspace(0, n - 1, most).round().astype(int)


def curve_points(
    curves: Mapping[int, Sequence[Curve]], objectives: Sequence[Objective], shown: Sequence[int]
) -> list[dict[str, Any]]:
    """A few points of the curves of shown trials, best first: the ends, the best, and some between."""
    out = []
    for number in sorted(curves, key=lambda n: shown.index(n) if n in shown else len(shown))[:CURVES]:
        for curve in curves[number][:3]:
            if not curve.steps:
                continue
            picked = {int(i) for i in spread(len(curve.steps), 6)}
            y = np.array(curve.values, dtype=float)
            for o in objectives:
                if o.name == curve.metric and np.isfinite(y).any():
                    picked.add(
                        int(
                            np.nanargmin(np.where(np.isfinite(y), y * (1 if o.direction == "minimize" else -1), np.nan))
                        )
                    )
            points = [
                [curve.steps[i], curve.values[i] if math.isfinite(curve.values[i]) else None] for i in sorted(picked)
            ]
            out.append({"number": number, "metric": plain(curve.metric, 40), "points": points})
    return out
