"""What tests of a study need instead of a language model: a fake advisor, a scripted HTTP server, and adversaries."""

from __future__ import annotations

from tunewright.agent.testing.adversaries import INJECTIONS, Adversary, adversaries, wire_faults
from tunewright.agent.testing.fake import FakeAdvisor
from tunewright.agent.testing.server import (
    Exchange,
    Request,
    ScriptedServer,
    answer,
    dead_port,
    drip,
    huge,
    prose,
    refusal,
    reset,
    slow,
    status,
    torn,
    truncated,
)
from tunewright.agent.testing.streaming import says

__all__ = [
    "INJECTIONS",
    "Adversary",
    "Exchange",
    "FakeAdvisor",
    "Request",
    "ScriptedServer",
    "adversaries",
    "answer",
    "dead_port",
    "drip",
    "huge",
    "prose",
    "refusal",
    "reset",
    "says",
    "slow",
    "status",
    "torn",
    "truncated",
    "wire_faults",
]
