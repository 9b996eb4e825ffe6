"""A study's beliefs: what was told and when, what still holds, and what became of it.

Beliefs tilt the engines from the next trial on (see `tunewright.engines.priors`). They come from the words of people
alone: from the task, from `Agent.believe`, the chat and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.agent.records import StudyRecord
from tunewright.agent.store import Store
from tunewright.agent.store.beliefs import BELIEVED
from tunewright.engines.errors import FixArgument
from tunewright.engines.priors import NEGLIGIBLE, Evidence, Prior, Tilt, evidence, fading, since
from tunewright.engines.types import Observation, Params

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent
    from tunewright.agent.counsel import Opinion
    from tunewright.agent.view import StudyView
    from tunewright.prompts import Priors

TASK = "task"
DRAWN = 512
_FIELDS = tuple(f.name for f in fields(Prior))


@dataclass(frozen=True, slots=True)
class Held:
    """One belief of a study, `number` counted from 1 in the order of telling. `by`: "rules" or the model that read the
    words, "task" for words of the task."""

    number: int
    prior: Prior
    by: str
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Belief:
    """What became of a belief: `evidence` for and against it, the `weight` that is left of it (0 to 1), and of the
    engines' `proposals` since it was told how many are where it points, beside the share of the space that is."""

    held: Held
    fits: bool
    evidence: Evidence | None
    weight: float
    proposals: int
    followed: int
    expected: float

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "words": statement(self.held.prior), "status": self.status}

    @property
    def status(self) -> str:
        if self.held.withdrawn:
            return "withdrawn"
        if not self.fits or self.evidence is None:
            return "of no parameter in today's space"
        if self.evidence.rejected:
            return "rejected by the trials"
        return "faded" if self.weight < NEGLIGIBLE else "in force"

    def __str__(self) -> str:
        prior = self.held.prior
        origin = "the task" if self.held.by == TASK else f"read by {self.held.by}"
        return f'{self.held.number}. {statement(prior)} ({prior.strength}; "{prior.words}", {origin}): {self._fate()}'

    def _fate(self) -> str:
        found = self.evidence
        if self.held.withdrawn or not self.fits or found is None:
            return self.status
        said = f"{self.status}, weight {self.weight:.2f}"
        if found.won is None:
            said += f"; {self._incomparable()}"
        else:
            said += (
                f"; {found.favoured} trials where it points win {found.won:.0%} of the comparisons with "
                f"{found.against} elsewhere"
            )
        if self.proposals and 0.0 < self.expected < 1.0:
            said += (
                f"; {self.followed} of {self.proposals} proposals since are where it points "
                f"({self.expected:.0%} of the space is)"
            )
        return said

    def _incomparable(self) -> str:
        if self.expected in (0.0, 1.0):
            part = "all" if self.expected else "nothing"
            return f"not to be tested: {part} of today's space is where it points, so no trials are left to compare"
        return "no trials to compare yet"


class Beliefs:
    """Reads what was told. `heard` is the last event about it."""

    def __init__(self, store: Store, study_id: int):
        self._store, self._study_id = store, study_id
        self.heard: int | None = None
        self.all: list[Held] = []
        self._seen = 0

    def follow(self, said: int) -> None:
        """`sync`, where `said`, the latest event that is of no trial, is news."""
        if said > self._seen:
            self.sync()
            self._seen = said

    def sync(self, until: int | None = None) -> None:
        """Takes in what is new, to event `until` where it is named."""
        for event, kind, payload in self._store.beliefs_since(self._study_id, self.heard or 0):
            if until is not None and event > until:
                break
            self.heard = event
            if kind == BELIEVED:
                for told in payload["priors"]:
                    self.all.append(Held(len(self.all) + 1, _prior_of(told), told["by"]))
            else:
                number = payload["belief"]
                before = self.all[number - 1]
                self.all[number - 1] = Held(before.number, before.prior, before.by, withdrawn=True)

    @property
    def holding(self) -> tuple[Prior, ...]:
        return tuple(held.prior for held in self.all if not held.withdrawn)


