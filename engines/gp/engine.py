"""Bayesian optimisation with a Gaussian process: the next trial is where the model expects the most.

Starts from the default configuration (or the middle of the space) and a few points far from what is known; the model
takes over as soon as there are `startup` trials. A learned probability of success keeps it away from failures.
Jones, Schonlau and Welch, Efficient Global Optimization, 1998; Snoek, Larochelle and Adams 2012.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument, SpaceExhausted
from tunewright.engines.gp import search
from tunewright.engines.gp.acquisition import ACQUISITIONS, choose
from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.gp.kernel import KERNELS
from tunewright.engines.gp.regression import Hyperparameters, Posterior, fit
from tunewright.engines.space import Space
from tunewright.engines.types import (
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

MAX_FIT = 150
MAX_TRIALS = 400
ENUMERATED = 1500
SAME = 1e-4
SPREAD_OF = 24


@dataclass(frozen=True, slots=True)
class _Model:
    objective: Posterior
    success: Posterior | None
    centre: float
    unit: float
    best: float
    bases: np.ndarray


class GP:
    capabilities: ClassVar[Capabilities] = Capabilities(conditional=True, multi_objective=False)

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        acquisition: str = "ei",
        kernel: str = "matern52",
        kappa: float = 2.0,
        startup: int = 4,
    ):
        for name, value, known in (("acquisition", acquisition, ACQUISITIONS), ("kernel", kernel, KERNELS)):
            if value not in known:
                raise FixArgument(f"unknown {name}", field=name, value=value, fix=f"one of {', '.join(known)}")
        if not startup >= 2:
            raise FixArgument("a model needs at least two trials", field="startup", value=startup, fix="startup=4")
        self._objective, self._seed, self._fidelity = objectives[0], seed, fidelity
        self._acquisition, self._kernel, self._kappa, self._startup = acquisition, kernel, kappa, startup
        self._encoding = Encoding(space, with_fidelity=fidelity is not None)
        self._told: list[Observation] = []
        self._rows = np.empty((0, self._encoding.width))
        self._hyper: dict[tuple[str, int], Hyperparameters] = {}
        self._cache: tuple[int, _Model] | None = None

    def tell(self, observations: Sequence[Observation]) -> None:
        self._told += observations
        free = [self._encoding.space.free(o.params) for o in observations]
        self._rows = np.vstack([self._rows, self._encoding.encode(free)])

    # ---------------------------------------------------------------- ask

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        waiting = self._encoding.encode([self._encoding.space.free(p.params) for p in pending])
        out = []
        for k in range(index, index + n):
            row, tags = self._next(waiting, k)
            waiting = np.vstack([waiting, row])
            out.append(Proposal(self._encoding.decode(row), fidelity=fidelity, tags=tags))
        return out

    def _next(self, waiting: np.ndarray, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        rng = stream(self._seed, index)
        seen = np.vstack([self._rows, waiting])
        if self._encoding.counts.prod() < math.inf and self._exhausted(seen):
            raise SpaceExhausted("every configuration has been tried", field="space", value=len(seen))
        model = self._model()
        if model is None or len(self._rows) + len(waiting) < self._startup:
            return self._start(seen, rng), {"phase": "startup"}
        objective = model.objective.believe(self._encoding.features(waiting))
        score, slope = self._surface(model, objective, rng)
        small = self._enumerated()
        if small is not None:
            pool, values = small, score(self._encoding.mask(small))
        else:
            start = search.draw(self._encoding, model.bases, search.SAMPLES, rng)
            pool, values = search.maximise(self._encoding, score, slope, start, rng)
        return self._first_new(pool, values, seen, rng), {}

    def _surface(self, model: _Model, objective: Posterior, rng: np.random.Generator) -> tuple[search.Score, search.Slope]:
        from tunewright.engines.gp import acquisition as _a; _a.NOISE[0]=model.objective.parameters.noise
        encoding, acquire = self._encoding, choose(self._acquisition, model.best, self._kappa)

        def score(rows: np.ndarray) -> np.ndarray:
            features = encoding.features(rows)
            value = acquire(*objective.predict(features))[0] + self._log_success(model, features)
            return np.where(encoding.feasible(rows), value, -np.inf)

        def slope(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            features = encoding.features(rows)
            mean, std, d_mean, d_std = objective.predict_gradient(features)
            value, by_mean, by_std = acquire(mean, std)
            by_feature = by_mean[:, None] * d_mean + by_std[:, None] * d_std
            gradient = np.zeros_like(rows)
            gradient[:, encoding.numeric] = by_feature[:, encoding.numeric_features]
            return value, np.where(np.isnan(rows), 0.0, gradient)

        return score, slope

    def _log_success(self, model: _Model, features: np.ndarray) -> np.ndarray:
        """log P(success): the probit of a least-squares classifier (Rasmussen and Williams 2006, section 6.5)."""
        if model.success is None:
            return np.zeros(len(features))
        from scipy.special import log_ndtr

        mean, std = model.success.predict(features)
        return log_ndtr(mean / np.sqrt(std**2 + model.success.parameters.noise))

    def _first_new(self, pool: np.ndarray, values: np.ndarray, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        order = np.argsort(-values, kind="stable")
        rows = self._encoding.mask(pool[order])
        for row, value in zip(rows, values[order], strict=True):
            if value > -np.inf and not self._is_seen(row, seen):
                return row
        return self._start(seen, rng)

    def _is_seen(self, row: np.ndarray, seen: np.ndarray) -> bool:
        gap = np.abs(np.nan_to_num(seen, nan=-1.0) - np.nan_to_num(row, nan=-1.0))
        return bool((gap < SAME).all(1).any())

    def _start(self, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The default or middle first, then the farthest of a few random points from all that is known."""
        encoding = self._encoding
        if not len(seen):
            default = encoding.space.default()
            if default is not None:
                return encoding.encode([default])[0]
            middle = np.where(encoding.categorical, rng.random(encoding.width), 0.5)
            row = encoding.mask(encoding.snap(middle[None]))
            if encoding.feasible(row)[0]:
                return row[0]
        rows = encoding.encode(encoding.space.sample(rng, SPREAD_OF))
        if not len(seen):
            return rows[0]
        away = np.sqrt(((encoding.features(rows)[:, None] - encoding.features(seen)[None]) ** 2).sum(2)).min(1)
        new = np.array([not self._is_seen(row, seen) for row in rows])
        if not new.any():
            for config in encoding.space.enumerate(10):
                row = encoding.encode([config])[0]
                if not self._is_seen(row, seen):
                    return row
        return rows[int(np.argmax(np.where(new, away, -1.0)))]

    def _enumerated(self) -> np.ndarray | None:
        return None

    def _exhausted(self, seen: np.ndarray) -> bool:
        return len(np.unique(np.nan_to_num(np.round(seen, 6), nan=-1.0), axis=0)) >= self._encoding.space.size()

    # ---------------------------------------------------------------- the model

    def _model(self) -> _Model | None:
        n = len(self._told)
        if self._cache is None or self._cache[0] != n:
            model = self._build()
            if model is None:
                return None
            self._cache = n, model
        return self._cache[1]

    def _build(self) -> _Model | None:
        y = losses(self._told, self._objective)
        ok = np.isfinite(y)
        if ok.sum() < 2:
            return None
        rows, y = self._rows[ok], y[ok]
        encoding = self._encoding
        levels = self._levels()[ok]
        y = winsorise(y)
        centre, unit = float(y.mean()), float(y.std())
        unit = unit if unit > 0 else 1.0
        z = (y - centre) / unit
        keep = np.arange(len(z))
        features = encoding.features(rows, levels)
        hyper = fit(features, encoding.groups, z, self._kernel)
        objective = Posterior(features, encoding.groups, z, hyper, self._kernel)
        mean = objective.predict(encoding.features(rows))[0]
        order = np.argsort(mean, kind="stable")[:5]
        success = None
        if not ok.all():
            labels = np.where(ok, 1.0, -1.0)
            allf = encoding.features(self._rows, self._levels())
            success = Posterior(allf, encoding.groups, labels, fit(allf, encoding.groups, labels, self._kernel), self._kernel)
        return _Model(objective, success, centre, unit, float(mean.min()), rows[order])

    def _levels(self) -> np.ndarray:
        if self._fidelity is None:
            return np.ones(len(self._told))
        low, high = self._fidelity.low, self._fidelity.high
        span = math.log(high / low) or 1.0
        return np.array([1.0 if o.fidelity is None else math.log(o.fidelity / low) / span for o in self._told])

WINSOR = 3.0

def winsorise(y: np.ndarray) -> np.ndarray:
    """y with its bad tail drawn in: past median + 3 (median - best) values keep their order and little else."""
    middle, best = float(np.median(y)), float(y.min())
    reach = WINSOR * (middle - best)
    if reach <= 0:
        return y
    over = np.maximum(y - (middle + reach), 0.0) / reach
    return np.where(over > 0, middle + reach * (1.0 + 0.1 * np.log1p(over)), y)
