"""From wanted values to a configuration that is valid in the user's space.

A value outside the user's range is never clamped to its border. One at the end of its own usual range ("off", "all
features", "leaves of one row") becomes a value just inside; else the nearest usual value inside takes its place, else
the middle of what the usual range shares with the user's, else the middle of the user's. Where that changes the
leader of a coupling, the follower is rescaled, within its usual range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from tunewright.engines.parameters import Categorical, Float, Int, Parameter, Scalar
from tunewright.engines.space import Params, Space
from tunewright.plugins.rules.book import Coupling, Move, Wanted
from tunewright.plugins.rules.matching import Detection, Known, optimizer_kind, spell, word_of

MISSING: Final[Any] = object()  # None is a value
INSIDE = 0.02  # of the parameter's scale: as near to a border as a value comes that lies at the end of all usual ones
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Fitted:
    """A valid free configuration and what was changed on the way, in words."""

    params: Params
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ one value


def fit(known: Known, wanted: Wanted) -> Any:
    """The first alternative that the parameter can take, else a substitute for the first number, else MISSING."""
    for value in wanted:
        if (taken := exact(known, value)) is not MISSING:
            return taken
    number = next((v for v in wanted if _is_number(v)), None)
    return MISSING if number is None else _substitute(known, float(number))


def exact(known: Known, value: Scalar) -> Any:
    """The parameter's own value for this one (a listed number: the nearest), MISSING when it lies outside."""
    parameter = known.parameter
    if isinstance(parameter, Categorical):
        return _choice(parameter, known, value)
    if not _is_number(value):
        flags = {"false": 0, "true": 1}
        return flags[value] if value in flags and (parameter.low, parameter.high) == (0, 1) else MISSING
    place = _to_user(known, float(value))
    if math.isnan(place) or not parameter.low <= place <= parameter.high:
        return MISSING
    return snap(parameter, place)


def read(known: Known, value: Scalar) -> float | None:
    """The user's value in the knowledge's own terms; None for a word."""
    if not _is_number(value):
        return None
    number = float(value)
    if known.base is not None:
        return known.base**number
    return number / _total(known)


def snap(parameter: Float | Int, value: float) -> float | int:
    """The nearest value of the parameter's grid; a float without one is rounded to a few digits."""
    if isinstance(parameter, Int) or parameter.step is not None:
        k = round((value - parameter.low) / (parameter.step or 1))
        return parameter.value_at(min(max(k, 0), int(parameter.count) - 1))
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if parameter.low <= rounded <= parameter.high else value


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _total(known: Known) -> float:
    """The user's value for a 1 of the knowledge: all features where the space searches their whole number, one of all
    rows where it searches their fraction, else 1."""
    parameter = known.parameter
    if known.rows is not None:
        return 1 / known.rows
    return parameter.high if known.entry.fraction and isinstance(parameter, Int) and parameter.high > 1 else 1


def _to_user(known: Known, value: float) -> float:
    if known.base is not None:
        return math.log(value, known.base) if value > 0 else math.nan
    return value * _total(known)


def _choice(parameter: Categorical, known: Known, value: Scalar) -> Any:
    if not _is_number(value):
        return next((c for c in parameter.choices if not _is_number(c) and word_of(c) == spell(str(value))), MISSING)
    numbers = [c for c in parameter.choices if _is_number(c)]
    if not numbers or not min(numbers) <= value <= max(numbers):
        return MISSING
    return min(numbers, key=lambda c: _gap(float(c), float(value), known.entry.log))


def _substitute(known: Known, number: float) -> Any:
    entry, parameter = known.entry, known.parameter
    if entry.low is not None and entry.high is not None and not isinstance(parameter, Categorical):
        place = _to_user(known, number)
        if number <= entry.low and not place >= parameter.low:  # a logarithm of zero is no number
            return snap(parameter, parameter.from_unit(INSIDE))
        if number >= entry.high and place > parameter.high:
            return snap(parameter, parameter.from_unit(1 - INSIDE))
    defaults = [float(v) for wanted in entry.defaults.values() for v in wanted if _is_number(v)]
    usual = sorted({*entry.usual, *defaults}, key=lambda v: (_gap(v, number, entry.log), v))
    for value in usual:
        taken = exact(known, value)
        if taken is not MISSING and (isinstance(parameter, Categorical) or parameter.low < taken < parameter.high):
            return taken
    if isinstance(parameter, Categorical):
        return MISSING
    if known.base is None and _total(known) == 1 and entry.low is not None and entry.high is not None:
        low, high = max(entry.low, parameter.low), min(entry.high, parameter.high)
        if low < high:
            return snap(parameter, math.sqrt(low * high) if entry.log and low > 0 else (low + high) / 2)
    return middle(parameter)


