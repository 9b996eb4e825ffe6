"""The fake advisor and the scripted server that users' tests are built on."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from tunewright.agent.testing import (
    FakeAdvisor,
    ScriptedServer,
    answer,
    dead_port,
    drip,
    huge,
    prose,
    refusal,
    reset,
    slow,
    status,
    torn,
    truncated,
)
from tunewright.engines.parameters import Float
from tunewright.engines.space import Space
from tunewright.plugins.hooks import AdviceRequest, Advisor, AdvisorFailed, Completion, Message
from tunewright.prompts import answer_type, parse_propose

SPACE = Space({"lr": Float(0.001, 1.0)})


def request() -> AdviceRequest:
    return AdviceRequest("propose", (Message("user", "hi"),), answer_type(SPACE, 3), SPACE, {})


def post(server: ScriptedServer, path: str = "/chat/completions") -> tuple[int, dict[str, str], bytes]:
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("POST", f"/v1{path}", json.dumps({"model": "m"}), {"X-Canary": "yes"})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------ FakeAdvisor


def test_params_become_an_answer_of_the_schema() -> None:
    fake = FakeAdvisor([{"lr": 0.1}, [{"lr": 0.2}, {"lr": 0.3}]], model="m")
    assert isinstance(fake, Advisor)
    first = fake.complete(request(), timeout=1)
    request().answer_type.model_validate_json(first.text)
    assert first.model == "m" and first.tokens_in is None
    assert [c.params for c in parse_propose(first.text, SPACE, 3).candidates] == [{"lr": 0.1}]
    second = parse_propose(fake.complete(request(), timeout=1).text, SPACE, 3)
    assert [c.params["lr"] for c in second.candidates] == [0.2, 0.3]
    assert len(fake.requests) == 2


def test_whole_answers_strings_and_completions_are_sent_as_they_stand() -> None:
    whole = {"stance": "abstain", "summary": "s", "candidates": []}
    fake = FakeAdvisor([whole, "nonsense", Completion("x", tokens_in=7)])
    assert json.loads(fake.complete(request(), timeout=1).text) == whole
    assert fake.complete(request(), timeout=1).text == "nonsense"
    assert fake.complete(request(), timeout=1).tokens_in == 7


def test_exceptions_are_raised_and_an_empty_script_is_final() -> None:
    fake = FakeAdvisor([ValueError("boom"), KeyError])
    with pytest.raises(ValueError, match="boom"):
        fake.complete(request(), timeout=1)
    with pytest.raises(KeyError):
        fake.complete(request(), timeout=1)
    with pytest.raises(AdvisorFailed, match="no answer left") as caught:
        fake.complete(request(), timeout=1)
    assert not caught.value.retryable


def test_callables_see_the_request() -> None:
    fake = FakeAdvisor(lambda asked: {"lr": 0.5} if asked.purpose == "propose" else "no")
    assert "0.5" in fake.complete(request(), timeout=1).text
    nested = FakeAdvisor([lambda asked: len(asked.messages) * "x"])
    assert nested.complete(request(), timeout=1).text == "x"


# ------------------------------------------------------------------------------------------------ ScriptedServer


def test_the_script_is_played_in_order_and_its_last_entry_repeats() -> None:
    with ScriptedServer([status(503, {"retry-after": "2"}), "one", {"two": 2}]) as server:
        code, headers, body = post(server)
        assert (code, headers["retry-after"]) == (503, "2")
        assert json.loads(body)["error"]["message"] == "scripted failure"
        contents = [json.loads(post(server)[2])["choices"][0]["message"]["content"] for _ in range(3)]
        assert contents == ["one", '{"two": 2}', '{"two": 2}']
        assert len(server.requests) == 4
        assert server.requests[0].body == {"model": "m"} and server.requests[0].headers["x-canary"] == "yes"


def test_a_callable_script_sees_the_request() -> None:
    with ScriptedServer(lambda asked: prose() if asked.path.endswith("/responses") else status(404)) as server:
        assert post(server)[0] == 404
        body = json.loads(post(server, "/responses")[2])
        assert body["object"] == "response" and body["output"][0]["content"][0]["type"] == "output_text"


def test_usage_is_only_there_when_it_is_given() -> None:
    with ScriptedServer([answer("x"), answer("x", {"prompt_tokens": 3})]) as server:
        assert "usage" not in json.loads(post(server)[2])
        assert json.loads(post(server)[2])["usage"] == {"prompt_tokens": 3}


@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_refused_and_truncated_answers_are_marked(path: str) -> None:
    with ScriptedServer([refusal("never"), truncated()]) as server:
        assert '"refusal": "never"' in post(server, path)[2].decode()
        cut = json.loads(post(server, path)[2])
        assert cut.get("status") == "incomplete" or cut["choices"][0]["finish_reason"] == "length"


def test_torn_json_is_whole_http() -> None:
    with ScriptedServer([torn()]) as server:
        code, _, body = post(server)
        assert code == 200
        with pytest.raises(ValueError):
            json.loads(body)


def test_reset_resets_the_connection() -> None:
    with ScriptedServer([reset(), "fine"]) as server:
        with pytest.raises(ConnectionResetError):
            post(server)
        assert post(server)[0] == 200


def test_huge_is_valid_and_of_the_size_asked_for() -> None:
    with ScriptedServer([huge(200_001)]) as server:
        body = post(server)[2]
        assert len(body) == 200_001 and len(json.loads(body)["choices"][0]["message"]["content"]) > 199_000
        assert server.requests[0].sent == 200_001


def test_drip_sends_a_whole_body_a_byte_at_a_time() -> None:
    with ScriptedServer([drip(0.001, 5)]) as server:
        assert post(server)[2] == b" " * 5
        assert server.requests[0].sent == 5


def test_slow_answers_after_a_while() -> None:
    with ScriptedServer([slow(0.01, "late")]) as server:
        assert b"late" in post(server)[2]


def test_nobody_listens_on_a_dead_port() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", dead_port()), timeout=5)
