"""Population based training: members that do badly continue from a good member's checkpoint, with changed params.

Jaderberg, Dalibard, Osindero, Czarnecki, Donahue, Razavi, Vinyals, Green, Dunning, Simonyan, Fernando and
Kavukcuoglu, "Population Based Training of Neural Networks", 2017 (arXiv:1711.09846), Algorithm 1, asynchronous.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers.explore import explore
from tunewright.engines.schedulers.protocol import (
    Action,
    Begun,
    Clone,
    New,
    Resume,
    SchedulerBase,
    TrialView,
    whole,
)
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, Params, Point, State, Verdict, stream

SALT = 0x9B7  # keeps these draws apart from an engine's with the same seed


@dataclass(frozen=True, slots=True)
class Segment:
    """Trial `number` trained with `params` from `step` on, from the checkpoint of `parent` (None: from nothing)."""

    number: int
    parent: int | None
    step: int
    params: Params


def schedule(lineage: Iterable[Segment], number: int) -> list[tuple[int, Params]]:
    """The hyperparameter schedule behind trial `number`: [(step, params)], each in force after its step, from 0 on."""
    segments = {segment.number: segment for segment in lineage}
    found: list[tuple[int, Params]] = []
    at: int | None = number
    while at is not None:
        if at not in segments:
            raise FixArgument("this trial is not in the lineage", field="number", value=at)
        segment = segments[at]
        # A parent whose own start was not behind its child's never trained on the way to it.
        if not found or segment.step < found[-1][0]:
            found.append((segment.step, segment.params))
        at = segment.parent
    return found[::-1]


def params_at(schedule: Sequence[tuple[int, Params]], step: float) -> Params:
    """The params with which step number `step` (1 is the first) is trained under a schedule."""
    return [params for start, params in schedule if start < step][-1]


@dataclass(slots=True, eq=False)
class _Member:
    """One place in the population and the trial that holds it now."""

    number: int
    generation: int = 0
    start: int = 0  # the step of the checkpoint it began from
    passed: int = 0  # the ready point that it went on from
    step: int = 0  # its last ready point, `start` before the first
    loss: float | None = None  # measured there
    params: Params = field(default_factory=dict)
    vacant: bool = False  # its trial was stopped or failed


class PBT(SchedulerBase):
    """A population trained side by side, measured every `interval` steps.

    At a ready point a member among the worst `quantile` is stopped, and its place goes to a clone of a member drawn
    from the best `quantile`. Ranks compare every member's last measurement, however far it is, so nobody waits for a
    straggler; a copy may set a member back by one interval at most, and a place changes hands at most
    high / interval times, so training ends. A failed member is replaced like a bad one. With fewer workers than
    members a member pauses at a ready point and the one furthest behind goes on.

    Options: `space`; `population`; `interval` (a tenth of fidelity.high); `quantile`; `resample`, the probability that
    a parameter is drawn anew; `factors` that perturb the others.
    """

    ends_itself: ClassVar[bool] = True

    def __init__(
        self,
        objectives: Sequence[Objective],
        fidelity: Fidelity | None,
        seed: int,
        *,
        space: Space | None = None,
        population: int = 20,
        interval: int | None = None,
        quantile: float = 0.2,
        resample: float = 0.25,
        factors: Sequence[float] = (0.8, 1.2),
    ):
        super().__init__(objectives, fidelity, seed)
        if space is None:
            raise FixArgument("PBT perturbs configurations", field="space", fix="pass space=")
        if not 0 < quantile <= 0.5:
            raise FixArgument("must be above 0 and at most 0.5", field="quantile", value=quantile, fix="quantile=0.2")
        if not 0 <= resample <= 1:
            raise FixArgument("must be from 0 to 1", field="resample", value=resample, fix="resample=0.25")
        if not factors or not all(math.isfinite(f) and f > 0 for f in factors):
            raise FixArgument("must be numbers above 0", field="factors", value=factors, fix="factors=(0.8, 1.2)")
        high = self.fidelity.high
        self.space, self.quantile, self.resample, self.factors = space, quantile, resample, tuple(factors)
        self.population = whole("population", population, 2)
        self.interval = whole("interval", max(1, high // 10) if interval is None else interval, 1, high)
        self.generations = high // self.interval
        self._members: list[_Member] = []
        self._place: dict[int, int] = {}  # trial -> index of its member
        self._lineage: dict[int, Segment] = {}

    @property
    def lineage(self) -> list[Segment]:
        """Every trial that was measured or cloned, in the order in which they began; see `schedule`."""
        return [self._lineage[number] for number in self._place if number in self._lineage]

    # ---------------------------------------------------------------- what a free worker does

    def next(self, running: Sequence[int], *, fresh: bool = True) -> Action:
        if fresh and len(self._members) < self.population:
            return New(self.fidelity.high, {"member": len(self._members), "generation": 0})
        offers: list[tuple[int, bool, int, Action]] = []
        for index, member in enumerate(self._members):
            if member.number in self._paused:
                offers.append((member.step, True, member.number, Resume(member.number, self.fidelity.high)))
            elif clone := self._clone(index, member):
                # A clone goes before its parent, which would otherwise stay one interval ahead of it to the end.
                offers.append((clone.step, False, member.number, clone))
        if offers:
            return min(offers, key=lambda offer: offer[:3])[3]
        return self._wait("every member is training" if self._running else "every member is trained", running)

    def _clone(self, index: int, member: _Member) -> Clone | None:
        """The successor of a vacant place; None when it is not vacant, or nobody can be copied."""
        parents = self._parents(member)
        if not parents:
            return None
        rng = stream(self.seed, member.number, SALT)
        # Section 4.1.1, truncation selection: uniformly from the best 20%
        parent = parents[rng.integers(len(parents))]
        params = explore(self.space, parent.params, rng, factors=self.factors, resample=self.resample)
        tags = {"member": index, "generation": member.generation + 1, "replaces": member.number}
        return Clone(parent.number, params, parent.step, self.fidelity.high, tags)

    # ---------------------------------------------------------------- ranks

    def _ranked(self) -> list[_Member]:
        """Members measured since their trial began, best first. An unmeasured clone is neither good nor bad."""
        measured = [m for m in self._members if m.loss is not None and not m.vacant]
        return sorted(measured, key=lambda m: (m.loss, m.number))

    def _share(self, measured: int) -> int:
        """How many of the measured are the best, and the worst: never more than half."""
        return max(1, min(round(self.quantile * measured), measured // 2))

    def _copyable(self, member: _Member) -> bool:
        held = member.number in self._running or member.number in self._paused
        return held and member.step < self.fidelity.high

    def _best(self, member: _Member) -> list[_Member]:
        """The members it may copy."""
        ranked = self._ranked()
        best = ranked[: self._share(len(ranked))]
        return [m for m in best if self._copyable(m) and m.step >= member.step - self.interval]

    def _parents(self, vacancy: _Member) -> list[_Member]:
        """Whom the successor of a vacant place may copy; where the best are all trained, the best that still train."""
        if not vacancy.vacant or vacancy.generation >= self.generations:
            return []
        return self._best(vacancy) or [m for m in self._ranked() if self._copyable(m)][:1]

    def _is_bad(self, member: _Member) -> bool:
        """Among the worst share of those measured, once that is at least half of the population."""
        ranked = self._ranked()
        return len(ranked) >= max(2, self.population / 2) and member in ranked[-self._share(len(ranked)) :]

    # ---------------------------------------------------------------- events

    def _started(self, number: int, action: Begun) -> None:
        if isinstance(action, Resume):
            # A training without a checkpoint comes past its earlier ready points again, which must not rest it again.
            member = self._members[self._place[number]]
            member.passed = member.step
            return
        if isinstance(action, New):
            self._place[number] = len(self._members)
            self._members.append(_Member(number))
            return
        index = self._place.get(action.tags.get("replaces", -1), -1)
        if index < 0 or not self._members[index].vacant or action.parent not in self._place:
            raise FixArgument("not a clone that `next` asked for", field="started", value=action)
        generation = self._members[index].generation + 1
        self._members[index] = _Member(number, generation, start=action.step, step=action.step)
        self._lineage[number] = Segment(number, action.parent, action.step, dict(action.params))
        self._place[number] = index

    def _judge(self, trial: TrialView, curve: Sequence[Point]) -> Verdict:
        member = self._members[self._place[trial.number]]
        points = [(step, value) for step, value in curve if math.isfinite(value)]
        at = self._ready(points, member.start)
        if at is None:
            return Verdict.CONTINUE
        if (reached := int(points[at][0])) < member.passed:
            return Verdict.CONTINUE
        member.step, member.loss = reached, self.objective.loss(points[at][1])
        member.params = self.space.free(trial.params)
        self._lineage.setdefault(trial.number, Segment(trial.number, None, 0, member.params))
        # Algorithm 1: `ready` holds at the report that reaches the point, and a trained member has no more to learn
        if at < len(points) - 1 or reached == member.passed or reached >= self.fidelity.high:
            return Verdict.CONTINUE
        if member.generation < self.generations and self._is_bad(member) and self._best(member):
            return Verdict.STOP
        return Verdict.PAUSE if self._somebody_waits() else Verdict.CONTINUE

    def _ready(self, points: Sequence[Point], start: int) -> int | None:
        """Index of the first point at or past the last multiple of the interval that was reached since `start`."""
        if not points:
            return None
        due = int(points[-1][0]) // self.interval * self.interval
        if due <= start:
            return None
        return next(i for i, (step, _) in enumerate(points) if step >= due)

    def _somebody_waits(self) -> bool:
        if len(self._members) < self.population or self._paused:
            return True
        return any(self._parents(m) for m in self._members)

    def _told(self, observation: Observation) -> None:
        if observation.state in (State.STOPPED, State.FAILED):
            self._members[self._place[observation.number]].vacant = True
