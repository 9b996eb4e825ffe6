"""Whether the best trial has earned the name of a winner, in words, and what else the money could buy at a plateau."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.agent.records import TrialRecord
from tunewright.agent.verification import Verification
from tunewright.agent.view import StudyView
from tunewright.engines.curves import Shape
from tunewright.engines.rerun import Runs
from tunewright.engines.types import State

SURE = 1.96  # standard deviations: 95 of 100 cases
PLATEAU = 30  # complete trials before one can be told


@dataclass(frozen=True, slots=True)
class Standing:
    """The best configuration beside the next one. `lead` and `margin` are in the metric's unit: how far its mean is
    ahead, and what luck alone makes of that in 95 of 100 cases; None where that is not known."""

    number: int
    runs: int
    mean: float
    next: int | None = None
    lead: float = 0.0
    noise: float | None = None
    margin: float | None = None
    verified: bool = False

    @property
    def winner(self) -> bool:
        """Enough evidence: verified, or without noise, or run more than once and ahead by more than luck."""
        if self.verified or self.noise == 0:
            return True
        return self.runs > 1 and self.margin is not None and self.lead > self.margin

    @property
    def told(self) -> str:
        return f"{'A winner' if self.winner else 'Not called a winner yet'}: {self}."

    def __str__(self) -> str:
        ran = "one run" if self.runs == 1 else f"{self.runs} runs, mean {self.mean:.6g}"
        if self.noise is None:
            return f"{ran}; nothing is known of the noise yet"
        if self.noise == 0:
            return f"{ran}; equal runs gave equal values, so it is the best of what was tried"
        ahead = ""
        if self.next is not None and self.margin is not None:
            where = f"{abs(self.lead):.3g} {'ahead of' if self.lead >= 0 else 'behind'} trial {self.next}"
            luck = "more than" if self.lead > self.margin else "not better than"
            ahead = f"; {where}: {luck} the noise ({self.margin:.3g} in 95 of 100 cases)"
        return f"{ran}{ahead}" + ("; verified with other seeds" if self.verified else "")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "winner": self.winner, "words": str(self)}


@dataclass(frozen=True)
class Look:
    """What is read once for all that is said of a study's best: `StudyView.foremost`, `leaders` and
    `verifications`."""

    complete: Sequence[TrialRecord]
    leaders: Sequence[TrialRecord]
    verified: Sequence[Verification]

    @classmethod
    def at(cls, view: StudyView) -> Look:
        if len(view.objectives) > 1:
            return cls((), view.leaders(), view.verifications())
        complete, best = view.foremost_and_best()
        return cls(complete, [best] if best else [], view.verifications())


def standing(view: StudyView, look: Look | None = None) -> Standing | None:
    """None without a complete trial, and with several objectives, where there is no one winner."""
    if len(view.objectives) > 1:
        return None
    look = look or Look.at(view)
    if not look.leaders:
        return None
    complete, best = look.complete, look.leaders[0]
    runs = view.runs(complete)
    own = next((r for r in runs if r.number == best.number), None)
    verified = any(v.number == best.number and len(v.values()) > 1 for v in look.verified)
    if own is None:  # of a space that was edited since
        return None
    noise = view.noise_of(complete)
    mean = -own.mean if view.objectives[0].direction == "maximize" else own.mean
    other = _next(runs, own)
    if other is None:
        return Standing(own.number, len(own.losses), mean, noise=noise, verified=verified)
    margin = None if noise is None else SURE * noise * math.sqrt(1 / len(own.losses) + 1 / len(other.losses))
    lead = other.mean - own.mean
    return Standing(own.number, len(own.losses), mean, other.number, lead, noise, margin, verified)


def _next(runs: Sequence[Runs], own: Runs) -> Runs | None:
    """The best other configuration; of those run as often as the best, where there are any."""
    others = [r for r in runs if r is not own]
    alike = [r for r in others if len(r.losses) > 1] if len(own.losses) > 1 else []
    return min(alike or others, key=lambda r: (r.mean, r.number), default=None)


@dataclass(frozen=True, slots=True)
class Plateau:
    """The last `trials` trials bettered the best by `gain`, no more than the noise. `instead`: what else their like
    could buy."""

    trials: int
    gain: float
    instead: tuple[str, ...]

    def __str__(self) -> str:
        return f"the last {self.trials} trials gained {self.gain:.3g}, no more than noise"

    @property
    def advice(self) -> str:
        return f"as many more could go into {', '.join(self.instead[:-1])} or {self.instead[-1]}"


def plateau(
    view: StudyView, ended: Sequence[TrialRecord], at_border: Sequence[str] = (), best: TrialRecord | None = None
) -> Plateau | None:
    """No gain beyond the noise in the last half of at least PLATEAU complete trials. `ended` in order, or, of a study
    of which these are only a part, `StudyView.foremost`; `at_border` names parameters whose best values lie at an end
    of their range; `best`: the study's, where it is read already."""
    complete = [t for t in ended if t.values and t.state is State.COMPLETE]
    losses = [view.objectives[0].loss(t.values[0]) for t in complete if t.values]
    if len(losses) < PLATEAU:
        return None
    # A large study is seen in part. Of one whose space was edited since, its halves hold also what lies outside.
    total = view.large or len(losses)
    half = total // 2
    gain = max((view.best_of_first(half) if view.large else min(losses[:half])) - min(losses), 0.0)
    noise = view.noise_of(complete) or 0.0
    if gain > noise:
        return None
    instead = [f"a wider range of {' and '.join(at_border)}"] if at_border else []
    best = best or view.best()
    reading = view.reading(best.number) if best is not None else None
    if reading is not None and reading.shape is Shape.IMPROVING:
        instead.append("longer training (the best curve still improves)")
    elif reading is None:
        instead.append("longer training")
    if noise:
        instead.append("more seeds of the best (`tunewright verify`)")
    instead += ["more data"] if at_border else ["more data", "another range"]
    return Plateau(total - half, gain, (*instead, "be saved"))
