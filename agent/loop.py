"""`Agent.tune`: hands trials to a runner and their outcomes to the agent."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tunewright.agent.errors import AlreadyObserved, BudgetSpent, StudyMoved, TrialStopped
from tunewright.agent.redact import redact
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument, SpaceExhausted
from tunewright.plugins import registry
from tunewright.plugins.hooks import Runner

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent

Callback = Callable[["Agent", Trial], None]


def tune(
    agent: Agent,
    objective: Callable[[Trial], Any],
    trials: int | None,
    *,
    workers: int,
    runner: str,
    timeout: float | None,
    callbacks: Sequence[Callback],
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
    if trials is None and timeout is None and agent.budget.trials is None and agent.budget.seconds is None:
        raise FixArgument("nothing limits this run", field="trials", fix="give trials=, timeout= or Budget(trials=...)")
    made: Runner = registry.load("runners", runner)(workers)
    made.run(StudyWork(agent, objective, trials, timeout, callbacks))


class StudyWork:
    """The study as a runner sees it: trials to run, and where their outcomes go. Thread-safe."""

    def __init__(
        self,
        agent: Agent,
        objective: Callable[[Trial], Any],
        trials: int | None,
        timeout: float | None,
        callbacks: Sequence[Callback],
    ):
        self.objective = objective
        self._agent, self._left, self._callbacks = agent, trials, callbacks
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lock = threading.Lock()

    def next(self) -> Trial | None:
        """The next trial, or None when a limit is reached or a finite space was tried out."""
        with self._lock:
            if self._left == 0 or (self._deadline is not None and time.monotonic() >= self._deadline):
                return None
            try:
                trial = self._agent.suggest()
            except (BudgetSpent, SpaceExhausted):
                self._left = 0
                return None
            if self._left is not None:
                self._left -= 1
            trial._stops = True
            return trial

    def run(self, trial: Trial) -> None:
        """One trial to its end in this thread. An exception fails the trial; an interrupt hands it back."""
        try:
            value = self.objective(trial)
        except TrialStopped as stop:
            self._stopped(trial, stop)
        except Exception as error:  # whatever a training raises is a failed trial, not the end of the study
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._fail(trial, redact(f"{type(error).__name__}: {error} (line {place.lineno} of {place.name})"))
        except BaseException:
            with contextlib.suppress(StudyMoved):  # it had ended already
                self._agent.release(trial)
            raise
        else:
            self._observe(trial, value)
        for callback in self._callbacks:
            callback(self._agent, trial)

    def _fail(self, trial: Trial, reason: str) -> None:
        with contextlib.suppress(AlreadyObserved):  # the first result stands, this one is kept as a repeat
            self._agent.fail(trial, reason)

    def _observe(self, trial: Trial, value: Any) -> None:
        if self._agent.trial(trial.number).state.finished:  # the objective observed or failed it itself
            return
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
        """A run that stopped because its metric is not finite has failed; any other counts with its last value."""
        curve = trial.curve
        last = curve[-1][1] if curve else float("nan")
        if last == last and abs(last) != float("inf"):
            self._agent.stop(trial, last)
        else:
            self._fail(trial, f"{stop}: the metric was {last}")
