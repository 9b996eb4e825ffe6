"""Caps on tokens and money: reserved before each call, never exceeded, whoever calls beside one."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunewright.agent import Agent, Budget, Float, Int
from tunewright.agent.advice import tokens_at_most
from tunewright.agent.prices import Price
from tunewright.agent.replay import replay
from tunewright.agent.store import Store
from tunewright.agent.testing import FakeAdvisor, ScriptedServer, status
from tunewright.plugins.hooks import AdvisorFailed, Completion

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6)}
ABSTAIN = '{"summary": "", "stance": "abstain", "candidates": []}'
CAP = 0.05


class Billing:
    """A provider that bills what it likes within what was asked for, and does not always say so. `billed` is what the
    user pays in the end."""

    def __init__(self, price: Price, seed: int):
        self.price, self._rng, self._lock = price, random.Random(seed), threading.Lock()
        self.billed, self.calls, self.tokens = 0.0, 0, 0

    def __call__(self, request: Any) -> Any:
        with self._lock:
            rng = self._rng
            most_in = tokens_at_most(request.messages, request.answer_type)
            tokens_in = rng.choice([most_in, rng.randint(1, most_in)])
            tokens_out = rng.choice([request.max_output_tokens, rng.randint(0, request.max_output_tokens)])
            usage = Completion(ABSTAIN, None, tokens_in, rng.choice([None, 0, tokens_in]), tokens_out)
            self.calls += 1
            self.tokens += tokens_in + tokens_out
            self.billed += self.price.cost(usage) or 0.0
            outcome = rng.choice(["told", "told", "untold", "failed", "lost", "garbage"])
        if outcome == "untold":
            return Completion(ABSTAIN)
        if outcome == "failed":
            return AdvisorFailed("cut off", retryable=True, completion=usage)
        if outcome == "lost":
            return AdvisorFailed("reset", retryable=True)
        return Completion("prose", None, usage.tokens_in, 0, usage.tokens_out) if outcome == "garbage" else usage


def ask(agents: list[Agent], times: int) -> None:
    """Each from a thread of its own, side by side. What one raises is raised here."""

    def work(agent: Agent) -> None:
        agent._desk.sleep = lambda seconds: None  # type: ignore[union-attr]
        for _ in range(times):
            agent.ideas()

    with ThreadPoolExecutor(len(agents)) as pool:
        list(pool.map(work, agents))


usd = st.floats(0.0, 60.0, allow_nan=False)


@settings(max_examples=25)
@example(price=Price(0.0, 5e-324), seed=1, workers=2)
@given(price=st.builds(Price, usd, usd, st.none() | usd), seed=st.integers(0, 2**32), workers=st.just(2))
def test_a_money_cap_is_never_exceeded_by_two_workers(price: Price, seed: int, workers: int) -> None:
    billing = Billing(price, seed)
    agent = Agent(
        SPACE, metric="loss", engine="random", store=None, budget=Budget(trials=50, usd=CAP),
        advisor=FakeAdvisor(billing, model="m"), prices={"fake:m": price},
    )  # fmt: skip
    ask([agent] * workers, 6)
    assert billing.billed <= CAP + 1e-12
    if price.worst(1, 1) < 0.5e-6:
        assert billing.calls > 0, "there was money for a call"


def test_nor_by_two_processes_on_one_file(tmp_path: Path) -> None:
    price, billing = Price(0.3, 2.0), Billing(Price(0.3, 2.0), 5)
    given = {
        "metric": "loss", "engine": "random", "store": tmp_path / "t.db", "budget": Budget(trials=50, usd=CAP),
        "prices": {"fake:m": price},
    }  # fmt: skip
    agents = [Agent(SPACE, advisor=FakeAdvisor(billing, model="m"), **given) for _ in range(2)]
    ask(agents, 15)
    assert billing.calls > 1 and 0.2 * CAP < billing.billed <= CAP
    for agent in agents:
        agent.close()


def test_a_token_cap_is_kept_and_told() -> None:
    advisor = FakeAdvisor(lambda request: [{"lr": 1e-4, "layers": 2}])
    agent = Agent(SPACE, metric="loss", engine="random", advisor=advisor, store=None, budget=Budget(20, tokens=100))
    agent.tune(lambda trial: trial["lr"])
    assert advisor.requests == [] and len(agent.trials) == 20
    assert "tokens" in str(agent.why(0)) and "tokens" in str(agent.why(1))


def test_less_room_asks_for_a_shorter_answer() -> None:
    asked: list[int | None] = []

    def answers(request: Any) -> Any:
        asked.append(request.max_output_tokens)
        return Completion(ABSTAIN, tokens_in=500, tokens_out=2_000)

    for cap in (None, 100_000, 14_000, 11_000):
        agent = Agent(
            SPACE, metric="loss", engine="random", store=None, budget=Budget(trials=50, tokens=cap),
            advisor=FakeAdvisor(answers),
        )  # fmt: skip
        agent.suggest()
    assert asked[:2] == [None, 16_384] and asked[2] in (4_096, 8_192) and asked[3] in (2_048, 4_096)


def test_a_refused_call_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate limits must not eat a cap; what a broken server did before it broke is not known."""
    for code, unknown in ((429, 0), (500, 3)):
        with ScriptedServer([status(code)]) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            agent = Agent(
                SPACE, metric="loss", engine="random", advisor="openai:m", store=None,
                budget=Budget(trials=20, usd=1.0), prices={"openai:m": {"input": 1, "output": 1}},
            )  # fmt: skip
            agent._desk.sleep = lambda seconds: None  # type: ignore[union-attr]
            agent.suggest()
        assert agent._store.spent(agent.study_id).unknown == unknown
        assert (agent._store.committed(agent.study_id, "usd") > 0) is (unknown > 0)


def test_a_capped_study_is_derived_again(tmp_path: Path) -> None:
    def answers(request: Any) -> Any:
        return Completion('{"candidates": [{"params": {"lr": 0.01, "layers": 2}}]}', tokens_in=900, tokens_out=700)

    agent = Agent(
        SPACE, metric="loss", engine="random", store=tmp_path / "t.db", budget=Budget(trials=40, usd=0.014),
        advisor=FakeAdvisor(answers, model="m"), prices={"fake:m": {"input": 0.5, "output": 2.0}},
    )  # fmt: skip
    agent.tune(lambda trial: trial["lr"] * trial["layers"])
    assert any("usd are used or reserved" in str(agent.why(n)) for n in range(40))
    agent.close()
    with Store.open(tmp_path / "t.db", read_only=True) as store:
        found = replay(store, store.studies()[0])
    assert found.difference is None, str(found.difference)
