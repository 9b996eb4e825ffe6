"""One suggestion: the engine's proposal, the advisor's candidates, the arbiter's decision, one transaction.

The order of who may give the next trial: one whose process died, one that the scheduler lets go on, the queue, the
default configuration as trial 0, a held proposal of a private engine, and then engine and advisor before the arbiter.
A trial exists once its transaction has committed; everything before can be repeated from the store after a crash and
comes out the same.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.agent import settings
from tunewright.agent.advice import AdviceDesk, Question
from tunewright.agent.arbiter import Advice, Decision, Policy, Record, Scores, decide, turn
from tunewright.agent.beliefs import Beliefs
from tunewright.agent.checkpoints import Checkpoints, has_checkpoint
from tunewright.agent.draft import Draft, Turn
from tunewright.agent.errors import AwaitTrials, BudgetSpent, StudyMoved
from tunewright.agent.history import History, uncollected
from tunewright.agent.lineup import Asked, Choice
from tunewright.agent.proposers import Proposers
from tunewright.agent.records import Hold, ProposalRecord, TrialRecord
from tunewright.agent.scheduling import SchedulerDesk, Told, action_to_dict
from tunewright.agent.settings import Budget
from tunewright.agent.spending import Spending
from tunewright.agent.start import USER, default_draft, repeat_draft, trial_seed
from tunewright.agent.store import current_owner
from tunewright.agent.view import StudyView
from tunewright.engines.errors import SpaceExhausted
from tunewright.engines.schedulers import Begun, Clone, New, Resume
from tunewright.engines.types import Proposal, State

CANDIDATES_WANTED = 3  # of one call past the seeds
FIRST_WAITS = 10  # trials within which the engine's first point goes out, if advice took trial 0


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
        *,
        scheduler: SchedulerDesk | None = None,
        files: Path,
    ):
        self._view, self._store, self._study_id = view, view.store, view.record.id
        self._desk, self._task, self._budget = desk, task, budget
        self._scheduler, self._files, self._kept = scheduler, files, partial(has_checkpoint, files)
        self._policy = Policy(budget=budget.assumed_trials, rung_share=1 / 3 if scheduler else None)
        self._lock = threading.Lock()
        self._turn = Turn()
        self._history = History(view)
        self._beliefs = Beliefs(view.store, view.record.id)
        if scheduler is not None:
            self._history.rested = scheduler.rested
        modelled = view.fidelity if scheduler else None  # else all are trained to the end
        self._engines = Proposers(view, order, modelled, strict=strict, advised=desk is not None)

    def next(
        self,
        fresh: bool = True,
        put: Question | None = None,
        *,
        leased: bool = False,
        devices: float = 0.0,
        until: int | None = None,
    ) -> TrialRecord:
        """`fresh`: whether a new configuration may begin; without it only what a scheduler lets go on. `put`: a
        question that was answered for this turn already. `leased`: a runner takes it, which gives signs of life, and
        `devices` to train on; `until`: the trial before which its run ends, and the last ones may be repeats.
        Meanwhile other workers may come in. Raises BudgetSpent at the study's caps, SpaceExhausted when a finite space
        was tried out and AwaitTrials.
        """
        with self._lock:
            hold = Hold(current_owner(), leased, devices, self._budget.seconds, self._budget.gpu_hours)
            self._turn.put, self._turn.hold, self._turn.until = put, hold, until
            while True:
                self._sync()
                if self._history.waits and (waiting := self._store.next_waiting(self._study_id, hold, self._kept)):
                    return waiting
                try:
                    if self._scheduler is not None:
                        return self._scheduled(self._scheduler, fresh)
                    if (spent := self._trials_spent(fresh)) is not None:
                        raise spent
                    return self._write(self._draft())
                except StudyMoved:
                    continue  # another worker made a trial meanwhile: look again

    def ideas(self, wanted: int) -> Advice:
        """What the advisor would try now. Nothing is made; the next trials may still take it up."""
        with self._lock:
            if self._desk is None:
                return Advice(silence="the study has no advisor")
            while True:
                self._sync()
                try:
                    found = self._desk.advise("gate", wanted, self._history, self._ask())
                except StudyMoved:
                    continue  # another worker was faster: look again
                return self._answer(found) if isinstance(found, Question) else found

    def question(self, wanted: int) -> Question:
        """Puts a question to the advisor, which a replay answers when it was answered."""
        with self._lock:
            assert self._desk is not None, "somebody was asked"
            self._sync()
            asked = self._ask()
            return self._desk.question(wanted, self._history, asked, seeding=asked.startup)

    def _ask(self) -> Asked:
        """The engine's point, for the words of a question alone."""
        index = self._standing.ask_index
        asked = self._engines.ask(index, self._history.pending(self._engines.strict))
        return asked if asked.startup or not self._engines.reference(index) else self._engines.with_view(asked)

    def _answer(self, question: Question) -> Advice:
        """Lets other workers go on while the advisor thinks."""
        assert self._desk is not None, "a question was put to somebody"
        self._lock.release()
        try:
            return self._desk.answer(question)
        finally:
            self._lock.acquire()

    def told(self) -> tuple[Sequence[TrialRecord], float | None, int]:
        """(every trial as an advisor is told them, the noise between equal runs where it is known, trials made)."""
        with self._lock:
            self._sync()
            return self._history.told(), self._history.seen_noise, self._history.created

    @uncollected
    def _sync(self) -> None:
        ended = self._history.sync()
        self._standing = self._store.standing(self._study_id)  # after the count of trials, by which a later one is seen
        took = None if self._scheduler is None else self._scheduler.take()
        told = [Told(r.source, self._view.observation(r)) for r in ended] if took is None else took
        self._history.judge(told)
        self._engines.tell(told)
        if self._desk is not None:
            self._desk.sync()
            self._turn.heard = self._desk.heard
        self._check_trust()
        self._beliefs.follow(self._standing.said)
        self._engines.believe(self._beliefs.holding)

    def _check_trust(self) -> None:
        """Advice that lost its trust also leaves the engine's history: a private engine starts on its own trials."""
        if self._engines.strict or self._desk is None or self._engines.made:
            return
        trust = self._history.trust(self._desk.identity)
        if trust.lost:
            fell = {"at": self._history.created, "trust": str(trust)}
            config = {**self._view.record.config, "fell_to_strict": fell}
            self._view.record = self._store.update_config(self._study_id, config)
            self._engines.part()

    def _trials_spent(self, fresh: bool) -> BudgetSpent | None:
        # A clone goes on with a configuration that counts already.
        return self._budget.trials_spent(
            self._history.created - (self._scheduler.clones if self._scheduler else 0), fresh
        )

    def _scheduled(self, scheduler: SchedulerDesk, fresh: bool) -> TrialRecord:
        """What the scheduler asks for next."""
        spent: BudgetSpent | SpaceExhausted | None = self._trials_spent(fresh)
        while True:
            action = scheduler.next(fresh=spent is None)
            if isinstance(action, Resume):
                return self._store.resume(
                    self._study_id,
                    action.number,
                    action.to,
                    hold=self._turn.hold,
                    action=action_to_dict(action, spent is None, scheduler.event),
                )
            if isinstance(action, Clone):
                return self._clone(action, scheduler, spent is None)
            if isinstance(action, New):
                try:
                    return self._write(self._draft(action.fidelity), action)
                except SpaceExhausted as error:
                    spent = error
            elif action.done:
                fix = "a new study, or a scheduler that trains more"
                raise spent or BudgetSpent(f"the scheduler is done: {action.reason}", cap="scheduler", fix=fix)
            else:
                running = [r.number for r in self._history.live if r.state is State.RUNNING]
                raise AwaitTrials(
                    f"{action.reason}: running trials must have a result first",
                    field="running",
                    value=running,
                    fix="observe, fail or release one of them",
                    running=running,
                )

    def _clone(self, action: Clone, scheduler: SchedulerDesk, fresh: bool) -> TrialRecord:
        """A trial that goes on from another's checkpoint, which is copied before the trial exists, so that the step
        kept with it is the copied one's."""
        number = self._history.created
        own = Checkpoints(self._files / str(number))
        copy = own.copy(Checkpoints(self._files / str(action.parent)))
        if copy is not None and copy.step:
            action = replace(action, step=copy.step)
        words = ", ".join(f"{k} {v}" for k, v in action.tags.items())
        reason = f"goes on from trial {action.parent} after step {action.step} with changed parameters ({words})"
        draft = Draft(Decision("engine", reason), action.params, scheduler.choice.name)
        try:
            record = self._write(draft, action, fresh)
        except BaseException:
            if copy is not None:
                copy.drop()
            raise
        if copy is not None:
            copy.keep()
        return record

    def _draft(self, fidelity: int | None = None) -> Draft:
        """Who gets the next new trial, which is trained to `fidelity` at first."""
        if self._standing.queued and (queued := self._store.next_queued(self._study_id)):
            queue_id, params = queued
            return Draft(Decision("queue", "enqueued by the user"), params, USER.name, queue_id=queue_id)
        # In strict mode trial 0 comes from the user's defaults alone: the same trial as without an advisor.
        knows = self._desk.advisor if self._desk and not self._engines.strict else None
        if self._history.created == 0 and (start := default_draft(self._view.space, knows, self._task)):
            return start
        until = None if self._scheduler or self._engines.first == "grid" else self._turn.until
        if until and (repeat := repeat_draft(self._view, self._history, until, strict=self._engines.strict)):
            return repeat
        for held in self._held():
            asked = Asked(Proposal(held.params, tags=held.tags), held.source)
            return self._arbitrate(asked, held.ask_index or 0, held.id)
        index = self._standing.ask_index
        asked = self._engines.ask(index, self._history.pending(self._engines.strict), fidelity)
        return self._arbitrate(asked, index, None)

    def _held(self) -> list[ProposalRecord]:
        """What the engine proposed and advice displaced, to go out at its next turn: all of a private engine's, else
        its first point alone, which is the middle of the space rather than a random draw."""
        if not self._engines.strict and (self._history.created > FIRST_WAITS or not self._history.advised_first):
            return []
        held = self._store.proposals(self._study_id, status="held")
        return [one for one in held if self._engines.strict or self._history.repeats(one.params) is None]

    def _so_far(self) -> Record:
        history, desk = self._history, self._desk
        record = Record(history.created, history.seeds, history.advised, given=history.given)
        if desk is None:
            return record
        return replace(
            record,
            last_asked=desk.asked_before(history.created),
            trust=history.trust(desk.identity),
            unjudged=history.unjudged(desk.identity),
            probes=history.probes[desk.identity],
        )

    def _arbitrate(self, asked: Asked, index: int, held_id: int | None) -> Draft:
        """The engine's proposal (with the row it is held under, if it is) before the arbiter, beside advice."""
        record = self._so_far()
        spent = self._desk.spending(self._history, self._policy.budget) if self._desk else None
        advice, scores = self._advice(record, index, asked, spent)
        decision = decide(advice, [asked.proposal], scores, record, self._policy)
        if spent is not None and spent.next:
            decision = replace(decision, numbers={**decision.numbers, **spent.numbers})
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
            return Draft(
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
            if self._engines.strict or record.number == 0
            else replace(row, status="displaced", reason="an advised candidate took this trial")
        )
        return Draft(
            decision,
            taken.params,
            settings.label(self._desk.advisor),
            [] if held_id else [displaced],
            updates,
            taken_id=taken.proposal_id,
            held_id=held_id,
            faults=asked.faults,
        )

    def _advice(self, record: Record, index: int, asked: Asked, spent: Spending | None) -> tuple[Advice, Scores]:
        """What the advisor has to say for this trial, with every number the arbiter compares."""
        if self._desk is None:
            return Advice(silence="the study has no advisor"), Scores()
        phase, silence = turn(asked.proposal, record, self._policy)
        reference = self._engines.reference(index) if phase in ("gate", "probe") else ()
        if phase in ("gate", "probe") and not reference:
            phase, silence = None, "nothing is known yet that advice could be checked against"
        if phase is None:
            trouble = f"; its last call failed: {self._desk.trouble}" if self._desk.trouble else ""
            return Advice(silence=silence + trouble), Scores()
        # What was paid for is used; where questions are free it is the trial that would be spent.
        if (
            spent is not None
            and (rest := spent.silence(record.number)) is not None
            and (spent.free or not (self._turn.put or self._desk.answered(phase, record.number)))
        ):
            return Advice(silence=rest), Scores()
        if reference:
            asked = self._engines.with_view(asked)
        wanted = self._policy.seeds - record.seeds if phase == "seed" else CANDIDATES_WANTED
        advice = self._desk.advise(phase, wanted, self._history, asked, self._turn.put)
        if isinstance(advice, Question):
            self._turn.put = advice
            stands = (self._history.created, self._history.event)
            advice = self._answer(advice)
            if stands != (self._history.created, self._history.event):
                raise StudyMoved("other workers went on while the advisor thought")
        valid = [c for c in advice.candidates if not c.problems]
        scores = iter(self._engines.score([c.params for c in valid]) if reference and valid else [None] * len(valid))
        measured = tuple(
            None if c.problems else self._history.measured(c.params, next(scores)) for c in advice.candidates
        )
        return advice, Scores(measured, reference)

    def _write(self, draft: Draft, action: Begun | None = None, fresh: bool = True) -> TrialRecord:
        number = self._history.created
        as_of = self._scheduler.event if self._scheduler else self._history.event
        to_the_end = self._view.fidelity.high if self._view.fidelity else None
        return self._store.create_trial(
            self._study_id,
            expected_number=number,
            params=self._view.space.complete(draft.params),
            source=draft.decision.source,
            proposer=draft.proposer,
            seed=trial_seed(self._view.record.seed, number),
            fidelity=to_the_end if action is None or isinstance(action, Resume) else action.fidelity,
            resume_from=action.parent if isinstance(action, Clone) else None,
            hold=self._turn.hold,
            action=None if action is None else action_to_dict(action, fresh, as_of),
            decision={
                **draft.decision.to_dict(),
                "faults": list(draft.faults),
                "held": draft.held_id,
                "as_of": as_of,
                "heard": self._turn.heard,
                "put": self._turn.put.id if self._turn.put else None,
                "beliefs": self._beliefs.heard,
                "until": self._turn.until,
                "defaults": list(draft.defaults),
                "advisor": self._desk.identity if self._desk and draft.decision.source == "advisor" else None,
            },
            proposals=draft.proposals,
            updates=draft.updates or {},
            taken_proposal=next((i for i, p in enumerate(draft.proposals) if p.status == "taken"), None),
            taken_id=draft.taken_id,
            queue_id=draft.queue_id,
        )
