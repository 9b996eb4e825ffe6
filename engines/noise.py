"""How much of a metric is luck: the standard deviation between equal runs, from repeats or from a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tunewright.engines.space import Space
from tunewright.engines.types import Params

MIN_TRIALS = 15  # below, a model cannot tell noise from roughness
MAX_TRIALS = 80


def noise_floor(space: Space, configs: Sequence[Params], losses: np.ndarray) -> float | None:
    """One standard deviation of the losses (n,), all finite and of one fidelity, that no configuration explains; None
    where too little is known.

    Repeated configurations are pooled. Without any it is the noise of the Gaussian process that explains the losses
    best (Rasmussen and Williams 2006, section 5.4), fitted to at most MAX_TRIALS of them: the best, the latest, and
    others spread out.
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
    return _unexplained(space, configs, np.asarray(losses, dtype=float))


def _unexplained(space: Space, configs: Sequence[Params], losses: np.ndarray) -> float:
    from tunewright.engines.gp.encoding import Encoding
    from tunewright.engines.gp.model import standardize, subset
    from tunewright.engines.gp.regression import fit

    encoding = Encoding(space, with_fidelity=False)
    features = encoding.features(encoding.encode(configs))
    keep = subset(features, losses, MAX_TRIALS)
    scaled, _, unit = standardize(losses[keep])
    return float(np.sqrt(fit(features[keep], encoding.groups, scaled).noise)) * unit
