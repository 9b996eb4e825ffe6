"""The median stopping rule: end a trial whose best value so far is worse than the usual average so far.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from statistics import median

from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers.protocol import Action, Begun, New, SchedulerBase, TrialView, whole
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, Point, State, Verdict


class _Averages:
    """The running averages of one curve, in losses; points that are not finite are left out."""

    def __init__(self, curve: Sequence[Point]):
        self.steps = [step for step, _ in curve]
        self.means = [total / n for n, total in enumerate(accumulate(loss for _, loss in curve), start=1)]

    def at(self, step: float) -> float | None:
        """The mean of all points up to `step`; None for a trial that began later or ended before."""
        i = bisect_right(self.steps, step)
        return self.means[i - 1] if i and self.steps[-1] >= step else None


class MedianStopping(SchedulerBase):
    """Every trial may train to fidelity.high; from step `grace` on it is held against the trials that ended before it.

    Trials that ended by themselves or were stopped have a say at the steps they reached; failed ones have none.
    Options: `grace`, the first step at which a trial can be stopped (fidelity.low); `min_trials`, how many averages
    there must be at that step.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        fidelity: Fidelity | None,
        seed: int,
        *,
        space: Space | None = None,
        grace: int | None = None,
        min_trials: int = 5,
    ):
        super().__init__(objectives, fidelity, seed)
        self.grace = whole("grace", self.fidelity.low if grace is None else grace, 1, self.fidelity.high)
        self.min_trials = whole("min_trials", min_trials, 1)
        self._curves: dict[int, list[Point]] = {}
        self._ended: list[_Averages] = []

    def next(self, running: Sequence[int], *, fresh: bool = True) -> Action:
        return New(self.fidelity.high) if fresh else self._wait("no new trial may begin", running)

    def _started(self, number: int, action: Begun) -> None:
        if not isinstance(action, New):
            raise FixArgument("median stopping only begins new trials", field="action", value=action)

    def _judge(self, trial: TrialView, curve: Sequence[Point]) -> Verdict:
        losses = [(step, self.objective.loss(value)) for step, value in curve if math.isfinite(value)]
        self._curves[trial.number] = losses
        if not losses or not self.grace <= losses[-1][0] < self.fidelity.high:
            return Verdict.CONTINUE
        step = losses[-1][0]
        averages = [mean for ended in self._ended if (mean := ended.at(step)) is not None]
        if len(averages) < self.min_trials:
            return Verdict.CONTINUE
        # Section 3.2.2: the best value by step s, strictly worse than the median over completed trials of their
        # averages over steps 1..s. A trial that ended earlier has no average at s.
        best = min(loss for _, loss in losses)
        return Verdict.STOP if best > median(averages) else Verdict.CONTINUE

    def _told(self, observation: Observation) -> None:
        if observation.state is State.PAUSED:
            raise FixArgument("median stopping never pauses a trial", field="state", value=observation.state)
        losses = self._curves.pop(observation.number, [])
        if losses and observation.state is not State.FAILED:
            self._ended.append(_Averages(losses))