def middle(parameter: Parameter) -> Any:
    return parameter.choices[0] if isinstance(parameter, Categorical) else parameter.from_unit(0.5)


def _gap(a: float, b: float, log: bool) -> float:
    if not log:
        return abs(a - b)
    tiny = 1e-12  # zero switches a parameter off: it lies below every small value
    return abs(math.log(max(a, tiny)) - math.log(max(b, tiny)))


# ------------------------------------------------------------------------------------------------ a setting


def settle(space: Space, found: Detection, values: Mapping[str, Wanted], base: Mapping[str, Any]) -> Fitted | None:
    """The base with wanted values (by entry) laid over it. None when no form of it is valid in the space.

    base holds a value for every parameter, active or not. A setting that breaks a constraint is tried once more with
    the constrained parameters at their base values.
    """
    constrained = {name for constraint in space.constraints for name in constraint.names}
    for held in (set(), constrained):
        fitted = _settle(space, found, values, base, held)
        if not space.problems(fitted.params):
            return fitted
    return None


def _settle(
    space: Space, found: Detection, values: Mapping[str, Wanted], base: Mapping[str, Any], held: set[str]
) -> Fitted:
    want, notes = dict(values), []

    def build() -> Params:
        def pick(name: str, parameter: Parameter) -> Scalar:
            known = found.known.get(name)
            if known is not None and name not in held and known.entry.key in want:
                taken = fit(known, want[known.entry.key])
                return base[name] if taken is MISSING else taken
            return base[name]

        return space.build(pick)

    config = build()
    for coupling in couplings(found, config):
        leader, follower = _active(found, coupling.leader, config), _active(found, coupling.follower, config)
        goal, now = _number_in(want.get(coupling.leader)), _number_in(want.get(coupling.follower))
        if leader is None or follower is None or goal is None or now is None:
            continue
        by = factor(coupling, goal, read(leader, config[leader.name]))
        if abs(math.log(by)) > 0.05:
            entry, rescaled = follower.entry, now * by
            if entry.low is not None and entry.high is not None:
                rescaled = min(max(rescaled, min(now, entry.low)), max(now, entry.high))
            want[coupling.follower] = (rescaled,)
            cause = f"{leader.name} {config[leader.name]:.4g}"
            notes.append(f"here {follower.name} follows {cause}: {coupling.reason} ({coupling.source})")
            config = build()
    return Fitted(config, tuple(notes))


def couplings(found: Detection, config: Mapping[str, Any]) -> list[Coupling]:
    """The family's couplings that hold with this configuration's optimizer."""
    chosen = next((optimizer_kind(config[k.name]) for k in found.of("optimizer") if k.name in config), found.optimizer)
    return [c for c in found.family.couplings if c.optimizer is None or c.optimizer == chosen]


def _number_in(wanted: Wanted | None) -> float | None:
    return next((float(v) for v in wanted or () if _is_number(v)), None)


def _active(found: Detection, key: str, config: Mapping[str, Any]) -> Known | None:
    return next((k for k in found.of(key) if _is_number(config.get(k.name))), None)


def factor(coupling: Coupling, before: float | None, after: float | None) -> float:
    """What the follower is multiplied by when its leader goes from `before` to `after`."""
    if before is None or after is None:
        return 1.0
    if coupling.complement:
        before, after = 1 - before, 1 - after
    if before <= 0 or after <= 0:
        return 1.0
    return min(max((after / before) ** coupling.power, 1 / coupling.most), coupling.most)


# ------------------------------------------------------------------------------------------------ a step


