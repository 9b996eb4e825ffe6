"""The protocols that plugins of the advisor, runner and tracker kinds meet. Engines: `tunewright.engines.types`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from tunewright.engines.errors import TunewrightError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tunewright.engines.space import Space

# ------------------------------------------------------------------------------------------------ advisors


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class AdviceRequest:
    """One question to an advisor.

    `messages` is what a language model reads; `facts` holds the same digest as plain data, for advisors
    that need no words. The answer must be JSON of `answer_type`, a type made for this study's space.
    """

    purpose: str  # the prompt's name: "propose", "diagnose", "summarize" or "priors"
    messages: tuple[Message, ...]
    answer_type: type[BaseModel]
    space: Space
    facts: Mapping[str, Any]
    max_output_tokens: int | None = None  # what the caller has money for; None leaves it to the advisor


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer as it came. None means unknown, never zero. `tokens_in` counts the cached ones too, `tokens_out` those
    of reasoning; `usd` is set only by who knows better than the price list."""

    text: str
    model: str | None = None
    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    request_id: str | None = None
    tokens_reasoning: int | None = None


class AdvisorFailed(TunewrightError):
    """An attempt brought no answer. `retryable` says whether the same request may work later, `retry_after` (seconds)
    when the provider named a time."""

    def __init__(self, message: str, *, retryable: bool, retry_after: float | None = None, **data: Any):
        super().__init__(message, **data)
        self.retryable, self.retry_after = retryable, retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {"retryable": self.retryable, "retry_after": self.retry_after, "field": self.field, "value": self.value}
        return _failed, (self.message, {**self.data, **facts, "fix": self.fix})


def _failed(message: str, facts: dict[str, Any]) -> AdvisorFailed:
    return AdvisorFailed(message, **facts)


@runtime_checkable
class Advisor(Protocol):
    """Proposes configurations. Built by its entry point as `factory(model)`, with model the text after "name:"."""

    name: str
    model: str | None

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        """One attempt, in at most about `timeout` seconds. Raises AdvisorFailed. Retries are the caller's."""
        ...


@runtime_checkable
class KnowsDefaults(Protocol):
    """The optional half of an advisor that knows library defaults without being asked a question."""

    def defaults(self, space: Space, task: str | None) -> Mapping[str, Any]:
        """Usual default values by parameter name, only for those it knows."""
        ...


@runtime_checkable
class AnswersOnly(Protocol):
    """An advisor that is asked nothing but these purposes; one without the attribute is asked every question."""

    purposes: frozenset[str]


@runtime_checkable
class FreeOfCharge(Protocol):
    """An advisor whose calls cost no money, so that a money cap can be kept with it."""

    free_of_charge: bool


@runtime_checkable
class Priced(Protocol):
    """An advisor that is billed by the token. It keeps to `AdviceRequest.max_output_tokens`."""

    priced_as: str | None
    """The model's name in the price list, "openai:gpt-5-mini"; None where its provider is not known."""


# ------------------------------------------------------------------------------------------------ runners


class Work(Protocol):
    """What the loop gives a runner: where trials come from and where their outcomes go. Thread-safe."""

    objective: Callable[[Any], Any]

    def next(self, devices: float = 0.0) -> Any | None:
        """The next trial to run, on so many devices, None when the study starts no more; after WorkerDied there may be
        one again. Waits while only a trial that runs can tell."""
        ...

    def stop(self) -> None:
        """From now on `next` answers None, also where it waits."""
        ...

    def notice(self, text: str) -> None:
        """A line for whoever watches. May be called in a signal handler."""
        ...

    def run(self, trial: Any, execute: Callable[[Any], Any] | None = None) -> None:
        """Calls `execute(trial)`, the objective where it is None, in this thread and settles the trial by its outcome.

        A returned value is observed. TrialStopped (and TrialPaused), which `trial.report` raises, ends (or pauses) it;
        any other Exception fails it, with the message alone as the reason where it is TrialFailed; WorkerDied hands it
        to another worker first, once. A BaseException hands the trial back, to be run again, and is raised on. What a
        runner puts into `trial.resources` meanwhile is kept with the trial.
        """
        ...


class Runner(Protocol):
    """Runs trials. Built by its entry point as `factory(workers, **options)`."""

    def run(self, work: Work) -> None:
        """Until `work.next()` has no more and all trials ended."""
        ...


# ------------------------------------------------------------------------------------------------ trackers


class Tracker(Protocol):
    """Sees a study happen, for exporters. Every method may be called from any worker; it must not raise."""

    def started(self, study: str, number: int, params: Mapping[str, Any]) -> None: ...

    def reported(self, study: str, number: int, step: float, metrics: Mapping[str, float]) -> None: ...

    def finished(self, study: str, number: int, state: str, values: Sequence[float] | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plugin came from; stored with every proposal it makes."""

    name: str
    distribution: str | None = None
    version: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
