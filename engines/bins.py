"""Discrete values as bins of the unit interval, many at a time; see `parameters` for one value."""

from __future__ import annotations

import math

import numpy as np

from tunewright.engines.parameters import Int, Parameter


def snapped(parameter: Parameter, units: np.ndarray) -> np.ndarray:
    """(n,) units of a discrete parameter, NaN or in [0, 1], moved to those of the values that they decode to."""
    if isinstance(parameter, Int) and parameter.log:
        low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
        values = np.clip(np.round(np.exp(low + units * (high - low))), parameter.low, parameter.high)
        return np.asarray((np.log(values) - low) / (high - low))
    return np.asarray((np.minimum(np.floor(units * parameter.count), parameter.count - 1) + 0.5) / parameter.count)
