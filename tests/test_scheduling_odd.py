"""Studies with a scheduler when something else happens: other results for what rests, edited spaces, early failures."""

from __future__ import annotations

import pytest

from tunewright.agent import Agent, AlreadyObserved, Budget, Categorical, Fidelity, Float, State, Verdict

SPACE = {"x": Float(0, 1), "kind": Categorical(["a", "b", "c"])}
EPOCHS = Fidelity("epoch", 1, 9)


def study(store=None, **options):
    given = {"advisor": None, "metric": "loss", "fidelity": EPOCHS, "budget": Budget(trials=40), **options}
    return Agent(SPACE if store is None else given.pop("space", None), store=store, **given)


def train(agent, trial):
    for step in range(1, trial.fidelity + 1):
        if agent.report(trial, step, (trial["x"] - 0.3) ** 2 + 1 / step) is not Verdict.CONTINUE:
            return
    agent.observe(trial, (trial["x"] - 0.3) ** 2 + 1 / trial.fidelity)


def test_another_result_for_a_trial_that_rests_is_refused_and_does_not_end_it():
    agent = study(scheduler="asha")
    trial = agent.suggest()
    assert agent.report(trial, 1, 0.5) is Verdict.PAUSE
    with pytest.raises(AlreadyObserved, match=r"rests at step 1 with 0\.5.*suggest"):
        agent.observe(trial, 0.4)
    assert agent.trials[0].state is State.PAUSED
    agent.stop(trial, 0.4)
    assert agent.trials[0].state is State.STOPPED


@pytest.mark.parametrize("scheduler", ["auto", "asha"])
def test_a_space_edited_past_what_was_tried_opens_again(tmp_path, scheduler):
    path = tmp_path / "t.db"
    agent = study(path, space=SPACE, scheduler=scheduler)
    for _ in range(14):
        train(agent, agent.suggest())
    agent.edit_space({"x": Float(0.001, 1, log=True), "kind": Categorical(["a", "b"])})
    train(agent, agent.suggest())
    agent.close()
    again = study(path, scheduler=scheduler)
    for _ in range(4):
        train(again, again.suggest())
    assert not [fault for t in again.trials for fault in again.why(t.number).decision.get("faults") or []]


@pytest.mark.parametrize("engine", ["gp", "forest", "portfolio", "freeze-thaw", "tpe"])
def test_a_trial_that_fails_before_its_first_step_costs_no_engine(engine):
    agent = study(engine=engine, scheduler="asha")
    for k in range(12):
        trial = agent.suggest()
        agent.fail(trial, "out of memory") if k == 2 else train(agent, trial)
    new = [t for t in agent.trials if t.source == "engine"]
    assert {t.proposer for t in new} == {engine}
