"""The JSON object in a model's text, and scalars of it made safe: what every answer's reading begins with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, get_args

from tunewright.engines.errors import TunewrightError
from tunewright.prompts.text import plain

MAX_TEXT = 1_000_000
MAX_VALUE = 80


class BadAnswer(TunewrightError):
    """The text holds no answer. Ask again, or go on without advice."""

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self.data["problems"])


def bad_answer(*problems: str) -> BadAnswer:
    return BadAnswer("; ".join(problems), problems=problems)


_START = re.compile(r'\{\s*"')
_TRIES = 256


def find_object(text: str, keys: Collection[str]) -> dict[str, Any]:
    """The last complete JSON object with one of the keys: models draft before they conclude. Raises BadAnswer."""
    if len(text) > MAX_TEXT:
        raise BadAnswer("the answer is too long", problems=(f"{len(text)} characters, at most {MAX_TEXT} are read",))
    found: dict[str, Any] | None = None
    position, work = 0, 4 * MAX_TEXT  # characters that may be read in vain, so that no text takes quadratic time
    for _ in range(_TRIES):
        start = _START.search(text, position)
        if start is None or work < 0:
            break
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            work -= error.pos - start.start()
            position = start.start() + 1
        except RecursionError:
            work -= len(text) - start.start()
            position = start.start() + 1
        else:
            if any(key in value for key in keys):
                found = value
    if found is None:
        named = " and ".join(f"`{key}`" for key in keys)
        reason = f"no complete JSON object with {named} was found in it"
        raise BadAnswer("the text is not an answer", problems=(reason,))
    return found


def _number(digits: str, kind: type) -> Any:
    """A JSON number; its text where no finite float holds it, so that it stays a problem and stays storable."""
    if not math.isfinite(float(digits)):
        return digits[:MAX_VALUE]
    return kind(digits)


_DECODER = json.JSONDecoder(
    parse_int=lambda digits: _number(digits, int), parse_float=lambda digits: _number(digits, float), parse_constant=str
)


def words(value: Any, limit: int) -> str:
    return plain(value, limit) if isinstance(value, str) else ""


def scalar(value: Any) -> Any:
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else value


def member(value: Any, kind: Any) -> Any:
    """The value where it is one of a Literal's, else None."""
    return value if isinstance(value, str) and value in get_args(kind) else None
