"""Schedulers in a study: rungs, rests and returns, through the public names."""

from __future__ import annotations

import math

import pytest

from tunewright.agent import (
    Agent,
    AlreadyObserved,
    AwaitTrials,
    Budget,
    BudgetSpent,
    Fidelity,
    Float,
    State,
    TrialPaused,
    Verdict,
)
from tunewright.agent.testing import FakeAdvisor
from tunewright.engines import FixArgument

SPACE = {"x": Float(0, 1)}


def study(store=None, *, trials=9, high=9, scheduler="asha", **options):
    given = {"engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    fidelity = Fidelity("epoch", 1, high)
    return Agent(SPACE, metric="loss", fidelity=fidelity, scheduler=scheduler, store=store, **given)


def loss(x, step):
    return (x - 0.3) ** 2 + 1 / step


def train(agent, trial, log=None):
    """A hand-written loop that goes on from where it was; returns the verdict that ended it."""
    start = trial.checkpoint_step or 0
    for step in range(start + 1, trial.fidelity + 1):
        with trial.checkpoint(step) as folder:
            (folder / "step").write_text(str(step))
        if log is not None:
            log.append((trial.number, step))
        verdict = agent.report(trial, step, loss(trial["x"], step))
        if verdict is not Verdict.CONTINUE:
            return verdict
    agent.observe(trial, loss(trial["x"], trial.fidelity))
    return Verdict.CONTINUE


def drain(agent, log=None):
    """Until nothing is left; returns the trials as they were handed out."""
    handed = []
    while True:
        try:
            trial = agent.suggest()
        except BudgetSpent:
            return handed
        handed.append((trial.number, trial.fidelity))
        train(agent, trial, log)


def objective(trial):
    for step in range((trial.checkpoint_step or 0) + 1, trial.fidelity + 1):
        with trial.checkpoint(step) as folder:
            (folder / "step").write_text(str(step))
        trial.report(step, loss(trial["x"], step))
    return loss(trial["x"], trial.fidelity)


def test_paused_trials_come_back_under_their_own_number():
    agent = study()
    log = []
    handed = drain(agent, log)
    assert len(log) == len(set(log)), "no step is trained twice"
    assert sorted({n for n, _ in handed}) == list(range(9))
    rungs = {level: [n for n, to in handed if to == level] for level in (1, 3, 9)}
    assert len(rungs[1]) == 9
    assert 3 <= len(rungs[3]) <= 5
    assert 1 <= len(rungs[9]) <= 2
    states = [t.state for t in agent.trials]
    assert states.count(State.COMPLETE) == len(rungs[9])
    assert states.count(State.PAUSED) == 9 - len(rungs[9])
    best = agent.best
    assert best.fidelity == 9
    assert best.value == pytest.approx(loss(best["x"], 9))
    assert best.resume_from == best.number
    assert (best.checkpoint_dir / "step").read_text() == "9"


def test_tune_trains_what_the_loop_trains(tmp_path):
    by_hand, tuned = study(tmp_path / "a.db"), study(tmp_path / "b.db")
    drain(by_hand)
    tuned.tune(objective)
    assert [(t.params, t.state, t.value, t.fidelity) for t in tuned.trials] == [
        (t.params, t.state, t.value, t.fidelity) for t in by_hand.trials
    ]


@pytest.mark.parametrize(
    "scheduler", ["asha", "freeze-thaw", "hyperband", "halving", "median", ("pbt", {"population": 4})]
)
def test_a_study_opened_again_at_every_step_ends_as_one_that_never_closed(tmp_path, scheduler):
    whole = study(tmp_path / "whole.db", scheduler=scheduler)
    expected = drain(whole)
    handed, path = [], tmp_path / "torn.db"
    study(path, scheduler=scheduler).close()
    while True:
        agent = Agent(store=path, study="study", engine="random", advisor=None, budget=Budget(trials=9))
        try:
            trial = agent.suggest()
        except BudgetSpent:
            break
        handed.append((trial.number, trial.fidelity))
        agent.close()
        agent = Agent(store=path, study="study", engine="random", advisor=None, budget=Budget(trials=9))
        train(agent, agent.trial(trial.number))
        agent.close()
    assert handed == expected
    outcome = [(t.params, t.state, t.value) for t in whole.trials]
    assert [(t.params, t.state, t.value) for t in agent.trials] == outcome
    assert agent._store.integrity() == []


def test_results_without_reports_are_judged_too():
    agent = study()
    handed = []
    while True:
        try:
            trial = agent.suggest()
        except BudgetSpent:
            break
        handed.append((trial.number, trial.fidelity))
        agent.observe(trial, loss(trial["x"], trial.fidelity))
    assert {to for _, to in handed} == {1, 3, 9}
    assert agent.best.fidelity == 9
    assert [step for step, _ in agent.best.curve] == [1, 3, 9]


def test_after_a_verdict_nothing_more_has_to_be_called_and_the_usual_call_does_no_harm():
    agent = study(scheduler=("median", {"min_trials": 1}), high=5)
    good = agent.suggest()
    for step in range(1, 6):
        agent.report(good, step, 0.1)
    agent.observe(good, 0.1)
    bad = agent.suggest()
    assert agent.report(bad, 1, 0.9) is Verdict.STOP
    assert (bad.state, bad.value) == (State.STOPPED, 0.9)
    assert agent.report(bad, 2, 0.8) is Verdict.STOP
    agent.observe(bad, 0.9)
    agent.observe(bad, 0.7)  # late: kept as a repeat
    assert agent.trial(bad.number).value == 0.9
    with pytest.raises(AlreadyObserved):
        agent.observe(good, 0.5)


def test_observing_a_paused_trial_with_its_value_leaves_it_paused():
    agent = study()
    trial = agent.suggest()
    assert agent.report(trial, 1, 0.5) is Verdict.PAUSE
    assert trial.state is State.PAUSED
    agent.observe(trial, 0.5)
    assert agent.trial(0).state is State.PAUSED
    assert agent.report(trial, 2, 0.4) is Verdict.PAUSE


def test_nan_at_step_three_ends_at_step_three():
    agent = Agent(SPACE, metric="loss", advisor=None, engine="random", store=None)
    trial = agent.suggest()
    verdicts = [agent.report(trial, step, value) for step, value in ((1, 0.5), (2, 0.4), (3, math.nan))]
    assert verdicts == [Verdict.CONTINUE, Verdict.CONTINUE, Verdict.STOP]
    assert trial.state is State.FAILED
    assert trial.error == "loss was nan at step 3"
    steps = []

    def diverges(trial):
        for step in range(1, 10):
            steps.append(step)
            trial.report(step, math.inf if step == 3 else 1.0)
        return 1.0

    agent.tune(diverges, 1)
    assert steps == [1, 2, 3]
    assert agent.trials[1].error == "loss was inf at step 3"
    assert agent.best is None


def test_steps_that_repeat_or_fall_replace_what_was_there():
    agent = study(scheduler=("asha", {"grace": 3}))
    trial = agent.suggest()
    assert agent.report(trial, 1, 0.9) is Verdict.CONTINUE
    assert agent.report(trial, 2, 0.8) is Verdict.CONTINUE
    assert agent.report(trial, 1, 0.7) is Verdict.CONTINUE
    assert list(trial.curve) == [(1.0, 0.7), (2.0, 0.8)]
    assert agent.report(trial, 3, 0.6) is Verdict.PAUSE


def test_synchronous_halving_waits_for_its_rung():
    agent = study(scheduler=("hyperband", {"eta": 3}), trials=30, high=9)
    running = agent.suggest(n=9)
    with pytest.raises(AwaitTrials, match="result first"):
        while True:
            running.append(agent.suggest())
    for trial in running:
        agent.observe(trial, loss(trial["x"], trial.fidelity))
    assert agent.suggest().resume_from is not None


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", ("pbt", {"population": 4})])
def test_threads_share_a_schedule(tmp_path, scheduler):
    agent = study(tmp_path / "s.db", scheduler=scheduler, trials=12)
    log = []

    def logged(trial):
        for step in range((trial.checkpoint_step or 0) + 1, trial.fidelity + 1):
            with trial.checkpoint(step) as folder:
                (folder / "step").write_text(str(step))
            log.append((trial.number, step))
            trial.report(step, loss(trial["x"], step))
        return loss(trial["x"], trial.fidelity)

    agent.tune(logged, workers=3)
    assert len(log) == len(set(log)), "no step of a trial is trained twice"
    assert {t.state for t in agent.trials} <= {State.COMPLETE, State.PAUSED, State.STOPPED}
    assert agent.best.fidelity == 9
    assert agent._store.integrity() == []


def test_two_agents_on_one_study(tmp_path):
    path = tmp_path / "two.db"
    agents = [study(path, trials=12) for _ in range(2)]
    handed = []
    while agents:
        for agent in list(agents):
            try:
                trial = agent.suggest()
            except BudgetSpent:
                agents.remove(agent)
                continue
            handed.append((trial.number, trial.fidelity))
            train(agent, trial)
    assert len(handed) == len(set(handed))
    assert {n for n, _ in handed} == set(range(12))


def test_trials_counts_new_configurations_and_what_goes_on_comes_besides():
    agent = study(trials=27)
    agent.tune(objective, 9)
    assert len(agent.trials) == 9
    assert agent.best.fidelity == 9
    agent.tune(objective, 3)
    assert len(agent.trials) == 12


def test_an_objective_may_catch_its_pause_and_save():
    agent, saved = study(), []

    def careful(trial):
        try:
            for step in range((trial.checkpoint_step or 0) + 1, trial.fidelity + 1):
                trial.report(step, loss(trial["x"], step))
        except TrialPaused:
            with trial.checkpoint(trial.fidelity):
                saved.append(trial.number)
            raise
        return loss(trial["x"], trial.fidelity)

    agent.tune(careful)
    assert sorted(set(saved)) == list(range(9))


def test_a_failed_trial_does_not_come_back():
    agent = study()
    for _ in range(3):
        trial = agent.suggest()
        agent.fail(trial, "CUDA out of memory") if trial.number == 1 else train(agent, trial)
    handed = drain(agent)
    assert 1 not in [n for n, _ in handed]


def test_the_scheduler_is_part_of_the_study(tmp_path):
    path = tmp_path / "s.db"
    study(path).close()
    again = Agent(store=path, advisor=None, engine="random", budget=Budget(trials=9))
    assert again.suggest().fidelity == 1
    again.close()
    with pytest.raises(Exception, match="asha"):
        study(path, scheduler="hyperband")


def test_fidelity_alone_brings_early_stopping_and_a_named_engine_trains_to_the_end():
    given = {"trials": 6, "scheduler": "auto"}
    agent = study(engine="auto", **given)
    assert [agent.suggest().fidelity for _ in range(3)] == [1, 1, 1]
    assert {t.proposer for t in agent.trials} == {"portfolio"}
    assert agent.config["scheduler"] == ["asha", {"eta": 2, "grace": 1}]
    for others in ({"engine": "random", **given}, {"engine": "auto", "trials": 6, "scheduler": None}):
        assert study(**others).suggest().fidelity == 9
    assert study(engine="auto", high=1, **given).config["scheduler"] is None
    # The first steps of a long training say little.
    assert study(engine="auto", high=100, **given).suggest().fidelity == 4


def test_a_study_that_trains_to_the_end_goes_on_doing_so(tmp_path):
    path = tmp_path / "s.db"
    study(path, engine="auto", scheduler=None).close()
    again = study(path, engine="auto", scheduler="auto")
    assert again.suggest().fidelity == 9


def test_a_freeze_thaw_study_opened_again_keeps_its_engine(tmp_path):
    path = tmp_path / "s.db"
    study(path, engine="freeze-thaw", scheduler="auto").close()
    again = Agent(store=path, advisor=None, budget=Budget(trials=9))
    assert again.suggest().fidelity == 1
    assert again.trials[0].proposer == "freeze-thaw"


@pytest.mark.parametrize(
    "pair", ["asha", "bohb", "freeze-thaw", "hyperband", ("pbt", {"population": 3, "interval": 3})]
)
def test_stated_pairs(pair):
    agent = study(engine=pair, scheduler=None)
    agent.tune(objective)
    assert agent.best.fidelity == 9
    name = pair if isinstance(pair, str) else pair[0]
    engines = {t.proposer for t in agent.trials if t.source == "engine" and t.proposer != "pbt"}
    assert engines == {name if name in ("bohb", "freeze-thaw") else "random"}


def test_options_of_a_pair_reach_the_half_that_knows_them():
    both = study(engine=("bohb", {"random_fraction": 0.1, "eta": 2}), scheduler=None)
    assert both.config["engine"] == ["bohb", {"random_fraction": 0.1}]
    assert both.config["scheduler"] == ["hyperband", {"eta": 2}]
    assert study(engine=("asha", {"eta": 2}), scheduler=None).config["engine"] == "random"
    with pytest.raises(FixArgument, match="'hyperband': there is no option 'fraction'"):
        study(engine=("bohb", {"fraction": 0.1}), scheduler=None)


def test_advice_fills_at_most_a_third_of_the_lowest_rung_and_hears_of_what_rests():
    advisor = FakeAdvisor(lambda request: [{"x": len(advisor.requests) / 97}])
    agent = study(trials=30, advisor=advisor, engine="tpe")
    drain(agent)
    advised = [t.number for t in agent.trials if t.source == "advisor"]
    assert advised
    for number in advised:
        assert len([n for n in advised if n <= number]) <= (number + 1) / 3
    facts = advisor.requests[-1].facts
    assert facts["fidelity"] == {"name": "epoch", "low": 1, "high": 9}
    assert {row["fidelity"] for row in facts["trials"]} >= {1, 3}
    assert "epoch 1" in advisor.requests[-1].messages[-1].content


@pytest.mark.parametrize("scheduler", ["asha", "freeze-thaw", "halving", "hyperband", ("pbt", {"population": 8})])
def test_a_training_that_always_begins_anew_comes_to_an_end(scheduler):
    """Without checkpoints a trial that goes on passes its earlier rungs again."""
    runs = []

    def objective(trial):
        runs.append(trial.number)
        assert len(runs) <= 150, "trials are let go on without end"
        for step in range(1, trial.fidelity + 1):
            trial.report(step, loss(trial["x"], step))
        return loss(trial["x"], trial.fidelity)

    with study(trials=8, high=27, scheduler=scheduler) as agent:
        agent.tune(objective)
        assert {trial.state for trial in agent.trials} <= {State.COMPLETE, State.PAUSED, State.STOPPED}
        assert agent.best.fidelity == 27
