"""How far apart configurations are, whatever their parameters' kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space


def distances(space: Space, config: Mapping[str, Any], units: np.ndarray) -> np.ndarray:
    """(n,) distances in [0, 1] of a configuration to the rows of (n, d) unit encodings.

    The root mean square over parameters of what Gower (1971, "A General Coefficient of Similarity") takes for each:
    numbers differ by the distance of their unit positions, categories by 0 or 1, and a parameter that is active on one side only
    by 1. Parameters inactive on both sides do not count.
    """
    here = space.encode([config])[0]
    inactive, inactive_here = np.isnan(units), np.isnan(here)
    apart = np.abs(units - here)
    categorical = np.array([isinstance(p, Categorical) for p in space.parameters.values()])
    apart[:, categorical] = apart[:, categorical] > 1e-9
    apart = np.where(inactive != inactive_here, 1.0, np.where(inactive & inactive_here, 0.0, apart))
    counted = np.maximum((~(inactive & inactive_here)).sum(axis=1), 1)
    return np.sqrt((apart**2).sum(axis=1) / counted)
