"""How many configurations a space has, and all of them one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from tunewright.engines.parameters import Parameter, Scalar

if TYPE_CHECKING:
    from tunewright.engines.space import Space

MAX_COUNTED = 50_000


def size(space: Space) -> float:
    """How many distinct configurations there are; math.inf with a continuous parameter.

    Exact where the parameters that conditions, derived values and constraints read have at most MAX_COUNTED
    combinations; past that the product of all counts, an upper bound.
    """
    counts = {name: parameter.count for name, parameter in space.parameters.items()}
    if any(math.isinf(count) for count in counts.values()):
        return math.inf
    deciding = _deciding(space)
    if not deciding or math.prod(counts[name] for name in deciding) > MAX_COUNTED:
        return math.prod(counts.values())
    total, seen = 0, set()
    for combination in product(*(range(int(counts[name])) for name in deciding)):
        chosen = dict(zip(deciding, combination, strict=True))
        config = space.build(partial(_value, chosen))
        key = tuple((name, config[name]) for name in deciding if name in config)
        if key not in seen and space.feasible(config):
            total += math.prod(int(counts[name]) for name in config if name not in chosen)
        seen.add(key)
    return total


def _value(chosen: Mapping[str, int], name: str, parameter: Parameter) -> Scalar:
    return parameter.value_at(chosen.get(name, 0))


def _deciding(space: Space) -> list[str]:
    """The parameters on which activity and validity depend, in the space's order."""
    names = {name for condition in space.conditions.values() for name in condition.names}
    names |= {name for expression in (*space.constraints, *space.derived.values()) for name in expression.names}
    return [name for name in space.names if name in names]


def enumerate_space(space: Space, points: int) -> Iterator[dict[str, Any]]:
    """Every valid configuration once, lazily, the last parameter changing fastest.

    A discrete parameter takes all its values, a continuous one `points` of its range, ends included.
    """
    return (space.free(values) for values in _extend(space, 0, {}, points) if space.feasible(space.free(values)))


def _extend(space: Space, position: int, values: dict[str, Any], points: int) -> Iterator[dict[str, Any]]:
    if position == len(space.order):
        yield values
        return
    name = space.order[position]
    if name in space.derived:
        yield from _extend(space, position + 1, space.with_derived(name, values), points)
    elif space.holds(name, values):
        for value in _values(space.parameters[name], points):
            yield from _extend(space, position + 1, {**values, name: value}, points)
    else:
        yield from _extend(space, position + 1, values, points)


def _values(parameter: Parameter, points: int) -> Iterator[Any]:
    if math.isinf(parameter.count):
        return iter(parameter.values(points))
    return (parameter.value_at(k) for k in range(int(parameter.count)))
