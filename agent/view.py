"""A stored study, read: what the agent, the command line and every other reader ask of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tunewright.agent.beliefs import Belief, Beliefs, judge
from tunewright.agent.failing import MAX_TRIALS, FailingRegion, failing
from tunewright.agent.halts import halted
from tunewright.agent.readings import reading
from tunewright.agent.records import REPEAT, StudyRecord, TrialRecord
from tunewright.agent.store import LATEST, Store
from tunewright.agent.verification import Verification, verifications
from tunewright.agent.why import Why, explain
from tunewright.engines.curves import Reading
from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Categorical
from tunewright.engines.pareto import pareto_front
from tunewright.engines.rerun import Runs
from tunewright.engines.schedulers import Segment, schedule
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, Params, Point, State


class StudyView:
    """Reads one study of a store; nothing here writes."""

    def __init__(self, store: Store, record: StudyRecord):
        self.store, self.record = store, record
        self.space = Space.from_dict(record.space)
        self.objectives = tuple(Objective(o["name"], o["direction"]) for o in record.objectives)  # type: ignore[arg-type]
        self._noise: tuple[tuple[int, ...], float | None] | None = None  # of which trials, for what takes a fit
        self._importance: tuple[int, dict[str, float]] = (0, {})  # after how many complete trials
        self._edited: bool | None = None  # whether trials may be of another space than today's
        trained = record.config.get("fidelity")
        self.fidelity = None if trained is None else Fidelity(*trained)

    def trials(self) -> list[TrialRecord]:
        return self.store.trials(self.record.id)

    def best(self) -> TrialRecord | None:
        """The complete trial with the best value, the earliest of equals. Raises FixArgument for several objectives.

        Once the best configurations of a noisy run were run again, it is the first trial of the one with the best mean
        among them; what was tried before and not run again is out, what is tried later counts with its value.
        """
        if len(self.objectives) > 1:
            raise FixArgument("the study has several objectives", field="best", fix="read its Pareto front")
        if not self.store.proposed_by(self.record.id, REPEAT):
            return self.store.best(self.record.id, maximize=self._maximize)
        return self._best_of(self._foremost())

    def _best_of(self, foremost: Sequence[TrialRecord]) -> TrialRecord | None:
        complete = [t for t in foremost if self.fit(t) is not None]
        again = [t for t in complete if t.proposer == REPEAT]
        loss = self.objectives[0].loss
        if not again:
            return min(foremost, key=lambda t: (loss(t.values[0]) if t.values else math.inf, t.number), default=None)
        done, chosen = again[-1].number, {self._key(t) for t in again}
        runs = [r for r in self.runs(complete) if r.number > done]
        runs += self.runs([t for t in complete if self._key(t) in chosen])
        number = min(runs, key=lambda r: (r.mean, r.number)).number
        return next(t for t in complete if t.number == number)

    def leaders(self) -> list[TrialRecord]:
        """The best trial, or with several objectives those that no other beats."""
        if len(self.objectives) > 1:
            return self.pareto()
        best = self.best()
        return [best] if best else []

    def foremost(self) -> list[TrialRecord]:
        """The complete trials that say who leads, and how noisy results are, as they are in today's space, by number:
        all of them but in a large study, see `Store.foremost`."""
        return self._fitted(self._foremost())

    def foremost_and_best(self) -> tuple[list[TrialRecord], TrialRecord | None]:
        """(`foremost`, `best`), read once."""
        found = self._foremost()
        return self._fitted(found), self._best_of(found)

    def _fitted(self, complete: Sequence[TrialRecord]) -> list[TrialRecord]:
        return [f for r in complete if (f := self.fit(r)) is not None and f.values is not None]

    def _foremost(self) -> list[TrialRecord]:
        return self.store.foremost(self.record.id, maximize=self._maximize)

    @property
    def large(self) -> int | None:
        """How many complete trials there are, where `foremost` is but a part of them."""
        complete = self.store.count(self.record.id)[State.COMPLETE]
        return complete if complete > LATEST else None

    def best_of_first(self, complete: int) -> float:
        """The lowest loss of so many first complete trials, of a study that has more."""
        found = self.store.best_before(self.record.id, complete, maximize=self._maximize)
        assert found is not None, "a complete trial has a value"
        return self.objectives[0].loss(found)

    @property
    def _maximize(self) -> bool:
        return self.objectives[0].direction == "maximize"

    def runs(self, complete: Sequence[TrialRecord], live: Sequence[TrialRecord] = ()) -> list[Runs]:
        """Complete trials of the first objective by configuration, in the order of their first trials."""
        pending = {self._key(t) for t in live}
        groups: dict[str, list[TrialRecord]] = {}
        for trial in sorted(complete, key=lambda t: t.number):
            groups.setdefault(self._key(trial), []).append(trial)
        loss = self.objectives[0].loss
        return [
            Runs(group[0].number, tuple(loss(t.values[0]) for t in group if t.values), key in pending)
            for key, group in groups.items()
        ]

    def _key(self, trial: TrialRecord) -> str:
        return self.space.key(self.space.free(trial.params))

    def pareto(self) -> list[TrialRecord]:
        """Complete trials that no other dominates, in order of number."""
        complete = self.store.trials(self.record.id, states=(State.COMPLETE,))
        if not complete:
            return []
        table = [[o.loss(v) for o, v in zip(self.objectives, r.values or (), strict=True)] for r in complete]
        return [complete[i] for i in pareto_front(np.array(table))]

    def curve(self, number: int, metric: str | None = None) -> Sequence[Point]:
        """(step, value), steps ascending; of the first objective where no metric is named."""
        curve = self.store.curve(self.record.id, number, metric or self.objectives[0].name)
        return list(zip(curve.steps, curve.values, strict=True))

    def reading(self, number: int) -> Reading | None:
        """What the trial's curves say; None where the first objective was never reported."""
        return reading(self.store, self.record, number)

    def schedule(self, number: int) -> list[tuple[int, Params]]:
        """The hyperparameters that led to a trial's weights: [(step, params)], each in force after its step; one entry
        but for clones of population based training. See `tunewright.engines.schedulers.params_at`."""
        segments: list[Segment] = []
        at: int | None = number
        while at is not None:
            created = self.store.events(self.record.id, number=at)[0].payload
            action = created.get("action", {})
            parent = action.get("parent")
            params = self.space.free(created["params"])
            segments.append(Segment(at, parent, action.get("step", 0) if parent is not None else 0, params))
            at = parent
        return schedule(segments, number)

    def why(self, number: int) -> Why:
        from tunewright.agent.standing import standing
        from tunewright.agent.worth import identity, worth

        found = explain(self.store, self.record, number)
        found = replace(found, ending=halted(self, found.trial))
        if found.calls:
            asked = {identity(c.advisor, c.model, c.prompt_name, c.prompt_version) for c in found.calls}
            found = replace(found, worth=[str(one) for one in worth(self) if one.advisor in asked])
        if len(self.objectives) == 1 and (best := self.best()) is not None and best.number == number:
            told = standing(self)
            return replace(found, standing=told.told if told else None)
        if (trial := found.trial).state is not State.FAILED or (fitted := self.fit(trial)) is None:
            return found
        place = self.space.encode([self.space.free(fitted.params)])
        inside = (str(one) for one in self.failing() if one.region.holds(self.space, place)[0])
        return replace(found, failing=next(inside, None))

    def failing(self) -> list[FailingRegion]:
        """Where trials fail, most failures first."""
        latest: list[TrialRecord] = []
        before: int | None = None
        while len(latest) < MAX_TRIALS and (page := self._ended_before(before)):
            latest += [fitted for r in page if (fitted := self.fit(r)) is not None]
            before = page[-1].number
        return failing(self.space, latest[MAX_TRIALS - 1 :: -1])

    def _ended_before(self, number: int | None) -> list[TrialRecord]:
        """A page of trials that have ended, newest first."""
        ended = [state for state in State if state.finished]
        return self.store.trials(self.record.id, states=ended, after=number, limit=MAX_TRIALS, newest_first=True)

    def beliefs(self) -> list[Belief]:
        """Every belief that was told, and what became of it."""
        told = Beliefs(self.store, self.record.id)
        told.sync()
        return judge(told.all, self) if told.all else []

    def importance(self) -> dict[str, float]:
        from tunewright.engines.importance import importance

        count = self.store.count(self.record.id)[State.COMPLETE]
        if count == 0 or self._importance[0] != count:
            complete = self.store.trials(self.record.id, states=(State.COMPLETE,))
            observations = [self.observation(fitted) for r in complete if (fitted := self.fit(r)) is not None]
            shares = importance(self.space, observations, self.objectives[0], self.record.seed)
            self._importance = (len(complete), shares)
        return dict(self._importance[1])

    def noise_floor(self) -> float | None:
        """One standard deviation of the first objective between equal runs, None where too little is known."""
        return self.noise_of(self.foremost())

    def noise_of(self, fitted: Sequence[TrialRecord]) -> float | None:
        """The same of complete trials that lie in the space."""
        known = tuple(t.number for t in fitted)
        if self._noise is None or self._noise[0] != known:
            self._noise = (known, self._noise_of(fitted))
        return self._noise[1]

    def _noise_of(self, fitted: Sequence[TrialRecord]) -> float | None:
        from tunewright.engines.noise import noise_floor

        losses = np.array([self.objectives[0].loss(f.values[0]) for f in fitted if f.values])
        return noise_floor(self.space, [self.space.free(f.params) for f in fitted], losses)

    def verifications(self) -> list[Verification]:
        """What was verified, a round each, in order."""
        return verifications(self.store.verifying_runs(self.record.id), self.objectives)

    def fit(self, record: TrialRecord) -> TrialRecord | None:
        """The trial in today's space, None when it lies outside.

        After an edit of the space, parameters that a trial did not know count at their default (or middle), and one
        that was frozen at its value where that covers the trial's.
        """
        if self._edited is None:
            self._edited = self.store.space_was_edited(self.record.id)
        if not self._edited:
            return record
        known = self.space.free(record.params)
        free = {name: self._standing(name, value) for name, value in known.items()}
        if not self.space.problems(free):
            return record if free == known else replace(record, params=self.space.complete(free))
        base = self.space.default(free) or {}
        free = {**base, **{n: v for n, v in free.items() if n in base}}
        if not free or self.space.problems(free):
            return None
        return replace(record, params=self.space.complete(free))

    def _standing(self, name: str, value: Any) -> Any:
        parameter = self.space.parameters[name]
        return parameter.standing(value) if isinstance(parameter, Categorical) else value

    def observation(self, record: TrialRecord) -> Observation:
        """A finished trial that fits, as engines see it."""
        return Observation(
            number=record.number,
            params=self.space.free(record.params),
            values=record.values,
            state=record.state,
            fidelity=record.fidelity,
            own=record.source == "engine",
        )
