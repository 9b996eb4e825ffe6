"""Errors, named by what the caller should do next; every one carries its data.

They live in the lowest room so that each room above can raise and catch them.
"""

from __future__ import annotations

from typing import Any


class TunewrightError(Exception):
    """Base of every error this package raises on purpose.

    `field`, `value` and `fix` say what was wrong, what it held and what to write instead;
    further facts stand in `data`.
    """

    def __init__(
        self, message: str, *, field: str | None = None, value: Any = None, fix: str | None = None, **data: Any
    ):
        self.message, self.field, self.value, self.fix, self.data = message, field, value, fix, data
        text = f"{field}: {message}" if field else message
        if field is not None and value is not None:
            text += f" (got {_short(value)})"
        if fix:
            text += f". Fix: {fix}"
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders; the default reduction would lose the keyword arguments.
        return _rebuild, (type(self), self.message, self.field, self.value, self.fix, self.data)


def _rebuild(kind: type[TunewrightError], message: str, field: Any, value: Any, fix: Any, data: dict[str, Any]) -> Any:
    return kind(message, field=field, value=value, fix=fix, **data)


def _short(value: Any, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class FixSpace(TunewrightError, ValueError):
    """The search space contradicts itself."""


class FixExpression(FixSpace):
    """A constraint, condition or derived value is not in the expression language."""


class FixParams(TunewrightError, ValueError):
    """A configuration does not fit its space; `data["problems"]` lists every reason."""


class FixArgument(TunewrightError, ValueError):
    """An argument of a public call is wrong."""


class FixPlugin(TunewrightError):
    """A plugin could not be found or loaded, or broke its contract."""


class SpaceExhausted(TunewrightError):
    """Every configuration of a finite space has been handed out."""
