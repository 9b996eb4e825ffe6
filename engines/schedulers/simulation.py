"""The smallest driver that keeps the protocol: trials that train in simulated time, and replay of what happened.

For tests of schedulers and for estimates of how busy a scheduler keeps its workers; nothing here runs in a study.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tunewright.engines.schedulers.protocol import (
    Action,
    Begun,
    Clone,
    Resume,
    Scheduler,
    TrialView,
    Wait,
)
from tunewright.engines.types import Observation, Params, Point, State, Verdict


@dataclass
class Run:
    """A trial in the driver's hands; `reached` is its step, `parent` the trial whose checkpoint it began from."""

    number: int
    params: Params
    target: int
    reached: int = 0
    parent: int | None = None
    curve: list[Point] = field(default_factory=list)
    state: State = State.RUNNING


@dataclass(frozen=True)
class Started:
    number: int
    action: Begun
    fresh: bool


@dataclass(frozen=True)
class Judged:
    trial: TrialView
    curve: tuple[Point, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Told:
    observation: Observation


Event: TypeAlias = Started | Judged | Told


class Driver:
    """Makes the calls that `protocol` asks for, over trials whose value at a step is `value(run, step)`.

    At most `trials` new trials begin, `params(number)` each. `log` holds every event.
    """

    def __init__(
        self, scheduler: Scheduler, value: Callable[[Run, int], float], params: Callable[[int], Params], trials: int
    ):
        self.scheduler, self.value, self.params, self.trials = scheduler, value, params, trials
        self.runs: dict[int, Run] = {}
        self.running: list[int] = []
        self.log: list[Event] = []
        self.begun = 0

    @property
    def fresh(self) -> bool:
        return self.begun < self.trials

    def next(self) -> Action:
        return self.scheduler.next(self.running, fresh=self.fresh)

    def start(self) -> Run | None:
        """Gives a free worker something to do; None when the scheduler waits."""
        action, fresh = self.next(), self.fresh
        if isinstance(action, Wait):
            return None
        if isinstance(action, Resume):
            run = self.runs[action.number]
            run.target, run.state = action.to, State.RUNNING
        elif isinstance(action, Clone):
            parent = self.runs[action.parent]
            action = replace(action, step=parent.reached)
            run = Run(len(self.runs), action.params, action.fidelity, parent.reached, action.parent)
        else:
            run = Run(len(self.runs), self.params(len(self.runs)), action.fidelity)
            self.begun += 1
        self.runs[run.number] = run
        self.log.append(Started(run.number, action, fresh))
        self.running.append(run.number)
        self.scheduler.started(run.number, action)
        return run

    def report(self, run: Run, step: int) -> Verdict:
        """The run trains on to `step` and reports; the verdict is carried out."""
        value = self.value(run, step)
        run.reached = step
        run.curve.append((step, value))
        view = TrialView(run.number, run.target, run.params)
        verdict = self.scheduler.judge(view, run.curve)
        self.log.append(Judged(view, tuple(run.curve), verdict))
        if not math.isfinite(value):
            self.end(run, State.FAILED)
        elif verdict is Verdict.STOP:
            self.end(run, State.STOPPED)
        elif verdict is Verdict.PAUSE:
            self.end(run, State.PAUSED)
        elif step >= run.target:
            self.end(run, State.COMPLETE)
        return verdict

    def end(self, run: Run, state: State) -> None:
        values = None if state is State.FAILED or not run.curve else (run.curve[-1][1],)
        observation = Observation(run.number, run.params, values, state, run.reached)
        if run.state is State.RUNNING:
            self.running.remove(run.number)
        run.state = state
        self.log.append(Told(observation))
        self.scheduler.tell(observation)

    def drain(self, workers: int, steps: int = 100_000) -> None:
        """Works until nothing is left, one step of one run at a time. Fails after `steps` steps."""
        for turn in range(steps):
            while len(self.running) < workers and self.start():
                pass
            if not self.running:
                return
            run = self.runs[self.running[turn % len(self.running)]]
            self.report(run, run.reached + 1)
        raise AssertionError(f"still not done after {steps} steps")


def replay(scheduler: Scheduler, log: Sequence[Event], *, check: bool = True) -> None:
    """Every event again, in order; with `check`, every action and verdict must come out as it did."""
    running: set[int] = set()
    for event in log:
        if isinstance(event, Told):
            running.discard(event.observation.number)
            scheduler.tell(event.observation)
        elif isinstance(event, Judged):
            verdict = scheduler.judge(event.trial, event.curve)
            assert not check or verdict is event.verdict, f"judged otherwise on replay: {event}"
        else:
            if check:
                action: Action = scheduler.next(sorted(running), fresh=event.fresh)
                if isinstance(action, Clone) and isinstance(event.action, Clone):
                    action = replace(action, step=event.action.step)  # the driver's own: where its checkpoint was
                assert action == event.action, f"began otherwise on replay: {event}"
            running.add(event.number)
            scheduler.started(event.number, event.action)


def compact(log: Sequence[Event]) -> list[Event]:
    """What a store replays: of the reports, only the last before each `tell` and the last of trials still running."""
    kept: list[Event] = []
    reports: dict[int, Judged] = {}
    for event in log:
        if isinstance(event, Judged):
            reports[event.trial.number] = event
            continue
        if isinstance(event, Told) and event.observation.number in reports:
            kept.append(reports.pop(event.observation.number))
        kept.append(event)
    return [*kept, *reports.values()]


def simulate(
    driver: Driver,
    workers: int,
    pace: Callable[[Run], float],
    *,
    horizon: float,
    stride: int | None = None,
) -> float:
    """Runs `driver` for `horizon` units of time; returns the share of all workers' time that is spent on training.

    `pace(run)` is the time that one step of a run takes. A run reports every `stride` steps, else only at its target.
    """
    queue: list[tuple[float, int, int]] = []  # (time, trial, step) of the next report of every running trial

    def train(run: Run) -> None:
        step = run.target if stride is None else min(run.target, run.reached + stride)
        heapq.heappush(queue, (now + (step - run.reached) * pace(run), run.number, step))

    now = busy = 0.0
    while now < horizon:
        while len(queue) < workers and (begun := driver.start()):
            train(begun)
        if not queue:
            break
        busy += len(queue) * (min(queue[0][0], horizon) - now)
        now, number, step = heapq.heappop(queue)
        if now < horizon:
            run = driver.runs[number]
            driver.report(run, step)
            if run.state is State.RUNNING:
                train(run)
    return busy / (workers * horizon)
