"""What an advisor's advice cost and brought, from a study's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.agent.records import CallRecord, TrialRecord
from tunewright.agent.spending import gains
from tunewright.agent.trust import Result
from tunewright.agent.view import StudyView
from tunewright.engines.types import State


@dataclass(frozen=True, slots=True)
class Worth:
    """One advisor's calls with one version of a prompt, and the trials that it chose.

    `improvements` counts its trials that were the best of their time by more than the noise, `gain` sums what they
    gained, in the metric's units. `usd` is None where the price of any call is unknown.
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
        free = self.usd == 0 and not self.tokens
        price = "free" if free else _price(self.tokens, self.usd, self.seconds)
        spent = f"{_count(self.calls, 'call')} ({self.failed} failed), {price}"
        if not self.trials:
            return f"{self.advisor}: {spent}; no trial"
        if not self.improvements:
            return f"{self.advisor}: {spent}; {_count(self.trials, 'trial')}, none of them a new best beyond the noise"
        n = self.improvements
        each = _price(self.tokens / n, None if self.usd is None else self.usd / n, self.seconds / n)
        brought = f"{_count(self.trials, 'trial')}, {n} of them a new best, by {self.gain:.3g} in all"
        return f"{self.advisor}: {spent}; {brought}" + (f": {each} for each" if self.calls and not free else "")


def _price(tokens: float, usd: float | None, seconds: float) -> str:
    return f"{tokens:,.0f} tokens, {'cost unknown' if usd is None else f'{usd:.4f} USD'}, {seconds:.1f} s"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def identity(call: CallRecord) -> str:
    """Whose call it was: advisor, model and prompt version, as trust knows them."""
    name = f"{call.advisor}:{call.model}" if call.model else call.advisor
    return f"{name}, {call.prompt_name} {call.prompt_version}"


def worth(view: StudyView, trials: Sequence[TrialRecord] | None = None) -> list[Worth]:
    """In the order of their first call or trial. `trials`: all of the study's, where they are read already."""
    store, study_id = view.store, view.record.id
    calls, trials = store.calls(study_id), view.trials() if trials is None else trials
    advised = [t for t in trials if t.source == "advisor"]
    if not calls and not advised:
        return []
    # A trial belongs to the call in whose answer its configuration stood; what needs no call says its name.
    taken = store.proposals(study_id, status="taken") if advised else []
    asked, by = {call.id: identity(call) for call in calls}, {p.taken_by: p.call_id for p in taken if p.by == "advisor"}
    whose = {t.number: asked.get(by.get(t.number) or 0, t.proposer) for t in advised}
    gained = _gains(view, trials, whose)
    names = dict.fromkeys([*asked.values(), *whose.values()])
    return [_of(name, [c for c in calls if identity(c) == name], whose, gained) for name in names]


def rest(view: StudyView) -> str | None:
    """Whether, by the study's latest decision, the advisor is asked less because it brought nothing, and why."""
    latest = view.store.trials(view.record.id, newest_first=True, limit=1)
    decision = view.store.decision(view.record.id, latest[0].number) if latest else None
    numbers = (decision or {}).get("numbers") or {}
    if not latest or latest[0].number + 1 >= numbers.get("next_question", 0):
        return None
    unpaid, following = int(numbers["unpaid_questions"]), int(numbers["next_question"])
    return f"It is asked less: {unpaid} questions in a row brought no better trial; none before trial {following}."


def _of(name: str, calls: Sequence[CallRecord], whose: Mapping[int, str], gained: Mapping[int, float]) -> Worth:
    chosen = [number for number, by in whose.items() if by == name]
    prices = [c.usd for c in calls]
    return Worth(
        advisor=name,
        calls=len(calls),
        failed=sum(c.status != "answered" for c in calls),
        tokens=sum((c.tokens_in or 0) + (c.tokens_out or 0) for c in calls),
        usd=None if any(p is None for p in prices) else sum(p for p in prices if p is not None),
        seconds=sum(c.seconds or 0.0 for c in calls),
        trials=len(chosen),
        improvements=sum(number in gained for number in chosen),
        gain=sum(gained.get(number, 0.0) for number in chosen),
    )


def _gains(view: StudyView, trials: Sequence[TrialRecord], whose: Mapping[int, str]) -> dict[int, float]:
    """By trial."""
    if len(view.objectives) > 1:
        return {}
    loss = view.objectives[0].loss
    ended = sorted((t for t in trials if t.state is State.COMPLETE and t.values), key=lambda t: t.event or 0)
    results = [Result(t.number, whose.get(t.number), loss(t.values[0]) if t.values else 0.0) for t in ended]
    return {result.number: gain for result, gain in gains(results, view.noise_floor() or 0.0).items()}
