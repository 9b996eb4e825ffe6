"""The deadline of a consultation is wall clock: it holds whatever the advisor, its library or its server do."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tunewright.agent.consult import INTERRUPTED, consult
from tunewright.agent.testing import FakeAdvisor, ScriptedServer, drip, slow
from tunewright.engines.parameters import Float
from tunewright.engines.space import Space
from tunewright.plugins.hooks import AdviceRequest, Completion, Message
from tunewright.plugins.openai import OpenAIAdvisor
from tunewright.prompts import Answer, answer_type, parse_propose

SPACE = Space({"lr": Float(0.001, 1.0)})
REQUEST = AdviceRequest("propose", (Message("user", "u"),), answer_type(SPACE, 3), SPACE, {})
GOOD = {"lr": 0.1}


def read(text: str) -> Answer:
    return parse_propose(text, SPACE, 3)


class Book:
    """A ledger that keeps how each attempt ended: (status, error, completion)."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str | None, Completion | None]] = []
        self.begun = 0

    def begin(self, attempt: int, messages: Sequence[Message]) -> int:
        self.begun += 1
        return self.begun

    def end(
        self, call_id: int, *, status: str, error: str | None, completion: Completion | None, seconds: float
    ) -> None:
        self.ended.append((status, error, completion))


class Clock:
    """Time that passes only when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Stuck:
    """Answers only when it is let go."""

    name = "stuck"
    model: str | None = None

    def __init__(self) -> None:
        self.go, self.finished = threading.Event(), threading.Event()

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        self.go.wait(10)
        self.finished.set()
        return Completion('{"stance": "abstain", "candidates": []}')


def test_it_holds_whatever_the_advisor_does_and_the_late_answer_is_dropped() -> None:
    book, stuck = Book(), Stuck()
    done = consult(stuck, REQUEST, parse=read, ledger=book, deadline=0.05)
    late = "no answer within 0.05 s"
    assert done.answer is None and done.error == late and done.retryable
    assert book.ended == [("abandoned", late, None)]
    stuck.go.set()
    assert stuck.finished.wait(10)
    assert book.ended == [("abandoned", late, None)]


def test_an_answer_that_comes_past_it_is_late_even_when_nobody_had_to_wait() -> None:
    clock, book = Clock(), Book()

    def late(_: AdviceRequest) -> Any:
        clock.now += 60
        return GOOD

    done = consult(FakeAdvisor(late), REQUEST, parse=read, ledger=book, deadline=60, clock=clock)
    assert done.answer is None and book.ended == [("abandoned", "no answer within 60 s", None)]


def test_there_is_no_re_ask_after_it() -> None:
    clock, book, fake = Clock(), Book(), FakeAdvisor(["no", GOOD])

    def parse(text: str) -> Answer:
        clock.now += 60
        return read(text)

    done = consult(fake, REQUEST, parse=parse, ledger=book, deadline=60, clock=clock)
    assert len(fake.requests) == 1 and done.error is not None and "cannot be used" in done.error


def test_an_interrupt_goes_through_and_leaves_no_open_row() -> None:
    book = Book()

    def parse(text: str) -> Answer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consult(FakeAdvisor([GOOD]), REQUEST, parse=parse, ledger=book, deadline=60)
    assert book.ended == [("abandoned", INTERRUPTED, None)]


@pytest.mark.parametrize("behaviour", [drip(0.005), slow(30)])
def test_neither_silence_nor_drops_outlast_it(monkeypatch: pytest.MonkeyPatch, behaviour: Any) -> None:
    book = Book()
    with ScriptedServer([behaviour]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        done = consult(OpenAIAdvisor("m"), REQUEST, parse=read, ledger=book, deadline=0.2)
    assert done.error == "no answer within 0.2 s" and [status for status, *_ in book.ended] == ["abandoned"]
