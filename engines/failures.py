"""How likely a configuration is to fail, learned from the failures near it."""

from __future__ import annotations

import numpy as np

BANDWIDTH = 0.1
MIN_FAILURES = 2


def failure_risk(distances: np.ndarray, failed: np.ndarray) -> float:
    """Probability in [0, 1] that a configuration fails, from (n,) distances to tried ones and whether each failed.

    A Nadaraya-Watson estimate (Nadaraya 1964) with a Gaussian kernel of BANDWIDTH in normalised distance and one
    pseudo-observation of success, so that far from all data nothing is forbidden. Fewer than MIN_FAILURES failures
    are no region.
    """
    if int(failed.sum()) < MIN_FAILURES:
        return 0.0
    weights = np.exp(-0.5 * (distances / BANDWIDTH) ** 2)
    return float(weights[failed].sum() / (weights.sum() + 1.0))
