"""The search space: parameters, the conditions that switch them on, derived values and constraints.

Params are plain dicts. A *free* configuration holds the active searched parameters only; `complete` adds the
derived values a trial is handed. Conditions are resolved parents first, at any depth; a condition that reads an
inactive parameter does not hold, a constraint that reads one is satisfied.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from tunewright.engines.errors import FixExpression, FixParams, FixSpace
from tunewright.engines.expressions import FUNCTIONS, Expression
from tunewright.engines.parameters import Categorical, Derived, Float, Int, Parameter, Scalar

SAMPLING_TRIES = 10_000
MAX_ENUMERATED = 1_000_000

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a configuration does not fit: the parameter, the value it had, and what is wrong."""

    field: str
    value: Any
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class _Condition:
    """`when=` in one form: names it reads and whether it holds for the active values so far."""

    __slots__ = ("_allowed", "_expression", "names")

    def __init__(self, name: str, when: Any):
        self._allowed: dict[str, tuple[Scalar, ...]] = {}
        self._expression: Expression | None = None
        if isinstance(when, str):
            self._expression = Expression(when, field=f"{name}.when")
            self.names: tuple[str, ...] = self._expression.names
        elif isinstance(when, Mapping) and when:
            self._allowed = {
                parent: (allowed,) if isinstance(allowed, str) or not isinstance(allowed, Sequence) else tuple(allowed)
                for parent, allowed in when.items()
            }
            self.names = tuple(self._allowed)
        else:
            raise FixSpace(
                "a condition is a mapping or an expression",
                field=f"{name}.when",
                value=when,
                fix='when={"opt": "sgd"} or when="layers >= 2"',
            )

    @property
    def allowed(self) -> Mapping[str, tuple[Scalar, ...]]:
        return self._allowed

    def __call__(self, values: Mapping[str, Any]) -> bool:
        if any(parent not in values for parent in self.names):
            return False
        if self._expression is not None:
            return bool(self._expression(values))
        return all(
            any(value == values[parent] and isinstance(value, str) is isinstance(values[parent], str) for value in allowed)
            for parent, allowed in self._allowed.items()
        )


