"""The half of `Agent` that leaves the search as it is: what a study holds, and questions about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from tunewright.agent.records import TrialRecord
from tunewright.agent.store import Store
from tunewright.agent.trial import Trial
from tunewright.agent.view import StudyView
from tunewright.agent.why import Why
from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space
from tunewright.engines.types import Params, Point

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent
    from tunewright.agent.beliefs import Belief
    from tunewright.agent.counsel import Counsel
    from tunewright.agent.verification import Evidence


class StudyReader:
    """Nothing here makes or changes a trial."""

    _store: Store
    _view: StudyView
    study_id: int
    files: Path

    def _held(self, record: TrialRecord) -> Trial:
        return Trial(cast("Agent", self), record)  # which is what every reader is

    @property
    def space(self) -> Space:
        return self._view.space

    @property
    def config(self) -> Mapping[str, Any]:
        """What the study was last opened with."""
        return self._view.record.config

    @property
    def trials(self) -> list[Trial]:
        """Every trial, in order of number."""
        return [self._held(r) for r in self._view.trials()]

    @property
    def best(self) -> Trial | None:
        """The best complete trial of a study with one objective, None before there is one; see `pareto` for several."""
        record = self._view.best()
        return self._held(record) if record else None

    @property
    def pareto(self) -> list[Trial]:
        """Complete trials that no other beats in every objective, in order of number."""
        return [self._held(r) for r in self._view.pareto()]

    def trial(self, number: int) -> Trial:
        """The trial of this number. Raises UnknownTrial."""
        return self._held(self._store.trial(self.study_id, number))

    def curve(self, trial: Trial | int, metric: str | None = None) -> Sequence[Point]:
        """(step, value) of a trial, steps ascending; of the first objective where no metric is named."""
        return self._view.curve(self._number(trial), metric)

    def why(self, trial: Trial | int) -> Why:
        """Why a trial was tried: print it, or read its fields."""
        return self._view.why(self._number(trial))

    def schedule(self, trial: Trial | int) -> list[tuple[int, Params]]:
        """The hyperparameters behind a trial's weights, as [(step, params)], each in force after its step: of a clone
        of population based training also those of the trials that it went on from."""
        return self._view.schedule(self._number(trial))

    def importance(self) -> dict[str, float]:
        """Each parameter's share of what a forest of trees explains of the metric, largest first; they sum to 1."""
        return self._view.importance()

    @property
    def beliefs(self) -> list[Belief]:
        """What people said to believe of the parameters (see `Agent.believe`), and what became of it: print them."""
        return self._view.beliefs()

    def counsel(self, *, model: bool = True) -> Counsel:
        """Answers to questions about the study: diagnose(trial number), summarize(), priors(words). The advisor's
        language model gives them, which costs tokens; without one, or with model=False, curves and statistics do."""
        from tunewright.agent.counsel import Counsel

        return Counsel(cast("Agent", self), model)

    def verify(
        self,
        objective: Callable[[Trial], Any],
        seeds: int = 5,
        *,
        trial: Trial | int | None = None,
        data: str | None = None,
        workers: int = 1,
        runner: Any = "local",
    ) -> Evidence:
        """Runs the best configuration again with other seeds and tells how much of its result was luck: print it.

        `objective` is as for `tune`; `trial.purpose` is "verify" here, so that it can measure on held-out data. data:
        what it measures on then, in words ("test split"). trial: another one than the best. workers, runner: as for
        `tune`, on this machine. The runs are kept apart from the trials, and count against no budget; an exception in
        one costs that run only. Raises FixArgument where no trial was completed.
        """
        from tunewright.agent.verify import verify

        number = None if trial is None else self._number(trial)
        return verify(
            self._view, objective, self.files, seeds=seeds, trial=number, data=data, workers=workers, runner=runner
        )

    def close(self) -> None:
        """Flushes and closes the file; the study can be opened again at any time."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _number(self, trial: Trial | int) -> int:
        if isinstance(trial, Trial):
            return trial.number
        if isinstance(trial, bool) or not isinstance(trial, int):
            raise FixArgument("not a trial", field="trial", value=trial, fix="a Trial from suggest(), or its number")
        return trial
