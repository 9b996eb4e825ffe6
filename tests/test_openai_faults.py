"""What the OpenAI advisor makes of servers that fail, and that no failure shows the key."""

from __future__ import annotations

import gzip
import json
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from tunewright.agent.testing import (
    ScriptedServer,
    answer,
    dead_port,
    drip,
    huge,
    refusal,
    reset,
    slow,
    status,
    torn,
    truncated,
)
from tunewright.engines.parameters import Float
from tunewright.engines.space import Space
from tunewright.plugins import openai as module
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Message
from tunewright.plugins.openai import OpenAIAdvisor
from tunewright.prompts import answer_type

KEY = "canary-0123456789-key"
SPACE = Space({"lr": Float(0.001, 1.0)})
REQUEST = AdviceRequest("propose", (Message("user", "History."),), answer_type(SPACE, 2), SPACE, {})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def advisor_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def make(server: ScriptedServer | str) -> OpenAIAdvisor:
        monkeypatch.setenv("OPENAI_BASE_URL", server if isinstance(server, str) else server.base_url)
        return OpenAIAdvisor("some-model")

    yield make


@pytest.fixture
def responses_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the scripted server for OpenAI itself."""
    monkeypatch.setattr(module, "OPENAI_HOSTS", ("127.0.0.1",))


def failure(advisor: OpenAIAdvisor, timeout: float = 5) -> AdvisorFailed:
    with pytest.raises(AdvisorFailed) as caught:
        advisor.complete(REQUEST, timeout=timeout)
    return caught.value


# ------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("code", "retryable", "named"),
    [
        (308, False, "OPENAI_BASE_URL"),
        (401, False, "OPENAI_API_KEY"),
        (403, False, "some-model"),
        (404, False, "OPENAI_BASE_URL"),
        (422, False, "scripted failure"),
        (408, True, "scripted failure"),
        (429, True, "scripted failure"),
        (500, True, "500"),
        (502, True, "502"),
        (503, True, "503"),
        (529, True, "529"),
    ],
)
def test_status_codes(advisor_at: Any, code: int, retryable: bool, named: str) -> None:
    with ScriptedServer([status(code)]) as server:
        error = failure(advisor_at(server))
    assert error.retryable is retryable and named in str(error) and server.base_url in str(error)
    assert error.retry_after is None
    assert len(server.requests) == 1  # retries are the caller's


def test_a_redirect_is_not_followed_with_the_key(advisor_at: Any) -> None:
    with ScriptedServer(["{}"]) as other, ScriptedServer([status(307, {"location": other.base_url})]) as server:
        error = failure(advisor_at(server))
    assert "OPENAI_BASE_URL" in str(error) and other.requests == []


def test_a_used_up_quota_does_not_come_back_by_waiting(advisor_at: Any) -> None:
    with ScriptedServer([status(429, error_code="insufficient_quota")]) as server:
        error = failure(advisor_at(server))
    assert not error.retryable and "quota" in str(error)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after": "0.5"}, 0.5, 0.5),
        ({"retry-after": "-3"}, 0, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, 1.5),
        ({"retry-after": formatdate(0, usegmt=True)}, 0, 0),
    ],
)
def test_retry_after(advisor_at: Any, headers: dict[str, str], low: float, high: float) -> None:
    with ScriptedServer([status(429, headers)]) as server:
        error = failure(advisor_at(server))
    assert error.retry_after is not None and low <= error.retry_after <= high


def test_retry_after_a_date(advisor_at: Any) -> None:
    with ScriptedServer([status(429, {"retry-after": formatdate(time.time() + 3600, usegmt=True)})]) as server:
        error = failure(advisor_at(server))
    assert error.retry_after is not None and 3000 <= error.retry_after <= 3600


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "1e999", ""])
def test_a_retry_after_that_is_no_time_is_none(advisor_at: Any, text: str) -> None:
    with ScriptedServer([status(503, {"retry-after": text})]) as server:
        assert failure(advisor_at(server)).retry_after is None


@pytest.mark.parametrize(
    ("behaviour", "retryable", "words"),
    [
        (torn(), True, "no JSON object"),
        (
            lambda exchange: exchange.send(b"<html>Gateway</html>", headers={"content-type": "text/html"}),
            True,
            "Gateway",
        ),
        (lambda exchange: exchange.send(b"[" * 100_000), True, "no JSON object"),
        (lambda exchange: exchange.send(b"\xff\xfe\xfd"), True, "no JSON object"),
        (lambda exchange: exchange.send({"error": {"message": "upstream is busy"}}), True, "upstream is busy"),
        (lambda exchange: exchange.send({"error": "just words"}, 500), True, "just words"),
        (lambda exchange: exchange.send({"choices": []}), True, "empty answer"),
        (lambda exchange: exchange.send({"choices": "x", "usage": 3}), True, "empty answer"),
        (answer(""), True, "empty answer"),
        (reset(), True, "cannot reach"),
        (refusal("I must not."), False, "refused: I must not."),
        (truncated(), False, "output limit"),
    ],
)
def test_broken_answers(advisor_at: Any, behaviour: Any, retryable: bool, words: str) -> None:
    with ScriptedServer([behaviour]) as server:
        error = failure(advisor_at(server))
    assert error.retryable is retryable and words in str(error)


@pytest.mark.usefixtures("responses_api")
@pytest.mark.parametrize(
    ("behaviour", "retryable", "words"),
    [
        (torn(), True, "no JSON object"),
        (answer(""), True, "empty answer"),
        (lambda exchange: exchange.send({"status": "failed", "error": {"message": "broke"}}), True, "broke"),
        (lambda exchange: exchange.send({"output": [1, {"type": "message", "content": 3}]}), True, "empty answer"),
        (refusal("I must not."), False, "refused: I must not."),
        (truncated(), False, "output limit"),
        (
            lambda exchange: exchange.send({"output": [], "incomplete_details": {"reason": "content_filter"}}),
            False,
            "content filter",
        ),
    ],
)
def test_broken_responses(advisor_at: Any, behaviour: Any, retryable: bool, words: str) -> None:
    with ScriptedServer([behaviour]) as server:
        error = failure(advisor_at(server))
    assert error.retryable is retryable and words in str(error)


def test_a_cut_off_answer_still_tells_what_it_cost(advisor_at: Any) -> None:
    with ScriptedServer([truncated("{", {"completion_tokens": 16_000})]) as server:
        error = failure(advisor_at(server))
    assert error.data["completion"].tokens_out == 16_000


@pytest.mark.parametrize("code", [200, 500])
def test_no_more_than_a_megabyte_is_read(advisor_at: Any, code: int) -> None:
    with ScriptedServer([huge(64_000_000, code)]) as server:
        error = failure(advisor_at(server))
    assert not error.retryable and "larger than 1000000 bytes" in str(error)
    assert server.requests[0].sent < 32_000_000  # the rest of what was sent lies in the kernel's buffers


def test_a_nested_bomb_is_measured_unpacked(advisor_at: Any) -> None:
    packed = gzip.compress(b" " * 30_000_000)
    assert len(packed) < module.MAX_BODY
    with ScriptedServer([lambda exchange: exchange.send(packed, headers={"content-encoding": "gzip"})]) as server:
        assert "larger than" in str(failure(advisor_at(server)))


def test_a_packed_answer_is_unpacked(advisor_at: Any) -> None:
    packed = gzip.compress(json.dumps({"choices": [{"message": {"content": "hello"}}]}).encode())
    with ScriptedServer([lambda exchange: exchange.send(packed, headers={"content-encoding": "gzip"})]) as server:
        assert advisor_at(server).complete(REQUEST, timeout=5).text == "hello"


def test_a_silent_and_a_dripping_server_time_out(advisor_at: Any) -> None:
    with ScriptedServer([slow(30), drip(0.01, 500)]) as server:
        advisor = advisor_at(server)
        silent, dripping = failure(advisor, 0.1), failure(advisor, 0.1)
    assert silent.retryable and "no answer" in str(silent)
    assert dripping.retryable and "not complete within" in str(dripping)
    assert 1 < server.requests[1].sent < 1000


def test_nobody_there(advisor_at: Any) -> None:
    url = f"http://127.0.0.1:{dead_port()}/v1"
    error = failure(advisor_at(url))
    assert error.retryable and url in str(error) and "OPENAI_BASE_URL" in str(error)


# ------------------------------------------------------------------------------------------------ secrets


def _everything(error: BaseException | None) -> str:
    """Every text of an exception and of those it came from, suppressed ones included."""
    text = ""
    while error is not None:
        text += str(error) + repr(error) + str(getattr(error, "data", "")) + "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize(
    "behaviour",
    [
        status(400, message=f"bad header: Bearer {KEY}"),
        status(401, message=f"Incorrect API key provided: {KEY}"),
        status(403, message=KEY),
        status(429, message=KEY),
        status(500, message=KEY),
        lambda exchange: exchange.send(f"not JSON {KEY}".encode()),
        lambda exchange: exchange.send({"error": KEY}),
        refusal(f"I will not use {KEY}"),
        truncated(f"{KEY} and then"),
        huge(2_000_000),
        reset(),
        slow(30),
    ],
)
def test_the_key_is_in_no_error(advisor_at: Any, behaviour: Any) -> None:
    with ScriptedServer([behaviour]) as server:
        advisor = advisor_at(server)
        error = failure(advisor, 0.2)
    assert KEY in server.requests[0].headers["authorization"]
    assert KEY not in _everything(error)
    assert error.__cause__ is None and error.__context__ is None  # those hold the request
    assert KEY not in repr(advisor)


def test_a_key_in_the_answer_is_masked(advisor_at: Any) -> None:
    with ScriptedServer([f"your key is {KEY}"]) as server:
        assert advisor_at(server).complete(REQUEST, timeout=5).text == "your key is [key]"


def test_a_password_in_the_base_url_is_not_shown(advisor_at: Any) -> None:
    error = failure(advisor_at(f"http://me:secret@127.0.0.1:{dead_port()}/v1"))
    assert "secret" not in _everything(error) and "127.0.0.1" in str(error)


def test_a_placeholder_key_is_an_ordinary_word(monkeypatch: pytest.MonkeyPatch, advisor_at: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with ScriptedServer(["none of them"]) as server:
        assert advisor_at(server).complete(REQUEST, timeout=5).text == "none of them"
