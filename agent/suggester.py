"""One suggestion: the engine's proposal, the advisor's candidates, the arbiter's decision, one transaction.

The order of who may give the next trial: one whose process died, the queue, the default configuration as trial 0, a
held proposal of a private engine, and then engine and advisor before the arbiter. A trial exists once its transaction
has committed; everything before can be repeated from the store after a crash and comes out the same.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.agent import settings
from tunewright.agent.advice import AdviceDesk
from tunewright.agent.arbiter import Advice, Decision, Measured, Policy, Record, Scores, decide, turn
from tunewright.agent.errors import BudgetSpent, StudyMoved
from tunewright.agent.history import History
from tunewright.agent.lineup import Asked, Choice, Lineup
from tunewright.agent.records import ProposalRecord, TrialRecord
from tunewright.agent.settings import Budget
from tunewright.agent.store import current_owner
from tunewright.agent.view import StudyView
from tunewright.engines.types import Proposal
from tunewright.plugins.hooks import KnowsDefaults, Source

USER = Source("user")
CANDIDATES_WANTED = 3  # of one call past the seeds


@dataclass(frozen=True, slots=True)
class _Draft:
    """A trial about to be written: whose it is, and the proposals that change their status with it."""

    decision: Decision
    params: Mapping[str, Any]
    proposer: str
    proposals: Sequence[ProposalRecord] = ()
    updates: Mapping[int, tuple[Any, str]] | None = None
    taken_id: int | None = None
    queue_id: int | None = None
    held_id: int | None = None  # the private engine's proposal that stood before the arbiter again
    faults: Sequence[str] = ()


class Suggester:
    """Makes a study's trials. Thread-safe; other processes may work on the same study."""

    def __init__(
        self,
        view: StudyView,
        order: Sequence[Choice],
        desk: AdviceDesk | None,
        task: str | None,
        budget: Budget,
        strict: bool,
    ):
        self._view, self._store, self._study_id = view, view.store, view.record.id
        self._desk, self._task, self._budget, self._strict = desk, task, budget, strict
        self._policy = Policy(budget=budget.assumed_trials)
        self._lock = threading.Lock()
        self._history = History(view)
        self._lineup = Lineup(order, view.space, view.objectives, view.record.seed)

    def next(self) -> TrialRecord:
        """Raises BudgetSpent at the study's caps and SpaceExhausted when a finite space was tried out."""
        with self._lock:
            while True:
                if waiting := self._store.next_waiting(self._study_id, current_owner()):
                    return waiting
                self._sync()
                self._check_budget()
                try:
                    return self._write(self._draft())
                except StudyMoved:
                    continue  # another process made a trial meanwhile: look again

    def _sync(self) -> None:
        ended = self._history.sync()
        self._lineup.tell([self._view.observation(r) for r in ended if not (self._strict and r.source == "advisor")])

    def _check_budget(self) -> None:
        trials, seconds = self._budget.trials, self._budget.seconds
        if trials is not None and self._history.created >= trials:
            raise BudgetSpent(
                f"all {trials} trials of the budget are made",
                cap="trials",
                limit=trials,
                fix="raise Budget(trials=...) to go on",
            )
        if seconds is not None and self._history.seconds >= seconds:
            raise BudgetSpent(
                f"trials trained {self._history.seconds:.0f} s of the budget's {seconds:g}",
                cap="seconds",
                limit=seconds,
                fix="raise Budget(seconds=...) to go on",
            )

    def _draft(self) -> _Draft:
        if queued := self._store.next_queued(self._study_id):
            queue_id, params = queued
            return _Draft(Decision("queue", "enqueued by the user"), params, USER.name, queue_id=queue_id)
        if self._history.created == 0 and (start := self._default()):
            return start
        held = self._store.proposals(self._study_id, status="held") if self._strict else []
        if held:
            return self._arbitrate(
                Asked(Proposal(held[0].params, tags=held[0].tags), held[0].source), held[0].ask_index or 0, held[0].id
            )
        index = self._store.next_ask_index(self._study_id)
        return self._arbitrate(self._lineup.ask(index, self._history.pending(self._strict)), index, None)

    def _default(self) -> _Draft | None:
        """Trial 0: the user's defaults, completed by what the advisor knows of library defaults.

        In strict mode the user's alone, so that it is the same trial as without an advisor.
        """
        space = self._view.space
        known: Mapping[str, Any] = {}
        advisor = self._desk.advisor if self._desk else None
        if not self._strict and isinstance(advisor, KnowsDefaults):
            try:
                known = dict(advisor.defaults(space, self._task))
            except Exception:  # a plugin's fault must not keep a study from starting; the engine goes first
                known = {}
        params = space.default(known)
        if params is None:
            return None
        users = [n for n in params if space.parameters[n].default is not None]
        advised = [n for n in params if n in known and n not in users]
        told = [f"{', '.join(users)} by the user"] if users else []
        if advised and advisor is not None:
            told.append(f"{', '.join(advised)} by {settings.label(advisor)}")
        if len(users) + len(advised) < len(params):
            told.append("the rest in the middle of its range")
        return _Draft(Decision("default", f"the default configuration: {'; '.join(told)}"), params, USER.name)

    def _arbitrate(self, asked: Asked, index: int, held_id: int | None) -> _Draft:
        """The engine's proposal (with the row it is held under, if it is) before the arbiter, beside advice."""
        record = Record(
            self._history.created,
            self._history.seeds,
            self._history.advised,
            self._desk.asked_before(self._history.created) if self._desk else None,
        )
        advice, scores = self._advice(record, index, asked)
        decision = decide(advice, [asked.proposal], scores, record, self._policy)
        updates: dict[int, tuple[Any, str]] = {
            v.proposal_id: (v.status, v.reason) for v in decision.verdicts if v.proposal_id is not None
        }
        row = ProposalRecord(
            by="engine",
            source=asked.source,
            params=asked.proposal.params,
            status="taken",
            number=record.number,
            ask_index=index,
            tags=asked.proposal.tags,
        )
        if decision.source == "engine":
            if held_id is not None:
                updates[held_id] = ("held", "it had lost an earlier turn to advice")
            return _Draft(
                decision,
                row.params,
                asked.source.name,
                [] if held_id else [row],
                updates,
                taken_id=held_id,
                held_id=held_id,
                faults=asked.faults,
            )
        assert decision.chosen is not None and self._desk is not None, "advice was taken"
        taken = decision.verdicts[decision.chosen]
        displaced = (
            replace(row, status="held", reason="goes out at the engine's next turn")
            if self._strict
            else replace(row, status="displaced", reason="an advised candidate took this trial")
        )
        return _Draft(
            decision,
            taken.params,
            settings.label(self._desk.advisor),
            [] if held_id else [displaced],
            updates,
            taken_id=taken.proposal_id,
            held_id=held_id,
            faults=asked.faults,
        )

    def _advice(self, record: Record, index: int, asked: Asked) -> tuple[Advice, Scores]:
        """What the advisor has to say for this trial, with every number the arbiter compares."""
        if self._desk is None:
            return Advice(silence="the study has no advisor"), Scores()
        phase, silence = turn(asked.proposal, record, self._policy)
        reference = self._lineup.reference(index) if phase == "gate" else ()
        if phase == "gate" and not reference:
            phase, silence = None, "nothing is known yet that advice could be checked against"
        if phase is None:
            trouble = f"; its last call failed: {self._desk.trouble}" if self._desk.trouble else ""
            return Advice(silence=silence + trouble), Scores()
        wanted = self._policy.seeds - record.seeds if phase == "seed" else CANDIDATES_WANTED
        advice = self._desk.advise(phase, wanted, self._history, asked)
        valid = [c for c in advice.candidates if not c.problems]
        scores = iter(self._lineup.score([c.params for c in valid]) if reference and valid else [None] * len(valid))
        measured = tuple(
            None
            if c.problems
            else Measured(self._history.repeats(c.params), *self._history.near(c.params), next(scores))
            for c in advice.candidates
        )
        return advice, Scores(measured, reference)

    def _write(self, draft: _Draft) -> TrialRecord:
        number = self._history.created
        return self._store.create_trial(
            self._study_id,
            expected_number=number,
            params=self._view.space.complete(draft.params),
            source=draft.decision.source,
            proposer=draft.proposer,
            seed=trial_seed(self._view.record.seed, number),
            owner=current_owner(),
            decision={**draft.decision.to_dict(), "faults": list(draft.faults), "held": draft.held_id},
            proposals=draft.proposals,
            updates=draft.updates or {},
            taken_proposal=next((i for i, p in enumerate(draft.proposals) if p.status == "taken"), None),
            taken_id=draft.taken_id,
            queue_id=draft.queue_id,
        )


def trial_seed(seed: int, number: int) -> int:
    """The seed handed to trial `number`: independent streams of one study seed, below 2**31."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
