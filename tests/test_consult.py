"""The resilient call: deadline, retries, the one re-ask, the ledger, and the breaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tunewright.agent.consult import FINAL, MAX_ANSWER, Consultation, Policy, consult
from tunewright.agent.errors import CapReached
from tunewright.agent.testing import FakeAdvisor
from tunewright.engines.parameters import Float
from tunewright.engines.space import Space
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion, Message
from tunewright.prompts import answer_type, parse_propose

SPACE = Space({"lr": Float(0.001, 1.0)})
REQUEST = AdviceRequest("propose", (Message("system", "s"), Message("user", "u")), answer_type(SPACE, 3), SPACE, {})
GOOD = {"lr": 0.1}
ABSTAIN = {"stance": "abstain", "summary": "", "candidates": []}
BUSY = AdvisorFailed("busy", retryable=True)


@dataclass
class Row:
    attempt: int
    messages: tuple[Message, ...]
    status: str = "open"
    error: str | None = None
    completion: Completion | None = None
    seconds: float | None = None


@dataclass
class Book:
    """A ledger in a list. `cap` is how many attempts it lets begin."""

    cap: int | None = None
    rows: list[Row] = field(default_factory=list)

    def begin(self, attempt: int, messages: Sequence[Message]) -> int:
        if self.cap is not None and len(self.rows) >= self.cap:
            raise CapReached("no tokens left", cap="tokens")
        self.rows.append(Row(attempt, tuple(messages)))
        return len(self.rows) * 10

    def end(
        self, call_id: int, *, status: str, error: str | None, completion: Completion | None, seconds: float
    ) -> None:
        row = self.rows[call_id // 10 - 1]
        assert row.status == "open", "a row is closed once"
        row.status, row.error, row.completion, row.seconds = status, error, completion, seconds

    @property
    def statuses(self) -> list[str]:
        return [row.status for row in self.rows]


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def run(answers: Any, book: Book | None = None, *, clock: Clock | None = None, deadline: float = 60.0) -> Consultation:
    clock = clock or Clock()
    advisor = answers if hasattr(answers, "complete") else FakeAdvisor(answers)
    return consult(
        advisor,
        REQUEST,
        parse=lambda text: parse_propose(text, SPACE, 3),
        ledger=book or Book(),
        deadline=deadline,
        clock=clock,
        sleep=clock.sleep,
    )


# ------------------------------------------------------------------------------------------------ one good answer


def test_a_good_answer() -> None:
    book = Book()
    text = '{"stance": "propose", "summary": "s", "candidates": [{"rationale": "r", "params": {"lr": 0.5}}]}'
    done = run([Completion(text, model="m-1", tokens_in=5, tokens_out=0)], book)
    assert done.answer is not None and done.error is None and done.rejected == ()
    assert [c.params for c in done.answer.candidates] == [{"lr": 0.5}]
    assert done.call_ids == (10,) and done.answer_call == 10
    (row,) = book.rows
    assert (row.status, row.error, row.attempt, row.messages) == ("answered", None, 1, REQUEST.messages)
    assert row.completion is not None and row.completion.text == text
    assert (row.completion.tokens_in, row.completion.tokens_out, row.completion.tokens_cached) == (5, 0, None)


def test_an_advisor_may_abstain() -> None:
    done = run([ABSTAIN])
    assert done.error is None and done.answer is not None and done.answer.stance == "abstain" and done.answer_call == 10


# ------------------------------------------------------------------------------------------------ retries


def test_a_retryable_failure_is_tried_again() -> None:
    book, clock = Book(), Clock()
    done = run([BUSY, BUSY, GOOD], book, clock=clock)
    assert done.error is None and done.call_ids == (10, 20, 30) and done.answer_call == 30
    assert book.statuses == ["failed", "failed", "answered"] and [r.attempt for r in book.rows] == [1, 2, 3]
    assert book.rows[0].error == "busy" and book.rows[0].messages == book.rows[2].messages
    assert clock.slept == [0.25, 0.5]


def test_three_failures_are_enough() -> None:
    book, clock = Book(), Clock()
    done = run([BUSY] * 9, book, clock=clock)
    assert done.answer is None and done.error == "busy" and done.retryable
    assert book.statuses == ["failed"] * 3 and done.seconds == sum(clock.slept) < 1.5


def test_a_policy_may_be_more_patient() -> None:
    clock = Clock()
    policy = Policy(attempts=5, backoff=1, patience=20)
    done = consult(
        FakeAdvisor([BUSY] * 4 + [ABSTAIN]), REQUEST, parse=lambda text: parse_propose(text, SPACE, 3), ledger=Book(),
        deadline=60, policy=policy, clock=clock, sleep=clock.sleep,
    )  # fmt: skip
    assert done.error is None and clock.slept == [1, 2, 4, 8]


def test_a_final_failure_is_not_tried_again() -> None:
    book, clock = Book(), Clock()
    done = run([AdvisorFailed("wrong key", retryable=False), GOOD], book, clock=clock)
    assert done.error == "wrong key" and not done.retryable and clock.slept == []
    assert [r.error for r in book.rows] == ["wrong key" + FINAL]


@pytest.mark.parametrize(
    ("named", "slept"),
    [(2.0, [2.0]), (9.0, [9.0]), (0.0, [0.25]), (11.0, []), (float("nan"), [0.25]), ("soon", [0.25]), (-1.0, [0.25])],
)
def test_a_named_wait_is_kept_unless_it_is_long(named: Any, slept: list[float]) -> None:
    clock = Clock()
    done = run([AdvisorFailed("busy", retryable=True, retry_after=named), GOOD], clock=clock)
    assert clock.slept == slept
    assert (done.error is None) is bool(slept)


def test_no_wait_runs_past_the_deadline() -> None:
    clock = Clock()
    done = run([AdvisorFailed("busy", retryable=True, retry_after=5), GOOD], clock=clock, deadline=5)
    assert clock.slept == [] and done.error == "busy" and done.retryable


def test_a_failure_that_took_long_is_not_tried_again() -> None:
    clock = Clock()

    def hang(_: AdviceRequest) -> Exception:
        clock.now += 4
        return BUSY

    book = Book()
    assert run(hang, book, clock=clock).error == "busy"
    assert len(book.rows) == 1 and book.rows[0].seconds == 4


@pytest.mark.parametrize("fault", [ZeroDivisionError("oops"), SystemExit(3), NotImplementedError])
def test_a_buggy_advisor_is_a_failure_like_any_other(fault: Any) -> None:
    book = Book()
    done = run([fault, GOOD], book)
    name = (fault if isinstance(fault, type) else type(fault)).__name__
    assert done.error is not None and done.error.startswith(name) and not done.retryable
    assert book.statuses == ["failed"]


@pytest.mark.parametrize("returned", [None, "text", Completion(text=None)])  # type: ignore[arg-type]
def test_an_advisor_that_returns_something_else(returned: Any) -> None:
    class Odd:
        name, model = "odd", None

        def complete(self, request: AdviceRequest, *, timeout: float) -> Any:
            return returned

    done = run(Odd())
    assert done.error is not None and "not a Completion" in done.error and done.seconds == 0


def test_the_advisor_is_told_how_long_it_has() -> None:
    given_times = []

    class Watch:
        name, model = "watch", None

        def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
            given_times.append(timeout)
            raise BUSY

    run(Watch(), deadline=10)
    assert given_times == [10, 9.75, 9.25]


# ------------------------------------------------------------------------------------------------ the one re-ask


def test_an_unreadable_answer_is_asked_for_once_more_with_the_reasons() -> None:
    book = Book()
    done = run(["I think 0.1 is best", GOOD], book)
    assert done.error is None and done.answer_call == 20 and done.rejected == ()
    assert book.statuses == ["failed", "answered"]
    assert book.rows[0].error is not None and "no complete JSON object" in book.rows[0].error
    assert book.rows[0].completion is not None and book.rows[0].completion.text == "I think 0.1 is best"
    *before, said, asked = book.rows[1].messages
    assert tuple(before) == REQUEST.messages
    assert (said.role, said.content, asked.role) == ("assistant", "I think 0.1 is best", "user")
    assert "no complete JSON object" in asked.content


def test_it_is_asked_again_only_once() -> None:
    book = Book()
    done = run(["no", "still no", GOOD], book)
    assert len(book.rows) == 2 and done.answer is None and done.answer_call is None
    assert done.error is not None and "cannot be used" in done.error and done.retryable


def test_candidates_that_do_not_fit_are_asked_for_again_and_kept() -> None:
    book = Book()
    done = run([[{"lr": 5}, {"lr": "x"}], GOOD], book)
    assert done.error is None and done.answer is not None and done.answer.candidates[0].params == GOOD
    assert [(call, candidate.params) for call, candidate in done.rejected] == [(10, {"lr": 5}), (10, {"lr": "x"})]
    assert all(candidate.problems for _, candidate in done.rejected)
    assert book.statuses == ["failed", "answered"]
    asked = book.rows[1].messages[-1].content
    assert "candidate 1: lr: 5.0 is outside" in asked and "candidate 2: lr:" in asked


def test_one_candidate_that_fits_is_enough() -> None:
    book = Book()
    done = run([[{"lr": 5}, GOOD]], book)
    assert done.error is None and len(book.rows) == 1 and done.answer is not None and done.answer.candidates[0].problems


def test_a_second_answer_that_does_not_fit_is_kept_too() -> None:
    book = Book()
    done = run([{"lr": 5}, {"lr": 6}, GOOD], book)
    assert len(book.rows) == 2 and done.error is not None and "outside" in done.error
    assert done.answer is not None and done.answer_call == 20 and done.answer.candidates[0].params == {"lr": 6}
    assert [call for call, _ in done.rejected] == [10]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([BUSY, BUSY, "no", GOOD], "cannot be used"),
        ([BUSY, "no", "no", GOOD], "cannot be used"),
        (["no", BUSY, BUSY, GOOD], "busy"),
        ([BUSY, "no", BUSY, GOOD], "busy"),
    ],
)
def test_there_are_never_more_than_two_further_attempts(answers: list[Any], error: str) -> None:
    book = Book()
    done = run(answers, book)
    assert book.statuses == ["failed"] * 3 and done.error is not None and error in done.error


def test_a_failed_re_ask_keeps_the_first_candidates() -> None:
    done = run([{"lr": 5}, AdvisorFailed("gone", retryable=False)])
    assert done.error == "gone" and done.answer is None and [call for call, _ in done.rejected] == [10]


def test_long_answers_and_long_reasons_are_cut_in_a_re_ask() -> None:
    book = Book()
    run(["x" * 100_000, GOOD], book)
    assert sum(len(m.content) for m in book.rows[1].messages) < 6_000
    book = Book()
    run([[{f"p{i}": i for i in range(50)}] * 3, GOOD], book)
    assert len(book.rows[1].messages[-1].content) < 4_000


def test_an_oversized_answer_is_no_advice() -> None:
    book = Book()
    done = run(["x" * (MAX_ANSWER + 1), GOOD], book)
    assert done.error is not None and "longer than" in done.error and not done.retryable and len(book.rows) == 1
    assert book.rows[0].completion is not None and len(book.rows[0].completion.text) == MAX_ANSWER


def test_a_reader_that_breaks_does_not_stop_the_study() -> None:
    book = Book()

    def parse(text: str) -> Any:
        raise RecursionError("too deep")

    done = consult(FakeAdvisor([GOOD]), REQUEST, parse=parse, ledger=book, deadline=60)
    assert done.error is not None and "RecursionError: too deep" in done.error and book.statuses == ["failed"]


# ------------------------------------------------------------------------------------------------ caps, secrets


@pytest.mark.parametrize(("cap", "answers", "made"), [(0, [GOOD], 0), (1, ["no", GOOD], 1), (1, [BUSY, GOOD], 1)])
def test_a_cap_ends_the_consultation(cap: int, answers: list[Any], made: int) -> None:
    book = Book(cap)
    done = run(answers, book)
    assert done.error is not None and "no tokens left" in done.error and not done.retryable
    assert len(done.call_ids) == len(book.rows) == made and "open" not in book.statuses


def test_no_key_reaches_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "canary-value-42")
    book = Book()
    done = run([ValueError("header canary-value-42")], book)
    done_too = run(["the key is canary-value-42", AdvisorFailed("canary-value-42", retryable=False)], book)
    assert "canary" not in repr(book.rows) + repr(done) + repr(done_too)
    assert len(book.rows) == 3
    assert "[redacted]" in str(done.error)


def test_what_a_database_cannot_hold_is_made_storable() -> None:
    book = Book()
    odd: Any = {"tokens_in": True, "tokens_out": -1, "tokens_cached": 2**70, "usd": float("nan"), "request_id": 5}
    run([Completion("\ud800", **odd), GOOD], book)
    kept = book.rows[0].completion
    assert kept is not None
    kept.text.encode()
    assert (kept.tokens_in, kept.tokens_out, kept.tokens_cached, kept.usd, kept.request_id) == (None,) * 5
    run([AdvisorFailed("\ud800", retryable=False)], book)
    assert book.rows[-1].error is not None
    book.rows[-1].error.encode()


def test_a_failed_attempt_keeps_what_it_cost() -> None:
    book = Book()
    run([AdvisorFailed("cut off", retryable=False, completion=Completion("{", tokens_out=9, usd=0.5))], book)
    kept = book.rows[0].completion
    assert kept is not None and (kept.text, kept.tokens_out, kept.usd) == ("{", 9, 0.5)
