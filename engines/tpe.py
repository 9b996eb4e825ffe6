"""The tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, for conditional and mixed spaces.

The observations are split into a good and a bad group; a density is fitted to each, l and g, and the proposal is the
draw from l with the highest l/g, which is the one with the highest expected improvement (equation 2 there). Choices
that the paper leaves open follow what Watanabe (2023, arXiv:2304.11127) found to matter, and our own measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.history import History, check_options
from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.parzen import Axes, Parzen
from tunewright.engines.space import Params, Space
from tunewright.engines.types import (
    Capabilities,
    Fidelity,
    Objective,
    Observation,
    Proposal,
    stream,
)
from tunewright.engines.types import Params as Config

GOOD = 0.12  # share of the observations that is good,
MIN_GOOD, MAX_GOOD = 2, 25  # within these bounds
CANDIDATES = 96
RECOMBINED = 0.7  # share of the candidates
LAST_RESORT = 256  # candidates where all of l's own are taken
DESIGN_TRIES = 50
DESIGN_SALT = 1


class TPE:
    """Learns from one objective; failures, and points still running, count as bad.

    The first proposals, until `n_startup` observations have a value, are the middle of the space and a Latin
    hypercube. Values measured at a higher fidelity count before all at lower ones, broken constraints after.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        n_startup: int = 8,
        **options: Any,
    ):
        check_options("tpe", options)
        if isinstance(n_startup, bool) or not isinstance(n_startup, int) or n_startup < 1:
            raise FixArgument(
                "must be a whole number above zero", field="n_startup", value=n_startup, fix="n_startup=8"
            )
        self.space, self.objective, self.seed, self.n_startup = space, objectives[0], seed, n_startup
        self._axes = Axes(space)
        self._history = History(space)
        self._units = np.empty((0, len(space.names)))
        self._ranks = np.empty((0, 3))  # of each observation: broken constraints, -fidelity, loss

    def tell(self, observations: Sequence[Observation]) -> None:
        if observations:
            self._history.tell(observations)
            self._units = np.vstack([self._units, self.space.encode([o.params for o in observations])])
            self._ranks = np.vstack([self._ranks, [self._rank(o) for o in observations]])

    def _rank(self, observation: Observation) -> tuple[float, float, float]:
        loss = math.nan if observation.values is None else self.objective.loss(observation.values[0])
        broken = sum(max(0.0, c) for c in observation.constraints)
        reached = math.inf if observation.fidelity is None else observation.fidelity
        return broken, -reached, loss if math.isfinite(loss) else math.nan

    # ---------------------------------------------------------------- proposals

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        running = [p.params for p in pending]
        out: list[Proposal] = []
        for k in range(index, index + n):
            model = self._model(running)
            config = self._startup(k, running) if model is None else self._best(model, k, running)
            tags = {"phase": "startup" if model is None else "model"}
            running.append(config)
            out.append(Proposal(config, fidelity, tags=tags))
        return out

    def _best(self, model: tuple[Parzen, Parzen], index: int, running: Sequence[Config]) -> Params:
        """The candidate with the highest l/g that is not taken; a repeat only where nothing else is found."""
        rng = stream(self.seed, index)
        pending = {self.space.key(config) for config in running}

        def best(configs: Sequence[Params], taken: set[str]) -> Params | None:
            order = np.argsort(-_ratio(model, self.space.encode(configs)), kind="stable")
            return next((configs[i] for i in order if self.space.key(configs[i]) not in taken), None)

        drawn = self._draw(model[0], rng, CANDIDATES)
        config = best(drawn, self._history.keys | pending)
        if config is not None:
            return config
        if self._history.listable:
            left = self._history.untried(pending)
            others = [left[i] for i in rng.permutation(len(left))[:LAST_RESORT]]
        else:
            others = self.space.sample(rng, LAST_RESORT)
        return best(others, self._history.keys | pending) or best(drawn + others, pending) or drawn[0]

    def _draw(self, good: Parzen, rng: np.random.Generator, n: int) -> list[Params]:
        """n valid candidates: draws from l and recombinations of its kernels, uniform ones where these are invalid."""
        recombined = int(RECOMBINED * n)
        units = np.vstack([good.sample(rng, n - recombined), good.recombine(rng, recombined)])
        configs = [config for config in self.space.decode(rng.permutation(units)) if self.space.feasible(config)]
        return configs + self.space.sample(rng, n - len(configs))

    def _startup(self, index: int, running: Sequence[Config]) -> Params:
        rng = stream(self.seed, index)
        if index < len(self._design):
            config = self._design[index]
            taken = self._history.keys | {self.space.key(c) for c in running}
            if self.space.feasible(config) and self.space.key(config) not in taken:
                return config
        return self._history.fresh(lambda: self.space.sample(rng), rng, {self.space.key(config) for config in running})

    @cached_property
    def _design(self) -> list[Params]:
        """The middle of the space, then a Latin hypercube (McKay et al. 1979): of some, the one whose closest pair of
        points is farthest apart (Johnson et al. 1990)."""
        rng = stream(self.seed, 0, DESIGN_SALT)
        shape = (self.n_startup, len(self.space.names))

        def hypercube() -> np.ndarray:
            cells = np.tile(np.arange(self.n_startup)[:, None], shape[1])
            return (rng.permuted(cells, axis=0) + rng.random(shape)) / self.n_startup

        def closest(points: np.ndarray) -> float:
            distances = np.square(points[:, None] - points).sum(axis=-1)
            return float(np.min(distances[np.triu_indices(len(points), 1)], initial=np.inf))

        points = max((hypercube() for _ in range(DESIGN_TRIES)), key=closest)

        def middle(name: str, parameter: Parameter) -> Any:
            if parameter.default is not None:
                return parameter.default
            return parameter.choices[0] if isinstance(parameter, Categorical) else parameter.from_unit(0.5)

        return [self.space.build(middle), *self.space.decode(points)][: self.n_startup]

    # ---------------------------------------------------------------- the model

    def _model(self, running: Sequence[Config] = ()) -> tuple[Parzen, Parzen] | None:
        """(l, g), None before there are enough values, or while no value is better than another."""
        split = self._split()
        if split is None:
            return None
        good, bad = split
        worse = self._units[bad]
        if running:
            # A constant liar (Ginsbourger et al. 2010): what runs is taken to turn out badly, so a batch spreads out.
            worse = np.vstack([worse, self.space.encode(running)])
        # Better ranks weigh more, by the weights of CMA-ES's recombination (Hansen 2016, equation 49).
        weights = math.log(len(good) + 0.5) - np.log(np.arange(1, len(good) + 1))
        return (
            Parzen.fit(self._axes, self._units[good], weights / weights.mean()),
            Parzen.fit(self._axes, worse, np.ones(len(worse))),
        )

    def _split(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Rows of the good and of the bad observations, each best first. Equal ranks are never torn apart."""
        failed = np.isnan(self._ranks[:, 2])
        valued = np.flatnonzero(~failed)
        if len(valued) < max(self.n_startup, 2):
            return None
        broken, reached, loss = self._ranks[valued].T
        order = valued[np.lexsort((loss, reached, broken))]
        ranks = self._ranks[order]
        new = np.append(True, np.any(ranks[1:] != ranks[:-1], axis=1))
        cuts = np.flatnonzero(new)[1:]  # where a good group may end
        wanted = min(max(MIN_GOOD, math.ceil(GOOD * len(order))), MAX_GOOD)
        if not cuts.size:
            # All equal: only failures, if any, tell good from bad.
            return (order, np.flatnonzero(failed)) if failed.any() else None
        fitting = cuts[cuts <= wanted]
        cut = int(fitting[-1] if fitting.size else cuts[0])
        return order[:cut], np.concatenate([order[cut:], np.flatnonzero(failed)])

    def score(self, configs: Sequence[Config], fidelity: int | None = None) -> np.ndarray:
        """(n,) log l - log g; zeros while there is no model."""
        model = self._model()
        return np.zeros(len(configs)) if model is None else _ratio(model, self.space.encode(configs))

    def candidates(self, n: int, *, index: int) -> list[Params]:
        """n draws of what `ask(index=index)` picks from; uniform while there is no model."""
        rng, model = stream(self.seed, index), self._model()
        return self.space.sample(rng, n) if model is None else self._draw(model[0], rng, n)


def _ratio(model: tuple[Parzen, Parzen], units: np.ndarray) -> np.ndarray:
    """(m,) log l - log g of (m, d) units."""
    return model[0].log_density(units) - model[1].log_density(units)
