"""Sobol's low-discrepancy sequence, scrambled (Sobol 1967; Owen 1998): even coverage without a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from tunewright.engines.errors import FixSpace
from tunewright.engines.history import History, check_options
from tunewright.engines.sampling import SAMPLING_TRIES
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Capabilities, Fidelity, Objective, Observation, Proposal, stream

BLOCK = 64


class Sobol:
    """Proposal k is the k-th point of the sequence that meets the constraints.

    Where that configuration was told or is pending (a finite space, or another proposer), a random one takes its place.
    """

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
        check_options("sobol", options)
        self.space, self.seed = space, seed
        self._history = History(space)
        self._sequence: Any = None
        self._points: list[Params] = []

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        taken, out = self._history.pending_keys(pending), []
        for k in range(index, index + n):
            config = self.point(k)
            key = self.space.key(config)
            if key in taken or key in self._history.keys:
                rng = stream(self.seed, k)
                config = self._history.fresh(partial(self.space.sample, rng), rng, taken)
            taken.add(self.space.key(config))
            out.append(Proposal(config, fidelity, tags={"phase": "startup"}))
        return out

    def point(self, k: int) -> Params:
        """The k-th point of the sequence, from 0, of those that meet the constraints."""
        if self._sequence is None:
            from scipy.stats import qmc

            self._sequence = qmc.Sobol(len(self.space.names), scramble=True, seed=stream(self.seed, 0))
        empty = 0
        while len(self._points) <= k:
            found = [c for c in self.space.decode(self._sequence.random(BLOCK)) if self.space.feasible(c)]
            self._points += found
            empty = 0 if found else empty + 1
            if empty * BLOCK >= SAMPLING_TRIES:
                raise FixSpace(
                    f"none of {empty * BLOCK} points of the sequence meets the constraints",
                    field="constraints",
                    value=[c.text for c in self.space.constraints],
                    fix="loosen them, or shrink the ranges to where they hold",
                )
        return self._points[k]
