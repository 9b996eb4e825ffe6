"""NSGA-II: evolution towards the Pareto front of several objectives.

Deb, Pratap, Agarwal & Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6(2), 2002. Sections and equations below are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.history import TRIES, History, check_count, check_options, standing
from tunewright.engines.parameters import Categorical
from tunewright.engines.pareto import crowding_distances, non_dominated_fronts
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Capabilities, Fidelity, Objective, Observation, Proposal, stream
from tunewright.engines.variation import mutated, sbx

CROSSED = 0.9  # probability of a crossover, and the two distribution indices: section IV-A
ETA_CROSSOVER, ETA_MUTATION = 20.0, 20.0


class NSGA2:
    """The first `population` proposals are random. The population is selected anew after each observation, from it and
    the population before (a generation of one child), so that a short budget has many generations."""

    capabilities: ClassVar[Capabilities] = Capabilities(multi_objective=True)

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        population: int = 20,
        **options: Any,
    ):
        check_options("nsga2", options)
        check_count("population", population, least=2)
        self.space, self.seed, self._objectives, self._size = space, seed, tuple(objectives), population
        self._history = History(space)
        self._population: list[Observation] = []  # best first by the crowded comparison
        self._movable = np.array([p.count > 1 for p in space.parameters.values()])

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        for observation in observations:
            union = [*self._population, observation]
            self._population = [union[i] for i in self._order(union)[: self._size]]

    def _order(self, observations: Sequence[Observation]) -> list[int]:
        """Indices, best first: by front, then the more isolated first (the crowded comparison, section III-B)."""
        levels, losses = zip(*(standing(o, self._objectives) for o in observations), strict=True)
        table, order = np.array(losses), []
        # Constrained domination (definition 1): whoever stands on a better level dominates.
        for level in sorted(set(levels)):
            rows = np.array([i for i, other in enumerate(levels) if other == level])
            for front in non_dominated_fronts(table[rows]):
                members = rows[front]
                order += members[np.argsort(-crowding_distances(table[members]), kind="stable")].tolist()
        return order

    # ---------------------------------------------------------------- proposals

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        taken, out = self._history.pending_keys(pending), []
        startup = len(self._history.observations) < self._size
        for k in range(index, index + n):
            rng = stream(self.seed, k)

            def draw(rng: np.random.Generator = rng) -> Params:
                return self.space.sample(rng) if startup else self._child(rng)

            opening = None if k else self._history.opening(taken)
            config = opening or self._history.fresh(draw, rng, taken)
            taken.add(self.space.key(config))
            out.append(Proposal(config, fidelity, tags={"phase": "startup" if startup else "model"}))
        return out

    def _child(self, rng: np.random.Generator) -> Params:
        """A child of two parents, each the better of two drawn (binary tournament, section III-C)."""
        for _ in range(TRIES):
            drawn = rng.integers(len(self._population), size=(2, 2)).min(axis=1)  # the population stands in order
            one, other = self.space.encode([self._population[i].params for i in drawn])
            config = self.space.decode(self._mutated(self._crossed(one, other, rng), rng)[None])[0]
            if self.space.feasible(config):
                return config
        return self.space.sample(rng)

    def _crossed(self, one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(d,) units. What only one parent has comes from it, what neither has is drawn."""
        child = np.where(np.isnan(one), np.where(np.isnan(other), rng.random(len(one)), other), one)
        if rng.random() >= CROSSED:
            return child
        mixed = rng.random(len(one)) < 0.5  # SBX of a parameter, or its exchange, with probability one half
        for j in np.flatnonzero(mixed & ~np.isnan(one) & ~np.isnan(other)):
            category = isinstance(self.space.parameters[self.space.names[j]], Categorical)
            child[j] = other[j] if category else sbx(one[j], other[j], rng, ETA_CROSSOVER)
        return child

    def _mutated(self, child: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each parameter with probability 1/d, d the number of those with more than one value."""
        share = 1 / max(int(self._movable.sum()), 1)
        for j in np.flatnonzero(self._movable & (rng.random(len(child)) < share)):
            child[j] = mutated(self.space.parameters[self.space.names[j]], float(child[j]), rng, ETA_MUTATION)
        return child
