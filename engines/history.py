"""What an engine has been told, and which configurations are taken: shared by the engines that need no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Observation, Proposal

MAX_LISTED = 10_000
TRIES = 50


def check_options(engine: str, options: dict[str, object]) -> None:
    """Raises FixArgument for options that an engine does not know."""
    if options:
        raise FixArgument(
            f"engine {engine!r} has no such option", field="engine options", value=sorted(options), fix="remove it"
        )


class History:
    """Observations in the order they were told, and the keys of their configurations."""

    def __init__(self, space: Space):
        self.space = space
        self.observations: list[Observation] = []
        self.keys: set[str] = set()

    def tell(self, observations: Sequence[Observation]) -> None:
        self.observations += observations
        self.keys.update(self.space.key(o.params) for o in observations)

    def pending_keys(self, pending: Sequence[Proposal]) -> set[str]:
        return {self.space.key(p.params) for p in pending}

    @cached_property
    def listable(self) -> bool:
        """Whether the space is finite and small enough to look through all of it."""
        return self.space.size() <= MAX_LISTED

    def untried(self, pending: Collection[str]) -> list[Params]:
        """The configurations of a listable space that were neither told nor are pending."""
        every = ((self.space.key(c), c) for c in self.space.enumerate(points=1))
        return [config for key, config in every if key not in self.keys and key not in pending]

    def fresh(self, draw: Callable[[], Params], rng: np.random.Generator, pending: Collection[str]) -> Params:
        """A draw that was neither told nor is pending; once none is left, one that is at least not pending."""
        repeat: Params | None = None
        for _ in range(TRIES):
            config = draw()
            key = self.space.key(config)
            if key not in pending:
                if key not in self.keys:
                    return config
                repeat = config
        if self.listable and (left := self.untried(pending)):
            return left[int(rng.integers(len(left)))]
        return repeat or config
