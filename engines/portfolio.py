"""Several engines on one history: the first leads, and when it is stuck the others take turns with it.

A model that has found nothing better for a while may be wrong about the loss, and cannot tell. Another model, wrong
elsewhere, proposes from the same trials; as soon as anybody finds something better the first one leads again.
Portfolios of optimisers: Hoffman, Brochu and de Freitas, Portfolio Allocation for Bayesian Optimization, UAI 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.cmaes import CMAES
from tunewright.engines.errors import FixArgument
from tunewright.engines.forest import Forest
from tunewright.engines.gp import GP
from tunewright.engines.history import check_count, check_options, standing
from tunewright.engines.priors import Prior
from tunewright.engines.space import Params as Config
from tunewright.engines.space import Space
from tunewright.engines.tpe import TPE
from tunewright.engines.types import (
    Believer,
    Capabilities,
    Fidelity,
    Objective,
    Observation,
    Params,
    Prediction,
    Predictor,
    Proposal,
)

MEMBERS = {"cmaes": CMAES, "forest": Forest, "gp": GP, "tpe": TPE}


class Portfolio:
    """Options: `members`, names of engines, the leader first; `patience`, after how many observations without a better
    one it counts as stuck, by default 10 and two for each parameter. The leader alone judges and predicts."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        members: Sequence[str] = ("gp", "tpe"),
        patience: int | None = None,
        **options: Any,
    ):
        check_options("portfolio", options)
        for name in [members] if isinstance(members, str) else members:
            if name not in MEMBERS or isinstance(members, str):
                raise FixArgument("unknown member", field="members", value=name, fix=f"some of {', '.join(MEMBERS)}")
        if not members:
            raise FixArgument("a portfolio needs members", field="members", value=members, fix='members=["gp", "tpe"]')
        if patience is not None:
            check_count("patience", patience)
        self._names, self._objectives = tuple(members), objectives[:1]
        self._patience = patience or 10 + 2 * len(space.names)
        self._members = [MEMBERS[name](space, objectives, seed, fidelity=fidelity) for name in members]
        self._history: list[Observation] = []
        self._heard = [0] * len(members)  # how much of the history each has been told
        self._best: tuple[float, float, tuple[float, ...]] | None = None  # standing of the best observation
        self._since = 0  # observations since the best was new

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history += observations
        for observation in observations:
            (broken, short), losses = standing(observation, self._objectives)
            if self._best is not None and broken == self._best[0] and short > self._best[1]:
                continue  # trained less far than the best, it says nothing against the leader
            self._since += 1
            if self._best is None or (broken, short, losses) < self._best:
                self._best, self._since = (broken, short, losses), 0

    def believe(self, priors: Sequence[Prior]) -> None:
        """Members that know no priors go without."""
        for member in self._members:
            if isinstance(member, Believer):
                member.believe(priors)

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        out: list[Proposal] = []
        for k in range(index, index + n):
            turn = k % len(self._members) if self._since >= self._patience else 0
            (proposal,) = self._member(turn).ask(1, [*pending, *out], index=k, fidelity=fidelity)
            tags = {**proposal.tags, "member": self._names[turn]}
            out.append(Proposal(proposal.params, proposal.fidelity, proposal.resume_from, tags))
        return out

    def score(self, configs: Sequence[Params], fidelity: int | None = None) -> np.ndarray:
        return self._member(0).score(configs, fidelity)

    def candidates(self, n: int, *, index: int) -> list[Config]:
        return self._member(0).candidates(n, index=index)

    def predict(self, configs: Sequence[Params]) -> Prediction:
        """NaN where the leader does not predict."""
        leader = self._member(0)
        if isinstance(leader, Predictor):
            return leader.predict(configs)
        unknown = np.full((len(configs), 1), np.nan)
        return Prediction(unknown, unknown.copy())

    def _member(self, turn: int) -> Any:
        """A member, told what it has not heard yet: who never has a turn costs nothing."""
        member, heard = self._members[turn], self._heard[turn]
        if heard < len(self._history):
            member.tell(self._history[heard:])
            self._heard[turn] = len(self._history)
        return member
