"""Bayesian optimisation with a random forest (SMAC): for spaces of many conditions and categories, and rough losses.

Hutter, Hoos and Leyton-Brown, Sequential Model-Based Optimization for General Algorithm Configuration, LION 2011;
Lindauer et al., SMAC3, JMLR 2022. Mean and variance of the forest: Hutter, Xu, Hoos and Leyton-Brown, Algorithm
runtime prediction, Artificial Intelligence 2014. The trees are those of Geurts, Ernst and Wehenkel, Extremely
randomized trees, 2006: a random threshold leaves doubt where no trial lies, and none at a trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.gp import search
from tunewright.engines.gp.acquisition import log_expected_improvement
from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.gp.model import standardize, subset
from tunewright.engines.history import History, check_options
from tunewright.engines.priors import Knowledge, Prior
from tunewright.engines.space import Params as Config
from tunewright.engines.space import Space
from tunewright.engines.types import (
    BY_CHANCE,
    Capabilities,
    Fidelity,
    Objective,
    Observation,
    Params,
    Prediction,
    Proposal,
    losses,
    stream,
)

TREES = 40
MIN_VARIANCE = 1e-4  # of a leaf, in units of the values' variance: one trial is no proof of none (Hutter et al. 2014)
LOG_OFFSET = 0.2  # in standard deviations of the losses
MAX_TRIALS = 400
INACTIVE = -0.5
FAILED_QUANTILE = 0.9
INCUMBENTS = 5
CANDIDATES = 384
START_CANDIDATES = 24
FOREST_SALT = 1


class Trees:
    """Extremely randomized regression trees of values y (n,) at features (n, p), each grown on all of them."""

    def __init__(self, features: np.ndarray, y: np.ndarray, rng: np.random.Generator, trees: int = TREES):
        import sklearn
        from sklearn.tree import ExtraTreeRegressor

        x, target = features.astype(np.float32), np.ascontiguousarray(y[:, None], dtype=float)
        state = np.random.RandomState(int(rng.integers(2**32)))
        self._trees = []
        # Grown one by one: at this size the checks around a tree, and an ensemble's around those, cost more than it.
        with sklearn.config_context(skip_parameter_validation=True):
            for _ in range(trees):
                tree = ExtraTreeRegressor(random_state=state).fit(x, target, check_input=False).tree_
                self._trees.append((tree, tree.value[:, 0, 0], np.maximum(tree.impurity, MIN_VARIANCE)))

    def leaves(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (b, m) of the leaf that each of the b trees has for features (m, p)."""
        x = features.astype(np.float32)
        means, variances = np.empty((2, len(self._trees), len(x)))
        for b, (tree, value, variance) in enumerate(self._trees):
            leaf = tree.apply(x)
            means[b], variances[b] = value[leaf], variance[leaf]
        return means, variances

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (m,) of the forest at features (m, p)."""
        return mixture(*self.leaves(features))


def mixture(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (m,) of b equally likely leaves (b, m). By the law of total variance (Hutter et al. 2014)
    mean(s2_b + mu_b^2) - mean(mu_b)^2, which is the mean within the trees plus the variance between them."""
    return means.mean(0), variances.mean(0) + means.var(0)


