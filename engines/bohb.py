"""BOHB's sampler: TPE on the highest fidelity that is known well enough.

Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018, Algorithm 2.
One TPE for each fidelity at which trials came to rest; the one of the largest that has enough values proposes. A fixed
share is drawn at random, which keeps Hyperband's guarantee. `engine="bohb"` pairs it with Hyperband, as the paper does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.history import History, check_options
from tunewright.engines.priors import Knowledge, Prior
from tunewright.engines.space import Params, Space
from tunewright.engines.tpe import TPE
from tunewright.engines.types import BY_CHANCE, Capabilities, Fidelity, Objective, Observation, Proposal, stream
from tunewright.engines.types import Params as Config

CANDIDATES = 64  # N_s of the paper
RANDOM_SALT = 3


class BOHB:
    """Options: `random_fraction`, the paper's rho; `min_points`, its N_min (one more than there are parameters).

    A failed trial counts as bad at every fidelity.
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
        min_points: int | None = None,
        **options: object,
    ):
        check_options("bohb", options)
        if not 0 <= random_fraction <= 1:
            fix = "random_fraction=1/3"
            raise FixArgument("a share is from 0 to 1", field="random_fraction", value=random_fraction, fix=fix)
        wanted = len(space.names) + 1 if min_points is None else min_points
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise FixArgument("must be a whole number above zero", field="min_points", value=min_points, fix="8")
        self.space, self.objectives, self.seed = space, objectives, seed
        self.random_fraction, self.enough = random_fraction, wanted + 2  # Algorithm 2, line 2: |D_b| >= N_min + 2
        self._history = History(space)
        self._knowledge = Knowledge(space, objectives[0])
        self._levels: dict[float, TPE] = {}
        self._values: dict[float, int] = {}  # how many observations of each level have a value
        self._failed: list[Observation] = []

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        for seen in observations:
            if seen.values is None or not math.isfinite(seen.values[0]):
                self._failed.append(seen)
                for model in self._levels.values():
                    model.tell([seen])
                continue
            level = math.inf if seen.fidelity is None else float(seen.fidelity)
            if level not in self._levels:
                self._levels[level] = TPE(self.space, self.objectives, self.seed, n_startup=self.enough)
                self._levels[level].tell(self._failed)
            self._levels[level].tell([seen])
            self._values[level] = self._values.get(level, 0) + 1

    def believe(self, priors: Sequence[Prior]) -> None:
        self._knowledge.believe(priors)

    def _model(self) -> TPE | None:
        """Of the largest fidelity with enough values (Algorithm 2, line 2); None while there is none."""
        known = [level for level, values in self._values.items() if values >= self.enough]
        return self._levels[max(known)] if known else None

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        model, taken, out = self._model(), self._history.pending_keys(pending), []
        for k in range(index, index + n):
            rng = stream(self.seed, k, RANDOM_SALT)
            # Algorithm 2, line 1: a share rho is drawn at random.
            config = None if model is None or rng.random() < self.random_fraction else self._best(model, k, taken)
            tags = {"phase": "model"} if config else dict(BY_CHANCE) if model else {"phase": "startup"}
            draw = partial(self._knowledge.sample, rng, self._history.observations)
            config = config or self._history.fresh(draw, rng, taken)
            taken.add(self.space.key(config))
            out.append(Proposal(config, fidelity, tags=tags))
        return out

    def _best(self, model: TPE, index: int, taken: set[str]) -> Params | None:
        """Algorithm 2, lines 5 and 6: of N_s draws from l, the one with the highest l/g that is new; None without one.

        Nothing is made of what still runs: few draws, and the random share, keep a batch apart."""
        drawn = model.candidates(CANDIDATES, index=index)
        order = np.argsort(-self._tilted(model, drawn), kind="stable")
        known = self._history.keys | taken
        return next((drawn[i] for i in order if self.space.key(drawn[i]) not in known), None)

    def score(self, configs: Sequence[Config], fidelity: int | None = None) -> np.ndarray:
        """(n,) log l/g at the fidelity that proposes; zeros while there is no model."""
        model = self._model()
        return np.zeros(len(configs)) if model is None else self._tilted(model, configs)

    def _tilted(self, model: TPE, configs: Sequence[Config]) -> np.ndarray:
        tilt = self._knowledge.tilt(self._history.observations)
        scores = model.score(configs)
        return scores if tilt is None else scores + tilt.log(self.space.encode(configs))

    def candidates(self, n: int, *, index: int) -> list[Params]:
        model = self._model()
        return self.space.sample(stream(self.seed, index), n) if model is None else model.candidates(n, index=index)
