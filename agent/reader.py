"""The reading half of `Agent`: what a study holds, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

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


class StudyReader:
    """Nothing here changes a study."""

    _store: Store
    _view: StudyView
    study_id: int

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

    def _number(self, trial: Trial | int) -> int:
        if isinstance(trial, Trial):
            return trial.number
        if isinstance(trial, bool) or not isinstance(trial, int):
            raise FixArgument("not a trial", field="trial", value=trial, fix="a Trial from suggest(), or its number")
        return trial
