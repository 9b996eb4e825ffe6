"""Asking the advisor: digest to prompt to consultation, every attempt and candidate in the store.

A study has one question open at a time, whichever worker or process put it; the others go on with the engine meanwhile.
Candidates are stored as soon as an answer is read, so that a crash between the answer and the trial costs no call, and
an answer that others overtook is not lost: seeds wait as open proposals until their turn, and so do the candidates of
the next trial, whoever makes it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from tunewright import prompts
from tunewright.agent import digest
from tunewright.agent.arbiter import Advice, Candidate, Phase
from tunewright.agent.consult import INTERRUPTED, Breaker, Consultation, Outcome, consult
from tunewright.agent.digest_text import render
from tunewright.agent.errors import StudyMoved
from tunewright.agent.history import History
from tunewright.agent.lineup import Asked
from tunewright.agent.prices import FREE, Price
from tunewright.agent.readings import words
from tunewright.agent.records import ConsultRecord, Curve, ProposalRecord
from tunewright.agent.settings import Budget, label
from tunewright.agent.spending import Spending
from tunewright.agent.store import Store
from tunewright.agent.view import StudyView
from tunewright.plugins.hooks import AdviceRequest, Advisor, Completion, Message, Source
from tunewright.prompts import Prompt, answer_type, load, parse_propose

if TYPE_CHECKING:
    from pydantic import BaseModel

log = logging.getLogger("tunewright")
PURPOSE = "propose"
LATEST_CURVES = 2
# What one answer is reserved at under a cap: what providers are asked to stop at, or less where that is what is left.
OUTPUT_TOKENS = (16_384, 8_192, 4_096, 2_048)
FRAME_TOKENS = 64  # around a message or a schema
SLACK = 30.0  # seconds past the deadline after which nobody is thinking about a question any more
LATE = 2  # trials that others may have made after an answer came, before it is too old


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is about to be put. Its id is that of the event with which it began."""

    id: int
    number: int
    wanted: int
    request: AdviceRequest
    prompt: Prompt


IN_WORDS = {
    "gate": "the engine's model rates it below the better part of its own candidates",
    "distance": "too close to a configuration that was tried or runs",
    "failure region": "too close to trials that failed",
    "rejected": "it failed a check",
    "displaced": "it passed every check, but the engine's model rated another of yours higher",
    "open": "there was no place for it before the engine had a model",
    "expired": "there was no place for it before the engine had a model",
}

T = TypeVar("T")


