"""Successive halving, synchronous: train n trials a little, keep the best 1/eta, train those eta times as far.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016;
the rungs as in Li et al., "Hyperband", JMLR 18(185), 2018, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers.protocol import Action, Begun, Clone, New, Resume, whole
from tunewright.engines.schedulers.rungs import Rung, RungScheduler, ladder, rung_at
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective

Plan: TypeAlias = list[tuple[int, int]]
"""(trials, level) of each rung of a bracket, lowest first."""


class Bracket:
    """One pass over a plan. A rung is decided when all its trials are told of, so the order of events is no matter."""

    def __init__(self, number: int, plan: Plan):
        self.number, self.plan = number, plan
        self.rungs = [Rung(level) for _, level in plan]
        self.begun = 0

    def next(self, fresh: bool) -> New | Resume | None:
        """What it can start now; None while a rung is still training, and at the end.

        With no fresh trials a half-filled bracket is decided over the trials it has, in the same proportion, and
        sends at least one on.
        """
        if fresh and self.begun < self.plan[0][0]:
            return New(self.rungs[0].level, {"bracket": self.number})
        for i, (rung, above) in enumerate(pairwise(self.rungs)):
            if rung.running:
                return None
            # Li et al. 2018, Algorithm 1: top_k(T, L, floor(n_i / eta)), that is n_{i+1} where all n_i are there
            quota = max(1, len(rung.ranked) * self.plan[i + 1][0] // self.plan[i][0])
            number = rung.promotable(quota)
            if number is not None and rung.promoted < quota:
                return Resume(number, above.level)
        return None

    def finished(self) -> bool:
        """Whether it will never start another trial."""
        return self.next(fresh=True) is None and not any(rung.running for rung in self.rungs)


class BracketScheduler(RungScheduler):
    """Brackets one after the other; subclasses say which plan the k-th has and whether brackets overlap."""

    overlap = False

    def __init__(self, objectives: Sequence[Objective], fidelity: Fidelity | None, seed: int):
        super().__init__(objectives, fidelity, seed)
        self._home: dict[int, Rung] = {}
        self._bracket: dict[int, Bracket] = {}
        self._open: list[Bracket] = []
        self._count = 0

    def plan(self, k: int) -> Plan:
        raise NotImplementedError

    def next(self, running: Sequence[int], *, fresh: bool = True) -> Action:
        for bracket in self._open:
            if action := bracket.next(fresh):
                return action
        if fresh and (self.overlap or not self._running):
            return New(self.plan(self._count)[0][1], {"bracket": self._count})
        return self._wait("a rung is still training" if self._running else "every bracket is decided", running)

    def _started(self, number: int, action: Begun) -> None:
        if isinstance(action, Clone):
            raise FixArgument("brackets never clone", field="action", value=action)
        if isinstance(action, New):
            bracket = self._bracket_of(action)
            bracket.begun += 1
            rung = bracket.rungs[0]
        else:
            bracket = self._bracket[number]
            rung = rung_at(bracket.rungs, action.to)
            self._home[number].promote(number)
        self._bracket[number], self._home[number] = bracket, rung
        rung.running.add(number)

    def _bracket_of(self, action: New) -> Bracket:
        wanted = action.tags.get("bracket")
        if wanted == self._count:
            self._open = [b for b in self._open if not b.finished()] + [Bracket(self._count, self.plan(self._count))]
            self._count += 1
        for bracket in self._open:
            if bracket.number == wanted:
                return bracket
        fix = "hand `started` the action of the latest `next`"
        raise FixArgument("not an open bracket", field="tags", value=dict(action.tags), fix=fix)


class SuccessiveHalving(BracketScheduler):
    """One bracket after the other, each of `n` trials, workers waiting for the slowest of a rung.

    Options: `grace`, the lowest level (fidelity.low); `eta`, the share kept is 1/eta; `n` (as many as leave one trial
    at the top: eta to the number of halvings).
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        fidelity: Fidelity | None,
        seed: int,
        *,
        space: Space | None = None,
        grace: int | None = None,
        eta: int = 3,
        n: int | None = None,
    ):
        super().__init__(objectives, fidelity, seed)
        eta = whole("eta", eta, 2)
        low = whole("grace", self.fidelity.low if grace is None else grace, self.fidelity.low, self.fidelity.high)
        levels = ladder(low, self.fidelity.high, eta)
        n = whole("n", eta ** (len(levels) - 1) if n is None else n, 1)
        # Li et al. 2018, Algorithm 1: n_i = floor(n * eta^-i)
        self._plan = [(max(1, n // eta**i), level) for i, level in enumerate(levels)]

    def plan(self, k: int) -> Plan:
        return self._plan
