"""The kinds of hyperparameter and their map to the unit interval.

Every kind maps its values to [0, 1] on its own scale (`to_unit`) and back (`from_unit`). Discrete kinds give
each of their m values the middle of one of m equal bins, so uniform units are uniform values; a log-scaled Int
uses bins of its log range widened by half a step, so that every value keeps its share of the log axis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tunewright.engines.errors import FixSpace

Scalar: TypeAlias = str | int | float | bool | None
When: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]] | str | None
"""`{"opt": "sgd"}`, `{"opt": ["sgd", "rmsprop"], "layers": 2}` (all must hold) or an expression: "layers >= 2"."""


def plain(value: Any) -> Any:
    """A number or numpy scalar as a plain Python scalar; anything else unchanged."""
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if isinstance(value, str | int | float):
        return next(kind(value) for kind in (str, int, float) if isinstance(value, kind))
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def same(a: Any, b: Any) -> bool:
    """Equality of scalars; a string never equals a number, and what is no scalar equals nothing."""
    return isinstance(b, Hashable) and isinstance(a, str) is isinstance(b, str) and bool(a == b)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number past the range of floats
        return False


def _number(kind: str, what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise FixSpace(f"{what} must be a finite number", field=kind, value=value)


def _as_float(value: Any) -> Any:
    """A float where the value is a number that fits one, else the value."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        return value
    try:
        return float(value) + 0.0  # -0.0 becomes 0.0, so that equal values have one spelling
    except (TypeError, ValueError, OverflowError):
        return value


def _word(value: Any) -> str:
    """JSON; of a real number ten digits, since the way through the unit interval and back costs the last ones."""
    return f'"{value:.9e}"' if isinstance(value, float) else json.dumps(value)


def _check_range(kind: str, low: Any, high: Any, log: bool) -> None:
    _number(kind, "low", low)
    _number(kind, "high", high)
    if low > high:
        raise FixSpace(
            "the bounds are inverted",
            field=kind,
            value=(low, high),
            fix=f"write the lower bound first: {kind}({high}, {low})",
        )
    if log and low <= 0:
        raise FixSpace(
            "a log scale needs bounds above zero",
            field=kind,
            value=(low, high),
            fix="raise low above 0, or drop log=True",
        )


def _check_default(kind: str, parameter: Parameter) -> None:
    if parameter.default is not None and (problem := parameter.problem(parameter.default)):
        raise FixSpace(f"the default is not in the range: {problem}", field=kind, value=parameter.default)


