"""A trial's configuration run again with other seeds, apart from the search: nothing here makes or changes a trial."""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from tunewright.agent.errors import TrialFailed
from tunewright.agent.loop import make_runner, to_stderr
from tunewright.agent.reader import StudyReader
from tunewright.agent.records import TrialRecord, VerifyingRun
from tunewright.agent.redact import redact
from tunewright.agent.results import number_of, values_of
from tunewright.agent.trial import Trial
from tunewright.agent.verification import Evidence, evidence
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import Point, State, Verdict

SEEDS = 5


class VerifyingTrial(Trial):
    """What the objective is given: the trial's configuration under another seed, `purpose` "verify". Its curve and its
    notes live as long as the run; no scheduler judges it."""

    def __init__(self, study: StudyReader, record: TrialRecord, folder: Path, index: int):
        super().__init__(cast("Any", study), record, folder=folder)
        self.index = index
        self._points: dict[float, float] = {}
        self._main = study._view.objectives[0].name

    @property
    def curve(self) -> Sequence[Point]:
        return sorted(self._points.items())

    def report(self, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None) -> Verdict:
        at = number_of(step, "step", finite=True)
        for name, number in (metrics or {}).items():
            number_of(number, str(name))
        given = (metrics or {}).get(self._main) if value is None else value
        if given is not None:
            self._points[at] = number_of(given, self._main)
        return Verdict.CONTINUE

    def note(self, text: str) -> None:
        """Of a run that leaves no trial there is nothing to keep it with."""


class VerifyingWork:
    """The runs of one round as a runner sees them. Thread-safe."""

    def __init__(
        self,
        study: StudyReader,
        record: TrialRecord,
        objective: Callable[[Trial], Any],
        seeds: Sequence[int],
        data: str | None,
        folder: Path,
        on_run: Callable[[VerifyingRun], None],
    ):
        self.objective, self._study, self._record, self._data = objective, study, record, data
        known = [run.round for run in study._store.verifying_runs(study.study_id)]
        self.round = max(known, default=0) + 1
        self._folder, self._on_run = folder / "verify" / f"{self.round}", on_run
        self._left = list(enumerate(seeds))
        self._lock = threading.Lock()
        self._over = False

    def next(self, devices: float = 0.0) -> VerifyingTrial | None:
        with self._lock:
            if self._over or not self._left:
                return None
            index, seed = self._left.pop(0)
        record = replace(
            self._record, seed=seed, purpose="verify", state=State.RUNNING, values=None, error=None, attempt=1,
            resume_from=None,
        )  # fmt: skip
        return VerifyingTrial(self._study, record, self._folder / str(index), index)

    def stop(self) -> None:
        self._over = True

    def notice(self, text: str) -> None:
        to_stderr(text)

    def run(self, trial: VerifyingTrial, execute: Callable[[Trial], Any] | None = None) -> None:
        values, error = None, None
        try:
            values = values_of(self._study._view.objectives, (execute or self.objective)(trial))
            if bad := [v for v in values if not math.isfinite(v)]:
                values, error = None, f"the result was {bad[0]}"
        except TrialFailed as failure:
            error = redact(str(failure))
        except Exception as failure:  # a training that raises is a run without a result, as in the search
            place = traceback.extract_tb(failure.__traceback__)[-1]
            error = redact(f"{type(failure).__name__}: {failure} (line {place.lineno} of {place.name})")
        run = VerifyingRun(trial.number, self.round, trial.seed, values, error, self._data)
        self._study._store.add_verifying_run(run, self._study.study_id)
        self._on_run(run)


def verify(
    view: StudyView,
    objective: Callable[[Trial], Any],
    folder: Path,
    *,
    seeds: int = SEEDS,
    trial: int | None = None,
    data: str | None = None,
    workers: int = 1,
    runner: Any = "local",
    on_run: Callable[[VerifyingRun], None] = lambda run: None,
) -> Evidence:
    """See `Agent.verify`. `folder`: below it each run has one of its own. `on_run` sees each run as it ends."""
    if not callable(objective):
        raise FixArgument("must be a function of a trial", field="objective", value=objective)
    for name, value, least in (("seeds", seeds, 2), ("workers", workers, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise FixArgument(f"must be a whole number from {least}", field=name, value=value)
    if data is not None and (not isinstance(data, str) or not data.strip()):
        raise FixArgument("must be words", field="data", value=data, fix='data="test split"')
    name = runner if isinstance(runner, str) else runner[0]
    if name != "local":
        raise FixArgument("verifies on this machine only", field="runner", value=name, fix='runner="local"')
    record = _chosen(view, trial)
    study = StudyReader()
    study._store, study._view, study.study_id = view.store, view, view.record.id
    work = VerifyingWork(study, record, objective, _seeds(view.record.seed, record.number, seeds), data, folder, on_run)
    make_runner(runner, workers).run(work)
    found = next(v for v in view.verifications() if v.round == work.round)
    return evidence(view, found)


def _chosen(view: StudyView, number: int | None) -> TrialRecord:
    if number is not None:
        record = view.store.trial(view.record.id, number)
        if record.state is not State.COMPLETE:
            fix = "choose one that was completed"
            raise FixArgument(f"trial {number} is {record.state.value}", field="trial", value=number, fix=fix)
        return record
    if len(view.objectives) > 1:
        fix = "name a trial of the Pareto front"
        raise FixArgument("with several objectives there is no one winner", field="trial", value=None, fix=fix)
    if (best := view.best()) is None:
        raise FixArgument("no trial was completed yet", field="trial", value=None, fix="run the study first")
    return best


def _seeds(seed: int, number: int, count: int) -> list[int]:
    """The same for the same trial, and none of them the trial's own: a verification can be repeated."""
    # From 1: numpy takes a zero at the end of the words for nothing, which is the trial's own stream.
    return [int(np.random.SeedSequence([seed, number, i + 1]).generate_state(1)[0] >> 1) for i in range(count)]
