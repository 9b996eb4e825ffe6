"""Schedulers: how far to train each trial. The protocol, its actions, and the calls a driver makes.

A scheduler is a pure state machine: no clock, no input or output, no thread. Its state is a function of (options,
seed, the ordered events `started`, `judge`, `tell`). The driver, which owns processes and the store, calls it under
one lock:

1. **Build** `scheduler = factory(objectives, fidelity, seed, space=space, **options)`, then replay what is stored (6).
2. **A worker is free**: `action = scheduler.next(running, fresh=...)`. `running` lists the trials started and not told
   of since, those that wait for a retry included; `fresh` is False once no new trial may begin (the budget of trials
   is spent, or the engine raised SpaceExhausted). `next` changes nothing. Carry the action out and call
   `started(number, action)` before `next` is called again:
   - `New`: `engine.ask(fidelity=action.fidelity)` (or a default, enqueued or advised configuration), a new trial
     number, trained from step 1 to `action.fidelity`.
   - `Resume`: the paused trial `number` goes on from its own checkpoint to `to`, under the same number.
   - `Clone`: a new trial number that starts from the newest checkpoint of trial `parent` with `action.params`. Advice
     may put other params in, never another parent. Pass `started` the action as carried out:
     `dataclasses.replace(action, params=..., step=the step of that checkpoint)`.
   - `Wait`: nothing for this worker until another trial is told of; with `done`, nothing ever (while `fresh` stays).
   Store the action with the trial (its tags are JSON): replaying needs it.
3. **A trial reports**: `verdict = scheduler.judge(view, curve)` with the trial's whole curve of the first objective
   (for a clone: its own points), steps ascending, the newest point last. PAUSE: it saves a checkpoint, its process
   ends, and it is told of as PAUSED. STOP: its process ends; told of as STOPPED, or FAILED when the value is not
   finite. A STOP that is vetoed may be ignored.
4. **A trial ends or pauses**: `scheduler.tell(Observation(number, params, values, state, fidelity=step reached))`.
   An objective that returns a value without having been paused or stopped is first judged once more, with the point
   (fidelity it may train to, value) at the end of its curve: PAUSE there means PAUSED, else it is COMPLETE. A
   COMPLETE, STOPPED or FAILED trial never comes back. A paused trial that can no longer be resumed is told of as
   FAILED, a running one whose worker died only once its retries are spent.
5. **The end**: `next(..., fresh=False)` answers `Wait(done=True)` when nothing is running and nothing is left to
   promote. Trials still paused then are the losers of their rungs.
6. **Replay**: the stored events in their order: `started`; before each `tell` one `judge` with the curve as it was
   then (verdict ignored); `tell`; last, one `judge` for each trial that is still running. Intermediate reports need
   not be replayed: what a scheduler keeps of a curve depends on its newest state alone.

Only the first objective is compared. A failure, NaN or infinity ranks below every number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, Params, Point, State, Verdict


@dataclass(frozen=True, slots=True)
class New:
    """Train a new configuration from its first step to `fidelity`."""

    fidelity: int
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a paused trial go on to step `to`."""

    number: int
    to: int


