"""What a user hands over as a result, turned into plain numbers or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.engines.errors import FixArgument
from tunewright.engines.types import Objective


def number_of(value: Any, field: str, *, finite: bool = False) -> float:
    """A float from anything that is one number (numpy scalar, one-element tensor). Raises FixArgument."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        number = float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise FixArgument("is not a number", field=field, value=value, fix="a float, for example loss.item()") from None
    if finite and not math.isfinite(number):
        raise FixArgument("must be finite", field=field, value=value)
    return number


def values_of(objectives: Sequence[Objective], value: float | Mapping[str, float]) -> tuple[float, ...]:
    """The objectives' values in their order, from one number or a mapping by name. Raises FixArgument."""
    names = [o.name for o in objectives]
    if isinstance(value, Mapping):
        missing = [n for n in names if n not in value]
        unknown = [str(n) for n in value if n not in names]
        if missing or unknown:
            wrong = ([f"lacks {', '.join(missing)}"] if missing else []) + (
                [f"unknown metric {', '.join(unknown)}"] if unknown else []
            )
            raise FixArgument(
                "; ".join(wrong), field="value", value=dict(value), fix=f"give exactly {', '.join(names)}"
            )
        return tuple(number_of(value[n], n) for n in names)
    if len(names) > 1:
        raise FixArgument(
            "the study has several objectives", field="value", value=value, fix=f"a mapping with {', '.join(names)}"
        )
    return (number_of(value, names[0]),)
