"""Spaces as plain data and back: the form that JSON, YAML and the store hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunewright.engines.conditions import listed
from tunewright.engines.errors import FixSpace
from tunewright.engines.parameters import Categorical, Derived, Float, Int, Parameter

if TYPE_CHECKING:
    from tunewright.engines.space import Space

KINDS: Mapping[str, type[Parameter | Derived]] = {
    "float": Float,
    "int": Int,
    "categorical": Categorical,
    "derived": Derived,
}


def to_dict(space: Space) -> dict[str, Any]:
    """{"parameters": {name: entry}, "constraints": [expression]}, of JSON types only."""
    return {
        "parameters": {name: _entry(parameter) for name, parameter in space.declared.items()},
        "constraints": [constraint.text for constraint in space.constraints],
    }


def _entry(p: Parameter | Derived) -> dict[str, Any]:
    if isinstance(p, Derived):
        return {"type": "derived", "expression": p.expression}
    entry: dict[str, Any] = {"type": type(p).__name__.lower()}
    if isinstance(p, Categorical):
        entry["choices"] = list(p.choices)
        if p.covers is not None:
            entry["covers"] = list(p.covers)
    else:
        entry |= {"low": p.low, "high": p.high}
        if p.log:
            entry["log"] = True
        if p.step is not None and not (isinstance(p, Int) and p.step == 1):
            entry["step"] = p.step
    if p.default is not None:
        entry["default"] = p.default
    if isinstance(p.when, str):
        entry["when"] = p.when
    elif p.when is not None:
        several = {parent: list(listed(values)) for parent, values in p.when.items()}
        entry["when"] = {parent: values[0] if len(values) == 1 else values for parent, values in several.items()}
    return entry


def from_dict(data: Any) -> tuple[dict[str, Parameter | Derived], list[str]]:
    """Parameters and constraints. Raises FixSpace naming the parameter and the key that does not fit."""
    if not isinstance(data, Mapping) or not isinstance(data.get("parameters"), Mapping):
        raise FixSpace("a space file needs a `parameters` mapping", field="space", value=data)
    return {name: _parameter(name, entry) for name, entry in data["parameters"].items()}, data.get("constraints") or []


def _parameter(name: Any, entry: Any) -> Parameter | Derived:
    field = f"space[{name!r}]"
    if not isinstance(entry, Mapping) or not isinstance(kind := entry.get("type"), str) or kind not in KINDS:
        raise FixSpace("a parameter needs a type", field=field, value=entry, fix=f"type: one of {', '.join(KINDS)}")
    arguments = {key: value for key, value in entry.items() if key != "type"}
    if kind in ("float", "int"):
        arguments |= {key: _number(arguments[key]) for key in ("low", "high", "step", "default") if key in arguments}
    try:
        return KINDS[kind](**arguments)
    except TypeError as error:
        raise FixSpace(f"unknown or missing key: {error}", field=field, value=dict(entry)) from None
    except FixSpace as error:
        raise FixSpace(error.message, field=f"{field} ({error.field})", value=error.value, fix=error.fix) from None


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5, a number without a dot, as text; a bound written so is meant as a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def from_json(text: str) -> Any:
    """The data of a JSON text. Raises FixSpace where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise FixSpace(f"not JSON: {error}", field="space", value=text) from None


def from_yaml(text: str) -> Any:
    """The data of a YAML text. Raises FixSpace where it is none."""
    import yaml  # only space files need it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FixSpace(f"not YAML: {error}", field="space", value=text) from None
