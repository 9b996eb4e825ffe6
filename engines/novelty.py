"""How far apart configurations are, on the scale of the space: 0 the same, 1 as different as can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space


def distances(space: Space, config: Mapping[str, Any], units: np.ndarray) -> np.ndarray:
    """(n,) distances in [0, 1] from a configuration to (n, d) encoded ones (`Space.encode`).

    The root mean square over the parameters that are active in either: the difference in units of the range, 1 for
    different categories and for a parameter that only one of the two has (Gower 1971, with squares).
    """
    return distances_between(space, space.encode([config])[0], units)


def distances_between(space: Space, own: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(n,) the same from a row (d,) that is encoded already."""
    categorical = np.array([isinstance(p, Categorical) for p in space.parameters.values()])
    # The middles of the first and last of m bins are 1 - 1/m apart.
    counts = np.array([p.count for p in space.parameters.values()], dtype=float)
    span = np.where((counts > 1) & np.isfinite(counts), 1 - 1 / np.maximum(counts, 2), 1.0)
    difference = np.minimum(np.abs(units - own) / span, 1.0)
    difference = np.where(categorical & (difference > 0), 1.0, difference)
    here, there = ~np.isnan(own), ~np.isnan(units)
    squares = np.where(here & there, np.nan_to_num(difference) ** 2, np.where(here | there, 1.0, 0.0))
    return np.sqrt(squares.sum(axis=1) / np.maximum((here | there).sum(axis=1), 1))


def distance(space: Space, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Between two configurations; see `distances`."""
    return float(distances(space, a, space.encode([b]))[0])


def nearest(space: Space, config: Mapping[str, Any], units: np.ndarray) -> float:
    """To the closest of (n, d) encoded configurations; 1 where there is none."""
    return float(distances(space, config, units).min(initial=1.0))
