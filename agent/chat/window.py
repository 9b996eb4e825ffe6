"""What of a long conversation a talker reads: a summary of the old part, and the rest as it was said.

Summaries are entries of the thread, so that each is made once. A model may write better ones; where there is none in
time, one is put together from what was asked and done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.prompts.text import plain

Entry = tuple[str, str]
"""(role, content); the roles are user, assistant, tool and summary. A tool's content is JSON: its name, arguments, and
its result, its error, or that it was declined."""

MAX_SUMMARY = 6_000  # characters
MAX_ASKED = 120
KEPT = 0.5  # of the room, that the latest turns may fill after a summary was made


@dataclass(frozen=True, slots=True)
class Window:
    summary: str
    entries: Sequence[Entry]


def window(thread: Sequence[Entry]) -> Window:
    """The thread from its last summary on."""
    summary, covers = last_summary(thread)
    return Window(summary, spoken(thread)[covers:])


def spoken(thread: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in thread if entry[0] != "summary"]


def last_summary(thread: Sequence[Entry]) -> tuple[str, int]:
    """Its text, and how many spoken entries it covers."""
    for role, content in reversed(thread):
        if role == "summary":
            kept = json.loads(content)
            return kept["text"], kept["covers"]
    return "", 0


def summary_entry(text: str, covers: int) -> Entry:
    return "summary", json.dumps({"text": text[:MAX_SUMMARY], "covers": covers})


def size(found: Window) -> int:
    return len(found.summary) + sum(len(content) for _, content in found.entries)


def older(found: Window, room: int) -> int:
    """How many entries of the window must go into a summary so that the rest, whole turns, fills half of `room`."""
    kept = 0
    starts = [i for i, (role, _) in enumerate(found.entries) if role == "user"]
    keep_from = len(found.entries)
    for start, end in zip(reversed(starts), [len(found.entries), *reversed(starts)], strict=False):
        kept += sum(len(content) for _, content in found.entries[start:end])
        if kept > KEPT * room:
            break
        keep_from = start
    return keep_from


def mechanical(before: str, entries: Sequence[Entry]) -> str:
    """A summary without a model: what was changed, and what was asked last."""
    lines = [line for line in before.splitlines() if line.startswith("- ")]
    for role, content in entries:
        if role == "user":
            lines.append(f"- asked: {plain(content, MAX_ASKED)}")
        elif role == "tool" and (words := _did(json.loads(content))):
            lines.append(f"- {words}")
    done = [line for line in lines if not line.startswith("- asked: ")]
    room = MAX_SUMMARY - 100
    kept: list[str] = []
    for line in [*reversed(done), *(line for line in reversed(lines) if line.startswith("- asked: "))]:
        if room < len(line) + 1:
            break
        room -= len(line) + 1
        kept.append(line)
    wanted = set(kept)
    return "\n".join(["What was done and asked before:", *(line for line in lines if line in wanted)])


def _did(tool: Mapping[str, Any]) -> str:
    """A change that was carried out, in words; empty for reading and for what was refused."""
    from tunewright.agent.tools import BY_NAME

    known = BY_NAME.get(tool["tool"])
    if known is None or not known.changes or "result" not in tool:
        return ""
    given = " ".join(f"{k}={json.dumps(v)}" for k, v in tool["arguments"].items() if v is not None)
    return f"done: {plain(f'{known.name} {given}', 2 * MAX_ASKED)}"
