"""What tests of a study need instead of a language model: a fake advisor and a scripted HTTP server."""

from __future__ import annotations

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

__all__ = [
    "Exchange",
    "FakeAdvisor",
    "Request",
    "ScriptedServer",
    "answer",
    "dead_port",
    "drip",
    "huge",
    "prose",
    "refusal",
    "reset",
    "slow",
    "status",
    "torn",
    "truncated",
]
