"""When a parameter is searched: `when=` as a mapping of parents to values, or as an expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.engines.errors import FixSpace
from tunewright.engines.expressions import Expression
from tunewright.engines.parameters import Scalar, same


class Condition:
    """`when=` in one form: the `names` it reads, and whether it holds for the active values so far.

    `allowed` maps each parent to its values, empty where the condition is an expression.
    """

    __slots__ = ("_expression", "allowed", "names")

    def __init__(self, name: str, when: Any):
        self.allowed: Mapping[str, tuple[Scalar, ...]] = {}
        self._expression: Expression | None = None
        if isinstance(when, str):
            self._expression = Expression(when, field=f"{name}.when")
            self.names: tuple[str, ...] = self._expression.names
        elif isinstance(when, Mapping) and when and not any(_empty(values) for values in when.values()):
            self.allowed = {parent: listed(values) for parent, values in when.items()}
            self.names = tuple(self.allowed)
        else:
            raise FixSpace(
                "a condition is an expression, or a mapping of parameters to one or more values",
                field=f"{name}.when",
                value=when,
                fix='when={"opt": "sgd"} or when="layers >= 2"',
            )

    @property
    def can_fail(self) -> bool:
        """Whether there may be values for which it cannot be computed."""
        return self._expression is not None

    def __call__(self, values: Mapping[str, Any]) -> bool:
        """Raises FixExpression when it cannot be computed for these values."""
        if any(parent not in values for parent in self.names):
            return False
        if self._expression is not None:
            return bool(self._expression(values))
        return all(any(same(v, values[parent]) for v in allowed) for parent, allowed in self.allowed.items())


def _empty(values: Any) -> bool:
    return isinstance(values, Sequence | set | frozenset) and not isinstance(values, str) and not values


def listed(values: Any) -> tuple[Scalar, ...]:
    """One value or several, as several."""
    return (values,) if isinstance(values, str) or not isinstance(values, Sequence) else tuple(values)
