"""A parameter kept at one value, and which earlier trials, made at other values of it, still teach the engine."""

from __future__ import annotations

from typing import Any

from tunewright.agent.view import StudyView
from tunewright.engines.parameters import Categorical, Float, Int, Parameter
from tunewright.engines.types import State

NEAR = 0.05  # of the parameter's own scale to either side: so small a step changes little
DEAD_SHARE = 0.03  # of the importance, which luck alone can reach
DEAD_TRIALS = 40  # before nothing can be called dead


def frozen(view: StudyView, name: str, value: Any) -> Categorical:
    """The parameter `name` at `value` alone.

    A trial at another value is a true observation of the wider space, and the narrower one has no place for it. Where
    the parameter was found not to matter it counts as one at `value`; where nobody knows, only when it lies near.
    """
    old = view.space.parameters[name]
    covers = _range(old) if _is_dead(view, name) else _near(old, old.coerce(value))
    # What others are switched on by, or computed from, must not be taken for something else.
    read = any(name in reads.names for reads in (*view.space.derived.values(), *view.space.constraints))
    read = read or any(name in condition.names for condition in view.space.conditions.values())
    return Categorical([old.coerce(value)], when=old.when, covers=None if read else covers)


def _is_dead(view: StudyView, name: str) -> bool:
    if len(view.objectives) > 1 or view.store.count(view.record.id)[State.COMPLETE] < DEAD_TRIALS:
        return False
    shares = view.importance()
    return any(shares.values()) and shares.get(name, 1.0) < DEAD_SHARE


def _range(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.choices if isinstance(parameter, Categorical) else (parameter.low, parameter.high)


def _near(parameter: Float | Int | Categorical, value: Any) -> tuple[Any, ...] | None:
    if isinstance(parameter, Categorical):
        return None
    unit = parameter.to_unit(value)
    return parameter.from_unit(max(unit - NEAR, 0.0)), parameter.from_unit(min(unit + NEAR, 1.0))
