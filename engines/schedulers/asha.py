"""ASHA, asynchronous successive halving: promote whenever a trial is in the best 1/eta of its rung, never wait.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020, Algorithm 2. Trials pause at each rung and are resumed when promoted, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers.protocol import Action, Begun, Clone, New, Resume, whole
from tunewright.engines.schedulers.rungs import Rung, RungScheduler, ladder, rung_at
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective


class ASHA(RungScheduler):
    """Rungs at grace * eta^(offset + k) below fidelity.high, and at fidelity.high.

    Options: `grace`, the paper's minimum resource r (fidelity.low); `eta`, its reduction factor; `offset`, its
    minimum early-stopping rate s, which leaves the lowest rungs out.
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
        offset: int = 0,
    ):
        super().__init__(objectives, fidelity, seed)
        self.eta = whole("eta", eta, 2)
        low = whole("grace", self.fidelity.low if grace is None else grace, self.fidelity.low, self.fidelity.high)
        levels = ladder(low, self.fidelity.high, self.eta)
        self.rungs = [Rung(level) for level in levels[whole("offset", offset, 0, len(levels) - 1) :]]
        self._home: dict[int, Rung] = {}

    def next(self, running: Sequence[int], *, fresh: bool = True) -> Action:
        pairs = list(pairwise(self.rungs))[::-1]
        for rung, above in pairs:  # Algorithm 2, get_job: from the highest rung down
            # candidates = top_k(rung k, |rung k| / eta), less those promoted already
            number = rung.promotable(len(rung.ranked) // self.eta)
            if number is not None:
                return Resume(number, above.level)
        return New(self.rungs[0].level) if fresh else self._last(running)

    def _last(self, running: Sequence[int]) -> Action:
        """What is left once no new trial may begin and none of the usual promotions is due."""
        pairs = list(pairwise(self.rungs))[::-1]
        if not self._running:
            # A small study can end with no trial at the top; the best of the highest rung then goes on alone.
            for rung, above in pairs:
                if above.has_result:
                    break
                number = rung.promotable(len(rung.ranked))
                if number is not None:
                    return Resume(number, above.level)
        return self._wait("nothing can be promoted", running)

    def _started(self, number: int, action: Begun) -> None:
        if isinstance(action, Clone):
            raise FixArgument("ASHA never clones", field="action", value=action)
        rung = self.rungs[0]
        if isinstance(action, Resume):
            rung = rung_at(self.rungs, action.to)
            self._home[number].promote(number)
        self._home[number] = rung
        rung.running.add(number)
