"""New configurations by what partial training curves say of their end (Swersky, Snoek and Adams, arXiv:1406.3896).

The default configuration (or the middle of the space) comes first, then a few points far from what is known. After that
the process over (configuration, step) is asked where the value at the highest step is expected to improve the most; a
fixed share is drawn at random, so that no mistaken curve can hide a part of the space for ever. `engine="freeze-thaw"`
pairs it with the scheduler of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.freeze_thaw.belief import Belief, Model
from tunewright.engines.gp import search
from tunewright.engines.gp.acquisition import log_expected_improvement
from tunewright.engines.history import History, check_options
from tunewright.engines.priors import Knowledge, Prior
from tunewright.engines.space import Params, Space
from tunewright.engines.types import (
    BY_CHANCE,
    Capabilities,
    Fidelity,
    Objective,
    Observation,
    Prediction,
    Proposal,
    stream,
)
from tunewright.engines.types import Params as Config

CANDIDATES = 300
ROUNDS, BASES, CHILDREN, FIRST_WIDTH = 3, 6, 12, 0.2
FAR = 24
RANDOM_SALT = 3
FULL = Fidelity("training", 1, 1)


class FreezeThaw:
    """Options: `random_fraction`, the share drawn at random; `startup`, how many trials before the model is asked.

    Learns from one objective; a failed trial counts as the worst that was seen. Without a fidelity all trials are
    trained alike.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        random_fraction: float = 1 / 3,
        startup: int = 4,
        **options: object,
    ):
        check_options("freeze-thaw", options)
        if not 0 <= random_fraction <= 1:
            fix = "random_fraction=1/3"
            raise FixArgument("a share is from 0 to 1", field="random_fraction", value=random_fraction, fix=fix)
        if isinstance(startup, bool) or not isinstance(startup, int) or startup < 1:
            raise FixArgument("the first trial has no model", field="startup", value=startup, fix="startup=4")
        self.space, self.seed, self.random_fraction, self.startup = space, seed, random_fraction, startup
        self._objective = objectives[0]
        self._belief = Belief(space, objectives[0], fidelity or FULL)
        self._encoding = self._belief.encoding
        self._history = History(space)
        self._knowledge = Knowledge(self._encoding.space, objectives[0])

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        self._belief.tell(observations)

    def believe(self, priors: Sequence[Prior]) -> None:
        self._knowledge.believe(priors)

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        running, out = [dict(p.params) for p in pending], []
        for k in range(index, index + n):
            rng, tags = stream(self.seed, k, RANDOM_SALT), {"phase": "startup"}
            if len(self._history.keys) + len(running) < self.startup:
                config = self._spread(running, rng)
            elif rng.random() < self.random_fraction:
                config, tags = self._fresh(running, rng), dict(BY_CHANCE)
            elif (model := self._belief.model()) is None:
                config = self._fresh(running, rng)
            else:
                config, tags = self._propose(model, running, rng), {"phase": "model"}
            running.append(config)
            out.append(Proposal(config, fidelity, tags=tags))
        return out

    def _fresh(self, running: Sequence[Config], rng: np.random.Generator) -> Params:
        taken = {self.space.key(config) for config in running}
        return self._history.fresh(partial(self._knowledge.sample, rng, self._history.observations), rng, taken)

    def _spread(self, running: Sequence[Config], rng: np.random.Generator) -> Params:
        """The default or the middle when nothing is known, else the farthest of a few random draws (Mitchell 1991)."""
        encoding = self._encoding
        seen = [o.params for o in self._history.observations] + list(running)
        if not seen:
            row = encoding.middle(rng)
            return encoding.decode(row[0]) if encoding.feasible(row)[0] else self._fresh(running, rng)
        drawn = self._knowledge.samples(rng, self._history.observations, FAR)
        known = encoding.features(encoding.encode(seen))
        gaps = ((encoding.features(encoding.encode(drawn))[:, None] - known) ** 2).sum(2).min(1)
        return drawn[int(gaps.argmax())] if gaps.max() > 0 else self._fresh(running, rng)

    def _propose(self, model: Model, running: Sequence[Config], rng: np.random.Generator) -> Params:
        """The new configuration with the highest expected improvement at the highest step, by hill climbing."""
        encoding = self._encoding
        believed = model.believe(self._belief.ends(encoding.encode(running)))

        def score(genotypes: np.ndarray) -> np.ndarray:
            return self._improvement(believed, encoding.mask(genotypes))

        pool = search.draw(encoding, model.incumbents, CANDIDATES, rng)
        values, width = score(pool), FIRST_WIDTH
        for _ in range(ROUNDS):
            best = pool[np.argsort(-values, kind="stable")[:BASES]]
            children = search.perturb(encoding, np.repeat(best, CHILDREN, axis=0), rng, width)
            pool, values = np.vstack([pool, children]), np.concatenate([values, score(children)])
            width /= 2
        taken = self._history.keys | {self.space.key(config) for config in running}
        for i in np.argsort(-values, kind="stable"):
            if values[i] == -np.inf:
                break
            config = encoding.decode(encoding.mask(pool[i][None])[0])
            if self.space.key(config) not in taken:
                return config
        return self._fresh(running, rng)

    def _improvement(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """(m,) log expected improvement at the highest step; -inf outside the constraints."""
        mean, std = model.posterior.predict(self._belief.ends(rows))
        value = log_expected_improvement(mean, std, model.best)[0]
        if (tilt := self._knowledge.tilt(self._history.observations)) is not None:
            value = value + tilt.log(rows)
        return np.where(self._encoding.feasible(rows), value, -np.inf)

    # ---------------------------------------------------------------- judgement

    def score(self, configs: Sequence[Config], fidelity: int | None = None) -> np.ndarray:
        """(n,) log expected improvement of each configuration at the highest step; zeros while there is no model."""
        model = self._belief.model()
        if model is None or not configs:
            return np.zeros(len(configs))
        return self._improvement(model, self._encoding.encode(configs))

    def candidates(self, n: int, *, index: int) -> list[Params]:
        """n of the draws from which `ask(index=index)` begins its search."""
        model, rng = self._belief.model(), stream(self.seed, index, RANDOM_SALT)
        if model is None:
            return self._encoding.space.sample(rng, n)
        return search.configurations(self._encoding, model.incumbents, n, rng)

    def predict(self, configs: Sequence[Config]) -> Prediction:
        """Mean and standard deviation of the noise-free metric at the highest step; NaN while there is no model."""
        model = self._belief.model()
        if model is None or not configs:
            unknown = np.full((len(configs), 1), np.nan)
            return Prediction(unknown, unknown.copy())
        mean, std = model.posterior.predict(self._belief.ends(self._encoding.encode(configs)))
        sign = self._objective.loss(1.0)
        return Prediction(sign * (mean * model.unit + model.centre)[:, None], std[:, None] * model.unit)
