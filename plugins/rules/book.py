"""What is known of each model family: `knowledge/*.toml` as typed, immutable data.

One file is one family. A file that `extends` another inherits its parameters (key by key, so that a child may restate
a single default), moves, couplings and levers; recipes and libraries only where it has none of its own.

A wanted value may be a list of alternatives, the most wanted first: `max_features = ["sqrt", 0.3]` serves a space
that lists words and one that searches a fraction. The word "none" stands for Python's None.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from tunewright.engines.parameters import Scalar

Wanted: TypeAlias = tuple[Scalar, ...]
"""Alternatives for one parameter, the most wanted first."""

Trouble = Literal[
    "diverged", "memory", "timeout", "oscillating", "overfitting", "plateau", "unbalanced", "outrun", "collapsed"
]  # unbalanced: the discriminator wins; outrun: the generator does


@dataclass(frozen=True, slots=True)
class Entry:
    """One hyperparameter of a family. `low` and `high` bound its usual numbers, `choices` are its usual words."""

    key: str
    names: tuple[str, ...]
    reason: str
    source: str
    low: float | None
    high: float | None
    log: bool
    choices: tuple[str, ...]
    usual: tuple[float, ...]  # worth an early try, in this order
    defaults: Mapping[str, Wanted]  # by library
    tell: float  # how much its name alone speaks for the family
    defining: bool  # a recipe that cannot have its word here is another recipe
    fraction: bool  # a whole number above 1 counts features or rows instead
    rows: bool  # a count of rows; a space that ends at 1 or below searches their fraction


@dataclass(frozen=True, slots=True)
class Recipe:
    """A known good setting. `needs` and `unless` name parameters that must, or must not, be in the space."""

    name: str
    values: Mapping[str, Wanted]
    needs: tuple[str, ...]
    unless: tuple[str, ...]
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Coupling:
    """When `leader` changes by a factor f, `follower` changes by f ** power; `complement`: f is that of 1 - leader."""

    leader: str
    follower: str
    power: float
    complement: bool
    optimizer: str | None  # only with this one
    most: float  # it holds as far as this factor
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Move:
    """A step from a tried configuration: factors, summands and new values, several parameters at once.

    The first parameter in it that the space has must be able to move. A factor of 1 holds a parameter that a coupling
    would carry along. `on` names the troubles that it answers; without one it is for ordinary progress.
    """

    name: str
    scale: Mapping[str, float]
    shift: Mapping[str, float]
    set: Mapping[str, Wanted]
    on: tuple[Trouble, ...]
    reason: str
    source: str

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.scale, *self.shift, *self.set]))


@dataclass(frozen=True, slots=True)
class Family:
    """`words` of a task text and their weights; `expects`: parameters whose absence speaks against the family;
    `libraries`: the words and parameter names that tell which library it is ("sgd" stands for the usual values where
    that optimizer is fixed); `levers`: parameters that caused a trouble by being too high."""

    key: str
    title: str
    ancestors: int  # how many families it extends, directly or not
    words: Mapping[str, float]
    expects: tuple[str, ...]
    libraries: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, Entry]
    recipes: tuple[Recipe, ...]
    couplings: tuple[Coupling, ...]
    moves: tuple[Move, ...]
    levers: Mapping[Trouble, tuple[str, ...]]


@cache
def families() -> Mapping[str, Family]:
    """Every family by key, in alphabetical order."""
    folder = files("tunewright.plugins.rules") / "knowledge"
    raw = {
        path.name.removesuffix(".toml"): tomllib.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.iterdir(), key=lambda p: p.name)
        if path.name.endswith(".toml")
    }
    return MappingProxyType({key: _family(key, _inherit(key, raw)) for key in raw})


def wanted(value: Any) -> Wanted:
    return tuple(value) if isinstance(value, list) else (value,)


def _inherit(key: str, raw: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    own = raw[key]
    if "extends" not in own:
        return own
    parent = _inherit(own["extends"], raw)
    merged = {**parent, **own}
    mine, theirs = own.get("parameters", {}), parent["parameters"]
    # Own entries come first: they win a name that both claim.
    merged["parameters"] = {k: {**theirs.get(k, {}), **v} for k, v in mine.items()} | {
        k: v for k, v in theirs.items() if k not in mine
    }
    merged["ancestors"] = parent.get("ancestors", 0) + 1
    for part in ("couplings", "moves"):
        merged[part] = [*own.get(part, []), *parent.get(part, [])]
    return merged


def _family(key: str, data: Mapping[str, Any]) -> Family:
    return Family(
        key,
        data["title"],
        data.get("ancestors", 0),
        data["words"],
        tuple(data.get("expects", ())),
        {library: tuple(hints) for library, hints in data.get("libraries", {}).items()},
        {k: _entry(k, v) for k, v in data["parameters"].items()},
        tuple(_recipe(r) for r in data["recipes"]),
        tuple(_coupling(c) for c in data.get("couplings", ())),
        tuple(_move(m) for m in data.get("moves", ())),
        {trouble: tuple(data.get("levers", {}).get(trouble, ())) for trouble in get_args(Trouble)},
    )


def _entry(key: str, data: Mapping[str, Any]) -> Entry:
    low, high = data.get("range", (None, None))
    return Entry(
        key,
        tuple(data["names"]),
        data["reason"],
        data["source"],
        low,
        high,
        data.get("scale") == "log",
        tuple(data.get("choices", ())),
        tuple(data.get("try", ())),
        {library: wanted(value) for library, value in data.get("default", {}).items()},
        data.get("tell", 0.25),
        data.get("defining", False),
        data.get("fraction", False),
        data.get("rows", False),
    )


def _recipe(data: Mapping[str, Any]) -> Recipe:
    return Recipe(
        data["name"],
        {k: wanted(v) for k, v in data["values"].items()},
        tuple(data.get("needs", ())),
        tuple(data.get("unless", ())),
        data["reason"],
        data["source"],
    )


def _coupling(data: Mapping[str, Any]) -> Coupling:
    return Coupling(
        data["leader"],
        data["follower"],
        data["power"],
        data.get("complement", False),
        data.get("optimizer"),
        data.get("most", 4.0),
        data["reason"],
        data["source"],
    )


def _move(data: Mapping[str, Any]) -> Move:
    return Move(
        data["name"],
        data.get("scale", {}),
        data.get("shift", {}),
        {k: wanted(v) for k, v in data.get("set", {}).items()},
        tuple(data.get("on", "").split()),
        data["reason"],
        data["source"],
    )
