"""Mutation and crossover of configurations in the unit encoding, for evolutionary engines.

Numbers: simulated binary crossover (Deb & Agrawal, Complex Systems 9, 1995) and polynomial mutation (Deb & Goyal 1996,
in the form that keeps to the bounds: Deb & Deb 2014, section 2). Categories: another choice.
"""

from __future__ import annotations

import numpy as np

from tunewright.engines.parameters import Categorical, Float, Parameter


def mutated(parameter: Parameter, unit: float, rng: np.random.Generator, eta: float) -> float:
    """The unit of another value: any other choice, or a number near by, the nearer the larger `eta`.

    A discrete number moves by one step at least. `parameter` must have two values or more.
    """
    if isinstance(parameter, Categorical):
        k = parameter.choices.index(parameter.from_unit(unit))
        other = int(rng.integers(parameter.count - 1))
        return parameter.to_unit(parameter.choices[other + (other >= k)])
    moved = _polynomial(unit, rng.random(), eta)
    if isinstance(parameter, Float) and parameter.step is None:
        return moved
    value = parameter.from_unit(unit)
    if parameter.from_unit(moved) != value:
        return moved
    step = 1.0 if parameter.step is None else parameter.step
    k, last = round((value - parameter.low) / step), int(parameter.count) - 1
    up = k == 0 or (k < last and moved >= unit)
    return parameter.to_unit(parameter.value_at(k + 1 if up else k - 1))  # type: ignore[arg-type]


def _polynomial(x: float, u: float, eta: float) -> float:
    """x moved within [0, 1] by a polynomially distributed step that u in [0, 1) picks."""
    power = eta + 1
    if u < 0.5:
        return float(x + (2 * u + (1 - 2 * u) * (1 - x) ** power) ** (1 / power) - 1)
    return float(x + 1 - (2 * (1 - u) + (2 * u - 1) * x**power) ** (1 / power))


def sbx(a: float, b: float, rng: np.random.Generator, eta: float) -> float:
    """One of the two children of a and b, which lie about as near to their parents as these to each other."""
    u = rng.random()
    beta = (2 * u) ** (1 / (eta + 1)) if u <= 0.5 else (2 * (1 - u)) ** (-1 / (eta + 1))
    side = 1 if rng.random() < 0.5 else -1
    return float(min(max(0.5 * (a + b + side * beta * (a - b)), 0.0), 1.0))