def step(
    space: Space, found: Detection, move: Move, base: Params, fill: Mapping[str, Any], size: float
) -> Params | None:
    """The configuration one move away from `base`, or None where the move's first parameter cannot go further or the
    result is not valid. `size` shortens factors and summands; the move's other parameters go half as far where they
    cannot go all of it. `fill` has values for parameters that become active."""
    new: Params = {}
    present = [key for key in move.keys if move.scale.get(key) != 1.0 and any(k.name in base for k in found.of(key))]
    for key in present:
        sizes = (size,) if key == present[0] else (size, size / 2)
        for known in found.of(key):
            if known.name in base and (value := _moved(known, move, base[known.name], sizes)) is not MISSING:
                new[known.name] = value
    if not present or not any(known.name in new for known in found.of(present[0])):
        return None
    for coupling in couplings(found, base | new):
        leader = next((k for k in found.of(coupling.leader) if k.name in new), None)
        if leader is None or coupling.follower in move.keys:
            continue
        by = factor(coupling, read(leader, base[leader.name]), read(leader, new[leader.name]))
        for follower in found.of(coupling.follower):
            before = read(follower, base.get(follower.name))
            if before is not None and (value := exact(follower, before * by)) is not MISSING:
                new[follower.name] = value
    config = space.build(lambda name, _: new.get(name, base.get(name, fill[name])))
    return None if space.problems(config) or space.key(config) == space.key(base) else config


def _moved(known: Known, move: Move, value: Scalar, sizes: Sequence[float]) -> Any:
    key = known.entry.key
    if key in move.set:
        taken = next((v for w in move.set[key] if (v := exact(known, w)) is not MISSING), MISSING)
        return MISSING if taken is MISSING or taken == value else taken
    now = read(known, value)
    if now is None:
        return MISSING
    up = move.scale[key] > 1 if key in move.scale else move.shift[key] > 0
    for size in sizes:
        goal = _goal(known, move, now, size)
        if goal is not None and (taken := _toward(known, value, goal, up)) is not MISSING:
            return taken
    return MISSING


def _goal(known: Known, move: Move, now: float, size: float) -> float | None:
    key = known.entry.key
    if key in move.shift:
        return now + move.shift[key] * size
    if now > 0:
        return now * move.scale[key] ** size
    return min((v for v in known.entry.usual if v > 0), default=None) if move.scale[key] > 1 else None


def _toward(known: Known, value: Any, goal: float, up: bool) -> Any:
    """The parameter's value nearest to the goal that lies strictly on the wanted side of the present one."""
    parameter = known.parameter
    if isinstance(parameter, Categorical):
        beyond = [c for c in parameter.choices if _is_number(c) and (c > value if up else c < value)]
        return min(beyond, key=lambda c: _gap(float(c), goal, known.entry.log), default=MISSING)
    taken = exact(known, goal)
    if taken is MISSING:
        return MISSING
    if taken == value and isinstance(parameter, Int):
        taken = value + parameter.step * (1 if up else -1)
    inside = parameter.low <= taken <= parameter.high
    return taken if inside and (taken > value if up else taken < value) else MISSING


def same_place(
    space: Space, a: Mapping[str, Any], b: Mapping[str, Any], within: float, but: Sequence[str] = ()
) -> bool:
    """Whether two configurations agree up to `within` of each number's scale, leaving out the names in `but`."""
    if set(a) - set(but) != set(b) - set(but):
        return False
    for name, value in a.items():
        parameter = space.parameters[name]
        if name in but:
            continue
        if isinstance(parameter, Categorical):
            if value != b[name]:
                return False
        elif abs(parameter.to_unit(value) - parameter.to_unit(b[name])) > within:
            return False
    return True


def apart(space: Space, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """The mean distance of two configurations over their parameters, in [0, 1]; what one of them lacks counts 1."""
    total = 0.0
    names = a.keys() | b.keys()
    for name in names:
        parameter = space.parameters[name]
        if name not in a or name not in b or isinstance(parameter, Categorical):
            total += a.get(name, MISSING) != b.get(name, MISSING)
        else:
            total += abs(parameter.to_unit(a[name]) - parameter.to_unit(b[name]))
    return total / len(names)
