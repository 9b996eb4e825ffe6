"""The engines of a study: those that propose, and those that advice is held against.

They are the same engines, told every trial, until advice and engine are kept apart (`safety="strict"`, or after the
fall to it). Then the ones that propose are private, told nothing of advised trials, and others, told everything, judge
the advice: a private engine knows none of the places where advice has lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.agent.lineup import Asked, Choice, Lineup
from tunewright.agent.scheduling import Told
from tunewright.agent.view import StudyView
from tunewright.engines.priors import Prior
from tunewright.engines.types import Fidelity, Observation, Proposal


class Proposers:
    """`strict` says whether they are kept apart. `modelled`: the fidelity that engines model, if any."""

    def __init__(
        self, view: StudyView, order: Sequence[Choice], modelled: Fidelity | None, *, strict: bool, advised: bool
    ):
        self._view, self._order, self._modelled, self.strict = view, order, modelled, strict
        self._told: list[Told] = []  # everything that engines heard, or would have heard, in order
        self._own = self._lineup()
        self._judges = self._lineup() if strict and advised and not self.made else self._own

    @property
    def made(self) -> bool:
        """Whether one was given as an object, which cannot be had twice."""
        return any(choice.made for choice in self._order)

    @property
    def first(self) -> str:
        """The name of the one that is asked before all others."""
        return self._order[0].source.name

    @property
    def deaf(self) -> str | None:
        """The name of the engine in charge if it does not lean by beliefs."""
        return self._own.deaf

    def _lineup(self) -> Lineup:
        view = self._view
        return Lineup(self._order, view.space, view.objectives, view.record.seed, self._modelled)

    def _heard(self, told: Sequence[Told]) -> list[Observation]:
        """What the ones that propose are told."""
        return [t.observation for t in told if not (self.strict and t.source == "advisor")]

    def tell(self, told: Sequence[Told]) -> None:
        self._told += told
        self._own.tell(self._heard(told))
        if self._judges is not self._own:
            self._judges.tell([t.observation for t in told])

    def believe(self, priors: Sequence[Prior]) -> None:
        self._own.believe(priors)
        if self._judges is not self._own:
            self._judges.believe(priors)

    def part(self) -> None:
        """Private engines from now on, told their own trials so far; the present ones stay as judges."""
        self.strict = True
        self._own = self._lineup()
        self._own.tell(self._heard(self._told))

    def ask(self, index: int, pending: Sequence[Proposal], fidelity: int | None = None) -> Asked:
        return self._own.ask(index, pending, fidelity)

    def with_view(self, asked: Asked) -> Asked:
        """With where the best of the last reference lie; an engine without a model has no view."""
        return asked if asked.startup else replace(asked, favoured=self._judges.favoured())

    def reference(self, index: int) -> tuple[float, ...]:
        """The judges' scores of candidates of their own, empty while no model can judge."""
        return self._judges.reference(index)

    def score(self, configs: Sequence[Mapping[str, Any]]) -> Sequence[float | None]:
        return self._judges.score(configs)
