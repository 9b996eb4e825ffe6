"""Whether one more question to an advisor that costs something is worth it.

A question has paid when a trial that came of its answer became the best of its time by more than the noise. After
PATIENCE questions in a row that did not, the next waits FIRST_REST trials from the last, and twice as long with each
further one; in the last tenth of the budget there is none. One that pays again ends the rest. An advisor that is known
to be free is never left unasked for this, and with several objectives, where there is no one best, nobody is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.agent.trust import Result

PATIENCE = 3
FIRST_REST = 10
LAST = 0.1  # of the budget


@dataclass(frozen=True, slots=True)
class Spending:
    """`unpaid` questions in a row brought nothing, the last question of all was put for trial `last`."""

    unpaid: int
    last: int | None
    budget: int

    @property
    def next(self) -> int:
        """The first trial for which a question may be put; past the budget where that is too late to pay."""
        if self.unpaid < PATIENCE or self.last is None:
            return 0
        following = self.last + FIRST_REST * 2 ** (self.unpaid - PATIENCE)
        return following if following < (1 - LAST) * self.budget else max(self.budget, following)

    def silence(self, number: int) -> str | None:
        """Why nothing is asked for trial `number`; None where it may be."""
        if number >= self.next:
            return None
        when = f"the next is put at trial {self.next}" if self.next < self.budget else "none is put in this budget"
        return f"{self.unpaid} questions in a row brought no better trial than was known, so {when}"

    @property
    def numbers(self) -> Mapping[str, float]:
        return {"unpaid_questions": self.unpaid, "next_question": self.next}


def spending(
    outcomes: Sequence[Result],
    questions: Sequence[int],
    advisor: str,
    *,
    noise: float,
    running: int | None,
    budget: int,
) -> Spending:
    """After `outcomes`, first results in the order in which they came, and `questions` that `advisor` answered, by the
    trial that they were put for. `running`: the first of its trials without a result: questions from there on are not
    judged yet. `budget` counts trials."""
    paid = max((r.number for r in gains(outcomes, noise) if r.by == advisor), default=-1)
    judged = math.inf if running is None else running
    put = sorted(set(questions))
    return Spending(sum(paid < q < judged for q in put), put[-1] if put else None, budget)


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
