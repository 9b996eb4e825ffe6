"""Whatever the advisor does, the study completes on its engine and each trial can say what was wrong."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent, Budget, Categorical, Float, Int, Space, State
from tunewright.agent.testing import (
    INJECTIONS,
    Adversary,
    FakeAdvisor,
    ScriptedServer,
    adversaries,
    dead_port,
    wire_faults,
)

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6)}
ALLOWED_EXTRA = 30.0  # seconds that 20 trials may take longer than with no advisor
# What `why` must say. The last kinds cost their deadline, which is short here.
WORDS = {
    "429": "429", "429, retry after a second": "asks to wait 1 s", "500": "500", "503": "503", "529": "529",
    "401": "refused the key", "reset": "cannot reach", "prose": "no complete JSON object", "torn": "no JSON object",
    "refusal": "the model refused", "truncated": "output limit", "empty": "empty answer", "huge": "larger than",
    "slow": "no answer within 0.2 s", "dripping": "no answer within 0.2 s",
}  # fmt: skip
SAID = {
    "outside": "is outside", "prose": "no complete JSON object", "torn JSON": "no complete JSON object",
    "wrong types": "is not a", "orders in the answer": "is not a parameter", "refusal": "the model refused",
    "dead": "ConnectionRefusedError", "busy": "answered 429", "bug": "ZeroDivisionError",
    "slow": "no answer within 0.2 s", "dripping": "no answer within 0.2 s",
}  # fmt: skip
LATE = ("slow", "dripping")
TIMED = ("429", "500", "prose", *LATE)  # studied as they are, waits and all


def loss(params: Any) -> float:
    return (math.log10(params["lr"]) + 3) ** 2 + 0.1 * params["layers"]


def study(waits: bool = True, **changes: Any) -> tuple[Agent, float]:
    """A study of 20 trials, and the seconds that it took; without `waits` nobody sleeps between attempts."""
    given = {"metric": "loss", "engine": "random", "store": None, "budget": Budget(trials=20), "space": SPACE}
    agent = Agent(**{**given, **changes})
    if not waits and agent._desk is not None:
        agent._desk.sleep = lambda seconds: None
    began = time.monotonic()
    agent.tune(lambda trial: loss(trial.params))
    return agent, time.monotonic() - began


def check(agent: Agent, words: str) -> None:
    assert [t.state for t in agent.trials] == [State.COMPLETE] * 20
    assert {t.source for t in agent.trials} == {"engine"}
    for number in range(20):
        why = str(agent.why(number))
        assert words in why, f"trial {number}:\n{why}"
        assert len(agent.why(number).calls) <= 3, "at most two re-asks"


@pytest.mark.parametrize("fault", wire_faults())
def test_over_real_http(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = wire_faults()[fault]
    with ScriptedServer(lambda request: behaviour()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-000000000000")
        deadline = 0.2 if fault in LATE else 60.0
        agent, took = study(fault in TIMED, advisor="openai:any", advisor_deadline=deadline)
    assert server.requests
    check(agent, WORDS[fault])
    assert took < ALLOWED_EXTRA


def test_a_dead_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{dead_port()}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-000000000000")
    agent, took = study(advisor="openai:any")
    check(agent, "cannot reach")
    assert took < ALLOWED_EXTRA


@pytest.mark.parametrize("adversary", adversaries(SPACE, loss, seconds=3.0), ids=lambda a: a.name)
def test_every_adversary(adversary: Adversary) -> None:
    deadline = 0.2 if adversary.name in LATE else 60.0
    agent, took = study(advisor=adversary.make(), advisor_deadline=deadline)
    assert took < ALLOWED_EXTRA
    if not adversary.harms:
        check(agent, SAID[adversary.name])
        return
    # Its answers are valid, so a few are tried; the engine has most of the turns, and nothing lies past a bound.
    assert [t.state for t in agent.trials] == [State.COMPLETE] * 20
    assert sum(t.source == "advisor" for t in agent.trials) <= 6
    assert all(not agent.space.problems(t.params) for t in agent.trials)


@pytest.mark.parametrize("late", LATE)
def test_a_late_answer_costs_its_deadline_and_no_more(late: str) -> None:
    (adversary,) = (a for a in adversaries(SPACE, loss, seconds=3.0) if a.name == late)
    agent, _ = study(advisor=adversary.make(), advisor_deadline=0.2)
    calls = [c for n in range(20) for c in agent.why(n).calls]
    assert 2 <= len(calls) <= 5, "the breaker opened"
    assert all(call.status == "abandoned" for call in calls)
    assert sum(call.seconds or 0.0 for call in calls) < 0.2 * len(calls) + 2.0


def test_good_advice_after_a_bad_answer_is_used_and_both_are_kept() -> None:
    good = {"lr": 1e-4, "layers": 2}
    advisor = FakeAdvisor([[{"lr": 9.0, "layers": 2}], [good]])
    agent, _ = study(advisor=advisor)
    assert agent.trials[0].source == "advisor" and agent.trials[0].params == good
    why = agent.why(0)
    assert len(why.calls) == 2 and [c.status for c in why.calls] == ["failed", "answered"]
    assert "lr: 9.0 is outside" in str(why)
    assert "Your answer cannot be used" in advisor.requests[1].messages[-1].content


# ------------------------------------------------------------------------------------------------ orders in texts


def hostile(text: str) -> dict[str, Any]:
    """A study in which every text that anybody can write gives an order. Names of parameters are words."""
    name = "_".join(["x", *re.findall(r"[A-Za-z0-9]+", text)])
    space = Space({"lr": Float(1e-5, 1e-1, log=True), name: Float(0, 1), "opt": Categorical(["sgd", text])})
    return {"space": space, "task": text, "metric": text}


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_no_order_changes_an_action_a_bound_or_a_prompt(text: str, tmp_path: Path) -> None:
    asked: list[str] = []

    def gullible(request: Any) -> Any:
        asked.append(request.messages[1].content)
        obeys = next(a for a in adversaries(request.space) if a.name == "gullible").make()
        return obeys.complete(request, timeout=1)

    def breaks(trial: Any) -> float:
        if trial.number % 3 == 0:
            raise RuntimeError(text)
        return float(trial["lr"])

    given = hostile(text)
    agent = Agent(
        **given, engine="random", advisor=FakeAdvisor(gullible), store=tmp_path / "t.db", budget=Budget(trials=20)
    )
    before = agent.space.to_dict()
    agent.tune(breaks)
    assert len(agent.trials) == 20 and agent.space.to_dict() == before
    assert all(not agent.space.problems(t.params) for t in agent.trials)
    assert all(t.params["lr"] <= 0.1 for t in agent.trials)
    for n in range(20):
        assert len(str(agent.why(n)).split("Chosen by")) == 2, "no text forges a line"
    assert asked
    for content in asked:
        assert content.count("</data>") == 1 and "<|im_start|>" not in content and "\x1b" not in content
    agent.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"t.db", "t.files", "t.db-wal", "t.db-shm"}


def test_an_answer_reaches_no_later_prompt_as_an_order() -> None:
    """Refused candidates are told back to the advisor: their texts are data there too."""
    (orders,) = (a for a in adversaries(SPACE) if a.name == "orders in the answer")
    advisor = orders.make()
    asked: list[Any] = []

    def relay(request: Any) -> Any:
        asked.append(request)
        return advisor.complete(request, timeout=1)

    agent, _ = study(advisor=FakeAdvisor(relay), budget=Budget(trials=40))
    assert len(asked) > 2 and len(agent.trials) == 20 + 20
    for request in asked:
        system, user = request.messages[0].content, request.messages[1].content
        assert not any(order in system for order in INJECTIONS)
        assert user.count("</data>") == 1 and "\x1b" not in user
