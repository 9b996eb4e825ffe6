"""`read`: the one road from a trial's reports to what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tunewright.engines.curves import networks, single
from tunewright.engines.curves.forecast import forecast
from tunewright.engines.curves.shapes import Reading, Shape
from tunewright.engines.curves.signal import Signal, signal
from tunewright.engines.types import Point

_ENDED = (Shape.DIVERGED, Shape.EXPLODING)
_TRAINING = re.compile(r"(^|[^a-z])(train|training|tr|fit)([^a-z]|$)")
_HELD_OUT = re.compile(r"(^|[^a-z])(val|valid|validation|test|dev|eval|held[^a-z]?out|cv|oof)([^a-z]|$)")


def read(
    curves: Mapping[str, Sequence[Point]],
    metric: str,
    direction: str = "minimize",
    horizon: float | None = None,
) -> Reading:
    """What one trial's curves, {metric: [(step, value)]}, say about its training.

    `metric` is the one that is tuned, in that direction; the others help where their names tell what they are
    (train_loss beside val_loss, g_loss beside d_loss, a measure of diversity). `horizon` is the step to which training
    is planned to go: with it comes a forecast, where the shape is one that goes on.
    """
    maximize = direction == "maximize"
    signals = {name: signal(name, points, maximize and name == metric) for name, points in curves.items() if points}
    if metric not in signals:
        return Reading(Shape.TOO_EARLY, f"{metric} was not reported yet")
    main = signals[metric]
    partner = training_of(metric, list(signals))
    training = signal(partner, curves[partner], maximize) if partner else None
    found = _shape(main, training, signals, horizon)
    ahead = forecast(main, horizon) if horizon is not None and found[0] not in _ENDED else None
    return Reading(*found, ahead)


def _shape(
    main: Signal, training: Signal | None, signals: Mapping[str, Signal], horizon: float | None
) -> single.Finding:
    for each in (main, *(s for s in signals.values() if s is not main)):
        if found := single.broken(each):
            return found
    n = len(main)
    if n < single.FEWEST:
        words = f"{n} report{'s' if n != 1 else ''} of {main.name} say{'s' if n == 1 else ''} nothing yet"
        return Shape.TOO_EARLY, words, None
    if pair := networks.roles(list(signals)):
        generator, opponent = signals[pair[0]], signals[pair[1]]
        others = [s for s in signals.values() if s is not generator and s is not opponent]
        if found := networks.unbalanced(generator, opponent) or networks.collapsed(generator, opponent, others):
            return found
    held_out = not _TRAINING.search(main.name.lower())
    return (
        single.exploding(main)
        or single.thrown_off(main)
        or single.oscillating(main)
        or (single.overfitting(main, training) if held_out else None)
        or single.progress(main, horizon)
    )


def training_of(metric: str, names: Sequence[str]) -> str | None:
    """The curve of the same quantity on training data, by its name: train_loss or loss of val_loss."""
    lowered = metric.lower()
    if not _HELD_OUT.search(lowered):
        return None

    def bare(name: str) -> str:
        return re.sub(r"[^a-z0-9]+", "", _TRAINING.sub(" ", _HELD_OUT.sub(" ", name.lower())))

    same = [n for n in names if n != metric and bare(n) == bare(metric) and not _HELD_OUT.search(n.lower())]
    return min(same, key=lambda n: (not _TRAINING.search(n.lower()), n), default=None)
