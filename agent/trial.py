"""A trial as its user holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.agent.checkpoints import Checkpoints
from tunewright.agent.errors import TrialPaused, TrialStopped
from tunewright.agent.records import Purpose, Resources, TrialRecord
from tunewright.engines.types import Point, State, Verdict

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent


class Trial:
    """One configuration to run. `trial["lr"]` and `trial.params` read its values; they never change.

    `seed` is this trial's own, drawn from (study seed, number): give it to your training for equal reruns. `gpus` are
    the ids of the devices that its runner keeps for it, `resources` what its processes took in a run that ended here;
    `interrupted()` tells an objective that can look whether it should end at once.
    """

    gpus: tuple[str, ...] = ()
    resources: Resources | None = None
    interrupted: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, agent: Agent, record: TrialRecord, *, stops: bool = False, folder: Path | None = None):
        self._agent, self._record, self._stops, self._folder = agent, record, stops, folder

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
    def purpose(self) -> Purpose:
        """ "search", or "verify" where `Agent.verify` runs a configuration again: measure it on held-out data then."""
        return self._record.purpose

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
        """The step to train to now, None without a scheduler or a fidelity."""
        return self._record.fidelity

    @property
    def resume_from(self) -> int | None:
        """The trial whose checkpoint this run goes on from: its own number after a pause, another's for a clone. It
        lies in `checkpoint_dir` either way."""
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
    def folder(self) -> Path:
        """A folder of this trial's own, made when first asked for: beside the study's file, else temporary."""
        path = self._folder or self._agent.files / str(self.number)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of the newest checkpoint, empty before there is one. Write with `checkpoint`, which replaces it
        whole; files written into it directly can be torn by a kill."""
        return Checkpoints(self.folder).current()

    @property
    def checkpoint_step(self) -> int | None:
        """The step after which the newest checkpoint was written, None without one."""
        return Checkpoints(self.folder).step

    def checkpoint(self, step: int) -> AbstractContextManager[Path]:
        """`with trial.checkpoint(step=3) as folder:` an empty folder to fill. On leaving the block it becomes
        `checkpoint_dir` by one rename; an error or a kill inside leaves the one before. Save before you report the
        step: a verdict may end or rest the trial there."""
        return Checkpoints(self.folder).write(step)

    @property
    def stdout(self) -> str:
        """What its runs printed, as far as a runner kept it."""
        return self._output("stdout")

    @property
    def stderr(self) -> str:
        return self._output("stderr")

    def _output(self, stream: str) -> str:
        path = self.folder / f"{stream}.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def report(self, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None) -> Verdict:
        """Records a step's metrics. Inside `Agent.tune` a STOP raises TrialStopped and a PAUSE TrialPaused; elsewhere
        the verdict is returned."""
        verdict = self._agent.report(self, step, value, metrics)
        if self._stops and verdict is Verdict.STOP:
            raise TrialStopped(f"trial {self.number} was stopped at step {step:g}", number=self.number, step=step)
        if self._stops and verdict is Verdict.PAUSE:
            raise TrialPaused(f"trial {self.number} rests after step {step:g}", number=self.number, step=step)
        return verdict

    def note(self, text: str) -> None:
        """Something that went wrong beside the training, in words; `agent.why(trial)` shows it."""
        self._agent._store.add_note(self._agent.study_id, self.number, text)

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
