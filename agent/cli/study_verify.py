"""The key `verify` of a study file: what the winner is measured on when it is run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.agent.commands import Command
from tunewright.engines.errors import FixArgument


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A `command` or an `objective` instead of the search's, which is told the purpose else; `data` in words."""

    seeds: int | None = None
    data: str | None = None
    command: Any = None
    objective: str | None = None


def held_out(entry: Any, names: Iterable[str]) -> HeldOut:
    """The key's value; `names` are the parameters that its command may name. Raises FixArgument."""
    if entry is None:
        return HeldOut()
    known = ("command", "data", "objective", "seeds")
    if not isinstance(entry, Mapping) or not entry or (unknown := set(map(str, entry)) - set(known)):
        wrong = f"unknown key {min(unknown)!r}" if isinstance(entry, Mapping) and entry else "must be a mapping"
        raise FixArgument(wrong, field="verify", value=entry, fix=f"its keys: {', '.join(known)}")
    seeds, data, command, objective = (entry.get(key) for key in ("seeds", "data", "command", "objective"))
    if seeds is not None and (isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 2):
        raise FixArgument("must be a whole number from 2", field="verify.seeds", value=seeds, fix="verify: {seeds: 5}")
    if data is not None and not (isinstance(data, str) and data.strip()):
        raise FixArgument("must be words", field="verify.data", value=data, fix="verify: {data: test split}")
    if objective is not None and not isinstance(objective, str):
        raise FixArgument("names no function", field="verify.objective", value=objective, fix="train.py:test")
    if objective is not None and command is not None:
        raise FixArgument("stands beside command", field="verify.objective", value=objective, fix="keep one")
    try:
        made = None if command is None else Command(command, None, names)
    except FixArgument as error:
        raise FixArgument(error.message, field=f"verify.{error.field}", value=error.value, fix=error.fix) from None
    return HeldOut(seeds, data, made, objective)
