"""The shapes of one metric's curve, each with the sentence that says why. Losses: lower is better.

Each detector returns its finding or None; the order in which they are asked stands in `reading`.
"""

from __future__ import annotations

import math

import numpy as np

from tunewright.engines.curves.shapes import Shape
from tunewright.engines.curves.signal import Signal, calm, falling, medians, noise, smooth, spread, swing, trend

FEWEST = 5  # reports below which only a value that is not finite says anything
FEW = 10  # reports below which a trend must be plain to be called one
EARLY = 0.1  # of the planned steps
LARGE_SWING = 0.125  # of what was gained
REGULAR = 0.45  # how opposed half a period apart: noise rarely is
CLEAR = 0.3  # of the gain: smaller swings leave the trend visible
CHANCE = 3.0  # over the root of the reports: regularity that independent noise reaches once in forty curves
LASTING = 0.5  # of their size that swings keep to the end
GROWTH = 1.02  # per report: less is a rise, not an explosion
GROWN = 3.0  # times the range before: no noise, no overfitting
THROWN = 0.75  # of the range before, lost at once
ERRORS = 2.5  # standard errors from which a trend is one
GAIN = 0.015  # of the whole gain: less in half of the reports is nothing

Finding = tuple[Shape, str, float | None]
"""The shape, its evidence, and the step where it began."""


def broken(signal: Signal) -> Finding | None:
    if signal.broken is None:
        return None
    step, value = signal.broken
    what = "not a number" if math.isnan(value) else "infinite"
    return Shape.DIVERGED, f"{signal.name} is {what} from step {step:g} on", step


