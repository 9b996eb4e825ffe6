"""Grid search: every configuration exactly once, in the order of the space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from tunewright.engines.errors import FixArgument, SpaceExhausted
from tunewright.engines.history import History, check_options
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Capabilities, Fidelity, Objective, Observation, Proposal


class Grid:
    """The first configuration of the grid that was neither told nor is pending; SpaceExhausted after the last.

    The last parameter changes fastest. A discrete parameter takes all its values, a continuous one `points` values
    evenly spaced on its own scale, ends included. The grid is walked lazily and never held whole.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(multi_objective=True)

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        points: int = 5,
        **options: Any,
    ):
        check_options("grid", options)
        if isinstance(points, bool) or not isinstance(points, int) or points < 1:
            raise FixArgument("must be a whole number above zero", field="points", value=points, fix="points=5")
        self.space, self.points = space, points
        self._history = History(space)
        self._rest: Iterator[Params] = space.enumerate(points)
        # Walked past but never told: what was pending when it was its turn, or was displaced.
        self._open: dict[str, Params] = {}

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        for observation in observations:
            self._open.pop(self.space.key(observation.params), None)

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        """As many of n as are left."""
        taken = self._history.pending_keys(pending)
        out: list[Proposal] = []
        for config in self._untold(taken):
            if len(out) == n:
                break
            out.append(Proposal(config, fidelity, tags={"phase": "startup"}))
        if n and not out:
            raise SpaceExhausted(
                "every configuration of the grid has been handed out",
                field="engine",
                value="grid",
                fix="raise points, or stop the study here",
            )
        return out

    def _untold(self, taken: set[str]) -> Iterator[Params]:
        yield from (config for key, config in list(self._open.items()) if key not in taken)
        for config in self._rest:
            key = self.space.key(config)
            if key not in self._history.keys:
                self._open[key] = config
                if key not in taken:
                    yield config
