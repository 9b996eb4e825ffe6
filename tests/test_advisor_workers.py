"""Several workers or processes and one advisor: nobody waits for another one's question, and nothing is paid twice."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent, Budget, Float, Int
from tunewright.agent.replay import replay
from tunewright.agent.store import Store
from tunewright.agent.testing import FakeAdvisor

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6)}


def loss(params: Any) -> float:
    return (math.log10(params["lr"]) + 3) ** 2 + 0.1 * params["layers"]


class Patient:
    """An advisor that takes its time, and counts its calls."""

    name, model = "patient", None

    def __init__(self, seconds: float) -> None:
        self.seconds, self.numbers = seconds, 0

    def complete(self, request: Any, *, timeout: float) -> Any:
        self.numbers += 1
        time.sleep(self.seconds)
        return FakeAdvisor([[{"lr": 1e-3 * self.numbers, "layers": 2}]]).complete(request, timeout=timeout)


def test_a_worker_does_not_wait_for_another_ones_question(tmp_path: Path) -> None:
    advisor = Patient(1.0)
    agent = Agent(
        SPACE, metric="loss", engine="random", advisor=advisor, store=tmp_path / "t.db", budget=Budget(trials=12)
    )
    gaps: list[float] = []
    agent.tune(
        lambda trial: loss(trial.params),
        workers=3,
        runner=("local", {"processes": False}),
        on_start=[lambda a, t: gaps.append(time.monotonic())],
    )
    numbers = [c.number for c in agent._store.calls(agent.study_id)]
    assert len(numbers) == len(set(numbers)) == advisor.numbers, "no question was paid for twice"
    assert any("another worker's question" in str(agent.why(n)) for n in range(12))
    # The advisor thinks for a second; the others' trials begin meanwhile.
    assert sum(b - a < 0.5 for a, b in pairwise(gaps)) >= 8
    agent.close()
    with Store.open(tmp_path / "t.db", read_only=True) as store:
        found = replay(store, store.studies()[0])
    assert found.difference is None, str(found.difference)


def test_an_overtaken_answer_serves_the_next_trial(tmp_path: Path) -> None:
    """Two processes on one file: while one asks, the other makes that trial."""
    path = tmp_path / "t.db"
    other: list[Agent] = []

    def answers(request: Any) -> Any:
        if len(fake.requests) == 1:
            trial = other[0].suggest()
            assert trial.source == "engine" and "another worker's question" in trial.reason
            other[0].observe(trial, 0.5)
        return [{"lr": 2e-3, "layers": 3}]

    fake = FakeAdvisor(answers)
    given = {"metric": "loss", "engine": "random", "store": path, "budget": Budget(trials=20)}
    agent = Agent(SPACE, advisor=fake, **given)
    other.append(Agent(SPACE, advisor=FakeAdvisor(lambda r: pytest.fail("it was asked too")), **given))
    trial = agent.suggest()
    assert (trial.number, trial.source, trial.params["lr"]) == (1, "advisor", 2e-3)
    assert [c.number for c in agent._store.calls(agent.study_id)] == [0]
    assert agent.why(1).calls and "answered" in str(agent.why(1))
    other[0].close()
    agent.close()
    with Store.open(path, read_only=True) as store:
        found = replay(store, store.studies()[0])
    assert found.difference is None, str(found.difference)


def test_a_question_of_a_dead_process_is_put_again(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    given = {"metric": "loss", "engine": "random", "store": path, "budget": Budget(trials=20)}
    agent = Agent(SPACE, advisor=FakeAdvisor([]), **given)
    gone = agent._store.begin_consult(agent.study_id, 0, as_of=0, wanted=1, patience=90)
    with agent._store._connection.write() as db:
        db.execute("DROP TRIGGER events_stay")
        db.execute("UPDATE events SET payload = replace(payload, '\"pid\":', '\"pid\":99') WHERE id = ?", [gone])
    agent.close()
    agent = Agent(SPACE, advisor=FakeAdvisor([[{"lr": 2e-3, "layers": 3}]]), **given)
    assert agent.suggest().source == "advisor"
    agent.close()
