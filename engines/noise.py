"""How much of a metric is luck: the standard deviation between equal runs, from repeats or from neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tunewright.engines.novelty import distances_between
from tunewright.engines.space import Space
from tunewright.engines.types import Params

NEIGHBOURS = 10
MIN_TRIALS = 30  # below, the intercept of the Gamma test is itself mostly noise
MAX_TRIALS = 200


def noise_floor(space: Space, configs: Sequence[Params], losses: np.ndarray) -> float | None:
    """One standard deviation of the losses (n,), all finite and of one fidelity, that no configuration explains; None
    where too little is known.

    Repeated configurations are pooled. Without any, the Gamma test (Stefánsson, Končar and Jones 1997): over the p-th
    nearest neighbours, p = 1..10, half the mean squared difference of the losses is regressed on the mean squared
    distance; its value at distance zero estimates the variance of the noise.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for config, loss in zip(configs, losses, strict=True):
        groups[space.key(config)].append(float(loss))
    repeated = [np.array(group) for group in groups.values() if len(group) > 1]
    if repeated:
        squares = sum(float(((g - g.mean()) ** 2).sum()) for g in repeated)
        return float(np.sqrt(squares / sum(len(g) - 1 for g in repeated)))
    if len(losses) < MIN_TRIALS:
        return None
    return _gamma_test(space, configs[-MAX_TRIALS:], np.asarray(losses, dtype=float)[-MAX_TRIALS:])


def _gamma_test(space: Space, configs: Sequence[Params], losses: np.ndarray) -> float:
    units = space.encode(configs)
    squared = np.array([distances_between(space, row, units) for row in units]) ** 2
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1)[:, :NEIGHBOURS]
    delta = np.take_along_axis(squared, order, axis=1).mean(axis=0)
    gamma = ((losses[order] - losses[:, None]) ** 2).mean(axis=0) / 2
    if np.ptp(delta) == 0:
        return 0.0
    _, intercept = np.polyfit(delta, gamma, 1)
    return float(np.sqrt(max(0.0, float(intercept))))
