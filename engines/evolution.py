"""Regularised evolution: tournament, one mutation, and the oldest dies, however good it is.

Real, Aggarwal, Huang & Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019
(arXiv:1802.01548), algorithm 1. What only looked good because of noise cannot stay for ever: it has to be found again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.history import TRIES, History, check_count, check_options, standing
from tunewright.engines.parameters import Parameter, Scalar
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Capabilities, Fidelity, Objective, Observation, Proposal, stream
from tunewright.engines.types import Params as Config
from tunewright.engines.variation import mutated

ETA = 3.0  # of the polynomial mutation of a number: half of all steps are longer than a tenth of the range


class Evolution:
    """`population` configurations are alive, the last told, whoever proposed them; `sample` of them take part in a
    tournament, whose winner is mutated in one parameter. The first `population` proposals are random."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        population: int = 20,
        sample: int = 5,
        **options: Any,
    ):
        check_options("evolution", options)
        check_count("population", population)
        check_count("sample", sample)
        self.space, self.seed, self._objectives, self._sample = space, seed, objectives[:1], sample
        self._history = History(space)
        # lines 14-15: the youngest is appended at the right, the oldest leaves at the left
        self._alive: deque[Observation] = deque(maxlen=population)

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        self._alive.extend(observations)

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        taken, out = self._history.pending_keys(pending), []
        startup = len(self._history.observations) < (self._alive.maxlen or 1)  # lines 3-8
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
        # lines 10-13: drawn with replacement; of equals the first drawn
        drawn = [self._alive[i] for i in rng.integers(len(self._alive), size=self._sample)]
        parent = min(drawn, key=lambda o: standing(o, self._objectives)).params
        return mutant(self.space, parent, rng)


def mutant(space: Space, parent: Config, rng: np.random.Generator) -> Params:
    """The parent with one of its parameters changed (line 14); what that switches on is drawn."""
    movable = [name for name in parent if space.parameters[name].count > 1]
    for _ in range(TRIES if movable else 0):
        name = movable[int(rng.integers(len(movable)))]
        parameter = space.parameters[name]
        changed = parameter.from_unit(mutated(parameter, parameter.to_unit(parent[name]), rng, ETA))
        given, units = {**parent, name: changed}, rng.random(len(space.names))
        drawn = dict(zip(space.names, units, strict=True))

        def pick(name: str, parameter: Parameter, given: Config = given, drawn: dict[str, float] = drawn) -> Scalar:
            return given[name] if name in given else parameter.from_unit(drawn[name])

        config = space.build(pick)
        if space.feasible(config):
            return config
    return space.sample(rng)
