"""The small expression language of constraints, conditions and derived values.

Python's expression syntax over numbers, strings, parameter names, comparisons, `and/or/not`, `in`, `a if b else c`
and a dozen functions. It becomes functions made here and is never `eval`ed: no attributes, no subscripts, no calls but
those of FUNCTIONS, and numbers are kept small enough that no expression can hang a study.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from tunewright.engines.errors import FixExpression

Values: TypeAlias = Mapping[str, Any]
Compute: TypeAlias = Callable[[Values], Any]

MAX_LENGTH = 500
MAX_DEPTH = 100
MAX_MAGNITUDE = 1e300

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "int": int,
    "float": float,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
}
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


class Expression:
    """One parsed expression: `names` it reads, and a call that computes it from parameter values."""

    __slots__ = ("_compute", "field", "names", "text")

    def __init__(self, text: str, field: str = "expression"):
        self.text, self.field = text, field
        if not isinstance(text, str) or not text.strip():
            raise FixExpression("an expression must be a non-empty string", field=field, value=text)
        if len(text) > MAX_LENGTH:
            raise FixExpression(f"an expression is at most {MAX_LENGTH} characters", field=field, value=text)
        try:
            body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise FixExpression(
                f"not a valid expression: {error}", field=field, value=text, fix='write it like "batch * accum <= 512"'
            ) from None
        names: dict[str, None] = {}
        self._compute = self._function(body, names)
        self.names = tuple(names)

    def _function(self, node: ast.AST, names: dict[str, None], depth: int = 0) -> Compute:
        """What computes the node; notes the names that it reads. Raises FixExpression where it is not allowed.

        Functions made once take a tenth of the time of walking the tree, which sampling under constraints does a
        hundred thousand times.
        """
        if depth > MAX_DEPTH:
            raise FixExpression("an expression is nested too deeply", field=self.field, value=self.text)

        def of(*nodes: ast.AST) -> list[Compute]:
            return [self._function(child, names, depth + 1) for child in nodes]

        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda values: value
            case ast.Name(id=name):
                names[name] = None
                return operator.itemgetter(name)
            case ast.BinOp() if type(node.op) in _BINARY:
                left, right = of(node.left, node.right)
                return partial(_arithmetic, _BINARY[type(node.op)], left, right)
            case ast.UnaryOp() if type(node.op) in _UNARY:
                change, (operand,) = _UNARY[type(node.op)], of(node.operand)
                return lambda values: change(operand(values))
            case ast.BoolOp(op=ast.And()):
                parts = of(*node.values)
                return lambda values: all(part(values) for part in parts)
            case ast.BoolOp():
                parts = of(*node.values)
                return lambda values: any(part(values) for part in parts)
            case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
                first, *others = of(node.left, *node.comparators)
                return partial(_compare, first, list(zip((_COMPARE[type(op)] for op in node.ops), others, strict=True)))
            case ast.IfExp():
                test, body, orelse = of(node.test, node.body, node.orelse)
                return lambda values: body(values) if test(values) else orelse(values)
            case ast.Tuple() | ast.List():
                parts = of(*node.elts)
                return lambda values: tuple(part(values) for part in parts)
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
                function, parts = FUNCTIONS[name], of(*node.args)
                return lambda values: function(*(part(values) for part in parts))
        raise FixExpression(
            f"{ast.unparse(node)!r} is not allowed in an expression",
            field=self.field,
            value=self.text,
            fix=f"use arithmetic, comparisons, and/or/not, in, if/else and {', '.join(FUNCTIONS)}",
        )

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value. Raises FixExpression when it cannot be computed for these values, KeyError never."""
        try:
            value = self._compute(values)
            if isinstance(value, tuple):
                raise TypeError("the value is a list")
            return value
        except (ArithmeticError, ValueError, TypeError, KeyError) as error:
            shown = {name: values[name] for name in self.names if name in values}
            raise FixExpression(
                f"{self.text!r} cannot be computed for {shown}: {type(error).__name__}: {error}", field=self.field
            ) from None

    def __reduce__(self) -> tuple[type[Expression], tuple[str, str]]:
        return Expression, (self.text, self.field)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def _compare(first: Compute, others: Sequence[tuple[Callable[[Any, Any], bool], Compute]], values: Values) -> bool:
    left = first(values)
    for op, other in others:
        right = other(values)
        if not op(left, right):
            return False
        left = right
    return True


def _arithmetic(op: Callable[[Any, Any], Any], first: Compute, second: Compute, values: Values) -> Any:
    left, right = first(values), second(values)
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        raise TypeError("arithmetic needs numbers")
    if op is operator.pow and isinstance(left, int) and isinstance(right, int) and right > 0:
        left = float(left) if abs(left) > 1 and right * math.log2(abs(left)) > 256 else left
    value = op(left, right)
    if isinstance(value, complex) or not abs(value) <= MAX_MAGNITUDE:
        raise OverflowError("the value is too large or not real")
    return value
