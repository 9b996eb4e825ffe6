"""The numbers that shapes are told by: a curve as losses, its trend, what remains, and how regular that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.engines.types import Point

SAME_WAVE = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """One metric's finite reports: steps and losses (n,), lower is better, steps ascending. `broken` is the first
    report after the last finite one, None where the last one is finite."""

    name: str
    steps: np.ndarray
    losses: np.ndarray
    sign: float  # of the metric: losses * sign is what was reported
    broken: Point | None = None

    def __len__(self) -> int:
        return len(self.losses)

    def value(self, loss: float) -> str:
        """A loss as the metric's own value, to the thousandth of what the curve moves through."""
        moved = float(np.ptp(self.losses))
        digits = 3 + math.ceil(math.log10(max(abs(loss) / moved, 1.0))) if moved else 4
        return f"{self.sign * loss + 0.0:.{min(max(digits, 3), 10)}g}"

    def at(self, index: int) -> str:
        return f"{self.steps[index]:g}"


def signal(name: str, points: Sequence[Point], maximize: bool) -> Signal:
    """Steps reported twice count once, the later time."""
    ordered = sorted(dict(points).items())
    steps = np.array([step for step, _ in ordered], dtype=float)
    sign = -1.0 if maximize else 1.0
    losses = sign * np.array([value for _, value in ordered], dtype=float)
    finite = np.isfinite(losses)
    last = int(np.flatnonzero(finite)[-1]) if finite.any() else -1
    broken = ordered[last + 1] if last + 1 < len(ordered) else None
    return Signal(name, steps[finite], losses[finite], sign, broken)


def noise(y: np.ndarray) -> float:
    """The standard deviation of independent noise on a smooth curve: from each point's distance to the mean of its two
    neighbours, whose variance is 3/2 of the noise's (Gasser, Sroka and Jennen-Steinmetz 1986), by its median."""
    if len(y) < 3:
        return 0.0
    bends = y[1:-1] - (y[:-2] + y[2:]) / 2
    return float(1.4826 * np.median(np.abs(bends)) / math.sqrt(1.5))


def medians(y: np.ndarray, width: int) -> np.ndarray:
    """(n,) running medians of an odd width, ends repeated: spikes vanish, steps stay where they are."""
    width = max(1, width | 1)
    if width == 1 or len(y) < 3:
        return y
    padded = np.pad(y, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)


def smooth(y: np.ndarray, width: int) -> np.ndarray:
    """(n,) running means of the running medians."""
    width = max(1, width | 1)
    padded = np.pad(medians(y, width), width // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, width).mean(axis=1)


def calm(y: np.ndarray) -> np.ndarray:
    """Without spikes: what is farther from the running median than three times the usual distance is moved there."""
    if len(y) < 8:
        return y
    middle = smooth(y, 5)
    most = 3 * max(spread(y - middle), noise(y))
    return np.clip(y, middle - most, middle + most)


def falling(y: np.ndarray) -> np.ndarray:
    """The non-increasing sequence nearest to y in squares: pool adjacent violators (Ayer et al. 1955)."""
    levels: list[float] = []
    counts: list[int] = []
    for value in y.tolist():
        levels.append(value)
        counts.append(1)
        while len(levels) > 1 and levels[-1] > levels[-2]:
            level, count = levels.pop(), counts.pop()
            levels[-1] = (levels[-1] * counts[-1] + level * count) / (counts[-1] + count)
            counts[-1] += count
    return np.repeat(levels, counts)


def spread(residuals: np.ndarray) -> float:
    """Half of what holds the middle 68%: a standard deviation that a few spikes do not move."""
    low, high = np.quantile(residuals, (0.16, 0.84))
    return float(high - low) / 2


def swing(residuals: np.ndarray) -> tuple[float, float]:
    """(period in reports, regularity): twice the lag at which the residuals are most opposed, and minus that
    autocorrelation: about 0 for noise, correlated or not, towards 1 for a wave."""
    r = residuals - residuals.mean()
    power = float(r @ r)
    lags = range(1, max(2, len(r) // 4 + 1))
    if power == 0 or len(r) < 6:
        return 0.0, 0.0
    correlations = [float(r[lag:] @ r[:-lag]) / power * len(r) / (len(r) - lag) for lag in lags]
    lowest = min(correlations)
    # Of lags that are about as opposed, half of one period and half of three, the shortest.
    lag = next((lag for lag, c in zip(lags, correlations, strict=True) if c <= SAME_WAVE * lowest), 1)
    return 2.0 * lag, -lowest


def trend(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(change, error): what a straight line through the points gains from end to end, and its standard error, widened
    for residuals that follow each other."""
    n = len(y)
    if n < 3 or x[0] == x[-1]:
        return (float(y[-1] - y[0]) if n > 1 else 0.0), math.inf
    span = float(x[-1] - x[0])
    centred = x - x.mean()
    square = float(centred @ centred)
    slope = float(centred @ y) / square
    rest = y - y.mean() - slope * centred
    variance = float(rest @ rest) / (n - 2)
    follow = 0.0 if variance == 0 or n < 8 else float(rest[1:] @ rest[:-1]) / float(rest @ rest)
    follow = min(max(follow, 0.0), 0.8)
    return slope * span, math.sqrt(variance * (1 + follow) / (1 - follow) / square) * span
