"""Words of outside origin made safe inside a marked block of a prompt, and the measure of how much they take.

Names, choices, tasks, errors and notes come from people, files and programs: each is one printable line here, and
nothing in it can close the block that marks it as data or pass for a model's control token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Any

from tunewright.agent.digest_stats import short
from tunewright.prompts.text import plain

MAX_NAME, MAX_CHOICE = 40, 40

_FENCE = re.compile(r"<(?=[/|!]|\s*data)", re.IGNORECASE)
_NEUTRAL = str.maketrans({"<": "[", ">": "]", "`": "'"})
_PIECE = re.compile(r"[0-9]{1,3}|[A-Za-z]{1,6}|[^\sA-Za-z0-9]|\n")


def tokens(text: str) -> int:
    """At least as many tokens as the byte-pair vocabularies in use take for tables and prose like ours: their
    digits come in threes, and what is not ASCII may cost a token a byte (docs/prompts.md has the comparison)."""
    return len(_PIECE.findall(text)) + len(text.encode()) - len(text)


def safe(text: object, limit: int) -> str:
    return plain(text, limit).translate(_NEUTRAL)


def cut(text: str, most: int) -> str:
    """At most `most` tokens."""
    line = safe(text, 6 * most)
    while (size := tokens(line)) > most:
        line = line[: max(1, min(len(line) - 2, len(line) * most // size))].rstrip() + "…"
    return line


def quoted(text: str) -> str:
    """A person's words of several lines as a block of data that nothing in them can close."""
    lines = [safe(line, 1_000) for line in text.splitlines()]
    return "\n".join(["<data>", *filter(None, lines), "</data>"])


@lru_cache(maxsize=4_096)  # a digest says the same few names hundreds of times
def name(text: str) -> str:
    """Long names lose their middle: what tells them apart stands at the ends."""
    short_name = text if len(text) <= MAX_NAME else f"{text[: MAX_NAME // 2]}…{text[1 - MAX_NAME // 2 :]}"
    return safe(short_name, MAX_NAME)


def expression(text: str) -> str:
    """A formula keeps its comparisons; only what could close the block or pass for a model's control token goes."""
    return _FENCE.sub("[", plain(text, 160).replace("`", "'"))


def number(value: float, digits: int = 5) -> str:
    return short(value, digits)


@lru_cache(maxsize=4_096)
def _choice(text: str) -> str:
    return json.dumps(safe(text, MAX_CHOICE), ensure_ascii=False)


def value_text(value: Any) -> str:
    if isinstance(value, str):
        return _choice(value)
    if isinstance(value, float):
        return number(value, 4)
    if type(value) is int:
        return str(value)[:MAX_CHOICE]
    return safe(json.dumps(value, default=str), MAX_CHOICE)


def bound(value: float, *, up: bool) -> str:
    """An end of a range in four digits, never outside the range."""
    if isinstance(value, int) or not value:
        return f"{value:.0f}"
    exact = Decimal(value)
    place = Decimal(1).scaleb(exact.adjusted() - 3)
    if abs(exact - (near := exact.quantize(place))) <= place / 1_000_000:
        return f"{float(near):.4g}"  # 0.10000000000000002 is meant to be 0.1
    return f"{float(exact.quantize(place, ROUND_CEILING if up else ROUND_FLOOR)):.4g}"


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name(n)}={value_text(v)}" for n, v in items)
