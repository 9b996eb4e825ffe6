"""What a call to an advisor costs. A price that is not known is unknown: never zero, also not for a local server."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import Advisor, Completion, FreeOfCharge, Priced

VARIABLE = "TUNEWRIGHT_PRICES"
MILLION = 1_000_000
# What may follow a listed name and is still that model: "-2025-08-07", "-20250929", "-0613", "-latest".
RELEASE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest)")
FIELDS = ("input", "cached", "output")
FORM = '{"openai:my-model": {"input": 0.25, "cached": 0.025, "output": 2.0}}, in USD for a million tokens'


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens. Cached ones cost what others do where no price of theirs is known."""

    input: float
    output: float
    cached: float | None = None

    def to_config(self) -> dict[str, float]:
        """As `read_prices` reads it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def cost(self, completion: Completion) -> float | None:
        """USD for one answer, None where its tokens were not counted."""
        if completion.tokens_in is None or completion.tokens_out is None:
            return None
        cached = min(completion.tokens_cached or 0, completion.tokens_in)
        at_cache = self.input if self.cached is None else self.cached
        whole = (completion.tokens_in - cached) * self.input + cached * at_cache + completion.tokens_out * self.output
        return whole / MILLION

    def worst(self, tokens_in: int, tokens_out: int) -> float:
        """USD for a call of at most so many tokens. A cache may ask more for its first filling than for none."""
        return (tokens_in * max(self.input, self.cached or 0.0) + tokens_out * self.output) / MILLION


FREE = Price(0.0, 0.0)


def price_of(advisor: Advisor, given: Mapping[str, Price]) -> Price | None:
    """The price of an advisor's calls: the user's (`given`) before the list of this package, None where unknown.

    A user's name is the advisor's as it is chosen, "openai:MODEL" or "langchain:PROVIDER:MODEL".
    """
    if isinstance(advisor, FreeOfCharge) and advisor.free_of_charge:
        return FREE
    chosen = f"{advisor.name}:{advisor.model}" if advisor.model else advisor.name
    if (found := _longest(chosen, given)) is not None:
        return found
    listed = advisor.priced_as if isinstance(advisor, Priced) else None
    return _longest(listed, _listed()) if listed else None


def read_prices(given: Any) -> dict[str, Price]:
    """A user's prices: a mapping by model, a TOML file of the same form, or None for the file that TUNEWRIGHT_PRICES
    names, if it does. Raises FixArgument."""
    where = "prices"
    if given is None:
        where, given = VARIABLE, os.environ.get(VARIABLE, "").strip() or None
    if given is None:
        return {}
    if isinstance(given, str | Path):
        given = _file(Path(given), where)
    if not isinstance(given, Mapping):
        raise FixArgument("must be a mapping of models, or a TOML file", field=where, value=given, fix=FORM)
    return {name: _price(f"{where}.{name}", entry) for name, entry in given.items()}


def _file(path: Path, where: str) -> Any:
    try:
        return _flat(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FixArgument(
            f"cannot be read: {error}", field=where, value=str(path), fix=f"a TOML file: {FORM}"
        ) from None


@cache
def _listed() -> Mapping[str, Price]:
    text = files("tunewright.agent").joinpath("prices.toml").read_text(encoding="utf-8")
    return {name: _price(name, entry) for name, entry in _flat(tomllib.loads(text)).items()}


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """One entry a model: a table of a provider, [openai], is written into its models' names."""
    found: dict[str, Any] = {}
    for name, entry in tables.items():
        if isinstance(entry, Mapping) and not entry.keys() & set(FIELDS):
            found |= {f"{name}:{model}": price for model, price in entry.items()}
        else:
            found[name] = entry
    return found


def _price(where: str, entry: Any) -> Price:
    if isinstance(entry, Price):
        return entry
    if not isinstance(entry, Mapping):
        raise FixArgument("is not a price", field=where, value=entry, fix=FORM)
    kept = {name: entry[name] for name in FIELDS if name in entry}
    for name, value in kept.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise FixArgument("must be USD from zero", field=f"{where}.{name}", value=value, fix=FORM)
    if missing := [name for name in ("input", "output") if name not in kept]:
        raise FixArgument(f"has no {' and no '.join(missing)} price", field=where, value=dict(entry), fix=FORM)
    return Price(**{name: float(value) for name, value in kept.items()})


def _longest(name: str, prices: Mapping[str, Price]) -> Price | None:
    """The entry with the longest name that covers this one: it, a dated release of it, or "begins so" after a *."""
    covering = [listed for listed in prices if _covers(listed, name)]
    return prices[max(covering, key=len)] if covering else None


def _covers(listed: str, name: str) -> bool:
    if listed.endswith("*"):
        return name.startswith(listed[:-1])
    return name == listed or (name.startswith(listed) and RELEASE.fullmatch(name[len(listed) :]) is not None)