@dataclass(frozen=True, slots=True)
class Float:
    """A real number in [low, high], on a log scale where `log`, or only low, low + step, ... where `step`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    default: float | None = None
    when: When = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "step", "default"):
            object.__setattr__(self, name, _as_float(getattr(self, name)))
        _check_range("Float", self.low, self.high, self.log)
        if self.step is not None:
            _number("Float", "step", self.step)
            if self.step <= 0 or self.log:
                raise FixSpace(
                    "step must be above zero and without log",
                    field="Float",
                    value=self.step,
                    fix="drop step or log=True",
                )
        _check_default("Float", self)

    @property
    def count(self) -> float:
        """How many values there are; infinity without a step."""
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def coerce(self, value: Any) -> Any:
        """The same value as a plain Python float where it is a number; anything else unchanged."""
        return value + 0.0 if type(value) is float else _as_float(plain(value))

    def word(self, value: Any) -> str:
        """A JSON text that values which count as equal share, and only those."""
        return f'"{value + 0.0:.9e}"' if type(value) is float else _word(self.coerce(value))

    def problem(self, value: Any) -> str | None:
        """What is wrong with a (coerced) value, None when nothing is."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} is not a number"
        if not _finite(value):
            return f"{value!r} is not finite"
        if not self.low <= value <= self.high:
            return f"{value!r} is outside [{self.low!r}, {self.high!r}]"
        if self.step is not None:
            k = (value - self.low) / self.step
            if abs(k - round(k)) > 1e-6:
                return f"{value!r} is not {self.low!r} plus a multiple of {self.step!r}"
        return None

    def value_at(self, k: int) -> float:
        """Value number k of a stepped range. Decimal noise is rounded away: 0.1 + 2 * 0.1 is 0.3."""
        if self.step is None:
            return self.low
        # 14 significant digits of the largest value: an absolute number of decimals would round small ranges to 0.
        digits = 13 - math.floor(math.log10(max(abs(self.low), abs(self.high), self.step)))
        return min(max(round(self.low + k * self.step, digits), self.low), self.high) + 0.0

    def to_unit(self, value: float) -> float:
        if self.low == self.high:
            return 0.5
        if self.step is not None:
            return (round((value - self.low) / self.step) + 0.5) / self.count
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        if math.isinf(self.high - self.low):
            return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, u: float) -> float:
        u = min(max(float(u), 0.0), 1.0)
        if self.low == self.high:
            return self.low
        if self.step is None and u in (0.0, 1.0):
            return self.high if u else self.low
        if self.step is not None:
            return self.value_at(min(int(u * self.count), int(self.count) - 1))
        if self.log:
            value = math.exp((1 - u) * math.log(self.low) + u * math.log(self.high))
        else:
            value = (1 - u) * self.low + u * self.high
        return min(max(value, self.low), self.high)

    def values(self, points: int) -> list[float]:
        """All values when there are few enough, else `points` of them evenly spaced on the parameter's scale."""
        if self.count <= points:
            return [self.value_at(k) for k in range(int(self.count))]
        if points == 1:
            return [self.from_unit(0.5)]
        return list(dict.fromkeys(self.from_unit(i / (points - 1)) for i in range(points)))


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], on a log scale where `log`, or only low, low + step, ... where `step`."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    default: int | None = None
    when: When = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "step", "default"):
            value = self.coerce(getattr(self, name))
            if value is None and name == "default":
                continue
            _number("Int", name, value)
            if not isinstance(value, int):
                raise FixSpace(
                    f"{name} must be a whole number", field="Int", value=value, fix="use Float for real values"
                )
            object.__setattr__(self, name, value)
        _check_range("Int", self.low, self.high, self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise FixSpace(
                "step must be at least 1, and 1 with log", field="Int", value=self.step, fix="drop step or log=True"
            )
        _check_default("Int", self)

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def coerce(self, value: Any) -> Any:
        """The same value as a plain Python int where it is a whole number; anything else unchanged."""
        value = plain(value)
        if isinstance(value, int):
            return value
        number = _as_float(value)
        return int(number) if isinstance(number, float) and number.is_integer() else number

    def word(self, value: Any) -> str:
        return _word(self.coerce(value))

    def problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"{value!r} is not a whole number"
        if not self.low <= value <= self.high:
            return f"{value!r} is outside [{self.low}, {self.high}]"
        if (value - self.low) % self.step:
            return f"{value!r} is not {self.low} plus a multiple of {self.step}"
        return None

    def value_at(self, k: int) -> int:
        return self.low + k * self.step

    def to_unit(self, value: int) -> float:
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return (math.log(value) - low) / (high - low)
        return ((value - self.low) // self.step + 0.5) / self.count

    def from_unit(self, u: float) -> int:
        u = min(max(float(u), 0.0), 1.0)
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(max(round(math.exp(low + u * (high - low))), self.low), self.high)
        return self.value_at(min(int(u * self.count), self.count - 1))

    def values(self, points: int) -> list[int]:
        if self.count <= points:
            return [self.value_at(k) for k in range(self.count)]
        if points == 1:
            return [self.from_unit(0.5)]
        return list(dict.fromkeys(self.from_unit(i / (points - 1)) for i in range(points)))


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of a list of scalars, in no order.

    `covers`, for a parameter kept at one value: what earlier trials may have had instead and still count as trials of
    that value; two numbers are bounds, anything else is listed.
    """

    choices: tuple[Scalar, ...]
    default: Scalar = None
    when: When = None
    covers: tuple[Scalar, ...] | None = None

    def __init__(
        self,
        choices: Sequence[Scalar],
        default: Scalar = None,
        when: When = None,
        covers: Sequence[Scalar] | None = None,
    ):
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise FixSpace(
                "choices must be a non-empty list", field="Categorical", value=choices, fix='Categorical(["a", "b"])'
            )
        choices = tuple(map(plain, choices))
        for i, choice in enumerate(choices):
            if not isinstance(choice, Scalar) or (isinstance(choice, float) and not _finite(choice)):
                raise FixSpace(
                    "a choice must be a string, finite number, boolean or None",
                    field="Categorical",
                    value=choice,
                    fix="name the object by a string and look it up in your training code",
                )
            if choice in choices[:i]:
                raise FixSpace(
                    f"the choice {choice!r} is there twice (1, 1.0 and True count as one)",
                    field="Categorical",
                    value=list(choices),
                    fix="list every choice once",
                )
        if covers is not None and (len(choices) != 1 or not covers or isinstance(covers, str)):
            raise FixSpace("goes with one choice", field="covers", value=covers, fix="leave it out")
        object.__setattr__(self, "covers", None if covers is None else tuple(map(plain, covers)))
        object.__setattr__(self, "choices", choices)
        object.__setattr__(self, "default", self.coerce(default))
        object.__setattr__(self, "when", when)
        _check_default("Categorical", self)

    @property
    def count(self) -> int:
        return len(self.choices)

    def coerce(self, value: Any) -> Any:
        """The listed choice that equals the value, so that a numpy scalar or 2.0 for 2 comes back plain."""
        return next((choice for choice in self.choices if same(choice, value)), value)

    def word(self, value: Any) -> str:
        return _word(self.coerce(value))

    def problem(self, value: Any) -> str | None:
        if any(same(choice, value) for choice in self.choices):
            return None
        return f"{value!r} is not one of {list(self.choices)!r}"

    def standing(self, value: Any) -> Any:
        """The one choice, where it stands for `value` too; else `value`."""
        if self.covers is None:
            return value
        numbers = [v for v in (*self.covers, value) if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == 3:
            low, high, at = numbers
            return self.choices[0] if low <= at <= high else value
        return self.choices[0] if any(same(v, value) for v in self.covers) else value

    def value_at(self, k: int) -> Scalar:
        return self.choices[k]

    def to_unit(self, value: Scalar) -> float:
        return (self.choices.index(value) + 0.5) / len(self.choices)

    def from_unit(self, u: float) -> Scalar:
        u = min(max(float(u), 0.0), 1.0)
        return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]

    def values(self, points: int) -> list[Scalar]:
        return list(self.choices)


@dataclass(frozen=True, slots=True)
class Derived:
    """A value computed from others by an expression, `Derived("4 * lr_g")`; handed to trials, never searched."""

    expression: str


Parameter: TypeAlias = Float | Int | Categorical
Kind: TypeAlias = Literal["float", "int", "categorical"]