class AdviceDesk:
    """One study's advisor. `sync` first, then read; `last_asked` is the trial for which a question was put last."""

    def __init__(
        self,
        advisor: Advisor,
        source: Source,
        view: StudyView,
        *,
        task: str | None,
        deadline: float,
        budget: Budget,
        price: Price | None = None,
    ):
        self.advisor, self.source, self.view, self.price = advisor, source, view, price
        self._store, self._study_id = view.store, view.record.id
        self._task, self._deadline, self._budget = task, deadline, budget
        self._breaker = Breaker()
        self._rests = False  # whether the log was told that it is asked less
        self.questions: list[int] = []  # that this advisor answered, by the trial that they were put for
        self._read_to = 0  # the last event that was looked at
        self._last: ConsultRecord | None = None  # the latest question that ended by itself
        self._open: ConsultRecord | None = None
        self.heard: int | None = None  # the last event about a question: what decisions are made on
        self.sleep = time.sleep  # between attempts
        prompt = load(PURPOSE)
        self.identity = f"{label(advisor)}, {prompt.name} {prompt.version}"  # whose trust it is

    # ------------------------------------------------------------------------------------------ what is known

    def sync(self) -> None:
        """Takes in what became of questions, whoever put them."""
        # An open question is read again: its process may have died since.
        after = self._read_to if self._open is None else self._open.id - 1
        found, self._read_to = self._store.consults(self._study_id, after, self._deadline + SLACK)
        self._open = None
        for one in found:
            self.heard = max(self.heard or 0, one.ended or one.id)
            if one.ended is None:
                self._open = one
                continue
            self._open = None
            if one.error != INTERRUPTED:
                self._last = one
                self._breaker.record(Outcome(one.number, one.error, one.retryable))
                if one.error is None and one.advisor in (None, self.identity):
                    self.questions.append(one.number)

    @property
    def last_asked(self) -> int | None:
        latest = self._open or self._last
        return latest.number if latest else None

    @property
    def trouble(self) -> str | None:
        """Why the latest question brought no answer."""
        return self._last.error if self._last else None

    def asked_before(self, number: int) -> int | None:
        """The trial of the last question, None where its answer may serve trial `number` and is not used yet: then
        nothing has to be asked."""
        stored = self._store.proposals(self._study_id, status="open")
        return None if any(self._serves(p, number) for p in stored) else self.last_asked

    def spending(self, history: History, budget: int) -> Spending | None:
        """What its questions, or where these are free its trials, have brought; None where nobody can say, with several
        objectives."""
        if len(self.view.objectives) > 1:
            return None
        free = self.price == FREE
        found = history.spending(self.identity, None if free else self.questions, budget)
        if found.next and not self._rests:
            log.log(logging.INFO if free else logging.WARNING, "%s: %s", self.identity, found.silence(found.next - 1))
        self._rests = bool(found.next)
        return found

    def answered(self, phase: Phase, number: int) -> bool:
        """Whether stored advice may serve trial `number`: nothing has to be asked."""
        return bool(self._usable(phase, number, self._store.proposals(self._study_id, status="open")))

    def _usable(self, phase: Phase, number: int, waiting: Sequence[ProposalRecord]) -> list[ProposalRecord]:
        return [p for p in waiting if phase == "seed" or self._serves(p, number)]

    def _serves(self, proposal: ProposalRecord, number: int) -> bool:
        """Whether stored advice was meant for trial `number`: asked for it, or for one that others made meanwhile."""
        if proposal.number == number:
            return True
        last = self._last
        return last is not None and proposal.number == last.number and last.then <= number <= last.then + LATE

    # ------------------------------------------------------------------------------------------ advice

    def advise(
        self, phase: Phase, wanted: int, history: History, asked: Asked, put: Question | None = None
    ) -> Advice | Question:
        """Candidates for the next trial from what is stored, or a question to be answered first. `put` is the question
        that this worker had answered for its present turn: it asks no second one."""
        number = history.created
        waiting = self._store.proposals(self._study_id, status="open")
        if usable := self._usable(phase, number, waiting):
            return Advice(tuple(Candidate(p.params, p.rationale or "", (), p.id) for p in usable))
        if put is not None:
            return Advice(silence=self.trouble or "its answer served another trial, which was made meanwhile")
        if self._open is not None:
            return Advice(silence="the advisor is thinking about another worker's question")
        if closed := self._breaker.allow(number):
            return Advice(silence=closed)
        self._store.update_proposals({p.id: ("expired", "history has moved on") for p in waiting if p.id is not None})
        return self.question(wanted, history, asked, seeding=phase == "seed")

    def question(self, wanted: int, history: History, asked: Asked, *, seeding: bool) -> Question:
        """Puts a question; `answer` must follow. Raises StudyMoved where another one is open by now.
        `seeding`: whether candidates get trials without the consent of the engine's model."""
        number, prompt = history.created, load(PURPOSE)
        request = self._request(prompt, number, wanted, history, asked, seeding)
        began = self._store.begin_consult(
            self._study_id, number, as_of=history.event, wanted=wanted, patience=self._deadline + SLACK
        )
        if began is None:
            raise StudyMoved("another worker put a question to the advisor", number=number)
        return Question(began, number, wanted, request, prompt)

    def answer(self, question: Question) -> Advice:
        """Has it answered, which takes at most the deadline, and stores what came."""
        space, wanted = self.view.space, question.wanted
        try:
            done = self.consult(
                question.number, question.prompt, question.request, lambda text: parse_propose(text, space, wanted)
            )
        except BaseException:
            self._store.end_consult(self._study_id, question.id, error=INTERRUPTED, retryable=True)
            raise
        return self._keep(question, done)

    def consult(
        self, number: int | None, prompt: Prompt, request: AdviceRequest, parse: Callable[[str], T]
    ) -> Consultation[T]:
        """One question of any prompt under the study's caps and deadline; every attempt is stored with `number`."""
        if self._budget.tokens is not None or self._budget.usd is not None:
            size = tokens_at_most(request.messages, request.answer_type)
            request = replace(request, max_output_tokens=self._most_output(size))
        return consult(
            self.advisor,
            request,
            parse=parse,
            ledger=_Ledger(self._store, self._study_id, number, self, prompt, request, self._budget),
            deadline=self._deadline,
            sleep=self.sleep,
        )

    def _request(
        self, prompt: Prompt, number: int, wanted: int, history: History, asked: Asked, seeding: bool
    ) -> AdviceRequest:
        space, curves = self.view.space, self._curves(history)
        diagnoses = {n: words(read) for n in curves if (read := self.view.reading(n))}
        untried = self._untried()
        asks = [asked.proposal.params, *(one.params for one in untried)]
        own, *expected = [None] * len(asks) if asked.startup else asked.expect(asks)
        mean, std = own or (None, None)
        facts = digest.build(
            space,
            self.view.objectives,
            history.told(),
            task=self._task,
            data=self.view.record.config.get("data"),
            budget_left=self._budget.assumed_trials - number,
            wanted=wanted,
            seeding=seeding,
            engine=digest.EngineView(
                asked.source.name, asked.proposal.params, asked.startup, mean, std, asked.favoured
            ),
            default=space.default(),
            fidelity=self.view.fidelity,
            noise=history.seen_noise,
            curves=curves,
            diagnoses=diagnoses,
            failing=[str(one) for one in history.failing()],
            rejected=untried,
            expected=expected,
            since=self.last_asked,
            notes=self.view.record.config.get("notes", ()),
        )
        static, changing = render(facts)
        system, user = prompt.render(study=static, history=changing)
        messages = (Message("system", system), Message("user", user))
        return AdviceRequest(prompt.name, messages, answer_type(space, wanted), space, facts)

    def _most_output(self, tokens_in: int) -> int:
        """The largest of OUTPUT_TOKENS that the caps have room for; the smallest where they have none, to be refused
        when it is reserved."""
        budget, room = self._budget, []
        if budget.tokens is not None:
            room.append(budget.tokens - self._store.committed(self._study_id, "tokens") - tokens_in)
        a_token = self.price.worst(0, 1) if self.price is not None else 0.0
        if budget.usd is not None and self.price is not None and a_token > 0:
            left = budget.usd - self._store.committed(self._study_id, "usd") - self.price.worst(tokens_in, 0)
            room.append(left / a_token)
        least = min(room, default=math.inf)
        return next((size for size in OUTPUT_TOKENS if size <= least), OUTPUT_TOKENS[-1])

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

    def _keep(self, question: Question, done: Consultation[prompts.Answer]) -> Advice:
        """Stores every candidate of a consultation; the valid ones of its last answer are the advice."""
        rejected = list(done.rejected)
        answer, number = done.answer, question.number
        if answer is not None and done.error is not None and done.answer_call is not None:
            rejected += [(done.answer_call, candidate) for candidate in answer.candidates]
        fresh = answer.candidates if answer is not None and done.error is None and answer.stance == "propose" else ()
        rows = [self._row(number, call, candidate) for call, candidate in rejected]
        rows += [self._row(number, done.answer_call, candidate) for candidate in fresh]
        ids = self._store.end_consult(
            self._study_id, question.id, error=done.error, retryable=done.retryable, rows=rows, advisor=self.identity
        )[len(rejected) :]
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

    def _untried(self) -> list[ProposalRecord]:
        """The candidates of the last answer that got no trial, each with the reason: the advisor is told once."""
        if self.last_asked is None:
            return []
        lost = self._store.proposals(self._study_id, self.last_asked)
        return [replace(p, reason=_told(p)) for p in lost if p.by == "advisor" and p.status in IN_WORDS]


