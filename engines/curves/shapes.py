"""What can be said of a training curve."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Shape(StrEnum):
    TOO_EARLY = "too early"  # to tell
    IMPROVING = "still improving"
    PLATEAU = "plateau"
    OVERFITTING = "overfitting"
    OSCILLATING = "oscillating"
    EXPLODING = "exploding"  # growing by a factor, finite so far
    DIVERGED = "diverged"
    COLLAPSE = "mode collapse"
    UNBALANCED = "unbalanced"  # one of two networks wins


FAULTS = frozenset(Shape) - {Shape.TOO_EARLY, Shape.IMPROVING, Shape.PLATEAU}
"""The shapes that something is wrong with; a plateau is one only if its value is too."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The metric at step `horizon` in its own units: `mean`, and `low` to `high`, which hold it four times in five."""

    horizon: float
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"at step {self.horizon:g} about {self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, slots=True)
class Reading:
    """`evidence` is one sentence with the numbers behind `shape`; `since` the step where it began, None where it is of
    no one step. The forecast is None for curves that have no end worth the name: too short, diverged, exploding."""

    shape: Shape
    evidence: str
    since: float | None = None
    forecast: Forecast | None = None

    @property
    def fault(self) -> bool:
        return self.shape in FAULTS

    def __str__(self) -> str:
        ahead = f"; {self.forecast}" if self.forecast else ""
        return f"{self.shape}: {self.evidence}{ahead}"