def exploding(signal: Signal) -> Finding | None:
    """Growth by a factor to the very end, far beyond everything before it."""
    y = signal.losses
    low = _last_low(y)
    rise = y[low:] - y[low]
    if len(rise) < 4:
        return None
    end = float(np.median(rise[-2:]))
    middle = float(np.median(rise[len(rise) // 2 - 1 : len(rise) // 2 + 1]))
    if end < GROWN * _range(y[: low + 1], y) or end < 3 * max(middle, 0.0) or rise[-1] < 0.7 * rise.max():
        return None
    positive = np.flatnonzero(rise > end * 1e-3)
    first = int(positive[0])
    factor = (float(rise[-1]) / float(rise[first])) ** (1 / max(1, len(rise) - 1 - first))
    if factor < GROWTH:
        return None
    words = f"{signal.name} went from {signal.value(y[low])} at step {signal.at(low)} to {signal.value(y[-1])}"
    return Shape.EXPLODING, f"{words}, growing by a factor of {factor:.3g} per report", float(signal.steps[low])


def thrown_off(signal: Signal) -> Finding | None:
    """A jump by most of the range before it, or more, within a few reports, and never back."""
    y = signal.losses
    n = len(y)
    least, width = max(2, n // 20), 3
    if n < width + least:
        return None
    # The cut with the highest floor after it above the median just before it.
    floors = np.minimum.accumulate(medians(y, 3)[::-1])[::-1]
    before = np.median(np.lib.stride_tricks.sliding_window_view(y, width), axis=1)  # [k]: of y[k : k + width]
    cuts = np.arange(width, n - least + 1)
    lost = floors[cuts] - before[cuts - width]
    best = float(lost.max())
    at = int(cuts[np.argmax(lost >= 0.8 * best)])  # the first of those that are about as good
    scale = _range(y[:at], y[:at])
    start, low, end = float(y[0]), float(y[:at].min()), float(np.median(y[at:]))
    at_once = float(y[at : at + 2].max()) - float(y[max(0, at - 2) : at].min())
    # Either all that was gained is lost again, or far more than ever moved; slow decay is another trouble.
    lost_all = best >= max(THROWN * scale, 4 * noise(y[at:])) and start - low >= 0.5 * best
    if not (lost_all or best >= GROWN * scale) or at_once < THROWN * (end - low) or _last_low(y) > at:
        return None
    words = f"{signal.name} jumped from {signal.value(float(np.median(y[max(0, at - 3) : at])))} to"
    words += f" {signal.value(y[at])} at step {signal.at(at)} and never came back"
    return Shape.DIVERGED, f"{words} (now {signal.value(y[-1])})", float(signal.steps[at])


def oscillating(signal: Signal) -> Finding | None:
    """Regular swings about the falling trend, large beside its whole gain, that last to the end."""
    y = signal.losses
    n = len(y)
    if n < FEW:
        return None
    base = falling(y)
    rest = y - base
    size = spread(rest[n // 2 :])
    gain = float(base[0] - base[-1])
    if size <= LARGE_SWING * gain or size == 0:
        return None
    half = rest[n // 2 :] if n >= 48 else rest
    period, regular = swing(half)
    turns = int((np.diff(np.sign(half[half != 0])) != 0).sum())
    # Beside a clear gain large swings are news by themselves; without one they must be no accident of noise.
    least = REGULAR if size < CLEAR * gain else max(REGULAR, CHANCE / math.sqrt(len(half)))
    if regular < least or turns < 4:
        return None
    third = spread(rest[-max(4, n // 4) :])
    if third < LASTING * size:
        return None
    share = f", {100 * size / gain:.0f}% of all that it gained," if gain > 2 * size else ""
    words = f"{signal.name} swings by ±{size:.3g}{share} about every {period:.0f} reports and does not settle"
    outside = np.flatnonzero(np.abs(rest) > size / 2)
    return Shape.OSCILLATING, words, float(signal.steps[outside[0]]) if len(outside) else None


def overfitting(signal: Signal, training: Signal | None) -> Finding | None:
    """Held-out values that turned and got steadily worse while training went on to improve, or is not reported."""
    y = signal.losses
    n = len(y)
    if n < 8:
        return None
    flat = smooth(y, max(3, n // 12))
    turn = int(np.argmin(flat))
    after = n - 1 - turn
    if after < 4 or after < 0.12 * n:
        return None
    sigma = noise(y)
    last = max(2, after // 4)
    risen = float(y[-last:].mean() - flat[turn])
    gained = max(float(np.median(y[: max(1, n // 20)])) - float(flat[turn]), 0.0)
    least = max(0.12 * gained, 0.01 * abs(float(flat[turn])), 4 * sigma / math.sqrt(last))
    if gained < max(2 * sigma, 0.02 * abs(float(flat[turn]))):  # worse from the start on: plain, or nothing
        least = max(0.1 * abs(float(flat[turn])), 4 * spread(y - flat))
    if risen < least or risen > 4 * max(gained, least):
        return None
    change, error = trend(signal.steps[turn:], y[turn:])
    if change < ERRORS * error or change < 0.4 * risen:
        return None
    words = f"{signal.name} was best at step {signal.at(turn)} ({signal.value(flat[turn])}) and got worse to "
    words += signal.value(float(y[-last:].mean()))
    if training is not None:
        seen = training.steps >= signal.steps[turn]
        if seen.sum() >= 3:
            went, its_error = trend(training.steps[seen], training.losses[seen])
            if went > max(2 * its_error, 0.25 * risen):  # training got worse with it: another trouble
                return None
            ends = training.losses[seen]
            words += f", while {training.name} went from {training.value(ends[0])} to {training.value(ends[-1])}"
    return Shape.OVERFITTING, words, float(signal.steps[turn])


def progress(signal: Signal, horizon: float | None) -> Finding:
    """Whether the second half of the reports still gained: what is left when nothing is wrong."""
    y, steps = signal.losses, signal.steps
    n = len(y)
    half = n // 2 if n >= FEW else 0
    change, error = trend(np.arange(n - half, dtype=float), calm(y[half:]))
    gain = max(float(np.median(y[: max(1, n // 20)])) - float(np.median(y[-max(1, n // 20) :])), 0.0)
    improves = -change > ERRORS * error and -change > GAIN * gain
    start = steps[half]
    low = float(y[half:].mean()) - change / 2
    ends = f"from {signal.value(low)} at step {start:g} to {signal.value(low + change)} at step {steps[-1]:g}"
    if improves:
        words = f"{signal.name} still improves: {ends}"
        return Shape.IMPROVING, words, None
    early = horizon is not None and steps[-1] < EARLY * horizon
    if early or n < FEW:
        of = f" of {horizon:g}" if horizon is not None else ""
        words = f"{n} reports up to step {steps[-1]:g}{of} say nothing yet about where {signal.name} goes"
        return Shape.TOO_EARLY, words, None
    since = _since(y)
    words = f"{signal.name} has not improved since step {signal.at(since)}: {signal.value(float(np.median(y[since:])))}"
    sigma = noise(y[since:])
    words += f" ± {sigma:.2g}, no trend beyond that" if sigma > 0 else ", without any change"
    return Shape.PLATEAU, words, float(steps[since])


def _since(y: np.ndarray) -> int:
    """The first report that is as good as the last half of them, noise aside."""
    last = y[len(y) // 2 :]
    level = float(np.median(last)) + max(noise(y), spread(last))
    within = smooth(y, max(3, len(y) // 20)) <= level
    return int(np.argmax(within)) if within.any() else 0


def _last_low(y: np.ndarray) -> int:
    """The lowest of the points that are low in a lasting way."""
    return int(np.argmin(medians(y, 3))) if len(y) > 4 else int(np.argmin(y))


def _range(before: np.ndarray, y: np.ndarray) -> float:
    """What the curve moved through before; where that is next to nothing, some of its own size."""
    if len(before) >= 3:
        low, high = np.quantile(before, (0.02, 0.98))
        moved = float(high - low)
    else:
        moved = float(np.ptp(before))
    return max(moved, 0.05 * abs(float(np.median(y[: max(3, len(y) // 4)]))), 1e-12)
