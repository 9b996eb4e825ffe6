"""The store against a model: any sequence of operations leaves it, and its event log, equal to a plain dict."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tunewright.agent.errors import AlreadyObserved, StudyMoved
from tunewright.agent.records import Hold
from tunewright.agent.store import Store, current_owner
from tunewright.engines.types import State

FACTS = {"params": {"x": 0.5}, "source": "engine", "proposer": "tpe", "seed": 3}


@dataclass
class Model:
    state: State = State.RUNNING
    attempt: int = 1
    values: tuple[float, ...] | None = None
    error: str | None = None
    fidelity: int | None = None
    repeats: list[tuple[float, ...] | None] = field(default_factory=list)
    curve: dict[float, float] = field(default_factory=dict)


class StoreIsItsModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = Store.open(None)
        objectives = [{"name": "loss", "direction": "minimize"}]
        facts = {"space": {}, "objectives": objectives, "seed": 1, "config": {}, "environment": {}}
        self.study = self.store.create_study("s", **facts).id
        self.trials: list[Model] = []
        self.ended: list[int] = []
        self.queue: list[tuple[int, dict]] = []

    @rule(fidelity=st.none() | st.integers(1, 9))
    def create(self, fidelity):
        item = self.store.next_queued(self.study)
        assert item == (self.queue[0] if self.queue else None)
        if item:
            self.queue.pop(0)
        number, queue_id = len(self.trials), item[0] if item else None
        self.store.create_trial(self.study, expected_number=number, fidelity=fidelity, queue_id=queue_id, **FACTS)
        self.trials.append(Model(fidelity=fidelity))

    @rule(x=st.floats(0, 1))
    def enqueue(self, x):
        self.queue.append((self.store.enqueue(self.study, {"x": x}), {"x": x}))

    @rule(data=st.data(), values=st.none() | st.tuples(st.sampled_from([0.1, 0.2])), stop=st.booleans())
    def finish(self, data, values, stop):
        if not self.trials:
            return
        number = data.draw(st.integers(0, len(self.trials) - 1))
        model = self.trials[number]
        attempt = data.draw(st.integers(1, model.attempt))
        state = State.FAILED if values is None else State.STOPPED if stop else State.COMPLETE
        clash = model.state.finished and model.values != values
        try:
            self.store.finish(self.study, number, state, values, "why", attempt=attempt)
            assert not clash
        except AlreadyObserved:
            assert clash
        if clash or (not model.state.finished and state is State.FAILED and attempt < model.attempt):
            model.repeats.append(values)
        elif not model.state.finished:
            model.state, model.values, model.error = state, values, "why"
            self.ended.append(number)

    @rule(data=st.data(), value=st.floats(-9, 9, width=32))
    def pause(self, data, value):
        if not self.trials:
            return
        number = data.draw(st.integers(0, len(self.trials) - 1))
        model = self.trials[number]
        attempt = data.draw(st.integers(1, model.attempt))
        runs = model.state is State.RUNNING and attempt == model.attempt
        try:
            self.store.pause(self.study, number, value, 1, attempt=attempt)
            assert runs
            model.state = State.PAUSED
        except StudyMoved:
            assert not runs

    @rule(data=st.data(), fidelity=st.integers(2, 9))
    def resume(self, data, fidelity):
        if not self.trials:
            return
        number = data.draw(st.integers(0, len(self.trials) - 1))
        model = self.trials[number]
        action = {"kind": "resume", "number": number, "to": fidelity}
        try:
            self.store.resume(self.study, number, fidelity, hold=Hold(current_owner()), action=action)
            assert model.state is State.PAUSED
            model.state, model.fidelity = State.RUNNING, fidelity
        except StudyMoved:
            assert model.state is not State.PAUSED

    @rule(data=st.data())
    def release(self, data):
        held = [n for n, m in enumerate(self.trials) if m.state in (State.RUNNING, State.WAITING)]
        if held:
            number = data.draw(st.sampled_from(held))
            self.store.release(self.study, number)
            self.trials[number].state = State.WAITING
            self.trials[number].attempt += 1

    @rule()
    def take(self):
        waiting = [n for n, model in enumerate(self.trials) if model.state is State.WAITING]
        taken = self.store.next_waiting(self.study, Hold(current_owner()))
        assert (taken.number if taken else None) == min(waiting, default=None)
        if taken:
            self.trials[taken.number].state = State.RUNNING

    @rule(data=st.data(), step=st.integers(0, 3), value=st.floats(width=32))
    def report(self, data, step, value):
        if self.trials:
            number = data.draw(st.integers(0, len(self.trials) - 1))
            self.store.report(self.study, number, step, {"loss": value})
            self.trials[number].curve[float(step)] = value

    @invariant()
    def equal(self):
        found = self.store.trials(self.study)
        assert len(found) == len(self.trials)
        for trial, model in zip(found, self.trials, strict=True):
            assert (trial.state, trial.attempt, trial.values) == (model.state, model.attempt, model.values)
            assert (trial.error, trial.fidelity) == (model.error, model.fidelity)
            assert self.store.repeats(self.study, trial.number) == model.repeats
            curve = self.store.curve(self.study, trial.number, "loss")
            # repr makes NaN comparable; SQLite keeps no sign of zero, and adding zero drops it.
            assert [repr(v) for v in curve.values] == [repr(model.curve[s] + 0.0) for s in sorted(model.curve)]
        alive = [n for n, m in enumerate(self.trials) if m.state in (State.RUNNING, State.WAITING)]
        assert [stamp.number for stamp in self.store.live(self.study)] == alive
        news = self.store.news(self.study, len(self.trials), 0)
        assert [t.number for t in news] == sorted(self.ended)
        ended = sorted(news, key=lambda t: t.event)
        assert [t.number for t in ended] == self.ended
        after = ended[len(ended) // 2].event if ended else 0
        known = [t for t in ended if t.event > after]
        assert self.store.news(self.study, len(self.trials), after) == sorted(known, key=lambda t: t.number)
        assert self.store.next_queued(self.study) == (self.queue[0] if self.queue else None)

    def teardown(self):
        if hasattr(self, "store"):
            assert self.store.integrity() == []  # which rebuilds every trial from the events
            self.store.close()


StoreIsItsModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestStoreIsItsModel = StoreIsItsModel.TestCase
