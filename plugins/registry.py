"""Plugins by kind and name, from entry points, loaded only when asked for.

Built-ins are registered in this package's own pyproject.toml, by the road an outsider takes. A plugin that fails
to import is listed as broken with its error; two distributions that claim one name are an error for that name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import Any

from tunewright.engines.errors import FixArgument, FixPlugin
from tunewright.plugins.hooks import Source

KINDS = ("engines", "schedulers", "advisors", "runners", "trackers", "talkers", "commands")


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of `tunewright plugins`."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    error: str | None = None


@cache
def _points(kind: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    if kind not in KINDS:
        raise FixPlugin("unknown kind of plugin", field="kind", value=kind, fix=f"one of {', '.join(KINDS)}")
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"tunewright.{kind}"):
        same = found.setdefault(point.name, [])
        # One distribution seen twice on sys.path (an editable install beside a wheel) is no clash.
        if not any(p.value == point.value and _owner(p) == _owner(point) for p in same):
            same.append(point)
    return {name: tuple(points) for name, points in sorted(found.items())}


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def names(kind: str) -> list[str]:
    return list(_points(kind))


def load(kind: str, name: str) -> Any:
    """The object that the entry point names. Raises FixPlugin: unknown, claimed twice, or broken."""
    return _point(kind, name)[1]


def source(kind: str, name: str) -> Source:
    """Which distribution and version a plugin comes from, without importing it."""
    points = _points(kind).get(name, ())
    dist = points[0].dist if points else None
    return Source(name, dist.name if dist else None, dist.version if dist else None)


def _point(kind: str, name: str) -> tuple[EntryPoint, Any]:
    points = _points(kind).get(name, ())
    singular = kind.removesuffix("s")
    if not points:
        near = get_close_matches(name, names(kind), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise FixPlugin(
            f"there is no {singular} of this name",
            field=singular,
            value=name,
            fix=f"{hint}known: {', '.join(names(kind))}",
        )
    if len(points) > 1:
        owners = ", ".join(_owner(p) for p in points)
        raise FixPlugin(
            f"several distributions register this {singular}: {owners}",
            field=singular,
            value=name,
            fix="uninstall one of them",
        )
    try:
        return points[0], points[0].load()
    except Exception as error:
        raise FixPlugin(
            f"this {singular} cannot be loaded: {type(error).__name__}: {error}",
            field=singular,
            value=name,
            fix=f"reinstall or update {_owner(points[0])}",
        ) from error


def options_of(made: Any) -> list[str]:
    """The names of the keyword-only options that a plugin is built from."""
    parameters = signature(made).parameters.values()
    return [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.name not in ("fidelity", "space")]


def options_refused(made: Any, where: str, options: Mapping[str, Any], error: TypeError) -> FixArgument:
    """What to raise when building a plugin from keyword-only options was a TypeError: the option that it does not
    know, with those that it does."""
    parameters = signature(made).parameters.values()
    known = options_of(made)
    unknown = [name for name in options if name not in known]
    if not unknown or any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return FixArgument(f"does not take these options: {error}", field=where, value=dict(options))
    near = get_close_matches(unknown[0], known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    fix = f"{hint}known: {', '.join(known)}" if known else "it has no options"
    return FixArgument(f"there is no option {unknown[0]!r}", field=where, value=dict(options), fix=fix)


def listing(kind: str) -> list[Listing]:
    """Every registered plugin of a kind, each loaded once to see whether it works."""
    out = []
    for name, points in _points(kind).items():
        try:
            _point(kind, name)
            error = None
        except FixPlugin as problem:
            error = problem.message
        out += [Listing(kind, name, _owner(p), p.dist.version if p.dist else "?", p.value, error) for p in points]
    return out
