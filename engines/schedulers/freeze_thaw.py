"""Freeze-thaw: of the trials that rest, the one that a model expects to end best goes on.

Swersky, Snoek and Adams, "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896. Which trial goes on is the model's to
say (a Gaussian process over configurations and steps, `tunewright.engines.freeze_thaw`); how many do is ASHA's rule (Li
et al., MLSys 2020, Algorithm 2): one in `eta` of those that reached a rung. So extrapolation can reorder promotions and
hold them back, and a model that errs costs no more than its rung.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tunewright.engines.errors import FixArgument
from tunewright.engines.freeze_thaw.belief import Belief
from tunewright.engines.schedulers.asha import ASHA
from tunewright.engines.schedulers.protocol import Action, New, Resume
from tunewright.engines.schedulers.rungs import Rung
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation

SHORTEST = 27


class FreezeThaw(ASHA):
    """Options: those of ASHA, with other defaults. `grace` is at least a 27th of fidelity.high: what a step or two of a
    long training tells is luck, and misleads a model more than a ranking. `eta` is 2: rungs closer to each other
    correct an extrapolation sooner, and measured better than 3 (docs/benchmarks.md).
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        fidelity: Fidelity | None,
        seed: int,
        *,
        space: Space | None = None,
        grace: int | None = None,
        eta: int = 2,
        offset: int = 0,
    ):
        if grace is None and fidelity is not None:
            grace = max(fidelity.low, -(-fidelity.high // SHORTEST))
        super().__init__(objectives, fidelity, seed, space=space, grace=grace, eta=eta, offset=offset)
        if space is None:
            raise FixArgument("freeze-thaw models configurations", field="space", fix="space=Space({...})")
        self._space = space
        self._belief = Belief(space, self.objective, self.fidelity)

    def next(self, running: Sequence[int], *, fresh: bool = True) -> Action:
        for rung, above in list(pairwise(self.rungs))[::-1]:
            # Algorithm 2 of ASHA lets |rung| / eta of a rung's trials go on; which, the model says.
            if rung.promoted < len(rung.ranked) // self.eta:
                number = self._promising(rung, hold=fresh)
                if number is not None:
                    return Resume(number, above.level)
        if fresh:
            return New(self.rungs[0].level)
        return self._last(running)

    def _promising(self, rung: Rung, hold: bool) -> int | None:
        """The trial waiting here that is expected to end best, by its result here while there is no model. With `hold`,
        None where even a lucky end of it, one deviation below what is expected, would be no improvement."""
        model = self._belief.model()
        ends = {} if model is None else dict(zip(model.numbers, zip(model.mean, model.std, strict=True), strict=True))
        waiting = [number for number in rung.waiting if number in ends]
        if model is None or not waiting:
            return next(iter(rung.waiting), None)
        number = min(waiting, key=lambda n: (ends[n][0], n))
        mean, std = ends[number]
        return None if hold and mean - std > model.mean.min() else number

    def _told(self, observation: Observation) -> None:
        super()._told(observation)
        if not self._space.problems(observation.params):  # else it was tried before the space was edited
            self._belief.tell([observation])
