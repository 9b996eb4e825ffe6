"""How much of a metric is luck: the standard deviation between equal runs, from repeats or from a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tunewright.engines.space import Space
from tunewright.engines.types import Params

MIN_TRIALS = 15  # configurations; below, a model cannot tell noise from roughness
MAX_TRIALS = 80
MANY_REPEATS = 10  # from which on they need no model beside them
MODEL_WEIGHT = 2  # repeats that a model's estimate counts for
MANY = 1_000  # configurations, from which on near ones stand for equal ones
NEIGHBOURS = 10
LEAST = 1e-6  # of the losses' variance: values that no model can tell from none
EVIDENT = 2.0  # log density that noise must gain over none: one parameter's likelihood ratio, beyond its 5% point


def noise_floor(space: Space, configs: Sequence[Params], losses: np.ndarray, *, evident: bool = False) -> float | None:
    """One standard deviation of the losses (n,), all finite and of one fidelity, that no configuration explains; None
    where too little is known. With `evident` also where nothing was repeated and the losses are as well explained
    without noise (or are too many for that to be asked): then an estimate is what the model assumed beforehand, an
    upper end for who is cautious and no evidence.

    Repeated configurations are pooled; where they all gave the same there is no noise. Without any it is the noise of
    the Gaussian process that explains the losses best (Rasmussen and Williams 2006, section 5.4), fitted to at most
    MAX_TRIALS of them: the best, the latest, and others spread out. That also counts roughness the model cannot follow,
    so it is no evidence of noise; but a few repeats alone tell little of its size, and are pooled with it as though it
    stood on MODEL_WEIGHT repeats. With more than MANY configurations the neighbours among the latest MANY take the
    model's place.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for config, loss in zip(configs, losses, strict=True):
        groups[space.key(config)].append(float(loss))
    repeated = [np.array(group) for group in groups.values() if len(group) > 1]
    squares = sum(float(((g - g.mean()) ** 2).sum()) for g in repeated)
    repeats = sum(len(g) - 1 for g in repeated)
    enough = len(groups) >= MIN_TRIALS
    if repeats and (squares == 0 or repeats >= MANY_REPEATS or not enough):
        return float(np.sqrt(squares / repeats))
    if not enough:
        return None
    given = np.asarray(losses, dtype=float)
    if len(groups) > MANY:
        modelled = None if evident and not repeats else _between_neighbours(space, configs, given)
    else:
        modelled = _unexplained(space, configs, given, evident and not repeats)
    if modelled is None:
        return None
    return float(np.sqrt((squares + MODEL_WEIGHT * modelled**2) / (repeats + MODEL_WEIGHT)))


def _unexplained(space: Space, configs: Sequence[Params], losses: np.ndarray, evident: bool) -> float | None:
    from tunewright.engines.gp.encoding import Encoding
    from tunewright.engines.gp.model import standardize, subset
    from tunewright.engines.gp.regression import fit, log_density

    encoding = Encoding(space, with_fidelity=False)
    features = encoding.features(encoding.encode(configs))
    keep = subset(features, losses, MAX_TRIALS)
    scaled, _, unit = standardize(losses[keep])
    data = (features[keep], encoding.groups, scaled)
    # Lengthscales with nothing in common: where one parameter matters, a common one would take noise for roughness.
    noisy = fit(*data, shared=0.0)
    if evident:
        gained = log_density(*data, noisy) - log_density(*data, fit(*data, noise=LEAST, shared=0.0))
        if gained < EVIDENT:
            return None
    return float(np.sqrt(noisy.noise)) * unit


def _between_neighbours(space: Space, configs: Sequence[Params], losses: np.ndarray) -> float:
    """The Gamma test (Evans and Jones, Proceedings of the Royal Society A 458, 2002): half the mean squared difference
    of the losses over the mean squared distance, for the first to the last of NEIGHBOURS neighbours, is a line that
    meets distance zero at the variance of the noise. Needs nothing but numpy, whose import a reader does not notice."""
    from tunewright.engines.gp.encoding import Encoding

    encoding = Encoding(space, with_fidelity=False)
    features, losses = encoding.features(encoding.encode(configs[-MANY:])), losses[-MANY:]
    squares = (features**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0.0)  # (MANY, MANY)
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1)[:, :NEIGHBOURS]
    differences = ((losses[near] - losses[:, None]) ** 2).mean(axis=0) / 2
    distances = np.take_along_axis(apart, near, axis=1).mean(axis=0)
    at_zero = np.polyfit(distances, differences, 1)[1] if np.ptp(distances) else differences.mean()
    return float(np.sqrt(np.clip(at_zero, LEAST * losses.var(), losses.var())))
