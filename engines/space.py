"""The search space: parameters, the conditions that switch them on, derived values and constraints.

Params are plain dicts. A *free* configuration holds the active searched parameters only; `complete` adds the
derived values a trial is handed. Conditions are resolved parents first, at any depth; a condition that reads an
inactive parameter does not hold, a constraint that reads one is satisfied.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.engines import counting, sampling, space_files
from tunewright.engines.conditions import Condition
from tunewright.engines.errors import FixExpression, FixParams, FixSpace
from tunewright.engines.expressions import FUNCTIONS, Expression
from tunewright.engines.parameters import Categorical, Derived, Float, Int, Parameter, Scalar

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a configuration does not fit: the parameter, the value it had, and what is wrong."""

    field: str
    value: Any
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class Space:
    """Parameters by name, with `constraints` (expressions that must be true) over free and derived values.

    `parameters` holds the searched ones, parents before children; `derived` the expressions of the others.
    """

    def __init__(self, parameters: Mapping[str, Parameter | Derived], constraints: Sequence[str] = ()):
        if not isinstance(parameters, Mapping) or not parameters:
            raise FixSpace(
                "a space needs at least one parameter", field="space", value=parameters, fix='{"lr": Float(1e-5, 1e-1)}'
            )
        for name, parameter in parameters.items():
            if not isinstance(name, str) or not all(word.isidentifier() for word in name.split(".")):
                raise FixSpace(
                    "a parameter's name must be words joined by dots",
                    field="space",
                    value=name,
                    fix="rename it, e.g. learning_rate",
                )
            if not isinstance(parameter, Float | Int | Categorical | Derived):
                raise FixSpace(
                    "not a parameter",
                    field=f"space[{name!r}]",
                    value=parameter,
                    fix="use Float, Int, Categorical or Derived",
                )
        self.declared = dict(parameters)
        self.derived = {n: Expression(p.expression, field=n) for n, p in parameters.items() if isinstance(p, Derived)}
        if isinstance(constraints, str):
            raise FixSpace(
                "constraints are a list", field="constraints", value=constraints, fix=f"constraints=[{constraints!r}]"
            )
        self.constraints = tuple(Expression(text, field=f"constraints[{i}]") for i, text in enumerate(constraints))
        self.conditions = {
            n: Condition(n, p.when) for n, p in parameters.items() if not isinstance(p, Derived) and p.when is not None
        }
        self._size: float | None = None  # counting through the combinations of conditions can take seconds
        self._check_references()
        self._fallible = {n for n, condition in self.conditions.items() if condition.can_fail}
        self.order = order = self._topological()
        self.parameters: dict[str, Parameter] = {n: p for n in order if not isinstance(p := self.declared[n], Derived)}
        if not self.parameters:
            raise FixSpace(
                "every parameter is derived", field="space", fix="add at least one Float, Int or Categorical"
            )
        self.names: tuple[str, ...] = tuple(self.parameters)
        self._column = {name: i for i, name in enumerate(self.names)}
        self._quoted = {name: json.dumps(name) for name in self.names}

    # ---------------------------------------------------------------- construction

    def _check_references(self) -> None:
        readers: list[tuple[str, Iterable[str]]] = [(f"{n}.when", c.names) for n, c in self.conditions.items()]
        readers += [(n, e.names) for n, e in self.derived.items()]
        readers += [(e.field, e.names) for e in self.constraints]
        for field, names in readers:
            for name in names:
                if name not in self.declared:
                    raise FixSpace(
                        f"refers to a parameter that does not exist: {name}",
                        field=field,
                        value=name,
                        fix=f"use one of {', '.join(self.declared)}"
                        + (f" (functions: {', '.join(FUNCTIONS)})" if name.islower() else ""),
                    )
        for child, condition in self.conditions.items():
            for parent, allowed in condition.allowed.items():
                declared = self.declared[parent]
                if isinstance(declared, Derived):
                    continue
                for value in allowed:
                    if problem := declared.problem(declared.coerce(value)):
                        raise FixSpace(
                            f"waits for a value that {parent} never takes: {problem}",
                            field=f"{child}.when",
                            value=value,
                            fix=f"use a value of {parent}",
                        )

    def _topological(self) -> list[str]:
        """Declaration order, but parents before children. Raises FixSpace naming a cycle."""
        order: list[str] = []
        state: dict[str, int] = {}

        def visit(name: str, path: tuple[str, ...]) -> None:
            if state.get(name) == 2:
                return
            if state.get(name) == 1:
                cycle = [*path[path.index(name) :], name]
                raise FixSpace(
                    f"conditions or derived values go in a circle: {' -> '.join(cycle)}",
                    field=name,
                    fix="remove one of these references",
                )
            state[name] = 1
            reads = self.derived[name].names if name in self.derived else ()
            if name in self.conditions:
                reads = self.conditions[name].names
            for parent in reads:
                visit(parent, (*path, name))
            state[name] = 2
            order.append(name)

        for name in self.declared:
            visit(name, ())
        return order

    @property
    def is_conditional(self) -> bool:
        return bool(self.conditions)

    def condition_names(self, name: str) -> tuple[str, ...]:
        """The parameters that decide whether `name` is active, nearest parents only."""
        return self.conditions[name].names if name in self.conditions else ()

    # ---------------------------------------------------------------- configurations

    def is_active(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether `name` is searched, given the active values of its parents (free and derived)."""
        return name not in self.conditions or self.conditions[name](values)

    def holds(self, name: str, values: Mapping[str, Any]) -> bool:
        """`is_active`, where a condition that cannot be computed counts as not holding (`feasible` refuses those)."""
        try:
            return self.is_active(name, values)
        except FixExpression:
            return False

    def with_derived(self, name: str, values: Params) -> Params:
        """The values with one derived value more, where it can be computed."""
        expression = self.derived[name]
        if all(n in values for n in expression.names):
            with suppress(FixExpression):
                return {**values, name: expression(values)}
        return values

    def build(self, pick: Callable[[str, Parameter], Scalar]) -> Params:
        """The free configuration whose active parameters take the values that `pick` gives, parents first."""
        values: Params = {}
        for name in self.order:
            if name in self.derived:
                values = self.with_derived(name, values)
            elif self.holds(name, values):
                values[name] = pick(name, self.parameters[name])
        return self.free(values)

    def complete(self, params: Mapping[str, Any]) -> Params:
        """The free configuration with its derived values, in declaration order. Inactive references leave one out."""
        values = dict(params)
        for name in self.order:
            if (expression := self.derived.get(name)) and all(n in values for n in expression.names):
                values[name] = expression(values)
        return {name: values[name] for name in self.declared if name in values}

    def free(self, params: Mapping[str, Any]) -> Params:
        """The searched part of a completed configuration."""
        return {name: params[name] for name in self.names if name in params}

    def coerce(self, params: Mapping[str, Any]) -> Params:
        """Plain Python scalars for every searched parameter; unknown names stay as they are."""
        return {n: self.parameters[n].coerce(v) if n in self.parameters else v for n, v in params.items()}

    def problems(self, params: Mapping[str, Any]) -> list[Problem]:
        """Every reason why a free configuration is not valid here; an empty list when it is."""
        found = [
            Problem(
                n,
                v,
                "is computed from others and cannot be set"
                if n in self.derived
                else "is not a parameter of this space",
            )
            for n, v in params.items()
            if n not in self.parameters
        ]
        values: Params = {}
        for name in self.order:
            if name in self.derived:
                expression = self.derived[name]
                if all(n in values for n in expression.names):
                    try:
                        values[name] = expression(values)
                    except FixExpression as error:
                        found.append(Problem(name, None, error.message))
                continue
            try:
                active = self.is_active(name, values)
            except FixExpression as error:
                found.append(Problem(name, params.get(name), error.message))
                continue
            if name not in params:
                if active:
                    found.append(Problem(name, None, "is missing"))
                continue
            value = self.parameters[name].coerce(params[name])
            if not active:
                found.append(Problem(name, value, "is not active here: its condition does not hold"))
            elif problem := self.parameters[name].problem(value):
                found.append(Problem(name, value, problem))
            else:
                values[name] = value
        if not found:
            found += [
                Problem(e.field, None, f"the constraint {e.text!r} is broken")
                for e in self.constraints
                if not self._satisfied(e, values)
            ]
        return found

    def check(self, params: Mapping[str, Any], field: str = "params") -> Params:
        """The configuration in plain scalars and this space's order. Raises FixParams with every problem."""
        if not isinstance(params, Mapping):
            raise FixParams("a configuration is a mapping of names to values", field=field, value=params)
        if found := self.problems(params):
            raise FixParams("; ".join(map(str, found)), field=field, value=dict(params), problems=found)
        coerced = self.coerce(params)
        return {name: coerced[name] for name in self.names if name in coerced}

    @staticmethod
    def _satisfied(constraint: Expression, values: Mapping[str, Any]) -> bool:
        if any(n not in values for n in constraint.names):
            return True
        try:
            return bool(constraint(values))
        except FixExpression:
            return False

    def feasible(self, params: Mapping[str, Any]) -> bool:
        """Whether the constraints hold, and conditions and derived values can be computed, for values in range."""
        if not (self.constraints or self.derived or self._fallible):
            return True
        values = dict(params)
        try:
            for name in self.order:
                if name in self.derived and all(n in values for n in self.derived[name].names):
                    values[name] = self.derived[name](values)
                elif name in self._fallible:
                    self.conditions[name](values)
        except FixExpression:
            return False
        return all(self._satisfied(c, values) for c in self.constraints)

    def default(self, known: Mapping[str, Scalar] | None = None) -> Params | None:
        """The default configuration: each parameter's `default`, else its `known` value, else its middle.

        None when no active parameter has a default or a known value, or when the result breaks a constraint.
        """
        hints = {n: p.default for n, p in self.parameters.items() if p.default is not None}
        for name, value in (known or {}).items():
            if (parameter := self.parameters.get(name)) and parameter.problem(parameter.coerce(value)) is None:
                hints.setdefault(name, parameter.coerce(value))

        def pick(name: str, parameter: Parameter) -> Scalar:
            middle = parameter.choices[0] if isinstance(parameter, Categorical) else parameter.from_unit(0.5)
            return hints.get(name, middle)

        config = self.build(pick)
        return config if any(n in hints for n in config) and self.feasible(config) else None

    # ---------------------------------------------------------------- unit encoding

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n, len(names)) positions in [0, 1] on each parameter's own scale, NaN where inactive."""
        out = np.full((len(configs), len(self.names)), np.nan)
        for row, config in zip(out, configs, strict=True):
            for name, value in config.items():
                if name in self._column:
                    row[self._column[name]] = self.parameters[name].to_unit(value)
        return out

    def decode(self, units: np.ndarray) -> list[Params]:
        """Free configurations of (n, len(names)) positions; inactive columns are ignored, constraints too."""
        return [self._decode_row(row) for row in np.asarray(units, dtype=float).tolist()]

    def _decode_row(self, row: Sequence[float]) -> Params:
        if not self.conditions:
            return {name: p.from_unit(u) for (name, p), u in zip(self.parameters.items(), row, strict=True)}
        units = {name: 0.5 if math.isnan(u) else u for name, u in zip(self.names, row, strict=True)}
        return self.build(lambda name, parameter: parameter.from_unit(units[name]))

    def sample(self, rng: np.random.Generator, n: int | None = None) -> Any:
        """One configuration, or a list of n, uniform on each parameter's scale, within the constraints.

        Raises FixSpace when the constraints leave almost nothing.
        """
        drawn = sampling.sample(self, rng, 1 if n is None else n)
        return drawn[0] if n is None else drawn

    # ---------------------------------------------------------------- size and enumeration

    def size(self) -> float:
        """How many distinct configurations there are, math.inf with a continuous parameter; see `counting.size`."""
        if self._size is None:
            self._size = counting.size(self)
        return self._size

    def enumerate(self, points: int) -> Iterator[Params]:
        """Every valid configuration once, lazily; a continuous parameter takes `points` values of its range."""
        return counting.enumerate_space(self, points)

    # ---------------------------------------------------------------- identity and files

    def key(self, params: Mapping[str, Any]) -> str:
        """A short hash of the free configuration, the same for equal values however they were written.

        Reals count as equal to ten digits: the way through the unit interval and back costs the last ones.
        """
        words = [f"[{self._quoted[n]}, {p.word(params[n])}]" for n, p in self.parameters.items() if n in params]
        return hashlib.sha256(f"[{', '.join(words)}]".encode()).hexdigest()[:16]  # of one JSON text

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns back into an equal space."""
        return space_files.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Of `to_dict`'s form. Raises FixSpace naming the parameter and the key that does not fit."""
        return cls(*space_files.from_dict(data))

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Space:
        return cls.from_dict(space_files.from_json(text))

    def to_yaml(self) -> str:
        import yaml  # only space files need it

        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> Space:
        return cls.from_dict(space_files.from_yaml(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and other.to_json() == self.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Space({self.declared!r}, constraints={[c.text for c in self.constraints]!r})"
