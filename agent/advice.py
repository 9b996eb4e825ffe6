"""Asking the advisor: digest to prompt to consultation, every attempt and candidate in the store.

Candidates are stored as soon as an answer is read, so that a crash between the answer and the trial costs no call:
seeds wait as open proposals until their turn, and so do the candidates of a trial that was not yet made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tunewright import prompts
from tunewright.agent import digest
from tunewright.agent.arbiter import Advice, Candidate, Phase
from tunewright.agent.consult import Breaker, Consultation, Outcome, consult, outcomes
from tunewright.agent.digest_text import render
from tunewright.agent.history import History
from tunewright.agent.lineup import Asked
from tunewright.agent.records import Curve, ProposalRecord
from tunewright.agent.settings import Budget, label
from tunewright.agent.store import Store
from tunewright.agent.view import StudyView
from tunewright.plugins.hooks import AdviceRequest, Advisor, Completion, Message, Source
from tunewright.prompts import Prompt, answer_type, load, parse_propose

PURPOSE = "propose"
LATEST_CURVES = 2
ANSWER_TOKENS = 16_384  # reserved for one answer where tokens are capped: what providers are asked to stop at
CHARACTERS_PER_TOKEN = 3  # a low estimate, so that a reservation is a worst case


class AdviceDesk:
    """One study's advisor. `last_asked` is the trial for which it was last asked."""

    def __init__(
        self, advisor: Advisor, source: Source, view: StudyView, *, task: str | None, deadline: float, budget: Budget
    ):
        self.advisor, self.source, self.view = advisor, source, view
        self._store, self._study_id = view.store, view.record.id
        self._task, self._deadline, self._budget = task, deadline, budget
        past = [c for c in self._store.calls(self._study_id) if c.prompt_name == PURPOSE and c.number is not None]
        ended = outcomes(past)
        self._breaker = Breaker.replay(ended)
        self.last_asked = past[-1].number if past else None
        self.trouble = ended[-1].error if ended else None
        self.sleep = time.sleep  # between attempts
        prompt = load(PURPOSE)
        self.identity = f"{label(advisor)}, {prompt.name} {prompt.version}"  # whose trust it is

    def asked_before(self, number: int) -> int | None:
        """The trial of the last question, None where its answer to trial `number` is stored and not used yet: then
        nothing has to be asked."""
        stored = any(p.number == number for p in self._store.proposals(self._study_id, status="open"))
        return None if stored else self.last_asked

    def advise(self, phase: Phase, wanted: int, history: History, asked: Asked) -> Advice:
        """Candidates for the next trial: open ones where they still count, else the answer to a new call."""
        number = history.created
        waiting = self._store.proposals(self._study_id, status="open")
        usable = [p for p in waiting if phase == "seed" or p.number == number]
        if usable:
            return Advice(tuple(Candidate(p.params, p.rationale or "", (), p.id) for p in usable))
        if closed := self._breaker.allow(number):
            return Advice(silence=closed)
        self._store.update_proposals({p.id: ("expired", "history has moved on") for p in waiting if p.id is not None})
        return self._ask(number, wanted, history, asked)

    def _ask(self, number: int, wanted: int, history: History, asked: Asked) -> Advice:
        space, prompt, curves = self.view.space, load(PURPOSE), self._curves(history)
        facts = digest.build(
            space,
            self.view.objectives,
            history.told(),
            task=self._task,
            budget_left=self._budget.assumed_trials - number,
            wanted=wanted,
            engine=digest.EngineView(
                asked.source.name,
                asked.proposal.params,
                startup=asked.proposal.tags.get("phase") == "startup",
                mean=asked.mean,
                std=asked.std,
            ),
            default=space.default(),
            fidelity=self.view.fidelity,
            curves=curves,
            diagnoses={n: str(read) for n in curves if (read := self.view.reading(n))},
            rejected=self._rejected(),
            notes=self.view.record.config.get("notes", ()),
        )
        static, changing = render(facts)
        system, user = prompt.render(study=static, history=changing)
        request = AdviceRequest(
            purpose=prompt.name,
            messages=(Message("system", system), Message("user", user)),
            answer_type=answer_type(space, wanted),
            space=space,
            facts=facts,
        )
        self.last_asked = number
        done = consult(
            self.advisor,
            request,
            parse=lambda text: parse_propose(text, space, wanted),
            ledger=_Ledger(self._store, self._study_id, number, self.advisor, prompt, self._budget),
            deadline=self._deadline,
            sleep=self.sleep,
        )
        self.trouble = done.error
        self._breaker.record(Outcome(number, done.error, done.retryable))
        return self._keep(number, done)

    def _curves(self, history: History) -> dict[int, list[Curve]]:
        """Of the best trial and the latest ones, those that have any."""
        done = [r for r in history.finished if r.values is not None]
        loss = self.view.objectives[0].loss
        best = min(done, key=lambda r: loss(r.values[0]) if r.values else 0.0, default=None)
        shown = [*([best] if best else []), *reversed(history.finished[-LATEST_CURVES:])]
        found = {}
        for number in dict.fromkeys(record.number for record in shown):
            if names := self._store.metric_names(self._study_id, number):
                found[number] = [self._store.curve(self._study_id, number, name) for name in names]
        return found

    def _keep(self, number: int, done: Consultation) -> Advice:
        """Stores every candidate of a consultation; the valid ones of its last answer are the advice."""
        rejected = list(done.rejected)
        answer = done.answer
        if answer is not None and done.error is not None and done.answer_call is not None:
            rejected += [(done.answer_call, candidate) for candidate in answer.candidates]
        fresh = answer.candidates if answer is not None and done.error is None and answer.stance == "propose" else ()
        rows = [self._row(number, call, candidate) for call, candidate in rejected]
        rows += [self._row(number, done.answer_call, candidate) for candidate in fresh]
        ids = self._store.add_proposals(self._study_id, number, rows)[len(rejected) :]
        if done.error is not None or answer is None:
            return Advice(silence=done.error or "the advisor gave no answer")
        if not fresh:
            words = "took the engine's point" if answer.stance == "accept_engine" else "abstained"
            return Advice(silence=f"the advisor {words}" + (f": {answer.summary}" if answer.summary else ""))
        return Advice(tuple(Candidate(c.params, c.rationale, c.problems, i) for c, i in zip(fresh, ids, strict=True)))

    def _row(self, number: int, call: int | None, candidate: prompts.Candidate) -> ProposalRecord:
        return ProposalRecord(
            by="advisor",
            source=self.source,
            params=candidate.params,
            status="rejected" if candidate.problems else "open",
            number=number,
            call_id=call,
            rationale=candidate.rationale,
            reason="schema: " + "; ".join(candidate.problems) if candidate.problems else None,
        )

    def _rejected(self) -> list[ProposalRecord]:
        """The candidates that the last call's answer lost to a check: they are told to the advisor once."""
        if self.last_asked is None:
            return []
        return [
            p
            for p in self._store.proposals(self._study_id, self.last_asked)
            if p.by == "advisor" and p.status == "rejected"
        ]


