"""Rows as the rest of the agent sees them: what the store takes in and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunewright.engines.types import State
from tunewright.plugins.hooks import Source

TrialSource = Literal["default", "engine", "advisor", "queue"]
REPEAT = "repeat"  # the proposer of a trial in line because the best configurations of a noisy run are run again
Purpose = Literal["search", "verify"]
ProposalStatus = Literal["taken", "displaced", "held", "open", "rejected", "expired"]
"""taken: became a trial. displaced: lost its turn for good. held: the private engine's, goes out at its next turn.
open: advice that may still be used. rejected: failed a check. expired: newer advice came first."""


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """`config` is everything the user chose besides space and objectives (engine, advisor, budget, safety, task ...);
    `environment` where the study was made (git revision, versions, platform)."""

    id: int
    name: str
    space: Mapping[str, Any]  # Space.to_dict()
    objectives: tuple[Mapping[str, str], ...]  # {"name":, "direction":}
    seed: int
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    created: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class TrialRecord:
    number: int
    attempt: int  # 1, or more after its worker died or it was handed back
    state: State
    params: Mapping[str, Any]  # as handed out: free and derived values
    source: TrialSource
    proposer: str  # "tpe", "openai:MODEL", "user" ...
    seed: int
    values: tuple[float, ...] | None = None
    error: str | None = None  # why it failed
    fidelity: int | None = None
    resume_from: int | None = None
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    event: int | None = None  # id of its terminal event; trials are told to engines in this order
    deaths: int = 0  # of runners' processes on it
    trained: float = 0.0  # seconds, of all runs that ended; of one whose process died up to its last sign of life
    device_seconds: float = 0.0  # the same times the devices that each run held
    purpose: Purpose = "search"  # what is stored is of the search

    @property
    def chosen_by(self) -> str:
        """In one word: the engine or the advisor by name; "default" and "queue" for what the user brought."""
        return self.source if self.proposer == "user" else self.proposer


@dataclass(frozen=True, slots=True)
class VerifyingRun:
    """A stored trial's configuration, run once more apart from the search. `round` tells one verification of the study
    from the next; `data` is what it was measured on, in its user's words."""

    number: int  # of the trial
    round: int
    seed: int
    values: tuple[float, ...] | None = None
    error: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class ProposalRecord:
    """A configuration somebody proposed for trial `number`, used or not. `id` is None until stored."""

    by: Literal["engine", "advisor"]
    source: Source
    params: Mapping[str, Any]
    status: ProposalStatus
    number: int | None = None  # the trial whose turn it was made for
    taken_by: int | None = None  # the trial it became
    id: int | None = None
    ask_index: int | None = None  # engines: which proposal of their stream
    call_id: int | None = None  # advisors: the call whose answer it stood in
    rationale: str | None = None
    reason: str | None = None  # why it has this status
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One attempt at one advisor call. A cost that is not known is None."""

    id: int
    number: int | None  # the trial it was made for
    attempt: int
    advisor: str
    model: str | None
    prompt_name: str
    prompt_version: str
    prompt_hash: str
    status: Literal["open", "answered", "failed", "abandoned"]
    error: str | None = None
    answer: str | None = None  # raw text, cut at 1 MB
    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    seconds: float | None = None
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class ConsultRecord:
    """A question to the advisor, all its attempts together; `ended` is None while it is open.

    `error` None: it brought an answer. `then`: how many trials there were when it ended; others may have been made
    while the advisor thought.
    """

    id: int  # of the event with which it began
    number: int  # the trial that it was put for
    ended: int | None = None
    error: str | None = None
    retryable: bool = True
    then: int = 0
    advisor: str | None = None  # whose trust it is: advisor, model and prompt version


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a trial. `started` tells a reused pid from the old process."""

    host: str
    boot: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Hold:
    """How a trial is handed out. `owner` None: to nobody in particular. `leased`: a runner has it, who gives signs of
    life. The caps are the study's; see `Budget`."""

    owner: Owner | None = None
    leased: bool = False
    devices: float = 0.0
    seconds: float | None = None
    gpu_hours: float | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What the processes of a trial took; None is unknown. `seconds` is the time they were watched."""

    seconds: float
    cpu: float | None = None  # seconds of processor time
    memory: int | None = None  # bytes resident at most
    gpu: float | None = None  # share of the devices' time in use, 0 to 1
    gpu_memory: int | None = None  # bytes at most

    def __str__(self) -> str:
        parts = [] if self.cpu is None else [f"{self.cpu:.3g} s of processor time in {self.seconds:.3g} s"]
        parts += [] if self.memory is None else [f"{size_text(self.memory)} of memory"]
        parts += [] if self.gpu is None else [f"{self.gpu:.0%} of its GPUs' time"]
        parts += [] if self.gpu_memory is None else [f"{size_text(self.gpu_memory)} of their memory"]
        return ", ".join(parts)


def size_text(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.3g} {unit}"
        size /= 1024
    raise AssertionError("every size has a unit")


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one trial, steps ascending; each value is the last one reported for its step (NaN: not finite)."""

    metric: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
