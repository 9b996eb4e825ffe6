"""The types that cross rooms and the protocols of the plugins that decide what to try and how far to train."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space

if TYPE_CHECKING:
    from tunewright.engines.priors import Prior

Params: TypeAlias = Mapping[str, Any]
Point: TypeAlias = tuple[float, float]
"""One (step, value) of a training curve."""


class State(enum.StrEnum):
    WAITING = "waiting"  # created, to be handed out (again)
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    STOPPED = "stopped"  # ended early by a verdict; its last values count at their fidelity
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        return self in _FINISHED


_FINISHED = (State.COMPLETE, State.STOPPED, State.FAILED)  # looked up once: a member's name is not found fast


class Verdict(enum.StrEnum):
    CONTINUE = "continue"
    STOP = "stop"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric and the direction in which it is better."""

    name: str
    direction: Literal["minimize", "maximize"] = "minimize"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise FixArgument("a metric needs a name", field="metric", value=self.name, fix='metric="val_loss"')
        if self.direction not in ("minimize", "maximize"):
            raise FixArgument(
                "unknown direction", field="direction", value=self.direction, fix='"minimize" or "maximize"'
            )

    def loss(self, value: float) -> float:
        """The value with its sign turned so that lower is better."""
        return value if self.direction == "minimize" else -value


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How far a trial is trained, in units of `name` (epochs, trees, rows): from `low` to `high` inclusive."""

    name: str
    low: int
    high: int

    def __post_init__(self) -> None:
        if not (isinstance(self.low, int) and isinstance(self.high, int) and 1 <= self.low <= self.high):
            raise FixArgument(
                "bounds must be whole numbers with 1 <= low <= high",
                field=f"fidelity {self.name}",
                value=(self.low, self.high),
                fix=f'Fidelity("{self.name}", 1, 81)',
            )

    def position(self, step: float | None) -> float:
        """Where a step lies on a log scale, 0 at `low` and 1 at `high`, which None stands for.

        A trial that failed before its first step counts as at step 1.
        """
        if step is None or self.low == self.high:
            return 1.0
        return math.log(max(step, 1) / self.low) / math.log(self.high / self.low)


BY_CHANCE: Mapping[str, Any] = {"phase": "startup", "by_chance": True}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration somebody proposes. `params` holds active free parameters only, as plain Python scalars.

    `tags` are facts for the record and the arbiter; {"phase": "startup"} marks a draw made without a model, BY_CHANCE
    one that is made at random although there is a model.
    """

    params: Params
    fidelity: int | None = None
    resume_from: int | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """A finished trial as an engine sees it, failures included.

    `values` are the objectives in the user's own sign and order, None for a failed trial.
    `own` tells whether the engine proposed it itself; a constraint is broken where its value is above zero.
    """

    number: int
    params: Params
    values: tuple[float, ...] | None
    state: State = State.COMPLETE
    fidelity: int | None = None
    constraints: tuple[float, ...] = ()
    own: bool = True


@dataclass(frozen=True, slots=True)
class Prediction:
    """mean, std: (n, n_objectives), in the metric's units."""

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a study may ask of an engine; checked before a trial is spent."""

    conditional: bool = True  # spaces with `when`
    multi_objective: bool = False


@runtime_checkable
class Engine(Protocol):
    """What to try next.

    `ask` and `score` are pure given what was told: the same seed, history, pending points and index give the
    same answer however the tells were batched, and asking twice changes nothing. The k-th proposal draws
    from a stream of (seed, k) (see `stream`), so nothing but history need be stored to go on.
    """

    capabilities: ClassVar[Capabilities]

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        **options: Any,
    ) -> None: ...

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        """Proposals number index .. index + n - 1. Raises SpaceExhausted when nothing is left to propose."""
        ...

    def tell(self, observations: Sequence[Observation]) -> None:
        """Only new observations, in the order in which they finished."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """The optional half of an engine that can judge configurations it did not propose."""

    def score(self, configs: Sequence[Params], fidelity: int | None = None) -> np.ndarray:
        """(n,), higher is better; all zeros while there is no model."""
        ...

    def candidates(self, n: int, *, index: int) -> list[Params]:
        """n draws of the generator from which `ask(index=index)` picks."""
        ...


@runtime_checkable
class Believer(Protocol):
    """The optional half of an engine that what people know beforehand can tilt."""

    def believe(self, priors: Sequence[Prior]) -> None:
        """These priors from now on, in place of any before. Without priors proposals are as if it was never called."""
        ...


@runtime_checkable
class Predictor(Protocol):
    def predict(self, configs: Sequence[Params]) -> Prediction: ...


def stream(seed: int, index: int, salt: int = 0) -> np.random.Generator:
    """The random stream of proposal `index`: independent of every other and of how many were drawn before."""
    return np.random.default_rng([seed & 0xFFFFFFFF, index, salt])


def losses(observations: Sequence[Observation], objective: Objective, which: int = 0) -> np.ndarray:
    """(n,) first-objective losses, lower is better, NaN for failures."""
    return np.array(
        [np.nan if o.values is None else objective.loss(o.values[which]) for o in observations], dtype=float
    )
