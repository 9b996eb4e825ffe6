"""Text that came from outside made safe to show: one line, printable, cut to a length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tunewright.engines.parameters import When


def plain(text: object, limit: int) -> str:
    """One printable line of at most `limit` characters.

    Line breaks become spaces. Control, format (direction marks, invisible tags), surrogate and private characters
    are dropped: they can drive a terminal, hide words from a reader, or not be stored as UTF-8.
    """
    raw = text if isinstance(text, str) else str(text)
    # Cleaning costs time per character; four times the limit is enough to fill it from any text worth showing.
    line = " ".join(raw[: 4 * limit].split())
    if not line.isprintable():
        line = " ".join("".join(c for c in line if c.isprintable()).split())
    return line if len(line) <= limit and len(raw) <= 4 * limit else line[: limit - 1].rstrip() + "…"


def condition_text(when: When) -> str:
    """A parameter's `when` as one would write it: `opt = "sgd" and layers in [2, 3]`. Empty for None."""
    if when is None or isinstance(when, str):
        return when or ""
    return " and ".join(_clause(parent, allowed) for parent, allowed in when.items())


def _clause(parent: str, allowed: Any) -> str:
    many = isinstance(allowed, Sequence) and not isinstance(allowed, str)
    values = json.dumps(list(allowed) if many else allowed, ensure_ascii=False)
    return f"{parent} in {values}" if many else f"{parent} = {values}"
