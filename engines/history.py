"""What an engine has been told, and which configurations are taken: shared by the engines that need no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cached_property

import numpy as np

from tunewright.engines.errors import FixArgument, FixSpace
from tunewright.engines.parameters import Categorical, Parameter, Scalar
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Objective, Observation, Proposal

MAX_LISTED = 10_000
TRIES = 50


def check_options(engine: str, options: dict[str, object]) -> None:
    """Raises FixArgument for options that an engine does not know."""
    if options:
        raise FixArgument(
            f"engine {engine!r} has no such option", field="engine options", value=sorted(options), fix="remove it"
        )


def check_count(field: str, value: object, least: int = 1) -> None:
    """Raises FixArgument for an option that is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FixArgument(f"must be a whole number of at least {least}", field=field, value=value)


def standing(
    observation: Observation, objectives: Sequence[Objective]
) -> tuple[tuple[float, float], tuple[float, ...]]:
    """(what counts before all losses, the losses): lower is better, and losses compare only where the first are equal.

    Failures stand behind everything, then broken constraints by how far they are broken in sum (constrained
    domination, Deb et al. 2002, definition 1), then lower fidelities.
    """
    losses = [math.nan] * len(objectives)
    if observation.values is not None:
        losses = [o.loss(value) for o, value in zip(objectives, observation.values, strict=True)]
    if not all(map(math.isfinite, losses)):
        return (math.inf, 0.0), (0.0,) * len(objectives)
    reached = math.inf if observation.fidelity is None else observation.fidelity
    return (sum(max(0.0, c) for c in observation.constraints), -reached), tuple(losses)


class History:
    """Observations in the order they were told, and the keys of their configurations."""

    def __init__(self, space: Space):
        self.space = space
        self.observations: list[Observation] = []
        self.keys: set[str] = set()
        self._pending: dict[int, tuple[Proposal, str]] = {}  # with each its key; the object keeps its id

    def tell(self, observations: Sequence[Observation]) -> None:
        self.observations += observations
        self.keys.update(self.space.key(o.params) for o in observations)

    def pending_keys(self, pending: Sequence[Proposal]) -> set[str]:
        known, self._pending = self._pending, {}
        for proposal in pending:  # the same objects as the last time, but for a few
            key = known[id(proposal)][1] if id(proposal) in known else self.space.key(proposal.params)
            self._pending[id(proposal)] = (proposal, key)
        return {key for _, key in self._pending.values()}

    def opening(self, pending: Collection[str]) -> Params | None:
        """What to try first: every parameter's default, where it has none its middle, of a category its first choice.

        None where that was told, is pending or breaks a constraint.
        """

        def pick(_: str, parameter: Parameter) -> Scalar:
            if parameter.default is not None:
                return parameter.default
            return parameter.choices[0] if isinstance(parameter, Categorical) else parameter.from_unit(0.5)

        config = self.space.build(pick)
        key = self.space.key(config)
        return config if key not in self.keys and key not in pending and self.space.feasible(config) else None

    @cached_property
    def listable(self) -> bool:
        """Whether the space is finite and small enough to look through all of it."""
        return self.space.size() <= MAX_LISTED

    def untried(self, pending: Collection[str]) -> list[Params]:
        """The configurations of a listable space that were neither told nor are pending."""
        every = ((self.space.key(c), c) for c in self.space.enumerate(points=1))
        return [config for key, config in every if key not in self.keys and key not in pending]

    def fresh(self, draw: Callable[[], Params], rng: np.random.Generator, pending: Collection[str]) -> Params:
        """A draw that was neither told nor is pending, uniform where `draw` gives none; once none is left, one that is
        at least not pending."""
        repeat: Params | None = None
        for _ in range(TRIES):
            config = draw()
            key = self.space.key(config)
            if key not in pending:
                if key not in self.keys:
                    return config
                repeat = config
        if self.listable:
            left = self.untried(pending)
            return left[int(rng.integers(len(left)))] if left else repeat or config
        with suppress(FixSpace):  # constraints that next to nothing meets
            for other in self.space.sample(rng, TRIES):
                if (key := self.space.key(other)) not in pending and key not in self.keys:
                    return dict(other)
        return repeat or config
