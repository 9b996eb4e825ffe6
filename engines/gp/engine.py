"""Bayesian optimisation with a Gaussian process: the next trial is where the model expects to improve the most.

The default configuration (or the middle of the space) comes first, then a few points far from what is known; the model
takes over as soon as there are `startup` trials. Jones, Schonlau and Welch, Efficient Global Optimization, 1998;
Snoek, Larochelle and Adams, Practical Bayesian Optimization of Machine Learning Algorithms, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.gp import search
from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.gp.kernel import KERNELS
from tunewright.engines.gp.model import Data, Learner, Model, Surface
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

ACQUISITIONS = ("ei", "pi", "ucb", "thompson")
CANDIDATES = 384
START_CANDIDATES = 24
RANDOM_SALT = 3
SAME = 1e-4
MAX_LISTED = 10_000


class GP:
    """Options: acquisition "ei" | "pi" | "ucb" | "thompson", kernel "matern52" | "matern32" | "rbf", kappa (ucb only),
    startup (trials before the model is asked), random_fraction (share drawn at random once trials ended, or rest, short
    of full fidelity: what is known there is extrapolated, and a model that errs must not hide a part of the space).

    A number above zero among an observation's `constraints` counts as a failure whose loss is known. With a fidelity,
    its position on a log scale is one more input, and the model is asked about full fidelity. A configuration that was
    told or is pending is proposed again only when a finite space has no other left.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

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
        random_fraction: float = 0.15,
    ):
        for name, value, known in (("acquisition", acquisition, ACQUISITIONS), ("kernel", kernel, KERNELS)):
            if value not in known:
                raise FixArgument(f"unknown {name}", field=name, value=value, fix=f"one of {', '.join(known)}")
        if not startup >= 1:
            raise FixArgument("the first trial has no model", field="startup", value=startup, fix="startup=4")
        if not 0 <= random_fraction <= 1:
            fix = "random_fraction=0.15"
            raise FixArgument("a share is from 0 to 1", field="random_fraction", value=random_fraction, fix=fix)
        if not kappa >= 0:
            raise FixArgument("a weight is at least zero", field="kappa", value=kappa, fix="kappa=2.0")
        self._objective, self._seed, self._fidelity = objectives[0], seed, fidelity
        self._acquisition, self._kappa, self._startup = acquisition, float(kappa), startup
        self._random_fraction = random_fraction
        self._encoding = Encoding(space, with_fidelity=fidelity is not None)
        self._learner = Learner(self._encoding, kernel)
        self._knowledge = Knowledge(self._encoding.space, objectives[0])
        self._told: list[Observation] = []
        self._rows = np.empty((0, self._encoding.width))
        self._built: tuple[int, Model | None] = (0, None)

    def tell(self, observations: Sequence[Observation]) -> None:
        self._told += observations
        self._rows = np.vstack([self._rows, self._encoding.encode([o.params for o in observations])])

    def believe(self, priors: Sequence[Prior]) -> None:
        self._knowledge.believe(priors)

    # ---------------------------------------------------------------- proposals

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        waiting = self._encoding.encode([p.params for p in pending])
        out = []
        for k in range(index, index + n):
            rng = stream(self._seed, k)
            model = self._model()
            if model is None or len(self._told) + len(waiting) < self._startup:
                row, tags = self._start(waiting, rng), {"phase": "startup"}
            elif (lot := stream(self._seed, k, RANDOM_SALT)).random() < self._random_fraction and self._short:
                row, tags = self._random(waiting, lot), dict(BY_CHANCE)
            else:
                row, tags = self._propose(model, waiting, rng), {}
            waiting = np.vstack([waiting, row])
            out.append(Proposal(self._encoding.decode(row), fidelity, tags=tags))
        return out

    def _start(self, waiting: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The default or the middle when nothing is known, else the farthest of a few random rows (Mitchell 1991)."""
        encoding, seen = self._encoding, np.vstack([self._rows, waiting])
        if not len(seen):
            row = encoding.middle(rng)
            if encoding.feasible(row)[0]:
                return row[0]
        known = encoding.features(seen)

        def away(rows: np.ndarray) -> np.ndarray:
            gaps = ((encoding.features(rows)[:, None] - known) ** 2).sum(2)
            return gaps.min(1) if len(known) else np.zeros(len(rows))

        rows = encoding.encode(self._knowledge.samples(rng, self._told, START_CANDIDATES))
        return self._best_new(rows, away(rows), away, waiting)

    @property
    def _short(self) -> bool:
        return bool((self._levels() < 1).any())

    def _random(self, waiting: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = self._encoding.encode(self._knowledge.samples(rng, self._told, START_CANDIDATES))
        return self._best_new(rows, np.zeros(len(rows)), lambda left: np.zeros(len(left)), waiting)

    def _propose(self, model: Model, waiting: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        encoding = self._encoding
        model = model.believe(encoding.features(waiting))
        surface = self._surface(model)
        pool = search.draw(encoding, model.incumbents, CANDIDATES, rng)
        if self._acquisition == "thompson":
            rows = encoding.mask(pool)
            features = encoding.features(rows)
            values = model.log_success(features) - model.objective.sample(features, rng)
            values = np.where(encoding.feasible(rows), values + surface.tilted(rows), -np.inf)
        else:
            pool, values = search.maximise(encoding, surface.value, surface.slope, pool, rng)
            rows = encoding.mask(pool)
        if not np.isfinite(values).any():
            return self._start(waiting, rng)
        return self._best_new(rows, values, surface.value, waiting)

    def _best_new(self, rows: np.ndarray, values: np.ndarray, value: search.Score, waiting: np.ndarray) -> np.ndarray:
        """The row of the highest value that is new; from all the space when none of these is and it can be listed."""
        encoding = self._encoding
        seen = np.vstack([self._rows, waiting])
        rows, values = rows[values > -np.inf], values[values > -np.inf]
        rows = rows[np.argsort(-values, kind="stable")]
        for row in rows:
            if not _among(row, seen):
                return row
        if encoding.space.size() <= MAX_LISTED:
            listed = encoding.encode(list(encoding.space.enumerate(points=1)))
            left = listed[[not _among(row, seen) for row in listed]]
            if len(left):
                return left[int(np.argmax(value(left)))]
        return next((row for row in rows if not _among(row, waiting)), rows[0])

    # ---------------------------------------------------------------- judgement

    def score(self, configs: Sequence[Params], fidelity: int | None = None) -> np.ndarray:
        """(n,) acquisition of each configuration at full fidelity (for Thompson sampling: log expected improvement)."""
        model = self._model()
        if model is None or not configs:
            return np.zeros(len(configs))
        return self._surface(model).value(self._encoding.encode(configs))

    def candidates(self, n: int, *, index: int) -> list[Config]:
        model, rng = self._model(), stream(self._seed, index)
        if model is None:
            return self._encoding.space.sample(rng, n)
        return search.configurations(self._encoding, model.incumbents, n, rng)

    def predict(self, configs: Sequence[Params]) -> Prediction:
        """Mean and standard deviation of the noise-free metric at full fidelity; NaN while there is no model."""
        model = self._model()
        if model is None or not configs:
            unknown = np.full((len(configs), 1), np.nan)
            return Prediction(unknown, unknown.copy())
        mean, std = model.objective.predict(self._encoding.features(self._encoding.encode(configs)))
        mean = mean * model.unit + model.centre
        sign = self._objective.loss(1.0)
        return Prediction(sign * mean[:, None], std[:, None] * model.unit)

    # ---------------------------------------------------------------- the model

    def _surface(self, model: Model) -> Surface:
        tilt = self._knowledge.tilt(self._told)
        return Surface(self._encoding, model, self._acquisition, self._kappa, tilt)

    def _model(self) -> Model | None:
        if self._built[0] != len(self._told):
            y = losses(self._told, self._objective)
            y = np.where(np.isfinite(y), y, np.nan)
            allowed = np.array([all(c <= 0 for c in o.constraints) for o in self._told])
            data = Data(self._rows, self._levels(), y, np.isfinite(y) & allowed)
            self._built = len(self._told), self._learner.model(data)
        return self._built[1]

    def _levels(self) -> np.ndarray:
        """(n,) log-scale positions of the trials' fidelities, 1 for the full one."""
        if self._fidelity is None:
            return np.ones(len(self._told))
        return np.array([self._fidelity.position(o.fidelity) for o in self._told])


def _among(row: np.ndarray, rows: np.ndarray) -> bool:
    """Whether a row equals one of (n, d) rows up to SAME in every position."""
    gaps = np.abs(np.nan_to_num(rows, nan=-1.0) - np.nan_to_num(row, nan=-1.0))
    return bool((gaps < SAME).all(1).any())
