"""The explore step of population based training: new hyperparameters near those of a copied member.

Jaderberg et al., "Population Based Training of Neural Networks", 2017 (arXiv:1711.09846), section 4.1.1: each
hyperparameter is multiplied by 0.8 or 1.2, or drawn anew from its prior with some probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.engines.parameters import Categorical, Float, Int, Parameter
from tunewright.engines.space import Space
from tunewright.engines.types import Params

TRIES = 100


def explore(
    space: Space,
    params: Params,
    rng: np.random.Generator,
    *,
    factors: Sequence[float] = (0.8, 1.2),
    resample: float = 0.25,
) -> Params:
    """A valid free configuration near `params`, a free one.

    Every parameter is drawn anew with probability `resample`, else moved by a factor. What a factor cannot move (a
    choice, a real zero) stays as it is; a parameter that a new choice switches on is drawn. Constraints are met by
    trying again; when that fails `params` come back unchanged.
    """
    for _ in range(TRIES):
        units = rng.random(len(space.names))
        anew = rng.random(len(space.names)) < resample
        chosen = rng.integers(len(factors), size=len(space.names))
        for i, (name, parameter) in enumerate(space.parameters.items()):
            if name in params and not anew[i]:
                # section 4.1.1, perturb: h <- h * 0.8 or h * 1.2, each parameter by itself
                units[i] = parameter.to_unit(perturb(parameter, params[name], factors[chosen[i]]))
        config = space.decode(units[None])[0]
        if space.feasible(config):
            return config
    return params


def perturb(parameter: Parameter, value: Any, factor: float) -> Any:
    """The value times `factor`, within bounds; among whole steps at least one away, turning back at a border."""
    if isinstance(parameter, Categorical) or parameter.count == 1:
        return value
    if isinstance(parameter, Float) and parameter.step is None:
        return min(max(value * factor, parameter.low), parameter.high)
    return _perturb_steps(parameter, value, factor)


def _perturb_steps(parameter: Float | Int, value: Any, factor: float) -> Any:
    step = 1 if parameter.step is None else parameter.step
    last = int(parameter.count) - 1
    at = round((value - parameter.low) / step)
    to = round((value * factor - parameter.low) / step)
    if to == at:
        # A factor above 1 moves away from zero, and zero itself upwards.
        to = at + (1 if (factor > 1) == (value >= 0) else -1)
    to = min(max(to, 0), last)
    if to == at:
        to = at - 1 if at == last else at + 1
    return parameter.value_at(to)
