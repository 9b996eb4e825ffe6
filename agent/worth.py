"""What an advisor's advice cost and brought, from a study's file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.agent.records import CallRecord, TrialRecord
from tunewright.agent.view import StudyView
from tunewright.engines.types import State


@dataclass(frozen=True, slots=True)
class Worth:
    """One advisor's calls, and the trials that it chose.

    `improvements` counts its trials that were the best so far when they ended, `gain` sums what they gained, in the
    metric's units. `usd` is None where the price of any call is unknown.
    """

    advisor: str
    calls: int
    failed: int
    tokens: int
    usd: float | None
    seconds: float
    trials: int
    improvements: int
    gain: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        price = "cost unknown" if self.usd is None else f"{self.usd:.4f} USD"
        spent = f"{self.calls} calls ({self.failed} failed), {self.tokens:,} tokens, {price}, {self.seconds:.1f} s"
        brought = f"{self.trials} trials, {self.improvements} of them a new best"
        if self.improvements and self.tokens:
            brought += f" ({self.tokens / self.improvements:,.0f} tokens each)"
        return f"{self.advisor}: {spent}; {brought}"


def worth(view: StudyView) -> list[Worth]:
    """Per advisor, in the order of their first call or trial."""
    calls, trials = view.store.calls(view.record.id), view.trials()
    gains = _gains(view, trials)
    names = dict.fromkeys([_name(c) for c in calls] + [t.proposer for t in trials if t.source == "advisor"])
    return [_of(name, calls, trials, gains) for name in names]


def _of(name: str, calls: Sequence[CallRecord], trials: Sequence[TrialRecord], gains: dict[int, float]) -> Worth:
    own = [c for c in calls if _name(c) == name]
    chosen = [t for t in trials if t.source == "advisor" and t.proposer == name]
    prices = [c.usd for c in own]
    return Worth(
        advisor=name,
        calls=len(own),
        failed=sum(c.status != "answered" for c in own),
        tokens=sum((c.tokens_in or 0) + (c.tokens_out or 0) for c in own),
        usd=None if any(p is None for p in prices) else sum(p for p in prices if p is not None),
        seconds=sum(c.seconds or 0.0 for c in own),
        trials=len(chosen),
        improvements=sum(t.number in gains for t in chosen),
        gain=sum(gains.get(t.number, 0.0) for t in chosen),
    )


def _name(call: CallRecord) -> str:
    return f"{call.advisor}:{call.model}" if call.model else call.advisor


def _gains(view: StudyView, trials: Sequence[TrialRecord]) -> dict[int, float]:
    """By how much each trial that became the best of its time bettered the one before; the first sets the mark."""
    if len(view.objectives) > 1:
        return {}
    loss, best, gains = view.objectives[0].loss, None, {}
    ended = [t for t in trials if t.state is State.COMPLETE and t.values]
    for trial in sorted(ended, key=lambda t: t.event or 0):
        value = loss(trial.values[0]) if trial.values else 0.0
        if best is not None and value < best:
            gains[trial.number] = best - value
        best = value if best is None else min(best, value)
    return gains
