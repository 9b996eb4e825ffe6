"""LangChain's models as advisors, against a real HTTP server: two providers, and what both do wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tunewright.agent import Agent, Budget, Float, Space
from tunewright.agent.testing import ScriptedServer, answer, refusal, reset, status, torn, truncated
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import AdviceRequest, Advisor, AdvisorFailed, Message
from tunewright.plugins.langchain import LangChainAdvisor
from tunewright.prompts import answer_type

KEY = "canary-0123456789-key"
SPACE = Space({"lr": Float(0.001, 1.0)})
REQUEST = AdviceRequest(
    "propose", (Message("system", "You tune."), Message("user", "History.")), answer_type(SPACE, 2), SPACE, {}
)
ABSTAIN = {"summary": "", "stance": "abstain", "candidates": []}
USAGE = {
    "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 5},
}  # fmt: skip
NO_SCHEMA = status(400, message="'response_format.type' json_schema is not supported")
NO_TOOLS = status(400, message="this model does not take tools")
Make = Callable[[ScriptedServer], LangChainAdvisor]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def make(server: ScriptedServer) -> LangChainAdvisor:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        return LangChainAdvisor("openai:some-model")

    return make


def failure(advisor: Advisor) -> AdvisorFailed:
    with pytest.raises(AdvisorFailed) as caught:
        advisor.complete(REQUEST, timeout=5)
    assert KEY not in str(caught.value) + repr(caught.value.data)
    return caught.value


# ------------------------------------------------------------------------------------------------ construction


@pytest.mark.parametrize("model", [None, "", "gpt-5", "anthropic:", ":m"])
def test_a_provider_and_a_model_must_be_named(model: str | None) -> None:
    with pytest.raises(FixArgument, match="langchain:anthropic:claude"):
        LangChainAdvisor(model)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(FixArgument, match="langchain-groq"):
        LangChainAdvisor("groq:some-model")


def test_an_unknown_provider_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FixArgument, match="nobody"):
        LangChainAdvisor("nobody:some-model")


def test_a_missing_key_is_said_before_any_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(FixArgument, match="OPENAI_API_KEY"):
        Agent(SPACE, metric="loss", store=None, advisor="langchain:openai:m")


# ------------------------------------------------------------------------------------------------ answers


def test_a_good_answer_and_its_usage(at: Make) -> None:
    with ScriptedServer([answer(ABSTAIN, USAGE)]) as server:
        advisor = at(server)
        assert isinstance(advisor, Advisor) and (advisor.name, advisor.model) == ("langchain", "openai:some-model")
        got = advisor.complete(REQUEST, timeout=5)
    assert json.loads(got.text) == ABSTAIN and got.model == "some-model" and got.usd is None
    assert (got.tokens_in, got.tokens_cached, got.tokens_out, got.tokens_reasoning) == (10, 4, 7, 5)
    (asked,) = server.requests
    assert asked.body["response_format"]["type"] == "json_schema" and "temperature" not in asked.body
    assert not {"max_tokens", "max_completion_tokens"} & asked.body.keys()
    assert [m["role"] for m in asked.body["messages"]] == ["system", "user"]


def test_a_model_without_schemas_gets_a_tool_then_words_and_that_is_remembered(at: Make) -> None:
    with ScriptedServer([NO_SCHEMA, NO_TOOLS, answer(ABSTAIN)]) as server:
        advisor = at(server)
        for _ in range(2):
            assert json.loads(advisor.complete(REQUEST, timeout=5).text) == ABSTAIN
    forms = [("response_format" in r.body, "tools" in r.body) for r in server.requests]
    assert forms == [(True, False), (False, True), (False, False), (False, False)]
    assert '"candidates"' in server.requests[-1].body["messages"][-1]["content"]


def test_the_arguments_of_a_tool_are_the_answer(at: Make) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "answer", "arguments": json.dumps(ABSTAIN)}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    body |= {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with ScriptedServer([NO_SCHEMA, lambda exchange: exchange.send(body)]) as server:
        assert json.loads(at(server).complete(REQUEST, timeout=5).text) == ABSTAIN


def test_what_the_caller_has_money_for_is_passed_on(at: Make) -> None:
    with ScriptedServer([answer(ABSTAIN)]) as server:
        request = AdviceRequest("propose", REQUEST.messages, REQUEST.answer_type, SPACE, {}, max_output_tokens=99)
        at(server).complete(request, timeout=5)
    assert server.requests[0].body["max_completion_tokens"] == 99


def test_prices_belong_to_the_providers_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    assert LangChainAdvisor("anthropic:claude-sonnet-5").priced_as == "anthropic:claude-sonnet-5"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert LangChainAdvisor("anthropic:claude-sonnet-5").priced_as is None


# ------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("behaviour", "retryable", "words"),
    [
        (status(401, message=f"bad key {KEY}"), False, "refused the key"),
        (status(403), False, "may not use model"),
        (status(404), False, "no model"),
        (status(429, {"retry-after": "7"}), True, "asks to wait 7 s"),
        (status(429, error_code="insufficient_quota"), False, "quota is used up"),
        (status(500), True, "answered 500"),
        (status(529), True, "answered 529"),
        (status(400, message="context length exceeded"), False, "context length"),
        (reset(), True, "cannot reach"),
        (torn(), True, "cannot be read"),
        (refusal("never"), False, "refused: never"),
        (truncated(), False, "output limit"),
        (answer(""), True, "empty answer"),
    ],
)
def test_faults_become_the_protocols_failures(at: Make, behaviour: Any, retryable: bool, words: str) -> None:
    with ScriptedServer([behaviour]) as server:
        failed = failure(at(server))
        assert len(server.requests) == 1, "the caller retries, nobody else"
    assert failed.retryable is retryable and words in str(failed)
    if words == "asks to wait 7 s":
        assert failed.retry_after == 7.0


def anthropic_answer(exchange: Any) -> None:
    asked = exchange.request.body
    assert asked["system"] == "You tune." or asked["system"][0]["text"] == "You tune."
    content = [{"type": "text", "text": json.dumps(ABSTAIN)}]
    if "tools" in asked:
        content = [{"type": "tool_use", "id": "t", "name": "answer", "input": ABSTAIN}]
    usage = {"input_tokens": 6, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 7}
    exchange.send(
        {"id": "m1", "type": "message", "role": "assistant", "model": "claude-x", "content": content,
         "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    )  # fmt: skip


def test_another_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    behaviours = [anthropic_answer, lambda exchange: exchange.send(overloaded, 529, {"retry-after": "3"})]
    with ScriptedServer(behaviours) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url.removesuffix("/v1"))
        advisor = LangChainAdvisor("anthropic:claude-sonnet-5")
        got = advisor.complete(REQUEST, timeout=5)
        assert json.loads(got.text) == ABSTAIN
        assert (got.tokens_in, got.tokens_cached, got.tokens_out) == (10, 4, 7)
        failed = failure(advisor)
    assert failed.retryable and failed.retry_after == 3.0 and "529" in str(failed) and "Overloaded" in str(failed)


def test_a_whole_study(at: Make) -> None:
    good = {"summary": "s", "stance": "propose", "candidates": [{"rationale": "r", "params": {"lr": 0.25}}]}
    with ScriptedServer([answer(good, USAGE)]) as server:
        at(server)
        agent = Agent(
            SPACE, metric="loss", engine="random", store=None, advisor="langchain:openai:m", budget=Budget(trials=10)
        )
        trial = agent.suggest()
    assert trial.source == "advisor" and trial["lr"] == 0.25
    (call,) = agent.why(0).calls
    assert (call.advisor, call.model, call.tokens_in, call.usd) == ("langchain", "m", 10, None)
