"""Rungs: the levels of training at which trials are compared, shared by every halving scheduler."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers.protocol import SchedulerBase, TrialView
from tunewright.engines.types import Observation, Point, State, Verdict


def ladder(low: int, high: int, eta: int) -> list[int]:
    """low, low*eta, low*eta^2, ... below `high`, then `high` itself, in whole numbers."""
    levels = []
    while low < high:
        levels.append(low)
        low *= eta
    return [*levels, high]


class Rung:
    """The trials trained to one level: `running` towards it, `ranked` once there, best first.

    A result enters once and for good; a trial leaves `_waiting` when it is promoted or can no longer be resumed.
    Equal losses rank by trial number, so the order in which results came in does not matter.
    """

    def __init__(self, level: int):
        self.level = level
        self.running: set[int] = set()
        self.ranked: list[tuple[float, int]] = []
        self.promoted = 0
        self._losses: dict[int, float] = {}
        self._waiting: list[tuple[float, int]] = []

    @property
    def has_result(self) -> bool:
        """Whether a trial got here without failing."""
        return bool(self.ranked) and math.isfinite(self.ranked[0][0])

    def add(self, number: int, loss: float, resumable: bool) -> None:
        self.running.discard(number)
        self._losses[number] = loss
        insort(self.ranked, (loss, number))
        if resumable and math.isfinite(loss):
            insort(self._waiting, (loss, number))

    @property
    def waiting(self) -> list[int]:
        """The trials that can be promoted, best first."""
        return [number for _, number in self._waiting]

    def promotable(self, quota: int) -> int | None:
        """The best trial not yet promoted, when it is among the best `quota` of all results here."""
        if self._waiting and bisect_left(self.ranked, self._waiting[0]) < quota:
            return self._waiting[0][1]
        return None

    def promote(self, number: int) -> None:
        self.withdraw(number)
        self.promoted += 1

    def withdraw(self, number: int) -> None:
        entry = (self._losses[number], number)
        i = bisect_left(self._waiting, entry)
        if self._waiting[i : i + 1] == [entry]:
            del self._waiting[i]


def rung_at(rungs: Sequence[Rung], level: int) -> Rung:
    """The rung of a level. Raises FixArgument when there is none."""
    for rung in rungs:
        if rung.level == level:
            return rung
    raise FixArgument("not a rung", field="to", value=level, fix=f"one of {[r.level for r in rungs]}")


class RungScheduler(SchedulerBase):
    """A trial trains to its rung's level and pauses there, to be promoted or left.

    A trial that fails or is stopped below its level counts there as worst; one that ends by itself counts with its
    last value and is not promoted.
    """

    _home: dict[int, Rung]

    def _judge(self, trial: TrialView, curve: Sequence[Point]) -> Verdict:
        level = self._home[trial.number].level
        if curve and level < self.fidelity.high and curve[-1][0] >= level:
            return Verdict.PAUSE
        return Verdict.CONTINUE

    def _told(self, observation: Observation) -> None:
        number, state = observation.number, observation.state
        rung = self._home[number]
        if number in self._paused:
            rung.withdraw(number)
            return
        short = observation.fidelity is not None and observation.fidelity < rung.level
        if state is State.PAUSED and short:
            raise FixArgument(
                f"a trial pauses at its rung, {rung.level}, not before",
                field="fidelity",
                value=observation.fidelity,
                fix="let it go on first, or tell FAILED when it cannot",
            )
        loss = math.inf if state is State.STOPPED and short else self._loss(observation)
        rung.add(number, loss, resumable=state is State.PAUSED)