class Space:
    """Parameters by name, with `constraints` (expressions that must be true) over free and derived values.

    `parameters` holds the searched ones, parents before children; `derived` the expressions of the others.
    """

    def __init__(self, parameters: Mapping[str, Parameter | Derived], constraints: Sequence[str] = ()):
        if not isinstance(parameters, Mapping) or not parameters:
            raise FixSpace("a space needs at least one parameter", field="space", value=parameters, fix='{"lr": Float(1e-5, 1e-1)}')
        for name, parameter in parameters.items():
            if not isinstance(name, str) or not name.isidentifier() and not all(p.isidentifier() for p in name.split(".")):
                raise FixSpace(
                    "a parameter's name must be words joined by dots", field="space", value=name, fix="rename it, e.g. learning_rate"
                )
            if not isinstance(parameter, Float | Int | Categorical | Derived):
                raise FixSpace(
                    "not a parameter", field=f"space[{name!r}]", value=parameter, fix="use Float, Int, Categorical or Derived"
                )
        self._declared = dict(parameters)
        self.derived = {n: Expression(p.expression, field=n) for n, p in parameters.items() if isinstance(p, Derived)}
        self.constraints = tuple(Expression(text, field=f"constraints[{i}]") for i, text in enumerate(constraints))
        self._conditions = {
            n: _Condition(n, p.when) for n, p in parameters.items() if not isinstance(p, Derived) and p.when is not None
        }
        self._check_references()
        order = self._topological()
        self._order = order
        self.parameters: dict[str, Parameter] = {
            n: p for n in order if not isinstance(p := self._declared[n], Derived)
        }
        if not self.parameters:
            raise FixSpace("every parameter is derived", field="space", fix="add at least one Float, Int or Categorical")
        self.names: tuple[str, ...] = tuple(self.parameters)
        self._column = {name: i for i, name in enumerate(self.names)}

    # ---------------------------------------------------------------- construction

    def _check_references(self) -> None:
        readers: list[tuple[str, Iterable[str]]] = [(f"{n}.when", c.names) for n, c in self._conditions.items()]
        readers += [(n, e.names) for n, e in self.derived.items()]
        readers += [(e.field, e.names) for e in self.constraints]
        for field, names in readers:
            for name in names:
                if name not in self._declared:
                    raise FixSpace(
                        f"refers to a parameter that does not exist: {name}",
                        field=field,
                        value=name,
                        fix=f"use one of {', '.join(self._declared)}" + (f" (functions: {', '.join(FUNCTIONS)})" if name.islower() else ""),
                    )
        for child, condition in self._conditions.items():
            for parent, allowed in condition.allowed.items():
                declared = self._declared[parent]
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
            if name in self._conditions:
                reads = self._conditions[name].names
            for parent in reads:
                visit(parent, (*path, name))
            state[name] = 2
            order.append(name)

        for name in self._declared:
            visit(name, ())
        return order

    @property
    def is_conditional(self) -> bool:
        return bool(self._conditions)

    def condition_names(self, name: str) -> tuple[str, ...]:
        """The parameters that decide whether `name` is active, nearest parents only."""
        return self._conditions[name].names if name in self._conditions else ()

    # ---------------------------------------------------------------- configurations

    def is_active(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether `name` is searched, given the active values of its parents (free and derived)."""
        return name not in self._conditions or self._conditions[name](values)

    def complete(self, params: Mapping[str, Any]) -> Params:
        """The free configuration with its derived values, in declaration order. Inactive references leave one out."""
        values = dict(params)
        for name in self._order:
            if (expression := self.derived.get(name)) and all(n in values for n in expression.names):
                values[name] = expression(values)
        return {name: values[name] for name in self._declared if name in values}

    def free(self, params: Mapping[str, Any]) -> Params:
        """The searched part of a completed configuration."""
        return {name: params[name] for name in self.names if name in params}

    def coerce(self, params: Mapping[str, Any]) -> Params:
        """Plain Python scalars for every searched parameter; unknown names stay as they are."""
        return {n: self.parameters[n].coerce(v) if n in self.parameters else v for n, v in params.items()}

    def problems(self, params: Mapping[str, Any]) -> list[Problem]:
        """Every reason why a free configuration is not valid here; an empty list when it is."""
        found = [
            Problem(n, v, "is computed from others and cannot be set" if n in self.derived else "is not a parameter of this space")
            for n, v in params.items()
            if n not in self.parameters
        ]
        values: Params = {}
        for name in self._order:
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
                Problem(e.field, None, f"the constraint {e.text!r} is broken") for e in self.constraints if not self._satisfied(e, values)
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
        """Whether the constraints hold for a configuration whose values are in range."""
        if not self.constraints:
            return True
        try:
            values = self.complete(params)
        except FixExpression:
            return False
        return all(self._satisfied(c, values) for c in self.constraints)

    def default(self, known: Mapping[str, Scalar] | None = None) -> Params | None:
        """The default configuration: each parameter's `default`, else its `known` value, else its middle.

        None when no active parameter has a default or a known value, or when the result breaks a constraint.
        """
        known, used = known or {}, False
        values: Params = {}
        for name in self._order:
            if name in self.derived:
                if all(n in values for n in self.derived[name].names):
                    values[name] = self.derived[name](values)
                continue
            if not self.is_active(name, values):
                continue
            parameter = self.parameters[name]
            if parameter.default is not None:
                values[name], used = parameter.default, True
            elif name in known and parameter.problem(parameter.coerce(known[name])) is None:
                values[name], used = parameter.coerce(known[name]), True
            else:
                values[name] = parameter.choices[0] if isinstance(parameter, Categorical) else parameter.from_unit(0.5)
        free = self.free(values)
        return free if used and self.feasible(free) else None

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
        """Free configurations of (n, len(names)) positions; inactive columns are ignored. Constraints are not checked."""
        return [self._decode_row(row) for row in np.asarray(units, dtype=float).tolist()]

    def _decode_row(self, row: Sequence[float]) -> Params:
        if not self._conditions:
            return {name: p.from_unit(u) for (name, p), u in zip(self.parameters.items(), row, strict=True)}
        values: Params = {}
        for name in self._order:
            if name in self.derived:
                if all(n in values for n in self.derived[name].names):
                    values[name] = self.derived[name](values)
            elif self.is_active(name, values):
                u = row[self._column[name]]
                values[name] = self.parameters[name].from_unit(0.5 if math.isnan(u) else u)
        return self.free(values)

    def sample(self, rng: np.random.Generator, n: int | None = None) -> Any:
        """One configuration, or a list of n, uniform on each parameter's scale, within the constraints.

        Raises FixSpace when the constraints leave almost nothing.
        """
        out: list[Params] = []
        tries = 0
        wanted = 1 if n is None else n
        while len(out) < wanted:
            for config in self.decode(rng.random((wanted - len(out), len(self.names)))):
                if self.feasible(config):
                    out.append(config)
            tries += 1
            if not out and tries * wanted >= SAMPLING_TRIES or tries >= SAMPLING_TRIES:
                raise FixSpace(
                    f"not one of {tries * wanted} random configurations meets the constraints",
                    field="constraints",
                    value=[c.text for c in self.constraints],
                    fix="loosen them, or shrink the ranges to where they hold",
                )
        return out[0] if n is None else out

    # ---------------------------------------------------------------- size and enumeration

    @cached_property
    def _branching(self) -> tuple[str, ...]:
        """Parameters that some condition, derived value or constraint reads, derived ones resolved to their sources."""
        read: set[str] = set()
        todo = [n for c in self._conditions.values() for n in c.names] + [n for c in self.constraints for n in c.names]
        while todo:
            name = todo.pop()
            if name in self.derived:
                todo += self.derived[name].names
            else:
                read.add(name)
        return tuple(n for n in self.names if n in read)

    def size(self) -> float:
        """How many distinct configurations there are; math.inf with a continuous parameter.

        Counted exactly up to a million combinations of the parameters that conditions and constraints read; past
        that, the product of all counts, an upper bound.
        """
        counts = {n: p.count for n, p in self.parameters.items()}
        if any(math.isinf(c) for c in counts.values()):
            return math.inf
        branching = self._branching
        if not branching or math.prod(counts[n] for n in branching) > MAX_ENUMERATED:
            return math.prod(counts.values())
        seen: set[tuple[Any, ...]] = set()
        total = 0
        for combination in product(*(range(int(counts[n])) for n in branching)):
            row = [0.5] * len(self.names)
            for name, k in zip(branching, combination, strict=True):
                row[self._column[name]] = self.parameters[name].to_unit(self.parameters[name].value_at(k))
            config = self._decode_row(row)
            key = tuple(config.get(n) for n in branching) + tuple(n in config for n in branching)
            if key not in seen:
                seen.add(key)
                if self.feasible(config):
                    total += math.prod(int(counts[n]) for n in config if n not in branching)
        return total

    def enumerate(self, points: int) -> Iterator[Params]:
        """Every configuration of the grid once, lazily; a continuous parameter takes `points` values of its range."""
        yield from (self.free(v) for v in self._extend(self._order, {}, points) if self.feasible(self.free(v)))

    def _extend(self, order: Sequence[str], values: Params, points: int) -> Iterator[Params]:
        if not order:
            yield values
            return
        name, rest = order[0], order[1:]
        if name in self.derived:
            if all(n in values for n in self.derived[name].names):
                values = {**values, name: self.derived[name](values)}
            yield from self._extend(rest, values, points)
        elif self.is_active(name, values):
            for value in self.parameters[name].values(points):
                yield from self._extend(rest, {**values, name: value}, points)
        else:
            yield from self._extend(rest, values, points)

    # ---------------------------------------------------------------- identity and files

    def key(self, params: Mapping[str, Any]) -> str:
        """A short hash of the free configuration, the same for equal values however they were written."""
        coerced = self.coerce(self.free(params))
        text = json.dumps([[n, coerced[n]] for n in self.names if n in coerced])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns back into an equal space."""
        out: dict[str, Any] = {}
        for name, p in self._declared.items():
            if isinstance(p, Derived):
                out[name] = {"type": "derived", "expression": p.expression}
                continue
            entry: dict[str, Any] = {"type": type(p).__name__.lower()}
            if isinstance(p, Categorical):
                entry["choices"] = list(p.choices)
            else:
                entry |= {"low": p.low, "high": p.high}
                if p.log:
                    entry["log"] = True
                if p.step not in (None, 1):
                    entry["step"] = p.step
            if p.default is not None:
                entry["default"] = p.default
            if p.when is not None:
                entry["when"] = p.when if isinstance(p.when, str) else {
                    k: v if isinstance(v, str) or not isinstance(v, Sequence) else list(v) for k, v in p.when.items()
                }
            out[name] = entry
        return {"parameters": out, "constraints": [c.text for c in self.constraints]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Of `to_dict`'s form. Raises FixSpace naming the parameter and the key that does not fit."""
        if not isinstance(data, Mapping) or not isinstance(data.get("parameters"), Mapping):
            raise FixSpace("a space file needs a `parameters` mapping", field="space", value=data)
        kinds: dict[str, type] = {"float": Float, "int": Int, "categorical": Categorical, "derived": Derived}
        parameters: dict[str, Any] = {}
        for name, entry in data["parameters"].items():
            field = f"space[{name!r}]"
            if not isinstance(entry, Mapping) or entry.get("type") not in kinds:
                raise FixSpace("a parameter needs a type", field=field, value=entry, fix=f"type: one of {', '.join(kinds)}")
            arguments = {k: v for k, v in entry.items() if k != "type"}
            try:
                parameters[name] = kinds[entry["type"]](**arguments)
            except TypeError as error:
                raise FixSpace(f"unknown or missing key: {error}", field=field, value=dict(entry)) from None
            except FixSpace as error:
                raise FixSpace(error.message, field=f"{field} ({error.field})", value=error.value, fix=error.fix) from None
        return cls(parameters, data.get("constraints") or ())

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Space:
        return cls.from_dict(json.loads(text))

    def to_yaml(self) -> str:
        import yaml  # only space files need it

        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> Space:
        import yaml

        return cls.from_dict(yaml.safe_load(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and other.to_dict() == self.to_dict()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Space({self._declared!r}, constraints={[c.text for c in self.constraints]!r})"
