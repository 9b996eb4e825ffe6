"""How much each parameter matters, from the trials of a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space
from tunewright.engines.types import Objective, Observation, losses

MIN_TRIALS = 8
MOST = 2000  # results that the forest is fitted to: twenty passes over a hundred thousand take minutes
REPEATS = 20


def importance(space: Space, observations: Sequence[Observation], objective: Objective, seed: int) -> dict[str, float]:
    """Permutation importance (Breiman 2001, "Random Forests", section 10) of a forest fitted to the losses.

    Shares of the summed increase in squared error, largest first, summing to 1; all zero when nothing is explained.
    Inactive parameters are encoded below their range. Of more than MOST results a random choice of as many is looked
    at. Raises FixArgument with fewer than MIN_TRIALS results.
    """
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.inspection import permutation_importance

    done = [o for o in observations if o.values is not None]
    if len(done) < MIN_TRIALS:
        raise FixArgument(
            f"needs at least {MIN_TRIALS} trials with a result",
            field="importance",
            value=len(done),
            fix="run more trials",
        )
    if len(done) > MOST:
        done = [done[i] for i in np.random.default_rng(seed).choice(len(done), MOST, replace=False)]
    units = np.nan_to_num(space.encode([o.params for o in done]), nan=-0.5)
    y = losses(done, objective)
    # An exploding loss would otherwise be the only thing the forest explains.
    y = np.minimum(y, np.median(y) + 10 * (np.median(y) - y.min()))
    forest = ExtraTreesRegressor(n_estimators=100, min_samples_leaf=2, random_state=seed).fit(units, y)
    raw = permutation_importance(forest, units, y, n_repeats=REPEATS, random_state=seed).importances_mean
    shares = np.maximum(raw, 0.0)
    total = float(shares.sum())
    named = {name: float(s / total) if total > 0 else 0.0 for name, s in zip(space.names, shares, strict=True)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))
