"""A search space, and an edit of one, in words for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.engines.space import Space
from tunewright.prompts.text import condition_text, plain

MAX_CHOICES = 12
MAX_WORDS = 200


def parameter_words(entry: Mapping[str, Any]) -> str:
    """One parameter of `Space.to_dict()["parameters"]`: "1e-05 to 0.1, log scale, default 0.001"."""
    if entry["type"] == "derived":
        return f"= {plain(entry['expression'], MAX_WORDS)}"
    if entry["type"] == "categorical":
        choices = entry["choices"]
        shown = ", ".join(_value(c) for c in choices[:MAX_CHOICES])
        more = f" and {len(choices) - MAX_CHOICES} more" if len(choices) > MAX_CHOICES else ""
        words = [f"fixed at {shown}" if len(choices) == 1 else f"one of {shown}{more}"]
        words += [f"trials at {_covered(entry['covers'])} count as that"] if entry.get("covers") else []
    else:
        words = [f"{_value(entry['low'])} to {_value(entry['high'])}"]
        words += ["log scale"] if entry.get("log") else []
        step = entry.get("step", 1)
        words += [f"step {_value(step)}"] if step not in (None, 1) else []
    if "default" in entry and len(entry.get("choices", (0, 0))) > 1:
        words.append(f"default {_value(entry['default'])}")
    if entry.get("when") is not None:
        words.append(f"only when {plain(condition_text(entry['when']), MAX_WORDS)}")
    return ", ".join(words)


def difference(old: Space, new: Space) -> list[str]:
    """What changes from one space to another, a line each; empty when nothing does."""
    before, after = old.to_dict(), new.to_dict()
    a, b = before["parameters"], after["parameters"]
    lines = [f"{n} removed" for n in a if n not in b]
    lines += [f"{n} added: {parameter_words(b[n])}" for n in b if n not in a]
    lines += [_changed(n, a[n], b[n]) for n in a if n in b and a[n] != b[n]]
    if before["constraints"] != after["constraints"]:
        lines.append(f"constraints: {_list(before['constraints'])} -> {_list(after['constraints'])}")
    return lines


def _changed(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return f"{name}: {parameter_words(old)} -> {parameter_words(new)}"


def _list(constraints: Sequence[str]) -> str:
    return " and ".join(constraints) or "none"


def _covered(covers: Sequence[Any]) -> str:
    joint = " to " if len(covers) == 2 and not isinstance(covers[0], str | bool | None) else ", "
    return joint.join(map(_value, covers))


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return plain(value if isinstance(value, str) else json.dumps(value), 40)
