"""The tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, for conditional and mixed spaces.

The observations are split into a good and a bad group; a density is fitted to each, l and g, and the proposal is the
draw from l with the highest l/g, which is the one with the highest expected improvement (equation 2 there). The paper's
densities take each parameter alone; joint ones (Falkner et al. 2018) see how parameters work together, and know little
of it after a few dozen trials. Both are asked. Other choices that the paper leaves open follow what Watanabe (2023,
arXiv:2304.11127) found to matter, and our own measurements.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, TypeAlias

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.history import History, check_options
from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.parzen import Axes, Parzen, log_ratio
from tunewright.engines.priors import Knowledge, Prior
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

Rank: TypeAlias = tuple[float, float, float]
FAILED: Rank = (math.inf, math.inf, math.inf)

GOOD = 0.12  # share of the observations that is good,
MIN_GOOD, MAX_GOOD = 2, 25  # within these bounds
# Most candidates for the price: as many as keep the pairs of candidates and observations to be computed below a bound.
MIN_CANDIDATES, MAX_CANDIDATES, PAIRS = 96, 256, 100_000
MARGINS = 0.5  # weight of the parameters taken alone in log l/g
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
        parents = {name for condition in space.conditions.values() for name in condition.names}
        self._parents = [column for column, name in enumerate(space.names) if name in parents]
        self._history = History(space)
        self._knowledge = Knowledge(space, objectives[0])
        self._units = np.empty((0, len(space.names)))
        self._ranks = np.empty((0, 3))  # of each observation
        self._told: tuple[Parzen, Parzen] | None = None  # the model of all that was told, once it was asked for

    def tell(self, observations: Sequence[Observation]) -> None:
        if not observations:
            return
        self._history.tell(observations)
        self._units = np.vstack([self._units, self.space.encode([o.params for o in observations])])
        self._ranks = np.vstack([self._ranks, [self._rank(o) for o in observations]])
        self._told = None

    def believe(self, priors: Sequence[Prior]) -> None:
        self._knowledge.believe(priors)

    def _rank(self, observation: Observation) -> Rank:
        """(broken constraints, -fidelity, loss), lower is better; all infinite for a failure."""
        loss = math.nan if observation.values is None else self.objective.loss(observation.values[0])
        broken = sum(max(0.0, c) for c in observation.constraints)
        reached = math.inf if observation.fidelity is None else observation.fidelity
        return (broken, -reached, loss) if math.isfinite(loss) else FAILED

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

        def best(units: np.ndarray, *taken: Collection[str]) -> Params | None:
            for i in np.argsort(-self._ratio(model, units), kind="stable"):
                (config,) = self.space.decode(units[i : i + 1])
                key = self.space.key(config)
                if not any(key in keys for keys in taken):
                    return config
            return None

        wanted = max(MIN_CANDIDATES, min(MAX_CANDIDATES, PAIRS // len(self._units)))
        drawn = self._draw(model[0], rng, wanted)
        config = best(drawn, self._history.keys, pending)
        if config is not None:
            return config
        if self._history.listable:
            left = self._history.untried(pending)
            others = self.space.encode([left[i] for i in rng.permutation(len(left))[:LAST_RESORT]])
        else:
            others = self.space.encode(self.space.sample(rng, LAST_RESORT))
        either = np.vstack([drawn, others])
        tries = (best(others, self._history.keys, pending), best(either, pending), best(either))
        return next(config for config in tries if config is not None)

    def _draw(self, good: Parzen, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n, d) units of valid candidates: draws from l and recombinations of its kernels, uniform ones where these
        are invalid."""
        recombined = int(RECOMBINED * n)
        units = rng.permutation(np.vstack([good.sample(rng, n - recombined), good.recombine(rng, recombined)]))
        valid = self._valid(units)
        if len(valid) == n:
            return valid
        return np.vstack([valid, self.space.encode(self.space.sample(rng, n - len(valid)))])

    def _valid(self, units: np.ndarray) -> np.ndarray:
        """The units that decode to valid configurations, as `Space.encode` would return these."""
        if self.space.constraints or self.space.derived:
            return self.space.encode([c for c in self.space.decode(units) if self.space.feasible(c)])
        snapped = self._axes.snap(units)
        if not self._parents:
            return snapped
        # What is active follows from the parents alone, and these take few combinations.
        _, first, group = np.unique(snapped[:, self._parents], axis=0, return_index=True, return_inverse=True)
        group = group.reshape(-1)  # numpy 2.0 gives it a second axis
        shown = self.space.decode(snapped[first])
        active = ~np.isnan(self.space.encode(shown))[group]
        feasible = np.array([self.space.feasible(config) for config in shown])[group]
        return np.where(active, snapped, np.nan)[feasible]

    def _startup(self, index: int, running: Sequence[Config]) -> Params:
        rng = stream(self.seed, index)
        if index < len(self._design):
            config = self._design[index]
            taken = self._history.keys | {self.space.key(c) for c in running}
            if self.space.feasible(config) and self.space.key(config) not in taken and self._expected(config, rng):
                return config
        draw = partial(self._knowledge.sample, rng, self._history.observations)
        return self._history.fresh(draw, rng, {self.space.key(config) for config in running})

    def _expected(self, config: Params, rng: np.random.Generator) -> bool:
        """Whether a point of the design stays in spite of what is known beforehand: it is then drawn anew."""
        tilt = self._knowledge.tilt(self._history.observations)
        return tilt is None or rng.random() < math.exp(tilt.log(self.space.encode([config]))[0])

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
        """(l, g), None before there are enough values."""
        if running:
            return self._fit(self.space.encode(running))
        if self._told is None:
            self._told = self._fit(self._units[:0])
        return self._told

    def _fit(self, running: np.ndarray) -> tuple[Parzen, Parzen] | None:
        if np.isfinite(self._ranks[:, 2]).sum() < max(self.n_startup, 2):
            return None
        good, bad = self._split()
        # A constant liar (Ginsbourger et al. 2010): what runs is taken to turn out badly, so that a batch spreads out.
        worse = np.vstack([self._units[bad > 0], running])
        return (
            Parzen.fit(self._axes, self._units[good > 0], good[good > 0]),
            Parzen.fit(self._axes, worse, np.append(bad[bad > 0], np.ones(len(running)))),
        )

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) weights of the observations in the good group and in the bad one.

        Equal ranks share alike what their places get, and so do all failures, which come last. A plateau is thus good
        to no greater part than its places are, and the more of it is known, the worse it looks: the way out of it is
        worth more than its next point.
        """
        total, known = len(self._ranks), int(np.isfinite(self._ranks[:, 2]).sum())
        wanted = min(max(MIN_GOOD, math.ceil(GOOD * known)), MAX_GOOD, known - 1)
        places = np.zeros((total, 2))
        # Better places weigh more, by the weights of CMA-ES's recombination (Hansen 2016, equation 49); 1 on average.
        weights = math.log(wanted + 0.5) - np.log(np.arange(1, wanted + 1))
        places[:wanted, 0] = weights / weights.mean()
        # The worse the place, the worse its surroundings: what just missed the good is hardly bad. 1 on average.
        places[wanted:, 1] = (2 * np.arange(total - wanted) + 1) / (total - wanted)
        order = np.lexsort(self._ranks.T[::-1])  # by their columns from the first to the last
        ranked = self._ranks[order]
        starts = np.flatnonzero(np.append(True, (ranked[1:] != ranked[:-1]).any(axis=1)))
        tied = np.diff(starts, append=total)
        groups = np.empty_like(places)
        groups[order] = np.repeat(np.add.reduceat(places, starts) / tied[:, None], tied, axis=0)
        return groups[:, 0], groups[:, 1]

    def score(self, configs: Sequence[Config], fidelity: int | None = None) -> np.ndarray:
        """(n,) log l/g; zeros while there is no model."""
        model = self._model()
        return np.zeros(len(configs)) if model is None else self._ratio(model, self.space.encode(configs))

    def candidates(self, n: int, *, index: int) -> list[Params]:
        """n draws of what `ask(index=index)` picks from; uniform while there is no model."""
        rng, model = stream(self.seed, index), self._model()
        return self.space.sample(rng, n) if model is None else self.space.decode(self._draw(model[0], rng, n))

    def _ratio(self, model: tuple[Parzen, Parzen], units: np.ndarray) -> np.ndarray:
        """(m,) log l/g of (m, d) units, the weighted mean of that of the joint densities and that of each column alone,
        and what is known beforehand."""
        ratio = log_ratio(*model, units, MARGINS)
        tilt = self._knowledge.tilt(self._history.observations)
        return ratio if tilt is None else ratio + tilt.log(units)
