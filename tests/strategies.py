"""Random search spaces for property tests: all kinds of parameter, conditions at depth, derived values, constraints."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tunewright.engines import Categorical, Derived, Float, Int, Space

NAMES = ("alpha", "beta", "gamma", "delta", "eps", "zeta")
CHOICES = ("a", "b", "1", 1, 0.5, True, None, -3)


@st.composite
def floats(draw: st.DrawFn, when: Any = None, finite: bool = False) -> Float:
    if finite or draw(st.booleans()):
        low, step = draw(st.sampled_from([-1.0, 0.0, 0.1, 2e-7])), draw(st.sampled_from([1e-7, 0.1, 1.0]))
        return Float(low, low + step * draw(st.floats(0, 6.5)), step=step, when=when)
    if draw(st.booleans()):
        low = draw(st.floats(1e-12, 10))
        return Float(low, low * draw(st.floats(1, 1e9)), log=True, when=when)
    low = draw(st.floats(-1e6, 1e6))
    return Float(low, low + draw(st.floats(0, 1e6)), when=when)


@st.composite
def ints(draw: st.DrawFn, when: Any = None, most: int = 2000) -> Int:
    width = draw(st.integers(0, most - 1))
    if draw(st.booleans()):
        low = draw(st.integers(1, 20))
        return Int(low, low + width, log=True, when=when)
    low = draw(st.integers(-50, 50))
    return Int(low, low + width, step=draw(st.integers(1, 5)), when=when)


@st.composite
def categoricals(draw: st.DrawFn, when: Any = None) -> Categorical:
    return Categorical(draw(st.lists(st.sampled_from(CHOICES), min_size=1, max_size=4, unique_by=_identity)), when=when)


def _identity(choice: Any) -> Any:
    return choice if isinstance(choice, str) else (choice is None, choice)


@st.composite
def conditions(draw: st.DrawFn, parents: dict[str, Any]) -> Any:
    """None, a mapping to a value that the parent has, or an expression over it."""
    if not parents or draw(st.booleans()):
        return None
    name = draw(st.sampled_from(sorted(parents)))
    parent = parents[name]
    if isinstance(parent, Categorical):
        some = draw(st.lists(st.sampled_from(parent.choices), min_size=1, max_size=2))
        return {name: some[0] if len(some) == 1 else some}
    return f"{name} >= {parent.from_unit(draw(st.floats(0, 1)))!r}"


@st.composite
def spaces(draw: st.DrawFn, finite: bool = False, most: int = len(NAMES), constrained: bool = True) -> Space:
    """A space that has at least one valid configuration. With `finite`, of a few hundred configurations at most."""
    parameters: dict[str, Any] = {}
    for name in NAMES[: draw(st.integers(1, most))]:
        when = draw(conditions(parameters))
        kinds = [floats(when, finite), ints(when, 4 if finite else 2000), categoricals(when)]
        parameters[name] = draw(st.one_of(kinds))
    numbers = [name for name, p in parameters.items() if not isinstance(p, Categorical)]
    constraints = []
    if constrained and numbers:
        first = numbers[0]
        middle = parameters[first].from_unit(0.6)
        if draw(st.booleans()):
            constraints.append(f"{first} <= {middle!r}")
        if draw(st.booleans()):
            parameters["twice"] = Derived(f"2 * {first}")
            constraints.append(f"twice <= {4 * abs(middle) + 1!r}")
    # Declared in any order: a child may stand before its parent.
    return Space(dict(draw(st.permutations(sorted(parameters.items())))), constraints)