@dataclass(frozen=True, slots=True)
class Clone:
    """Start a new trial with `params` from the checkpoint that `parent` has at `step`, and train it to `fidelity`."""

    parent: int
    params: Params
    step: int
    fidelity: int
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to start now; `done` when no running trial is left that could change this."""

    reason: str
    done: bool = False


Begun: TypeAlias = New | Resume | Clone
Action: TypeAlias = New | Resume | Clone | Wait


@dataclass(frozen=True, slots=True)
class TrialView:
    """A running trial as `judge` sees it. `fidelity` is the step it may train to now."""

    number: int
    fidelity: int
    params: Params


@runtime_checkable
class Scheduler(Protocol):
    def __init__(
        self,
        objectives: Sequence[Objective],
        fidelity: Fidelity,
        seed: int,
        *,
        space: Space | None = None,
        **options: Any,
    ) -> None: ...

    def next(self, running: Sequence[int], *, fresh: bool = True) -> Action:
        """What a free worker does. Pure. Raises FixArgument when a trial it waits for is missing from `running`."""
        ...

    def started(self, number: int, action: Begun) -> None:
        """The action was carried out, as trial `number`. Raises FixArgument when that trial cannot begin."""
        ...

    def judge(self, trial: TrialView, curve: Sequence[Point]) -> Verdict:
        """The same answer for the same curve until another event comes. Raises FixArgument for a trial not running."""
        ...

    def tell(self, observation: Observation) -> None:
        """A running trial ended or paused, or a paused one ended. Raises FixArgument for any other."""
        ...


class SchedulerBase:
    """Who runs and who is paused, by the events told; subclasses add `next`, `_judge`, `_started` and `_told`.

    `ends_itself`: whether it comes to an end while new trials might still begin, so that nothing else need limit it.
    """

    ends_itself: ClassVar[bool] = False

    def __init__(self, objectives: Sequence[Objective], fidelity: Fidelity | None, seed: int):
        if not objectives:
            raise FixArgument("a scheduler needs an objective", field="objectives", fix='[Objective("val_loss")]')
        if fidelity is None:
            raise FixArgument(
                "a scheduler must know how far a trial can be trained",
                field="fidelity",
                fix='fidelity=Fidelity("epoch", 1, 81)',
            )
        self.objective, self.fidelity, self.seed = objectives[0], fidelity, seed
        self._running: dict[int, Begun] = {}
        self._paused: dict[int, Begun] = {}
        self._known: set[int] = set()

    def started(self, number: int, action: Begun) -> None:
        if isinstance(action, Resume):
            fits = number == action.number and number in self._paused
        else:
            fits = number not in self._known
        if not fits:
            raise FixArgument(
                f"trial {number} {'is not the paused one' if isinstance(action, Resume) else 'has begun before'}",
                field="started",
                value=action,
                fix="carry out the action of the latest `next`, a new one under a number of its own",
            )
        self._started(number, action)
        self._known.add(number)
        self._paused.pop(number, None)
        self._running[number] = action

    def judge(self, trial: TrialView, curve: Sequence[Point]) -> Verdict:
        if trial.number not in self._running:
            raise FixArgument("only a running trial can report", field="number", value=trial.number)
        verdict = self._judge(trial, curve)
        if curve and not math.isfinite(curve[-1][1]):
            return Verdict.STOP
        return verdict

    def tell(self, observation: Observation) -> None:
        number, state = observation.number, observation.state
        held = number in self._running or (number in self._paused and state.finished)
        if not held or not (state is State.PAUSED or state.finished):
            raise FixArgument(
                f"cannot take in a {state.value} trial that is not "
                f"{'paused or running' if state.finished else 'running'}",
                field="number",
                value=number,
                fix="call started() first; tell each end once",
            )
        self._told(observation)
        action = self._running.pop(number, None) or self._paused.pop(number)
        if state is State.PAUSED:
            self._paused[number] = action

    def _started(self, number: int, action: Begun) -> None:
        raise NotImplementedError

    def _judge(self, trial: TrialView, curve: Sequence[Point]) -> Verdict:
        raise NotImplementedError

    def _told(self, observation: Observation) -> None:
        raise NotImplementedError

    def _loss(self, observation: Observation) -> float:
        """The first objective with lower better; infinity for a failure or a value that is not finite."""
        if observation.state is State.FAILED or observation.values is None:
            return math.inf
        loss = self.objective.loss(observation.values[0])
        return loss if math.isfinite(loss) else math.inf

    def _wait(self, reason: str, running: Sequence[int]) -> Wait:
        if lost := sorted(self._running.keys() - set(running)):
            raise FixArgument(
                "the scheduler waits for trials that no longer run",
                field="running",
                value=lost,
                fix="tell their end (FAILED when it is not known) or list them",
            )
        return Wait(reason, done=not self._running)


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """An option that must be a whole number in [low, high]. Raises FixArgument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise FixArgument(f"must be a whole number, {bounds}", field=name, value=value, fix=f"{name}={low}")
    return value
