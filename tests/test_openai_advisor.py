"""The OpenAI advisor against a real HTTP server that behaves, or misbehaves, as scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tunewright.agent.testing import (
    ScriptedServer,
    answer,
    dead_port,
    prose,
    status,
    truncated,
)
from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Categorical, Float
from tunewright.engines.space import Space
from tunewright.plugins import openai as module
from tunewright.plugins.hooks import AdviceRequest, Advisor, AdvisorFailed, Message
from tunewright.plugins.openai import OpenAIAdvisor
from tunewright.prompts import answer_type

KEY = "canary-0123456789-key"
SPACE = Space({"lr": Float(0.001, 1.0), "opt": Categorical(["sgd", "adam"]), "mom": Float(0, 1, when={"opt": "sgd"})})
REQUEST = AdviceRequest(
    "propose", (Message("system", "You tune."), Message("user", "History.")), answer_type(SPACE, 2), SPACE, {}
)
ABSTAIN = {"summary": "", "stance": "abstain", "candidates": []}


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


# ------------------------------------------------------------------------------------------------ construction


def test_a_model_must_be_named() -> None:
    for model in (None, ""):
        with pytest.raises(FixArgument, match='advisor="openai:MODEL"'):
            OpenAIAdvisor(model)


@pytest.mark.parametrize("url", [None, "", "https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
def test_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    if url is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(FixArgument) as caught:
        OpenAIAdvisor("m")
    assert caught.value.field == "OPENAI_API_KEY"
    assert 'advisor="rules"' in str(caught.value) and "OPENAI_BASE_URL" in str(caught.value)


def test_a_server_of_ones_own_needs_none(monkeypatch: pytest.MonkeyPatch, advisor_at: Any) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with ScriptedServer([ABSTAIN]) as server:
        advisor = advisor_at(server)
        assert isinstance(advisor, Advisor) and (advisor.name, advisor.model) == ("openai", "some-model")
        assert json.loads(advisor.complete(REQUEST, timeout=5).text) == ABSTAIN


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", "http://[::1/v1"]
)
def test_a_base_url_must_be_a_web_address(advisor_at: Any, url: str) -> None:
    with pytest.raises(FixArgument) as caught:
        advisor_at(url)
    assert caught.value.field == "OPENAI_BASE_URL"


def test_a_mangled_key_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n" + KEY)
    with pytest.raises(FixArgument) as caught:
        OpenAIAdvisor("m")
    assert caught.value.field == "OPENAI_API_KEY" and KEY not in str(caught.value)


def test_a_trailing_newline_is_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch, advisor_at: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    with ScriptedServer([ABSTAIN]) as server:
        advisor_at(server).complete(REQUEST, timeout=5)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


# ------------------------------------------------------------------------------------------------ what is asked


def test_compatible_servers_get_chat_completions_with_a_strict_schema(advisor_at: Any) -> None:
    with ScriptedServer([ABSTAIN]) as server:
        advisor_at(server).complete(REQUEST, timeout=5)
    (asked,) = server.requests
    assert asked.path == "/v1/chat/completions"
    assert [(m["role"], m["content"]) for m in asked.body["messages"]] == [
        ("system", "You tune."),
        ("user", "History."),
    ]
    assert asked.body["model"] == "some-model" and "max_tokens" not in asked.body
    form = asked.body["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    params = form["json_schema"]["schema"]["$defs"]["Params"]
    assert params["required"] == ["lr", "opt", "mom"] and params["additionalProperties"] is False
    assert {"type": "null"} in params["properties"]["mom"]["anyOf"]


@pytest.mark.usefixtures("responses_api")
def test_openai_itself_gets_responses(advisor_at: Any) -> None:
    usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 7}
    with ScriptedServer([answer(ABSTAIN, usage)]) as server:
        completion = advisor_at(server).complete(REQUEST, timeout=5)
    (asked,) = server.requests
    assert asked.path == "/v1/responses"
    assert asked.body["input"][1] == {"role": "user", "content": "History."}
    assert asked.body["text"]["format"]["type"] == "json_schema" and asked.body["text"]["format"]["strict"] is True
    assert asked.body["store"] is False
    assert json.loads(completion.text) == ABSTAIN
    assert (completion.tokens_in, completion.tokens_cached, completion.tokens_out) == (100, 60, 7)


class _Inner(BaseModel):
    note: str = Field(default="", max_length=9)


class _Loose(BaseModel):
    need: int
    maybe: int | None = None
    number: float = 1.0
    inner: _Inner = Field(default_factory=_Inner, description="an inner thing")
    title: str = ""  # a property may be called like a keyword


def test_any_answer_type_is_made_strict(advisor_at: Any) -> None:
    loose = AdviceRequest("x", (Message("user", "?"),), _Loose, SPACE, {})
    with ScriptedServer(["{}"]) as server:
        advisor_at(server).complete(loose, timeout=5)
    schema = server.requests[0].body["response_format"]["json_schema"]["schema"]
    null = {"type": "null"}
    assert schema["required"] == ["need", "maybe", "number", "inner", "title"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["need"] == {"type": "integer"}
    assert schema["properties"]["maybe"]["anyOf"] == [{"type": "integer"}, null]
    assert schema["properties"]["number"]["anyOf"] == [{"type": "number"}, null]
    assert schema["properties"]["inner"]["anyOf"] == [{"$ref": "#/$defs/_Inner"}, null]
    assert schema["properties"]["inner"]["description"] == "an inner thing"
    assert schema["$defs"]["_Inner"]["required"] == ["note"]
    assert "maxLength" not in json.dumps(schema) and "default" not in json.dumps(schema)


REJECTION = status(400, message="'response_format.type' json_schema is not supported")


def test_a_server_without_schemas_is_asked_for_json_and_remembered(advisor_at: Any) -> None:
    with ScriptedServer([REJECTION, ABSTAIN]) as server:
        advisor = advisor_at(server)
        for _ in range(2):
            assert json.loads(advisor.complete(REQUEST, timeout=5).text) == ABSTAIN
    kinds = [asked.body["response_format"]["type"] for asked in server.requests]
    assert kinds == ["json_schema", "json_object", "json_object"]
    last = server.requests[1].body["messages"][-1]["content"]
    assert last.startswith("History.") and '"candidates"' in last  # the schema is now in words


def test_a_server_without_json_is_asked_for_text(advisor_at: Any) -> None:
    with ScriptedServer([REJECTION, REJECTION, ABSTAIN]) as server:
        advisor_at(server).complete(REQUEST, timeout=5)
    kinds = [asked.body.get("response_format", {}).get("type") for asked in server.requests]
    assert kinds == ["json_schema", "json_object", None]


def test_a_server_that_rejects_every_form_ends_the_attempt(advisor_at: Any) -> None:
    with ScriptedServer([REJECTION]) as server:
        assert not failure(advisor_at(server)).retryable
    assert len(server.requests) == 3


def test_another_bad_request_is_not_about_the_form(advisor_at: Any) -> None:
    with ScriptedServer([status(400, message="context length exceeded")]) as server:
        error = failure(advisor_at(server))
    assert not error.retryable and "context length exceeded" in str(error) and len(server.requests) == 1


def test_a_server_that_breaks_over_a_grammar_is_asked_for_json(advisor_at: Any) -> None:
    with ScriptedServer([status(500, message="failed to parse grammar"), ABSTAIN]) as server:
        assert json.loads(advisor_at(server).complete(REQUEST, timeout=5).text) == ABSTAIN
    assert server.requests[1].body["response_format"] == {"type": "json_object"}


BOUNDED = replace(REQUEST, max_output_tokens=900)


def test_the_callers_limit_is_sent_by_the_name_that_the_server_takes_and_that_is_remembered(advisor_at: Any) -> None:
    old = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    with ScriptedServer([status(400, message=old), ABSTAIN]) as server:
        advisor = advisor_at(server)
        for _ in range(2):
            advisor.complete(BOUNDED, timeout=5)
    limits = [{k: v for k, v in asked.body.items() if k.startswith("max_")} for asked in server.requests]
    assert limits == [{"max_tokens": 900}, {"max_completion_tokens": 900}, {"max_completion_tokens": 900}]
    assert all({"temperature", "reasoning_effort"}.isdisjoint(asked.body) for asked in server.requests)


@pytest.mark.usefixtures("responses_api")
def test_openai_itself_always_has_a_limit(advisor_at: Any) -> None:
    with ScriptedServer([ABSTAIN]) as server:
        advisor = advisor_at(server)
        advisor.complete(REQUEST, timeout=5)
        advisor.complete(BOUNDED, timeout=5)
    assert [asked.body["max_output_tokens"] for asked in server.requests] == [16_384, 900]
    assert {"temperature", "reasoning"}.isdisjoint(server.requests[0].body)


def test_a_cut_off_answer_tells_whose_limit_it_was(advisor_at: Any) -> None:
    with ScriptedServer([truncated()]) as server:
        advisor = advisor_at(server)
        assert "num_ctx" in str(failure(advisor))
        with pytest.raises(AdvisorFailed, match="900 tokens, which is what the cap"):
            advisor.complete(BOUNDED, timeout=5)


def test_only_openais_own_models_have_listed_prices(monkeypatch: pytest.MonkeyPatch, advisor_at: Any) -> None:
    assert OpenAIAdvisor("gpt-5-mini").priced_as == "openai:gpt-5-mini"
    for url in ("http://127.0.0.1:9/v1", "https://eu.api.openai.com/v1", "https://api.openai.com.evil.example/v1"):
        assert advisor_at(url).priced_as is None


@pytest.mark.parametrize(("code", "usd"), [(429, 0.0), (400, 0.0), (401, 0.0), (500, None), (503, None)])
def test_a_refused_request_is_known_to_cost_nothing(advisor_at: Any, code: int, usd: float | None) -> None:
    with ScriptedServer([status(code)]) as server:
        paid = failure(advisor_at(server)).data.get("completion")
    assert (paid.usd if paid else None) == usd
    assert failure(advisor_at(f"http://127.0.0.1:{dead_port()}/v1")).data["completion"].usd == 0.0


# ------------------------------------------------------------------------------------------------ good answers


def test_usage_and_request_id(advisor_at: Any) -> None:
    usage = {
        "prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip
    with ScriptedServer([answer("{}", usage), "{}", answer("{}", {"prompt_tokens": "many"})]) as server:
        advisor = advisor_at(server)
        known, unknown, odd = (advisor.complete(REQUEST, timeout=5) for _ in range(3))
    assert (known.tokens_in, known.tokens_cached, known.tokens_out, known.tokens_reasoning) == (10, 0, 4, 3)
    assert known.request_id == "req-scripted" and known.model == "some-model"
    for completion in (unknown, odd):
        assert completion.tokens_in is completion.tokens_cached is completion.tokens_out is completion.usd is None


def test_content_in_parts_is_joined(advisor_at: Any) -> None:
    parts = [{"type": "text", "text": '{"a":'}, {"type": "text", "text": " 1}"}]
    body = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    with ScriptedServer([lambda exchange: exchange.send(body)]) as server:
        assert advisor_at(server).complete(REQUEST, timeout=5).text == '{"a": 1}'


def test_prose_is_the_callers_to_judge(advisor_at: Any) -> None:
    with ScriptedServer([prose("Lower it.")]) as server:
        assert advisor_at(server).complete(REQUEST, timeout=5).text == "Lower it."
