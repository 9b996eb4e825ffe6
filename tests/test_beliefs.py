"""What people say of parameters, from the task, the loop, the chat and the command line, to the engines and back."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from tunewright.agent import Agent, Budget, Categorical, Float, Int
from tunewright.agent.testing import FakeAdvisor
from tunewright.engines.errors import FixArgument

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6), "opt": Categorical(["sgd", "adam"])}


def study(**given) -> Agent:
    given = {"store": None, "advisor": None, "engine": "tpe", "budget": Budget(trials=40), **given}
    return Agent(SPACE, metric="val_loss", **given)


def loss(trial) -> float:
    return (math.log10(trial["lr"]) + 3) ** 2 + 0.1 * trial["layers"]


def test_words_of_the_task_tilt_from_the_first_trial_on():
    plain, told = study(), study(task="a small CNN; lr above 1e-4 diverges")
    for agent in (plain, told):
        agent.tune(lambda trial: trial["lr"], 8)
    above = [sum(t["lr"] > 1.5e-4 for t in agent.trials) for agent in (plain, told)]
    assert above[1] < above[0]
    (belief,) = told.beliefs
    assert belief.held.by == "task" and belief.status == "in force" and belief.held.prior.high == 1e-4
    assert "lr: avoid above 0.0001" in str(told.why(7)) and plain.beliefs == []


def test_a_belief_told_later_holds_from_the_next_trial_and_can_be_taken_back():
    agent = study()
    agent.tune(loss, 5)
    found = agent.believe("prefer adam; dropout is nice")
    assert [p.parameter for p in found.answer.priors] == ["opt"] and found.by == "rules"
    assert "dropout is nice" in str(found) and agent.config["notes"] == ["prefer adam; dropout is nice"]
    agent.tune(loss, 5)
    assert agent.why(4).beliefs == () and agent.why(5).beliefs[0].values == ("adam",)
    assert agent.beliefs[0].proposals == 5
    agent.withdraw(1)
    agent.tune(loss, 1)
    assert agent.why(10).beliefs == () and agent.beliefs[0].status == "withdrawn"
    for number in (1, 2):
        with pytest.raises(FixArgument, match="no such belief"):
            agent.withdraw(number)


def test_trials_reject_a_wrong_belief_and_the_user_reads_it():
    agent = study(engine="random")
    agent.believe("maybe lr above 1e-4 is bad")
    agent.tune(lambda trial: -math.log10(trial["lr"]), 25)
    (belief,) = agent.beliefs
    assert belief.status == "rejected by the trials" and belief.weight == 0.0
    assert belief.evidence.won < 0.3 and "rejected by the trials" in str(belief)


def test_a_new_task_replaces_what_the_old_one_said(tmp_path):
    path = tmp_path / "s.db"
    study(store=path, task="lr above 0.01 diverges").close()
    study(store=path, task="lr above 0.01 diverges").close()
    agent = study(store=path, task="adam works better than sgd")
    assert [(b.held.prior.parameter, b.status) for b in agent.beliefs] == [("lr", "withdrawn"), ("opt", "in force")]


def test_another_process_and_a_resumed_study_know_it_too(tmp_path):
    path = tmp_path / "s.db"
    one, two = study(store=path), study(store=path)
    one.tune(loss, 3)
    two.believe("lr above 0.01 diverges")
    one.tune(loss, 1)
    assert one.why(3).beliefs[0].high == 0.01
    code = f"""
from tunewright.agent import Agent
agent = Agent(store={str(path)!r}, advisor=None)
print(agent.beliefs[0], len(agent.why(agent.suggest()).beliefs))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "1. lr: avoid above 0.01" in out and out.strip().endswith(" 1")


def test_a_model_reads_the_words_where_there_is_one():
    prior = {"words": "hot rates explode", "parameter": "lr", "belief": "avoid_above", "strength": "strong"}
    answer = {"priors": [{**prior, "low": None, "high": 0.02, "values": None, "when": None}], "left_over": []}
    agent = study(advisor=FakeAdvisor([json.dumps(answer)]))
    found = agent.believe("hot rates explode")
    assert found.by.startswith("fake") and agent.beliefs[0].held.prior.high == 0.02
    free = agent.believe("lr above 0.05 diverges", model=False)
    assert free.by == "rules" and [b.held.number for b in agent.beliefs] == [1, 2]


