"""`Agent.tune`: hands trials to a runner and their outcomes to the agent."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tunewright.agent.commands import CommandObjective
from tunewright.agent.errors import (
    AlreadyObserved,
    AwaitTrials,
    BudgetSpent,
    StudyMoved,
    TrialFailed,
    TrialPaused,
    TrialStopped,
    WorkerDied,
)
from tunewright.agent.leases import Leases
from tunewright.agent.redact import redact
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument, SpaceExhausted
from tunewright.engines.types import Verdict
from tunewright.plugins import registry
from tunewright.plugins.hooks import Runner

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent

POLL = 1.0  # seconds between two looks at what other processes did

Callback = Callable[["Agent", Trial], None]


def to_stderr(notice: str) -> None:
    """Past sys.stderr, which the main thread may be writing to when a signal handler has something to say."""
    with contextlib.suppress(OSError):
        os.write(2, f"{notice}\n".encode())


def tune(
    agent: Agent,
    objective: Callable[[Trial], Any],
    trials: int | None,
    *,
    workers: int,
    runner: Any,
    timeout: float | None,
    told: tuple[Sequence[Callback], Sequence[Callback]],
    on_notice: Callable[[str], None],
) -> None:
    """Checks the arguments, then runs. Limits: `trials` of this call, `timeout` seconds, the study's budget."""
    if not callable(objective):
        raise FixArgument(
            "must be a function of a trial", field="objective", value=objective, fix="def objective(trial): return loss"
        )
    for name, value in (("trials", trials), ("workers", workers)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise FixArgument("must be a whole number above zero", field=name, value=value)
    if timeout is not None and not timeout > 0:
        raise FixArgument("must be seconds above zero", field="timeout", value=timeout)
    limits = (trials, timeout, agent.budget.trials, agent.budget.seconds, agent.budget.gpu_hours)
    if all(limit is None for limit in limits) and not agent._ends_itself:
        raise FixArgument("nothing limits this run", field="trials", fix="give trials=, timeout= or Budget(trials=...)")
    carry_out(agent, StudyWork(agent, objective, trials, timeout, told, on_notice), make_runner(runner, workers))


def carry_out(agent: Agent, work: StudyWork, runner: Runner) -> None:
    """Runs the work to its end, holding the leases of the trials that run."""
    with Leases(agent._store, agent.study_id, work.held):
        runner.run(work)


def make_runner(runner: Any, workers: int) -> Runner:
    name, options = (runner, {}) if isinstance(runner, str) else runner
    kind = registry.load("runners", name)
    try:
        made: Runner = kind(workers, **options)
    except TypeError as error:
        raise registry.options_refused(kind, f"runner {name!r}", options, error) from None
    return made


UNSAVED = (
    "a trial was paused and no checkpoint of it is here: when it goes on, it is trained from its first step again. Save"
    " to {checkpoint_dir} (TUNEWRIGHT_CHECKPOINT_DIR) at each step, and load from there at the start"
)


class StudyWork:
    """The study as a runner sees it: trials to run, and where their outcomes go. Thread-safe."""

    def __init__(
        self,
        agent: Agent,
        objective: Callable[[Trial], Any],
        trials: int | None,
        timeout: float | None,
        told: tuple[Sequence[Callback], Sequence[Callback]],
        on_notice: Callable[[str], None],
    ):
        self.objective, self.notice = objective, on_notice
        self._agent, self._left = agent, trials
        self._on_start, self._callbacks = told  # before a trial runs, and after
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._scheduled = agent.config.get("scheduler") is not None
        made = sum(agent._store.count(agent.study_id).values())
        self._until = agent.budget.trials or (None if trials is None else made + trials)
        self._lock = threading.Lock()  # of the two counts
        self._held = 0  # trials of this call that workers are asking for
        self._over = self._warned = False
        self._ended = threading.Event()  # a trial of this run ended since it was last cleared
        self._running: set[int] = set()

    def held(self) -> frozenset[int]:
        """Numbers of the trials that run here."""
        return frozenset(self._running)

    def next(self, devices: float = 0.0) -> Trial | None:
        """The next trial, or None when a limit is reached or a finite space was tried out; a worker that dies later
        leaves its trial for one more call.

        While the scheduler can start nothing before a trial that runs has a result, it waits for one: of this run, or
        of another process.
        """
        if self._agent.budget.gpu_hours is not None and not devices:
            raise FixArgument(
                "cannot be kept: the runner gives trials no devices",
                field="budget.gpu_hours",
                value=self._agent.budget.gpu_hours,
                fix='runner=("local", {"gpus": "auto"}), or Budget(seconds=...)',
            )
        while not self._over and (self._deadline is None or time.monotonic() < self._deadline):
            self._ended.clear()
            with self._lock:
                if self._left == 0 and not self._scheduled:
                    return None
                fresh = self._left != 0
                self._hold(1 if fresh else 0)
            begun = 0
            try:
                trial = self._agent._next(fresh=fresh, leased=True, devices=devices, until=self._until)
                begun = int(not self._scheduled or (trial.resume_from is None and trial.attempt == 1))
                trial._stops = True
                self._running.add(trial.number)
                return trial
            except (BudgetSpent, SpaceExhausted):
                if fresh or not self._held:
                    return None
                self._ended.wait(POLL)  # another worker may not use up what it holds
            except AwaitTrials as waiting:
                if self._agent._by_hand & set(waiting.data["running"]):
                    raise  # nobody will bring those to an end while this waits
                self._ended.wait(POLL)
            finally:
                with self._lock:
                    self._hold(-1 if fresh else 0, begun)
        return None

    def _hold(self, more: int, begun: int = 0) -> None:
        """Keeps one of this call's trials for a worker that asks, which may take as long as an advisor thinks; `begun`
        is what it took in the end."""
        self._held += more
        if self._left is not None:
            self._left -= more + begun

    def stop(self) -> None:
        # A plain flag: this is called by signal handlers, at any moment, also inside the event's own lock.
        self._over = True

    def run(self, trial: Trial, execute: Callable[[Trial], Any] | None = None) -> None:
        """One trial to its end in this thread. An exception fails the trial; an interrupt hands it back."""
        for callback in self._on_start:
            callback(self._agent, trial)
        try:
            try:
                value = (execute or self.objective)(trial)
            finally:
                if trial.resources is not None:
                    self._agent._store.add_resources(self._agent.study_id, trial.number, trial.attempt, trial.resources)
        except TrialStopped as stop:
            self._stopped(trial, stop)
        except WorkerDied as error:
            self._died(trial, redact(str(error)))
        except TrialFailed as error:
            self._fail(trial, redact(str(error)))
        except Exception as error:  # whatever a training raises is a failed trial, not the end of the study
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._fail(trial, redact(f"{type(error).__name__}: {error} (line {place.lineno} of {place.name})"))
        except BaseException:
            with contextlib.suppress(StudyMoved):  # it had ended already
                self._agent.release(trial)
            raise
        else:
            self._observe(trial, value)
        finally:
            self._running.discard(trial.number)
            self._ended.set()
        for callback in self._callbacks:
            callback(self._agent, trial)

    def _fail(self, trial: Trial, reason: str) -> None:
        with contextlib.suppress(AlreadyObserved):  # the first result stands, this one is kept as a repeat
            self._agent.fail(trial, reason)

    def _died(self, trial: Trial, reason: str) -> None:
        trial._record = self._agent._store.died(self._agent.study_id, trial.number, trial.attempt, reason)
        with self._lock:
            if self._left is not None and not self._scheduled and not trial.state.finished:
                self._left += 1  # what it was counted as is still to be run

    def _observe(self, trial: Trial, value: Any) -> None:
        if value is None and self._agent.trial(trial.number).state.finished:
            return  # the objective observed or failed it itself
        if value is None:
            self._fail(trial, "the objective returned None; return the metric's value")
            return
        try:
            self._agent.observe(trial, value)
        except AlreadyObserved:
            return  # kept as a repeat; the first result stands
        except FixArgument as error:
            self._fail(trial, f"the objective returned {value!r}: {error}")
            raise

    def _stopped(self, trial: Trial, stop: TrialStopped) -> None:
        """Carries out the verdict that ended the objective, with the last value up to the step it was given at."""
        step = stop.data.get("step", float("inf"))
        points = [point for point in trial.curve if point[0] <= step]
        step, value = points[-1] if points else (0.0, float("nan"))
        verdict = Verdict.PAUSE if isinstance(stop, TrialPaused) else Verdict.STOP
        if verdict is Verdict.PAUSE and not self._warned and isinstance(self.objective, CommandObjective):
            self._warned = trial.checkpoint_step is None
            if self._warned:
                self.notice(UNSAVED)
        with contextlib.suppress(StudyMoved):  # another process was given it meanwhile
            self._agent._settle(trial, verdict, step, value)
