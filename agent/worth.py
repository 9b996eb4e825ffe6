"""What an advisor's advice cost and brought, from a study's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.agent.records import TrialRecord
from tunewright.agent.spending import gains
from tunewright.agent.store.glance import Bill
from tunewright.agent.trust import Result
from tunewright.agent.view import StudyView

NOTHING = Bill(0, 0, 0, 0.0, 0.0)


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


def identity(advisor: str, model: str | None, prompt: str, version: str) -> str:
    """Whose call it was, as trust knows them."""
    return f"{advisor}:{model}, {prompt} {version}" if model else f"{advisor}, {prompt} {version}"


def worth(view: StudyView, complete: Sequence[TrialRecord] | None = None) -> list[Worth]:
    """In the order of their first call or trial. `complete`: `view.foremost()`, where it is read already."""
    store, study_id = view.store, view.record.id
    bills = {identity(*asker): bill for asker, bill in store.bills(study_id).items()}
    # What needs no call says its name.
    whose = {
        number: proposer if asker is None else identity(*asker) for number, proposer, asker in store.advised(study_id)
    }
    gained = _gains(view, complete, whose) if whose else {}
    return [_of(name, bills.get(name, NOTHING), whose, gained) for name in dict.fromkeys([*bills, *whose.values()])]


def rest(view: StudyView) -> str | None:
    """Whether, by the study's latest decision, the advisor is asked less because it brought nothing, and why."""
    latest = view.store.trials(view.record.id, newest_first=True, limit=1)
    decision = view.store.decision(view.record.id, latest[0].number) if latest else None
    numbers = (decision or {}).get("numbers") or {}
    what = "trial" if "next_trial" in numbers else "question"
    if not latest or latest[0].number + 1 >= (following := int(numbers.get(f"next_{what}", 0))):
        return None
    unpaid = int(numbers[f"unpaid_{what}s"])
    return f"It is asked less: {unpaid} {what}s in a row brought no better trial; none before trial {following}."


def _of(name: str, bill: Bill, whose: Mapping[int, str], gained: Mapping[int, float]) -> Worth:
    chosen = [number for number, by in whose.items() if by == name]
    improvements = sum(number in gained for number in chosen)
    return Worth(name, *bill, len(chosen), improvements, gain=sum(gained.get(number, 0.0) for number in chosen))


def _gains(view: StudyView, complete: Sequence[TrialRecord] | None, whose: Mapping[int, str]) -> dict[int, float]:
    """By trial. Only what was the best of its time can have gained anything."""
    if len(view.objectives) > 1:
        return {}
    objective = view.objectives[0]
    best = view.store.records(view.record.id, maximize=objective.direction == "maximize")
    results = [Result(number, whose.get(number), objective.loss(value)) for number, value in best]
    noise = view.noise_floor() if complete is None else view.noise_of(complete)
    return {result.number: gain for result, gain in gains(results, noise or 0.0).items()}