def tell(agent: Agent, words: str, model: bool) -> Opinion[Priors]:
    """See `Agent.believe`."""
    found = agent.counsel(model=model).priors(words)
    _hold(agent._store, agent.study_id, found.answer.priors, found.by)
    agent.note(words)
    if found.answer.priors and (engine := agent._suggester._engines.deaf):
        note = f"the engine {engine} does not lean by beliefs; the advisor alone is told"
        return replace(found, answer=replace(found.answer, notes=(*found.answer.notes, note)))
    return found


def _hold(store: Store, study_id: int, priors: Sequence[Prior], by: str, *, once: bool = False) -> None:
    if priors:
        store.believe(study_id, [_to_dict(prior) for prior in priors], by=by, once=once)


def withdraw(store: Store, study_id: int, number: int) -> None:
    """Raises FixArgument where no belief of this number holds."""
    told = Beliefs(store, study_id)
    told.sync()
    holding = [held.number for held in told.all if not held.withdrawn]
    if number not in holding:
        fix = f"one of {', '.join(map(str, holding))}" if holding else "no belief holds"
        raise FixArgument("no such belief holds", field="belief", value=number, fix=fix)
    store.withdraw_belief(study_id, number)


def read_task(view: StudyView, task: str | None, before: StudyRecord | None) -> None:
    """Beliefs in the words of a study's task; those in its words of before are taken back."""
    known = before.config.get("task") if before is not None else None
    if not task or task == known:
        return
    store, study_id = view.store, view.record.id
    if known:
        told = Beliefs(store, study_id)
        told.sync()
        for held in told.all:
            if held.by == TASK and not held.withdrawn:
                store.withdraw_belief(study_id, held.number)
    from tunewright.agent.said import read  # which needs pydantic, and no reader of a study does

    _hold(store, study_id, read(task, view.space).priors, TASK, once=True)


def _to_dict(prior: Prior) -> dict[str, Any]:
    """As the store keeps it; `told_at` is filled in there."""
    kept = {name: getattr(prior, name) for name in _FIELDS if name != "told_at"}
    return {**kept, "values": list(prior.values), "when": dict(prior.when) if prior.when else None}


def _prior_of(told: Mapping[str, Any]) -> Prior:
    known = {name: told[name] for name in _FIELDS if name in told}
    return Prior(**{**known, "values": tuple(told.get("values") or ())})


def judge(told: Sequence[Held], view: StudyView) -> list[Belief]:
    """By every trial of the study so far that fits its space."""
    fitted = [found for record in view.trials() if (found := view.fit(record)) is not None]
    ended = [view.observation(record) for record in fitted if record.state.finished]
    made = [record for record in fitted if record.source == "engine"]
    free = view.space.free
    return [
        _judged(held, view, ended, [free(r.params) for r in made if r.number >= held.prior.told_at]) for held in told
    ]


def _judged(held: Held, view: StudyView, observations: Sequence[Observation], proposed: Sequence[Params]) -> Belief:
    """`proposed`: by engines since it was told."""
    prior, space = held.prior, view.space
    if not prior.fits(space):
        return Belief(held, False, None, 0.0, 0, 0, 0.0)
    found = evidence(prior, space, observations, view.objectives[0])
    weight = 0.0 if held.withdrawn else fading(since(prior, observations)) * found.trust
    tilt = Tilt(space, [(prior, 1.0)])
    drawn = space.sample(np.random.default_rng(0), DRAWN)
    expected = float(tilt.points_to(space.encode(drawn)).mean())
    followed = int(tilt.points_to(space.encode(list(proposed))).sum()) if proposed else 0
    return Belief(held, True, found, weight, len(proposed), followed, expected)


def statement(prior: Prior) -> str:
    """In words: "lr: avoid above 0.05, when opt is sgd"."""
    limits = [prior.low, prior.high] if not prior.values else list(prior.values)
    named = (" or " if prior.values else " to ").join(_value(v) for v in limits if v is not None)
    if prior.belief == "rising":
        said = "the larger the better"
    elif prior.belief == "falling":
        said = "the smaller the better"
    elif prior.belief == "prefer_range":
        said = f"prefer {named}"
    else:
        said = f"{prior.belief.replace('_values', '').replace('_', ' ')} {named}"
    when = "".join(f", when {name} is {_value(v)}" for name, v in (prior.when or {}).items())
    return f"{prior.parameter}: {said}{when}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
