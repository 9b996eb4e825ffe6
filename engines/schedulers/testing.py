"""The contract of schedulers, as tests to inherit. Needs pytest and hypothesis.

class TestMine(SchedulerContract):
    scheduler = MyScheduler
    options = {"eta": 2}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Categorical, Float, Int
from tunewright.engines.schedulers.protocol import Clone, New, Resume, Scheduler, TrialView, Wait
from tunewright.engines.schedulers.simulation import Driver, Judged, Run, Started, Told, compact, replay
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, State, Verdict

SPACE = Space(
    {
        "lr": Float(1e-4, 1.0, log=True),
        "layers": Int(1, 8),
        "opt": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99, when={"opt": "sgd"}),
    }
)


Script: TypeAlias = Sequence[tuple[int, int]]
"""What a random order of events does next, and to which of the running trials; both from 0 to 99."""


def _script(seed: int, length: int) -> Script:
    return [(int(kind), int(which)) for kind, which in np.random.default_rng(seed).integers(100, size=(length, 2))]


# By seed: a list strategy would hardly ever draw the hundreds of events that a promotion takes.
SCRIPTS = st.builds(_script, st.integers(0, 2**32), st.integers(0, 400))
CHECKS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class SchedulerContract:
    """What every scheduler keeps. Set `scheduler` and `options`; `space=` is passed to all."""

    scheduler: ClassVar[Callable[..., Any]]
    options: ClassVar[Mapping[str, Any]] = {}
    fidelity: ClassVar[Fidelity] = Fidelity("epoch", 1, 27)

    def make(self, *, direction: Any = "minimize", seed: int = 7) -> Scheduler:
        made: Scheduler = type(self).scheduler(
            [Objective("loss", direction)], self.fidelity, seed, space=SPACE, **self.options
        )
        return made

    def driver(self, *, trials: int = 30, sign: float = 1.0, seed: int = 7, direction: Any = "minimize") -> Driver:
        def value(run: Run, step: int) -> float:
            height: float = abs(math.log10(run.params["lr"]) + 2) + 0.1 * run.params["layers"]
            return sign * (height + 3 / step)

        configs = SPACE.sample(np.random.default_rng(seed), trials)
        made = self.make(direction=direction, seed=seed)
        return Driver(made, value, lambda number: configs[number % len(configs)], trials)

    def play(self, driver: Driver, script: Script, workers: int) -> None:
        """Random order of events: a worker that starts, a step of a run, now and then a failure."""
        for kind, which in script:
            running = driver.running
            if not running or (kind < 30 and len(running) < workers):
                driver.start()
            elif kind > 97:
                driver.end(driver.runs[running[which % len(running)]], State.FAILED)
            else:
                run = driver.runs[running[which % len(running)]]
                driver.report(run, run.reached + 1)

    @CHECKS
    @given(script=SCRIPTS, workers=st.integers(1, 20))
    def test_replay_gives_the_same_actions_and_verdicts(self, script: Script, workers: int) -> None:
        driver = self.driver()
        self.play(driver, script, workers)
        full, short = self.make(), self.make()
        replay(full, driver.log)
        replay(short, compact(driver.log), check=False)
        for fresh in (True, False):
            wanted = driver.scheduler.next(driver.running, fresh=fresh)
            assert driver.scheduler.next(driver.running, fresh=fresh) == wanted
            assert full.next(driver.running, fresh=fresh) == wanted
            assert short.next(driver.running, fresh=fresh) == wanted
        for number in driver.running:
            run = driver.runs[number]
            run.curve.append((run.reached + 1, driver.value(run, run.reached + 1)))
            view = TrialView(number, run.target, run.params)
            wanted_verdict = driver.scheduler.judge(view, run.curve)
            assert driver.scheduler.judge(view, run.curve) is wanted_verdict
            assert short.judge(view, run.curve) is wanted_verdict

    @CHECKS
    @given(script=SCRIPTS, workers=st.integers(1, 20))
    def test_no_trial_is_lost_or_trained_twice(self, script: Script, workers: int) -> None:
        driver = self.driver()
        self.play(driver, script, workers)
        driver.drain(workers)
        assert isinstance(action := driver.next(), Wait) and action.done
        trained: dict[int, int] = {}
        ended: set[int] = set()
        for event in driver.log:
            if isinstance(event, Told) and event.observation.state.finished:
                ended.add(event.observation.number)
            if not isinstance(event, Started):
                continue
            action = event.action
            assert event.number not in ended
            if isinstance(action, Resume):
                assert trained[event.number] <= action.to <= self.fidelity.high
                run = driver.runs[event.number]
                assert [step for step, _ in run.curve] == list(range(int(run.curve[0][0]), run.reached + 1))
                target = action.to
            else:
                assert event.number not in trained
                target = action.fidelity
                assert self.fidelity.low <= target <= self.fidelity.high
            trained[event.number] = target
        assert trained.keys() == driver.runs.keys()
        assert all(run.state is State.PAUSED or run.state.finished for run in driver.runs.values())
        assert all(run.reached <= trained[number] for number, run in driver.runs.items())

    @CHECKS
    @given(workers=st.integers(1, 40), seed=st.integers(0, 2**40))
    def test_some_trial_reaches_the_highest_fidelity(self, workers: int, seed: int) -> None:
        driver = self.driver(seed=seed)
        driver.drain(workers)
        assert driver.begun <= driver.trials
        assert any(r.reached == self.fidelity.high and r.state is State.COMPLETE for r in driver.runs.values())

    @CHECKS
    @given(script=SCRIPTS, workers=st.integers(1, 20))
    def test_maximizing_mirrors_minimizing(self, script: Script, workers: int) -> None:
        low, high = self.driver(), self.driver(sign=-1.0, direction="maximize")
        self.play(low, script, workers)
        self.play(high, script, workers)
        assert [e for e in low.log if isinstance(e, Started)] == [e for e in high.log if isinstance(e, Started)]

    def test_actions_are_plain_data_and_clones_valid(self) -> None:
        driver = self.driver()
        driver.drain(5)
        for event in driver.log:
            if isinstance(event, Started) and not isinstance(event.action, Resume):
                assert json.loads(json.dumps(dict(event.action.tags))) == dict(event.action.tags)
                assert type(event.action.fidelity) is int
            if isinstance(event, Started) and isinstance(event.action, Clone):
                assert SPACE.problems(event.action.params) == []
                assert json.loads(json.dumps(dict(event.action.params))) == dict(event.action.params)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_stops_the_trial_and_never_wins(self, bad: float) -> None:
        driver = self.driver()
        honest = driver.value
        driver.value = lambda run, step: bad if run.number % 3 == 0 and run.parent is None else honest(run, step)
        driver.drain(4)
        for event in driver.log:
            if isinstance(event, Judged) and not math.isfinite(event.curve[-1][1]):
                assert event.verdict is Verdict.STOP
            if isinstance(event, Started) and isinstance(event.action, Resume | Clone):
                source = event.action.number if isinstance(event.action, Resume) else event.action.parent
                assert source % 3 or driver.runs[source].parent is not None
        assert any(run.state is State.COMPLETE for run in driver.runs.values())

    @pytest.mark.parametrize("workers", [1, 7])
    def test_it_ends_when_everything_fails(self, workers: int) -> None:
        driver = self.driver()
        driver.value = lambda run, step: math.nan
        driver.drain(workers)
        assert {run.state for run in driver.runs.values()} == {State.FAILED}
        assert isinstance(action := driver.next(), Wait) and action.done

    def test_calls_out_of_order_are_refused(self) -> None:
        driver = self.driver()
        run = driver.start()
        assert run is not None
        scheduler, started = driver.scheduler, driver.log[0]
        assert isinstance(started, Started) and isinstance(started.action, New)
        with pytest.raises(FixArgument):
            scheduler.started(run.number, started.action)
        with pytest.raises(FixArgument):
            scheduler.started(run.number, Resume(run.number, self.fidelity.high))
        with pytest.raises(FixArgument):
            scheduler.judge(TrialView(99, 1, {}), [(1, 0.5)])
        with pytest.raises(FixArgument):
            scheduler.tell(Observation(99, {}, (0.5,), State.COMPLETE, 1))
        driver.end(run, State.FAILED)
        with pytest.raises(FixArgument):
            scheduler.tell(Observation(run.number, run.params, None, State.FAILED, 1))
        with pytest.raises(FixArgument):
            scheduler.started(run.number, started.action)

    def test_a_trial_that_the_driver_lost_is_named(self) -> None:
        driver = self.driver(trials=1)
        run = driver.start()
        assert run is not None
        with pytest.raises(FixArgument) as error:
            driver.scheduler.next([], fresh=False)
        assert error.value.value == [run.number]

    def test_a_paused_trial_that_cannot_go_on_stays_out(self) -> None:
        driver = self.driver()
        for _ in range(2000):
            if paused := [r for r in driver.runs.values() if r.state is State.PAUSED]:
                driver.end(paused[0], State.FAILED)
            while len(driver.running) < 3 and driver.start():
                pass
            if not driver.running:
                break
            run = driver.runs[driver.running[0]]
            driver.report(run, run.reached + 1)
        assert not driver.running
        assert not any(isinstance(event, Started) and isinstance(event.action, Resume) for event in driver.log)
