"""Whatever the advisor does, the study completes on its engine and each trial can say what was wrong."""

from __future__ import annotations

import time

import pytest

from tunewright.agent import Agent, Budget, Float, Int, State
from tunewright.agent import testing as scripts
from tunewright.agent.testing import FakeAdvisor, ScriptedServer, dead_port

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6)}
ALLOWED_EXTRA = 30.0  # seconds that 20 trials may take longer than with no advisor

FAULTS = {
    "500": (lambda: scripts.status(500), ["500"]),
    "429": (lambda: scripts.status(429), ["429"]),
    "prose": (lambda: scripts.answer("I would simply train for longer."), ["JSON"]),
    "torn": (lambda: scripts.torn(), ["JSON"]),
    "out of range": (
        lambda: scripts.answer(
            {
                "summary": "s",
                "stance": "propose",
                "candidates": [{"rationale": "big", "params": {"lr": 7.0, "layers": 3}}],
            }
        ),
        ["lr", "7.0", "outside"],
    ),
    "reset": (lambda: scripts.reset(), ["onnect"]),
}


def study(**changes) -> tuple[Agent, float]:
    agent = Agent(**{"space": SPACE, "metric": "loss", "store": None, "budget": Budget(trials=20), **changes})
    began = time.monotonic()
    agent.tune(lambda trial: trial["lr"] * trial["layers"])
    return agent, time.monotonic() - began


def check(agent: Agent, words: list[str]) -> None:
    assert [t.state for t in agent.trials] == [State.COMPLETE] * 20
    assert {t.source for t in agent.trials} == {"engine"}
    for number in range(20):
        why = str(agent.why(number))
        for word in words:
            assert word in why, f"trial {number}:\n{why}"


@pytest.mark.parametrize("fault", FAULTS)
def test_over_real_http(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour, words = FAULTS[fault]
    with ScriptedServer(lambda request: behaviour()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-000000000000")
        agent, took = study(advisor="openai:any")
    assert server.requests
    check(agent, words)
    assert took < ALLOWED_EXTRA


def test_a_dead_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{dead_port()}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-000000000000")
    agent, took = study(advisor="openai:any")
    check(agent, ["onnect"])
    assert took < ALLOWED_EXTRA


def test_slow_answers_cost_their_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(lambda request: scripts.slow(30)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-000000000000")
        agent, _ = study(advisor="openai:any", advisor_deadline=0.2)
        check(agent, ["no answer within 0.2 s"])


def test_a_plugin_that_breaks_the_protocol() -> None:
    agent, _ = study(advisor=FakeAdvisor(lambda request: ZeroDivisionError("oops")))
    check(agent, ["ZeroDivisionError: oops"])


def test_good_advice_after_a_bad_answer_is_used_and_both_are_kept() -> None:
    good = {"lr": 1e-4, "layers": 2}
    advisor = FakeAdvisor([[{"lr": 9.0, "layers": 2}], [good]])
    agent, _ = study(advisor=advisor)
    assert agent.trials[0].source == "advisor" and agent.trials[0].params == good
    why = agent.why(0)
    assert len(why.calls) == 2 and [c.status for c in why.calls] == ["failed", "answered"]
    assert "lr: 9.0 is outside" in str(why)
    assert "Your answer cannot be used" in advisor.requests[1].messages[-1].content


def test_a_token_cap_is_kept() -> None:
    advisor = FakeAdvisor(lambda request: [{"lr": 1e-4, "layers": 2}])
    agent, _ = study(advisor=advisor, budget=Budget(trials=20, tokens=100))
    assert advisor.requests == []
    assert "tokens" in str(agent.why(0))
