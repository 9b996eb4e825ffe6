"""The breaker: an advisor that keeps failing is left alone, and what a study against a dead endpoint costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent
from tunewright.agent.consult import Breaker, Outcome, consult
from tunewright.agent.store import Store
from tunewright.agent.testing import FakeAdvisor, ScriptedServer, answer, dead_port, status, torn
from tunewright.engines.parameters import Float
from tunewright.engines.space import Space
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Message
from tunewright.plugins.openai import OpenAIAdvisor
from tunewright.prompts import answer_type, parse_propose

SPACE = Space({"lr": Float(0.001, 1.0)})
REQUEST = AdviceRequest("propose", (Message("user", "u"),), answer_type(SPACE, 3), SPACE, {})

# ------------------------------------------------------------------------------------------------ in trials


def test_it_opens_after_two_failures_and_probes_after_a_growing_number_of_trials() -> None:
    breaker = Breaker()
    asked = []
    for number in range(100):
        if breaker.allow(number) is None:
            asked.append(number)
            breaker.record(Outcome(number, "busy"))
    # 4, 8, 16, then 32 trials go by.
    assert asked == [0, 1, 6, 15, 32, 65, 98]


def test_a_final_failure_opens_it_at_once_and_the_reason_is_told() -> None:
    breaker = Breaker()
    breaker.record(Outcome(3, "wrong key", retryable=False))
    reason = breaker.allow(4)
    assert reason is not None and "wrong key" in reason and "until trial 8" in reason
    assert breaker.allow(7) is not None and breaker.allow(8) is None


def test_a_success_forgets_everything() -> None:
    breaker = Breaker()
    for number in (0, 1, 6):
        breaker.record(Outcome(number, "busy"))
    breaker.record(Outcome(15, None))
    assert breaker.allow(16) is None
    breaker.record(Outcome(16, "busy"))
    assert breaker.allow(17) is None
    breaker.record(Outcome(17, "busy"))
    assert breaker.allow(21) is not None and breaker.allow(22) is None


def test_a_study_that_is_opened_again_has_the_same_breaker(tmp_path: Path) -> None:
    """One process leaves the advisor alone for as long as another would have."""

    def asked(sessions: list[int]) -> list[int]:
        path = tmp_path / f"{len(sessions)}.db"
        for trials in sessions:
            dead = FakeAdvisor(lambda request: AdvisorFailed("busy", retryable=False))
            agent = Agent({"x": Float(0, 1)}, metric="loss", engine="random", advisor=dead, store=path, seed=1)
            for _ in range(trials):
                agent.observe(trial := agent.suggest(), trial["x"])
            agent.close()
        with Store.open(path, read_only=True) as store:
            return [call.number or 0 for call in store.calls(store.studies()[0].id)]

    assert asked([20]) == asked([1, 3, 1, 6, 9]) == [0, 5, 14]


# ------------------------------------------------------------------------------------------------ over real HTTP


class NoLedger:
    def begin(self, attempt: int, messages: Sequence[Message]) -> int:
        return attempt

    def end(self, call_id: int, **outcome: Any) -> None:
        pass


class Study:
    """Asks once per trial where the breaker allows it. `waited` adds up what was slept, without sleeping."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self.waited = monkeypatch, 0.0

    def _sleep(self, seconds: float) -> None:
        self.waited += seconds

    def run(self, url: str, trials: int) -> list[str | None]:
        """What each trial hears about its advisor, None where it got an answer."""
        self._monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        self._monkeypatch.setenv("OPENAI_BASE_URL", url)
        advisor, breaker, heard = OpenAIAdvisor("m"), Breaker(), []
        for number in range(trials):
            reason = breaker.allow(number)
            if reason is None:
                done = consult(
                    advisor,
                    REQUEST,
                    parse=lambda text: parse_propose(text, SPACE, 3),
                    ledger=NoLedger(),
                    deadline=60,
                    sleep=self._sleep,
                )
                breaker.record(Outcome(number, done.error, done.retryable))
                reason = done.error
            heard.append(reason)
        return heard


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    return Study(monkeypatch)


@pytest.mark.parametrize(
    "script",
    [
        [status(500)],
        [torn()],
        ["prose"],
        [{"lr": 99}],
        [status(401)],
        [answer("")],
        [status(429, {"retry-after": "60"})],
    ],
)
def test_twenty_trials_against_garbage_cost_seconds(study: Study, script: list[Any]) -> None:
    with ScriptedServer(script) as server:
        heard = study.run(server.base_url, 20)
    assert None not in heard and len(server.requests) <= 12
    assert study.waited < 5  # all the waiting there is; a request to a server that answers takes milliseconds


def test_twenty_trials_against_nobody_cost_seconds(study: Study) -> None:
    heard = study.run(f"http://127.0.0.1:{dead_port()}/v1", 20)
    assert all("cannot reach" in str(reason) for reason in heard) and study.waited < 5


def test_a_server_that_recovers_is_used_again(study: Study) -> None:
    with ScriptedServer([status(500)] * 9 + [{"stance": "abstain", "candidates": []}]) as server:
        heard = study.run(server.base_url, 16)
    assert heard[15] is None and heard[6] is not None
