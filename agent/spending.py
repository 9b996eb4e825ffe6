"""Whether one more question to an advisor is worth it, or one more trial where the questions are free.

A question has paid when a trial that came of its answer became the best of its time by more than the noise. After
PATIENCE questions in a row that did not, the next waits FIRST_REST trials from the last, and twice as long with each
further one; in the last tenth of the budget there is none. One that pays again ends the rest. Of an advisor that is
known to be free the trials past the seeds are counted in place of the questions: what it takes from the engine is a
price, too. With several objectives, where there is no one best, nobody rests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.agent.trust import Result

PATIENCE = 3
FIRST_REST = 10
LAST = 0.1  # of the budget
MAX_DOUBLINGS = 30  # of a rest: longer than any study


@dataclass(frozen=True, slots=True)
class Spending:
    """`unpaid` questions in a row brought nothing, the last question of all was put for trial `last`; trials, where the
    questions are `free`."""

    unpaid: int
    last: int | None
    budget: int
    free: bool = False

    @property
    def next(self) -> int:
        """The first trial for which a question may be put; past the budget where that is too late to pay."""
        if self.unpaid < PATIENCE or self.last is None:
            return 0
        following = self.last + FIRST_REST * 2 ** min(self.unpaid - PATIENCE, MAX_DOUBLINGS)
        return following if following < (1 - LAST) * self.budget else max(self.budget, following)

    def silence(self, number: int) -> str | None:
        """Why nothing is asked for trial `number`; None where it may be."""
        if number >= self.next:
            return None
        late = number < self.budget <= self.next
        if self.free:
            when = "there is no more in this budget" if late else f"the next comes at trial {self.next} or later"
            return f"{self.unpaid} advised trials in a row were no better than what was known, so {when}"
        when = "none is put in this budget" if late else f"the next is put at trial {self.next}"
        return f"{self.unpaid} questions in a row brought no better trial than was known, so {when}"

    @property
    def numbers(self) -> Mapping[str, float]:
        what = "trial" if self.free else "question"
        return {f"unpaid_{what}s": self.unpaid, f"next_{what}": self.next}


def spending(
    outcomes: Sequence[Result],
    questions: Sequence[int],
    advisor: str,
    *,
    noise: float,
    running: int | None,
    budget: int,
    free: bool = False,
) -> Spending:
    """After `outcomes`, first results in the order in which they came, and `questions` that `advisor` answered, by the
    trial that they were put for. `running`: the first of its trials without a result: questions from there on are not
    judged yet. `budget` counts trials. `free`: `questions` are that advisor's trials past the seeds."""
    paid = max((r.number for r in gains(outcomes, noise) if r.by == advisor), default=-1)
    judged = math.inf if running is None else running
    put = sorted(set(questions))
    return Spending(sum(paid < q < judged for q in put), put[-1] if put else None, budget, free)


def gains(outcomes: Sequence[Result], noise: float) -> dict[Result, float]:
    """By how much each result that became the best of its time bettered the one before, at the same fidelity; what is
    inside the noise is no gain, and the first sets the mark."""
    best: dict[int | None, float] = {}
    found: dict[Result, float] = {}
    for result in outcomes:
        before = best.get(result.fidelity, math.inf)
        if math.isfinite(before) and before - result.loss > noise:
            found[result] = before - result.loss
        best[result.fidelity] = min(before, result.loss)
    return found
