"""Random search: uniform draws on every parameter's own scale (Bergstra & Bengio 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from tunewright.engines.history import History, check_options
from tunewright.engines.priors import Knowledge, Prior
from tunewright.engines.space import Space
from tunewright.engines.types import Capabilities, Fidelity, Objective, Observation, Proposal, stream


class Random:
    """Uniform within the constraints. A finite space is drawn without repeats until all of it was handed out."""

    capabilities: ClassVar[Capabilities] = Capabilities(multi_objective=True)

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        **options: Any,
    ):
        check_options("random", options)
        self.space, self.seed = space, seed
        self._history = History(space)
        self._knowledge = Knowledge(space, objectives[0])

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)

    def believe(self, priors: Sequence[Prior]) -> None:
        self._knowledge.believe(priors)

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        taken, out = self._history.pending_keys(pending), []
        for k in range(index, index + n):
            rng = stream(self.seed, k)
            draw = partial(self._knowledge.sample, rng, self._history.observations)
            config = self._history.fresh(draw, rng, taken)
            taken.add(self.space.key(config))
            out.append(Proposal(config, fidelity, tags={"phase": "startup"}))
        return out