def _told(lost: ProposalRecord) -> str | None:
    """In words that say what to change: the number of a check means nothing without the engine's scale."""
    if lost.status != "rejected":
        return IN_WORDS[lost.status]
    check, _, found = (lost.reason or "").partition(": ")
    return IN_WORDS[check] if check in IN_WORDS and not found.endswith(" trials") else lost.reason


class _Ledger:
    """One consultation's attempts as rows of the store, each reserved at its worst case."""

    def __init__(
        self,
        store: Store,
        study_id: int,
        number: int | None,
        desk: AdviceDesk,
        prompt: Prompt,
        request: AdviceRequest,
        budget: Budget,
    ):
        self._store, self._study_id, self._number = store, study_id, number
        self._desk, self._prompt, self._request, self._budget = desk, prompt, request, budget

    def begin(self, attempt: int, messages: Sequence[Message]) -> int:
        budget, price, prompt, request = self._budget, self._desk.price, self._prompt, self._request
        tokens = usd = None
        if budget.tokens is not None or budget.usd is not None:
            size, most = tokens_at_most(messages, request.answer_type), request.max_output_tokens or OUTPUT_TOKENS[0]
            tokens = (0 if price == FREE else size + most) if budget.tokens is not None else None
            usd = price.worst(size, most) if budget.usd is not None and price is not None else None
        return self._store.begin_call(
            self._study_id,
            number=self._number,
            attempt=attempt,
            advisor=self._desk.advisor.name,
            model=self._desk.advisor.model,
            prompt=(prompt.name, prompt.version, prompt.hash, f"{prompt.system}\n{prompt.user}"),
            messages=[(m.role, m.content) for m in messages],
            reserve_tokens=tokens,
            cap_tokens=budget.tokens,
            reserve_usd=usd,
            cap_usd=budget.usd,
        )

    def end(
        self, call_id: int, *, status: Any, error: str | None, completion: Completion | None, seconds: float
    ) -> None:
        known = completion or Completion("")
        price = self._desk.price
        self._store.end_call(
            call_id,
            status=status,
            error=error,
            answer=known.text or None,
            model=known.model,
            tokens_in=known.tokens_in,
            tokens_cached=known.tokens_cached,
            tokens_out=known.tokens_out,
            usd=price.cost(known) if known.usd is None and price is not None else known.usd,
            seconds=seconds,
            tokens_reasoning=known.tokens_reasoning,
        )


def tokens_at_most(messages: Sequence[Message], kind: type[BaseModel]) -> int:
    """Tokens that a request cannot exceed: tokenizers cut no byte in two, and providers add a frame to each message,
    and the schema."""
    return _schema_size(kind) + sum(len(m.content.encode()) + FRAME_TOKENS for m in messages) + FRAME_TOKENS


@lru_cache(maxsize=64)
def _schema_size(kind: type[BaseModel]) -> int:
    """In bytes."""
    return len(json.dumps(kind.model_json_schema()).encode())
