"""A study derived again from its file, and recorded answers given again."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tunewright.agent import Agent, Budget, Categorical, Fidelity, Float, Int, TunewrightError
from tunewright.agent.recordings import ReplayAdvisor
from tunewright.agent.replay import replay
from tunewright.agent.store import Store
from tunewright.agent.testing import FakeAdvisor
from tunewright.engines import Space
from tunewright.plugins.hooks import AdvisorFailed

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
    "layers": Int(1, 6),
    "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0, 0.99, when={"opt": "sgd"}),
}


def objective(trial):
    if trial["layers"] == 6:
        raise MemoryError("too deep")
    off = 0.2 if trial["opt"] == "adam" else abs(trial["momentum"] - 0.9)
    loss = (np.log10(trial["lr"]) + 2.5) ** 2 + 0.1 * abs(trial["layers"] - 3) + off
    for step in range(1, (trial.fidelity or 3) + 1):
        trial.report(step, loss + 1 / step, {"train": loss})
    return loss + 1 / (trial.fidelity or 3)


def wild():
    """Good candidates, bad ones, prose, faults and silence."""
    rng = np.random.default_rng(5)

    def answer(request):
        kind = rng.choice(["good", "good", "prose", "outside", "fault", "later", "abstain"])
        if kind == "prose":
            return "Try harder."
        if kind == "outside":
            return [{"lr": 7.0, "layers": 2, "opt": "adam"}]
        if kind == "fault":
            return AdvisorFailed("HTTP 401", retryable=False)
        if kind == "later":
            return AdvisorFailed("HTTP 529", retryable=True, retry_after=0.0)
        if kind == "abstain":
            return {"summary": "nothing", "stance": "abstain", "candidates": []}
        return Space(SPACE).sample(rng, 3)

    return FakeAdvisor(answer, name="fake", model="wild")


CASES = {
    "alone": {"advisor": None, "engine": "tpe"},
    "rules": {"advisor": "rules", "engine": "gp", "task": "a small MLP"},
    "wild": {"engine": "tpe"},
    "strict": {"engine": ["random"], "safety": "strict"},
    "options": {"engine": ("tpe", {"n_startup": 5}), "advisor": None},
    "asha": {"engine": "tpe", "scheduler": ("asha", {"eta": 3}), "fidelity": Fidelity("epoch", 1, 9)},
    "hyperband": {"engine": "bohb", "fidelity": Fidelity("epoch", 1, 9)},
    "freeze-thaw": {"fidelity": Fidelity("epoch", 1, 9)},
    "median": {"engine": "random", "scheduler": "median", "fidelity": Fidelity("epoch", 1, 9), "advisor": "rules"},
    "pbt": {"engine": ("pbt", {"population": 4}), "fidelity": Fidelity("epoch", 1, 9), "advisor": None},
}


def run(path, trials=24, **options):
    given = {"advisor": wild(), **options}
    agent = Agent(SPACE, metric="loss", store=path, study="s", budget=Budget(trials=trials), seed=3, **given)
    agent.tune(objective)
    return agent


def again(path):
    with Store.open(path, read_only=True) as store:
        return replay(store, store.study("s"))


@pytest.mark.parametrize("name", CASES)
def test_every_decision_comes_out_as_it_is_stored(tmp_path, name):
    path = tmp_path / "s.db"
    agent = run(path, **CASES[name])
    count = len(agent.trials)
    agent.close()
    found = again(path)
    assert found.difference is None, str(found.difference)
    assert found.decisions >= count
    assert found.changed == ()
    if name in ("wild", "asha", "strict"):
        assert found.calls >= 3


def test_a_study_of_many_sessions(tmp_path):
    """Enqueued points, a dead worker, another engine and budget, an edited space."""
    path = tmp_path / "s.db"
    agent = run(path, trials=10, engine="tpe", advisor="rules")
    agent.enqueue({"lr": 0.01, "layers": 2, "opt": "adam"})
    agent.close()
    agent = run(path, trials=14, engine="gp", advisor=None)
    agent.close()
    agent = Agent(SPACE, metric="loss", store=path, study="s", budget=Budget(trials=20), seed=3, engine="gp")
    trial = agent.suggest()
    agent.release(trial)
    agent.edit_space({**SPACE, "layers": Int(1, 4), "width": Int(8, 64, log=True, default=16)})
    agent.tune(objective)
    agent.close()
    found = again(path)
    assert found.difference is None, str(found.difference)
    assert found.decisions == 20


def test_questions_between_trials_do_not_shift_the_advice(tmp_path):
    """Ideas that were asked for may become trials; summaries and diagnoses have answers of their own."""
    path = tmp_path / "s.db"
    rng = np.random.default_rng(5)

    def answer(request):
        return Space(SPACE).sample(rng, 3) if request.purpose == "propose" else "no idea"

    agent = Agent(SPACE, metric="loss", store=path, study="s", budget=Budget(trials=20), seed=3, engine="tpe",
                  advisor=FakeAdvisor(answer))  # fmt: skip
    agent.tune(objective, 12)
    agent.counsel().diagnose(3)
    assert agent.ideas().candidates
    agent.tune(objective, 4)
    agent.counsel().summarize()
    agent.tune(objective, 4)
    agent.close()
    found = again(path)
    assert found.difference is None, str(found.difference)
    assert found.decisions == 20 and found.changed == ()


def test_a_changed_decision_is_found_and_named(tmp_path):
    path = tmp_path / "s.db"
    run(path, trials=8, advisor=None, engine="random").close()
    with Store.open(path) as store, store._connection.write() as db:
        db.execute("UPDATE decisions SET body = replace(body, 'covers the space', 'covers the moon') WHERE trial = 5")
    found = again(path)
    assert found.difference.number == 4
    assert found.difference.what == "reason"
    assert "moon" in str(found.difference)


def test_recorded_answers_without_the_model(tmp_path):
    path = tmp_path / "s.db"
    first = run(path, engine="tpe")
    params = [t.params for t in first.trials]
    first.close()
    second = Agent(
        SPACE, metric="loss", engine="tpe", advisor=f"replay:{path}", store=None, study="other",
        budget=Budget(trials=24), seed=3,
    )  # fmt: skip
    second._desk.sleep = lambda seconds: None
    second.tune(objective)
    assert [t.params for t in second.trials] == params
    assert second._desk.advisor.changed == []


def test_a_question_in_other_words_is_flagged(tmp_path, caplog):
    path = tmp_path / "s.db"
    run(path, engine="tpe").close()
    agent = Agent(
        SPACE, metric="loss", engine="tpe", advisor=f"replay:{path}#s", store=None, task="another task",
        budget=Budget(trials=24), seed=3,
    )  # fmt: skip
    agent._desk.sleep = lambda seconds: None
    agent.tune(objective)
    assert agent._desk.advisor.changed
    assert "not asked as it was recorded" in caplog.text


def test_a_recording_that_is_not_there(tmp_path):
    with pytest.raises(TunewrightError, match="no such file"):
        ReplayAdvisor(str(tmp_path / "none.db"))
    path = tmp_path / "s.db"
    run(path, trials=3).close()
    with pytest.raises(TunewrightError, match="#STUDY"):
        ReplayAdvisor(f"{path}#other")


def test_the_command(tmp_path):
    path = tmp_path / "s.db"
    run(path, trials=6, advisor="rules", engine="random").close()
    command = [sys.executable, "-c", "from tunewright.agent.cli import main; main()", "replay", "s", "--store", path]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "6 decisions derived again" in told.stdout
    with Store.open(path) as store, store._connection.write() as db:
        db.execute("UPDATE decisions SET body = replace(body, 'engine', 'engines') WHERE trial = 5")
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1
    assert "The first that did not: trial 4" in told.stdout
