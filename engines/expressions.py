"""The small expression language of constraints, conditions and derived values.

Python's expression syntax over numbers, strings, parameter names, comparisons, `and/or/not`, `in`, `a if b else c`
and a dozen functions. It is walked, never `eval`ed: no attributes, no subscripts, no calls but those in FUNCTIONS,
and numbers are kept small enough that no expression can hang a study.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from tunewright.engines.errors import FixExpression

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

    __slots__ = ("_body", "field", "names", "text")

    def __init__(self, text: str, field: str = "expression"):
        self.text, self.field = text, field
        if not isinstance(text, str) or not text.strip():
            raise FixExpression("an expression must be a non-empty string", field=field, value=text)
        if len(text) > MAX_LENGTH:
            raise FixExpression(f"an expression is at most {MAX_LENGTH} characters", field=field, value=text)
        try:
            self._body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise FixExpression(
                f"not a valid expression: {error}", field=field, value=text, fix='write it like "batch * accum <= 512"'
            ) from None
        names: dict[str, None] = {}
        self._check(self._body, names)
        self.names = tuple(names)

    def _check(self, node: ast.AST, names: dict[str, None], depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise FixExpression("an expression is nested too deeply", field=self.field, value=self.text)
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return
            case ast.Name():
                names[node.id] = None
                return
            case ast.BinOp() if type(node.op) in _BINARY:
                children: list[ast.AST] = [node.left, node.right]
            case ast.UnaryOp() if type(node.op) in _UNARY:
                children = [node.operand]
            case ast.BoolOp():
                children = list(node.values)
            case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
                children = [node.left, *node.comparators]
            case ast.IfExp():
                children = [node.test, node.body, node.orelse]
            case ast.Tuple() | ast.List():
                children = list(node.elts)
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
                children = list(node.args)
            case _:
                raise FixExpression(
                    f"{ast.unparse(node)!r} is not allowed in an expression",
                    field=self.field,
                    value=self.text,
                    fix=f"use arithmetic, comparisons, and/or/not, in, if/else and {', '.join(FUNCTIONS)}",
                )
        for child in children:
            self._check(child, names, depth + 1)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value. Raises FixExpression when it cannot be computed for these values, KeyError never."""
        try:
            value = self._walk(self._body, values)
            if isinstance(value, tuple):
                raise TypeError("the value is a list")
            return value
        except (ArithmeticError, ValueError, TypeError, KeyError) as error:
            shown = {name: values[name] for name in self.names if name in values}
            raise FixExpression(
                f"{self.text!r} cannot be computed for {shown}: {type(error).__name__}: {error}", field=self.field
            ) from None

    def _walk(self, node: ast.AST, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return values[node.id]
            case ast.BinOp():
                return self._arithmetic(
                    _BINARY[type(node.op)], self._walk(node.left, values), self._walk(node.right, values)
                )
            case ast.UnaryOp():
                return _UNARY[type(node.op)](self._walk(node.operand, values))
            case ast.BoolOp(op=ast.And()):
                return all(self._walk(v, values) for v in node.values)
            case ast.BoolOp():
                return any(self._walk(v, values) for v in node.values)
            case ast.Compare():
                left = self._walk(node.left, values)
                for op, right_node in zip(node.ops, node.comparators, strict=True):
                    right = self._walk(right_node, values)
                    if not _COMPARE[type(op)](left, right):
                        return False
                    left = right
                return True
            case ast.IfExp():
                return self._walk(node.body if self._walk(node.test, values) else node.orelse, values)
            case ast.Tuple() | ast.List():
                return tuple(self._walk(v, values) for v in node.elts)
            case ast.Call(func=ast.Name(id=name)):
                return FUNCTIONS[name](*(self._walk(a, values) for a in node.args))
        raise TypeError(f"unexpected {type(node).__name__}")

    @staticmethod
    def _arithmetic(op: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise TypeError("arithmetic needs numbers")
        if op is operator.pow and isinstance(left, int) and isinstance(right, int) and right > 0:
            left = float(left) if abs(left) > 1 and right * math.log2(abs(left)) > 256 else left
        value = op(left, right)
        if isinstance(value, complex) or not abs(value) <= MAX_MAGNITUDE:
            raise OverflowError("the value is too large or not real")
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"
