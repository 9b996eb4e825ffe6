"""Hyperband: brackets of successive halving that trade the number of trials against how early they are judged.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization", JMLR 18(185), 2018, Algorithm 1. Everything is counted in whole numbers: floor(log_3 243) in floating
point is 4, which would lose a bracket.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.engines.schedulers.halving import BracketScheduler, Plan
from tunewright.engines.schedulers.protocol import whole
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective


def brackets(low: int, high: int, eta: int) -> list[Plan]:
    """The plans of one round, most trials first. `low` and `high` bound the level of training.

    With low=1, high=81, eta=3 their first rungs are (81, 1), (34, 3), (15, 9), (8, 27), (5, 81).
    """
    s_max = 0  # Algorithm 1: s_max = floor(log_eta(R)), with R counted in units of the lowest level
    while low * eta ** (s_max + 1) <= high:
        s_max += 1
    plans = []
    for s in range(s_max, -1, -1):
        # Algorithm 1: n = ceil(B/R * eta^s / (s + 1)) with B = (s_max + 1) R, as a ceiling division
        n = -(-(s_max + 1) * eta**s // (s + 1))
        # Algorithm 1: n_i = floor(n eta^-i), r_i = r eta^i with r = R eta^-s
        plans.append([(n // eta**i, high // eta ** (s - i)) for i in range(s + 1)])
    return plans


class Hyperband(BracketScheduler):
    """The brackets of a round, then the next round, without end. The next bracket starts where the others wait.

    Options: `grace`, the lowest level (fidelity.low); `eta`, the share kept is 1/eta.
    """

    overlap = True

    def __init__(
        self,
        objectives: Sequence[Objective],
        fidelity: Fidelity | None,
        seed: int,
        *,
        space: Space | None = None,
        grace: int | None = None,
        eta: int = 3,
    ):
        super().__init__(objectives, fidelity, seed)
        eta = whole("eta", eta, 2)
        low = whole("grace", self.fidelity.low if grace is None else grace, self.fidelity.low, self.fidelity.high)
        self._round = brackets(low, self.fidelity.high, eta)

    def plan(self, k: int) -> Plan:
        return self._round[k % len(self._round)]
