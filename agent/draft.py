"""What a suggestion is made of before it is a trial."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.agent.advice import Question
from tunewright.agent.arbiter import Decision
from tunewright.agent.records import Hold, ProposalRecord


@dataclass(frozen=True, slots=True)
class Draft:
    """A trial about to be written: whose it is, and the proposals that change their status with it."""

    decision: Decision
    params: Mapping[str, Any]
    proposer: str
    proposals: Sequence[ProposalRecord] = ()
    updates: Mapping[int, tuple[Any, str]] | None = None
    taken_id: int | None = None
    queue_id: int | None = None
    held_id: int | None = None  # the private engine's proposal that stood before the arbiter again
    faults: Sequence[str] = ()
    defaults: Sequence[str] = ()  # parameters of trial 0 whose value the advisor knew


class Turn(threading.local):
    """What one worker's turn stands on."""

    put: Question | None = None  # the question that it had answered
    heard: int | None = None  # the last event about any question
    hold: Hold = Hold()  # how its trial is handed out
    until: int | None = None  # the trial before which a runner's run ends
