"""A trial as its user holds it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.agent.errors import TrialStopped
from tunewright.agent.records import TrialRecord
from tunewright.engines.types import Point, State, Verdict

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent


class Trial:
    """One configuration to run. `trial["lr"]` and `trial.params` read its values; they never change.

    `seed` is this trial's own, drawn from (study seed, number): give it to your training for equal reruns.
    """

    def __init__(self, agent: Agent, record: TrialRecord, *, stops: bool = False):
        self._agent, self._record, self._stops = agent, record, stops

    @property
    def number(self) -> int:
        return self._record.number

    @property
    def attempt(self) -> int:
        """1, or more when an earlier worker died on it."""
        return self._record.attempt

    @property
    def params(self) -> dict[str, Any]:
        """Active parameters and derived values, in the space's order."""
        return dict(self._record.params)

    @property
    def seed(self) -> int:
        return self._record.seed

    @property
    def state(self) -> State:
        return self._record.state

    @property
    def value(self) -> float | None:
        """The first objective's value, None while there is none."""
        return self._record.values[0] if self._record.values else None

    @property
    def values(self) -> tuple[float, ...] | None:
        return self._record.values

    @property
    def error(self) -> str | None:
        return self._record.error

    @property
    def fidelity(self) -> int | None:
        return self._record.fidelity

    @property
    def resume_from(self) -> int | None:
        return self._record.resume_from

    @property
    def source(self) -> str:
        """Who chose it: "default", "engine", "advisor" or "queue"."""
        return self._record.source

    @property
    def proposer(self) -> str:
        """By name: "tpe", "openai:MODEL", "user" ..."""
        return self._record.proposer

    @property
    def reason(self) -> str:
        """In one sentence, why this configuration was tried; `agent.why(trial)` has the whole record."""
        return self._agent.why(self).reason

    @property
    def curve(self) -> Sequence[Point]:
        """(step, value) of the first objective, steps ascending."""
        return self._agent.curve(self)

    @property
    def checkpoint_dir(self) -> Path:
        """A folder of this trial's own, made when first asked for: beside the study's file, else temporary."""
        store = self._agent.store_path
        folder = f"{self._agent.study_id}-{re.sub(r'[^A-Za-z0-9_-]', '_', self._agent.study)}"
        base = (
            store.with_name(f"{store.name}.files")
            if store
            else Path(tempfile.gettempdir()) / f"tunewright-{self._agent.session}"
        )
        path = base / folder / str(self.number)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def report(self, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None) -> Verdict:
        """Records a step's metrics. Inside `Agent.tune` a STOP raises TrialStopped; elsewhere it is returned."""
        verdict = self._agent.report(self, step, value, metrics)
        if self._stops and verdict is Verdict.STOP:
            raise TrialStopped(f"trial {self.number} was stopped at step {step:g}", number=self.number, step=step)
        return verdict

    def __getitem__(self, name: str) -> Any:
        try:
            return self._record.params[name]
        except KeyError:
            raise KeyError(f"{name!r} is not active in trial {self.number}: {', '.join(self._record.params)}") from None

    def get(self, name: str, default: Any = None) -> Any:
        return self._record.params.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._record.params

    def __iter__(self) -> Iterator[str]:
        return iter(self._record.params)

    def __repr__(self) -> str:
        values = ", ".join(
            f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v!r}" for k, v in self._record.params.items()
        )
        return f"<Trial {self.number} {self.state} {values}>"