class Scale:
    """Losses (n,) as `values` (n,) of mean 0 and variance 1: logarithms of the distance to a point just below the
    best. Among losses near the best a difference counts for more, among bad ones for less (the transformed cost
    metric of Hutter et al. 2011, and SMAC3's choice for hyperparameters)."""

    def __init__(self, losses: np.ndarray):
        z, self._centre, self._unit = standardize(losses)
        self._zero = float(z.min()) - LOG_OFFSET
        logs = np.log(z - self._zero)
        self._mean, std = float(logs.mean()), float(logs.std())
        self._std = std if std > 1e-9 else 1.0
        self.values = (logs - self._mean) / self._std

    def back(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The losses that have these values, and the derivative of the one by the other."""
        z = np.exp(values * self._std + self._mean)
        return (z + self._zero) * self._unit + self._centre, z * self._std * self._unit


@dataclass(frozen=True, slots=True)
class Model:
    """`trees` are of the values of `scale`; `best` is their lowest mean at a told configuration, at full fidelity;
    `incumbents` (b, d) are the rows with the lowest means."""

    trees: Trees
    scale: Scale
    best: float
    incumbents: np.ndarray


class Forest:
    """Options: startup (trials before the model is asked), random_share (of the later proposals are drawn at random,
    so that no region is given up for ever).

    A failed trial, and one that broke a constraint, is learned as a loss at the FAILED_QUANTILE of the others; a
    pending one as their mean. With a fidelity, its position on a log scale is one more input, and the model is asked
    about full fidelity. Past MAX_TRIALS trials the forest stands on some of them: the best, the latest, and those
    farthest from these.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        startup: int = 8,
        random_share: float = 0.05,
        **options: Any,
    ):
        check_options("forest", options)
        if not startup >= 1:
            raise FixArgument("the first trial has no model", field="startup", value=startup, fix="startup=8")
        if not 0 <= random_share <= 1:
            raise FixArgument("a share", field="random_share", value=random_share, fix="random_share=0.05")
        self._objective, self._seed, self._fidelity = objectives[0], seed, fidelity
        self._startup, self._random_share = startup, float(random_share)
        self._encoding = Encoding(space, with_fidelity=fidelity is not None)
        self._history = History(self._encoding.space)
        self._knowledge = Knowledge(self._encoding.space, objectives[0])
        self._rows = np.empty((0, self._encoding.width))
        self._built: tuple[int, Model | None] = (0, None)

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        self._rows = np.vstack([self._rows, self._encoding.encode([o.params for o in observations])])

    def believe(self, priors: Sequence[Prior]) -> None:
        self._knowledge.believe(priors)

    # ---------------------------------------------------------------- proposals

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        running: list[Params] = [p.params for p in pending]
        out = []
        for k in range(index, index + n):
            rng = stream(self._seed, k)
            by_chance = rng.random() < self._random_share
            model = self._model(running)
            if model is None or len(self._rows) + len(running) < self._startup:
                config, tags = self._spread(running, rng), {"phase": "startup"}
            elif by_chance:
                config, tags = self._drawn(running, rng), dict(BY_CHANCE)
            else:
                config, tags = self._propose(model, running, rng), {}
            running.append(config)
            out.append(Proposal(config, fidelity, tags=tags))
        return out

    def _spread(self, running: Sequence[Params], rng: np.random.Generator) -> Config:
        """The default or the middle when nothing is known, else the farthest of a few random ones (Mitchell 1991)."""
        encoding = self._encoding
        known = encoding.features(np.vstack([self._rows, encoding.encode(running)]))
        if not len(known):
            row = encoding.middle(rng)
            if encoding.feasible(row)[0]:
                return encoding.decode(row[0])
        rows = encoding.encode(self._knowledge.samples(rng, self._history.observations, START_CANDIDATES))
        gaps = ((encoding.features(rows)[:, None] - known) ** 2).sum(2).min(1, initial=np.inf)
        return self._new(rows, gaps, running) or self._drawn(running, rng)

    def _drawn(self, running: Sequence[Params], rng: np.random.Generator) -> Config:
        """Uniform, and new where the space has anything new."""
        draw = partial(self._knowledge.sample, rng, self._history.observations)
        return self._history.fresh(draw, rng, self._keys(running))

    def _propose(self, model: Model, running: Sequence[Params], rng: np.random.Generator) -> Config:
        """The new configuration of the highest acquisition; a repeat only where a finite space has no other left."""
        encoding, history = self._encoding, self._history

        def value(rows: np.ndarray) -> np.ndarray:
            return np.where(encoding.feasible(rows), self._acquisition(model, rows), -np.inf)

        def flat(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # Trees are constant between thresholds, so the search's gradient steps have nowhere to go.
            return np.zeros(len(rows)), np.zeros_like(rows)

        start = search.draw(encoding, model.incumbents, CANDIDATES, rng)
        pool, values = search.maximise(encoding, value, flat, start, rng)
        if (config := self._new(encoding.mask(pool), values, running)) is not None:
            return config
        if history.listable and (left := history.untried(self._keys(running))):
            return left[int(np.argmax(self._acquisition(model, encoding.encode(left))))]
        return self._drawn(running, rng)

    def _new(self, rows: np.ndarray, values: np.ndarray, running: Sequence[Params]) -> Config | None:
        """The configuration of the highest finite value that was neither told nor is running."""
        taken = self._history.keys | self._keys(running)
        for k in np.argsort(-values, kind="stable"):
            if values[k] > -np.inf and self._encoding.space.key(config := self._encoding.decode(rows[k])) not in taken:
                return config
        return None

    def _keys(self, running: Sequence[Params]) -> set[str]:
        return {self._encoding.space.key(config) for config in running}

    # ---------------------------------------------------------------- judgement

    def score(self, configs: Sequence[Params], fidelity: int | None = None) -> np.ndarray:
        """(n,) log expected improvement of each configuration at full fidelity; zeros while there is no model."""
        model = self._model()
        if model is None or not configs:
            return np.zeros(len(configs))
        return self._acquisition(model, self._encoding.encode(configs))

    def candidates(self, n: int, *, index: int) -> list[Config]:
        model, rng = self._model(), stream(self._seed, index)
        if model is None:
            return self._encoding.space.sample(rng, n)
        return search.configurations(self._encoding, model.incumbents, n, rng)

    def predict(self, configs: Sequence[Params]) -> Prediction:
        """Mean and standard deviation of the metric at full fidelity; NaN while there is no model."""
        model = self._model()
        if model is None or not configs:
            unknown = np.full((len(configs), 1), np.nan)
            return Prediction(unknown, unknown.copy())
        means, variances = model.trees.leaves(self._features(self._encoding.encode(configs)))
        loss, slope = model.scale.back(means)
        mean, variance = mixture(loss, slope**2 * variances)
        return Prediction(self._objective.loss(1.0) * mean[:, None], np.sqrt(variance)[:, None])

    def _acquisition(self, model: Model, rows: np.ndarray) -> np.ndarray:
        mean, variance = model.trees.predict(self._features(rows))
        value = log_expected_improvement(mean, np.sqrt(variance), model.best)[0]
        tilt = self._knowledge.tilt(self._history.observations)
        return value if tilt is None else value + tilt.log(rows)

    # ---------------------------------------------------------------- the model

    def _features(self, rows: np.ndarray, levels: np.ndarray | float = 1.0) -> np.ndarray:
        """(m, p) of rows (m, d): a number's position, one column per category, and INACTIVE, which lies outside both
        and can be split off, for what a condition switches off."""
        features, groups = self._encoding.features(rows, levels), self._encoding.groups
        inactive = np.isnan(rows)[:, groups[groups < self._encoding.width]]
        features[:, : inactive.shape[1]][inactive] = INACTIVE
        return features

    def _model(self, running: Sequence[Params] = ()) -> Model | None:
        """None until two trials have succeeded."""
        if running:
            return self._fit(running)
        told = len(self._history.observations)
        if self._built[0] != told:
            self._built = told, self._fit(())
        return self._built[1]

    def _fit(self, running: Sequence[Params]) -> Model | None:
        told = self._history.observations
        loss = losses(told, self._objective)
        kept = np.isfinite(loss) & np.array([all(c <= 0 for c in o.constraints) for o in told], dtype=bool)
        if kept.sum() < 2:
            return None
        scale = Scale(loss[kept])
        y = np.full(len(told), np.quantile(scale.values, FAILED_QUANTILE))
        y[kept] = scale.values
        features = self._features(self._rows, self._levels())
        keep = subset(features, y, MAX_TRIALS)
        features, y = features[keep], y[keep]
        if running:
            # Fantasies at the mean of the losses (constant liar; Ginsbourger, Le Riche and Carraro 2010), which is 0.
            features = np.vstack([features, self._features(self._encoding.encode(running))])
            y = np.concatenate([y, np.zeros(len(running))])
        trees = Trees(features, y, stream(self._seed, len(told), FOREST_SALT))
        means = trees.predict(self._features(self._rows[kept]))[0]
        order = np.argsort(means, kind="stable")
        return Model(trees, scale, float(means.min()), self._rows[kept][order[:INCUMBENTS]])

    def _levels(self) -> np.ndarray:
        """(n,) log-scale positions of the trials' fidelities, 1 for the full one."""
        told = self._history.observations
        if self._fidelity is None:
            return np.ones(len(told))
        return np.array([self._fidelity.position(o.fidelity) for o in told])
