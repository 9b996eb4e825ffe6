"""How Python values become text in the file and come back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tunewright.engines.errors import FixArgument

Redact = Callable[[str], str]

_decoder = json.JSONDecoder()
_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def dumps(value: Any, field: str) -> str:
    """Strict JSON. Raises FixArgument where a value has no exact counterpart (NaN, infinity, foreign types)."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError) as error:
        fix = "plain finite numbers, strings, booleans, lists and dicts"
        raise FixArgument(f"cannot be stored: {error}", field=field, value=value, fix=fix) from error


def loads(text: str) -> Any:
    # What `dumps` wrote has no space around it, and `decode` looks for that longer than it reads a configuration.
    try:
        value, end = _decoder.raw_decode(text)
    except ValueError:
        end = -1
    return value if end == len(text) else _decoder.decode(text)


def kind_of(value: float) -> str | None:
    """None for a finite number, else the word that stands for it in the file."""
    if math.isfinite(value):
        return None
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


class Cleaner:
    """Takes secrets out of free text and makes it storable."""

    def __init__(self, redact: Redact):
        self._redact = redact

    def text(self, text: str) -> str:
        # Captured output may hold half a character, which UTF-8 refuses, or a zero byte, which ends a C string.
        whole = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
        return self._redact(whole)

    def maybe(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def json(self, values: Sequence[Any], field: str) -> list[str]:
        """`tree` of each as JSON."""
        # Without a backslash every string stands in it as it is, so that one look finds what is to be taken out.
        with suppress(FixArgument):
            texts = [dumps(value, field) for value in values]
            whole = "\n".join(texts)
            if "\\" not in whole and self.text(whole) == whole:
                return texts
        return [dumps(self.tree(value), field) for value in values]

    def tree(self, value: Any) -> Any:
        """The same plain data with every string cleaned; numbers that are not finite become "nan", "inf" or "-inf"."""
        # Decisions are a hundred short strings: looking for keys in all of them at once is a hundred times less work.
        whole = "\n".join(_strings(value))
        clean = _as_it_is if self.text(whole) == whole else self.text
        return _tree(value, clean)


def _as_it_is(text: str) -> str:
    return text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for item in value:
            yield from _strings(item)


def _tree(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, float):
        return kind_of(value) or value
    if isinstance(value, Mapping):
        return {clean(str(key)): _tree(item, clean) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_tree(item, clean) for item in value]
    return value
