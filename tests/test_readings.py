"""What the curves of a study's trials say, wherever a person or an advisor reads of them."""

from __future__ import annotations

import math

import pytest

from tunewright.agent import Agent, Budget, Fidelity, Float
from tunewright.agent.chat.session import tell
from tunewright.agent.testing import FakeAdvisor
from tunewright.agent.tools import BY_NAME
from tunewright.agent.workbench import Workbench

SPACE = {"lr": Float(1e-4, 1.0, log=True, default=0.1)}
EPOCHS = 30


def loss(lr, epoch):
    """High rates swing, the highest break."""
    if lr > 0.5 and epoch == 7:
        return math.nan
    return 1 / epoch + (0.2 * (-1) ** epoch if lr >= 0.1 else 0.0)


def train(trial):
    for epoch in range(1, EPOCHS + 1):
        trial.report(epoch, loss(trial["lr"], epoch), {"train_loss": loss(trial["lr"], epoch) - 0.01})
    return loss(trial["lr"], EPOCHS)


@pytest.fixture
def path(tmp_path):
    """Three trials: one swings, one is well, one breaks."""
    path = tmp_path / "s.db"
    given = {"fidelity": Fidelity("epoch", 1, EPOCHS), "scheduler": None, "engine": "random", "advisor": None}
    with Agent(SPACE, metric="loss", store=path, study="s", budget=Budget(trials=9), **given) as agent:
        agent.enqueue({"lr": 0.1})
        agent.enqueue({"lr": 0.01})
        agent.enqueue({"lr": 0.9})
        agent.tune(train, 4)
    return path


@pytest.fixture
def bench(path):
    bench = Workbench(path, objective=train, engine="random")
    yield bench
    bench.close()


def by_rate(agent, rate):
    return next(t for t in agent.trials if t["lr"] == rate)


def test_why_reads_the_curve(bench):
    agent = bench.agent
    swings = agent.why(by_rate(agent, 0.1))
    assert "\nCurve: oscillating: loss swings by ±0.199, 26%" in str(swings)
    assert swings.to_dict()["curve"]["shape"] == "oscillating"
    broken = str(agent.why(by_rate(agent, 0.9)))
    assert "Curve: diverged: loss is not a number from step 7 on" in broken and "loss was nan at step 7" in broken
    assert "Curve: still improving" in str(agent.why(by_rate(agent, 0.01)))


def test_the_tool_says_what_is_wrong_with_a_trial(bench):
    tool = BY_NAME["curve"]
    swings = tool.call(bench, {"number": by_rate(bench.agent, 0.1).number})
    assert (swings["shape"], swings["fault"], swings["state"]) == ("oscillating", True, "complete")
    assert swings["since"] <= 4 and "every 2 reports" in swings["text"]
    broken = tool.call(bench, {"number": by_rate(bench.agent, 0.9).number})
    assert (broken["shape"], broken["since"]) == ("diverged", 7)
    assert tell("curve", broken)[0].startswith(f"trial {broken['number']}, failed: diverged: loss is not a number")


def test_a_trial_without_a_curve_has_none(tmp_path):
    with Agent(SPACE, metric="loss", store=tmp_path / "s.db", study="s", engine="random", advisor=None) as agent:
        agent.tune(lambda trial: trial["lr"], 1)
        assert "Curve" not in str(agent.why(0)) and agent.why(0).to_dict()["curve"] is None
    bench = Workbench(tmp_path / "s.db", engine="random")
    assert BY_NAME["curve"].call(bench, {"number": 0})["text"] == "nothing was reported while it trained"
    bench.close()


def test_the_advisor_is_told(path):
    seen = FakeAdvisor(lambda request: {"lr": 0.02})
    with Agent(store=path, study="s", advisor=seen) as agent:
        swings = by_rate(agent, 0.1).number
        while not seen.requests:
            agent.observe(agent.suggest(), 1.0)
    diagnoses = {d["number"]: d["text"] for request in seen.requests for d in request.facts["diagnoses"]}
    assert diagnoses, "no curve was read for the advisor"
    assert all(": " in text for text in diagnoses.values())
    assert swings not in diagnoses or diagnoses[swings].startswith("oscillating: ")