class _Ledger:
    """One consultation's attempts as rows of the store, each reserved at its worst case."""

    def __init__(self, store: Store, study_id: int, number: int, advisor: Advisor, prompt: Prompt, budget: Budget):
        self._store, self._study_id, self._number = store, study_id, number
        self._advisor, self._prompt, self._budget = advisor, prompt, budget

    def begin(self, attempt: int, messages: Sequence[Message]) -> int:
        capped = self._budget.tokens is not None
        size = sum(len(m.content) for m in messages) // CHARACTERS_PER_TOKEN + ANSWER_TOKENS
        free = getattr(self._advisor, "free_of_charge", False)
        return self._store.begin_call(
            self._study_id,
            number=self._number,
            attempt=attempt,
            advisor=self._advisor.name,
            model=self._advisor.model,
            prompt=(
                self._prompt.name,
                self._prompt.version,
                self._prompt.hash,
                f"{self._prompt.system}\n{self._prompt.user}",
            ),
            messages=[(m.role, m.content) for m in messages],
            reserve_tokens=(0 if free else size) if capped else None,
            cap_tokens=self._budget.tokens,
            reserve_usd=0.0 if free and self._budget.usd is not None else None,
            cap_usd=self._budget.usd,
        )

    def end(
        self, call_id: int, *, status: Any, error: str | None, completion: Completion | None, seconds: float
    ) -> None:
        known = completion or Completion("")
        self._store.end_call(
            call_id,
            status=status,
            error=error,
            answer=known.text or None,
            model=known.model,
            tokens_in=known.tokens_in,
            tokens_cached=known.tokens_cached,
            tokens_out=known.tokens_out,
            usd=known.usd,
            seconds=seconds,
        )