def test_an_engine_that_knows_no_beliefs_says_so():
    found = study(engine="cmaes").believe("lr above 0.05 diverges")
    assert "the engine cmaes does not lean by beliefs" in str(found)
    assert "does not lean" not in str(study(engine="auto").believe("lr above 0.05 diverges"))


def test_strict_studies_keep_their_bound_beside_beliefs():
    """Beliefs are the user's, so the engine alone has them too: with every advised trial held back it is the same."""
    alone = study(task="lr above 0.01 diverges")
    worst = FakeAdvisor(lambda request: json.dumps({"summary": "", "stance": "propose", "candidates": [
        {"rationale": "r", "params": {"lr": 0.099, "layers": 6, "opt": "sgd"}}]}))  # fmt: skip
    strict = study(task="lr above 0.01 diverges", advisor=worst, safety="strict")
    for agent in (alone, strict):
        agent.tune(loss, 20)
    own = [dict(t.params) for t in strict.trials if t.source != "advisor"]
    assert own == [dict(t.params) for t in alone.trials][: len(own)] and 15 <= len(own) < 20


def test_the_findings_of_a_paper_become_priors_with_their_source():
    """Devlin et al. 2019, appendix A.3: what worked across tasks when BERT was fine-tuned."""
    bert = {"lr": Float(1e-6, 1e-3, log=True), "batch_size": Categorical([8, 16, 32, 64]), "epochs": Int(1, 10)}
    agent = Agent(bert, metric="f1", direction="maximize", store=None, advisor=None)
    agent.believe(
        "Devlin et al. 2019: lr between 2e-5 and 5e-5 works best; Devlin et al. 2019: batch size 16 or 32 works best; "
        "Devlin et al. 2019: 2 to 4 epochs is usually best"
    )
    told = [found.held.prior for found in agent.beliefs]
    assert [(p.parameter, p.values or (p.low, p.high)) for p in told] == [
        ("lr", (2e-5, 5e-5)), ("batch_size", (16, 32)), ("epochs", (2, 4)),
    ]  # fmt: skip
    assert all("Devlin et al. 2019" in str(found) for found in agent.beliefs) and told[2].strength == "weak"


def test_an_edit_of_the_space_silences_what_it_no_longer_has():
    agent = study(task="prefer adam")
    agent.edit_space({name: kind for name, kind in SPACE.items() if name != "opt"})
    agent.tune(lambda trial: trial["lr"], 2)
    assert agent.beliefs[0].status == "of no parameter in today's space"
    assert "of no parameter" in str(agent.beliefs[0])


def test_replay_derives_the_tilted_decisions_again(tmp_path):
    path = tmp_path / "s.db"
    agent = study(store=path, task="lr above 0.01 diverges", study="s")
    agent.tune(loss, 10)
    agent.believe("prefer adam")
    agent.tune(loss, 3)
    agent.withdraw(1)
    agent.tune(loss, 3)
    agent.close()
    done = subprocess.run(
        [sys.executable, "-m", "tunewright.agent.cli", "replay", "s", "--store", str(path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "16 decisions" in done.stdout, done.stdout + done.stderr


def test_the_command_tells_lists_and_takes_back(tmp_path):
    path = tmp_path / "s.db"
    study(store=path, study="s").close()

    def tunewright(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tunewright.agent.cli", "believe", *words, "--store", str(path)]
        return subprocess.run(command, capture_output=True, text=True)

    assert "Nothing was said yet" in tunewright().stdout
    told = tunewright("lr above 0.01 diverges. and what about cats")
    assert "Left over: and what about cats" in told.stdout and "1. lr: avoid above 0.01 (strong" in told.stdout
    data = json.loads(tunewright("--json").stdout)
    assert data["beliefs"][0]["status"] == "in force" and data["beliefs"][0]["words"] == "lr: avoid above 0.01"
    assert "withdrawn" in tunewright("--withdraw", "1").stdout
    assert tunewright("--withdraw", "4").returncode != 0
    assert tunewright("x", "--withdraw", "1").returncode != 0
