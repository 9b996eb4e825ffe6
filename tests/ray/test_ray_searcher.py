"""A study as Ray Tune's search algorithm, in a real Tuner."""

from __future__ import annotations

import pickle

import pytest
from ray import tune

from tunewright.agent import Agent, Categorical, Float, Int, State, TunewrightError
from tunewright.plugins.ray.searcher import TunewrightSearch, space_of


def test_it_runs_in_a_tuner(cluster, tmp_path):
    def train(config):
        if config["kind"] == "broken":
            raise ValueError("shape mismatch")
        for step in (1, 2):
            tune.report({"loss": config["lr"] + config["offset"] / step})

    store = tmp_path / "s.db"
    search = TunewrightSearch(store=store, engine="random", advisor=None, seed=3)
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-4, 1.0), "kind": tune.choice(["a", "broken"]), "offset": 10.0},
        tune_config=tune.TuneConfig(
            search_alg=search, metric="loss", mode="min", num_samples=5, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "results"), verbose=0),
    )
    results = tuner.fit()
    with Agent(store=store, advisor=None, engine="random") as agent:
        trials = agent.trials
        assert len(trials) == len(results) == 5
        assert {t["kind"] for t in trials} == {"a", "broken"}
        for trial in trials:
            assert (trial.state is State.FAILED) == (trial["kind"] == "broken")
            if trial.state is State.COMPLETE:
                assert trial.value == pytest.approx(trial["lr"] + 5.0)
                assert [step for step, _ in trial.curve] == [1, 2]
        assert agent.best.value == pytest.approx(results.get_best_result().metrics["loss"])


def test_a_budget_ends_the_search_and_a_value_that_is_not_finite_fails_its_trial(tmp_path):
    from tunewright.agent import Budget

    search = TunewrightSearch({"x": Float(0, 1)}, "loss", "max", store=tmp_path / "s.db", budget=Budget(trials=2))
    assert set(search.suggest("a")) == {"x"}
    search.suggest("b")
    assert search.suggest("c") == TunewrightSearch.FINISHED
    search.on_trial_complete("a", {"loss": float("nan"), "training_iteration": 1})
    again = pickle.loads(pickle.dumps(search))
    again.on_trial_complete("b", {"loss": 3.0, "training_iteration": 1})
    assert [(t.state, t.value) for t in again.agent.trials] == [(State.FAILED, None), (State.COMPLETE, 3.0)]


def test_which_trial_is_which_survives_a_restart(tmp_path):
    search = TunewrightSearch({"x": Float(0, 1)}, "loss", "min", store=tmp_path / "s.db")
    search.suggest("a")
    search.save(str(tmp_path / "state"))
    later = TunewrightSearch({"x": Float(0, 1)}, "loss", "min", store=tmp_path / "s.db")
    later.restore(str(tmp_path / "state"))
    later.on_trial_complete("a", {"loss": 2.0})
    assert [t.value for t in later.agent.trials] == [2.0]


def test_tunes_spaces_in_ours():
    space, fixed = space_of(
        {
            "a": tune.uniform(0, 2), "b": tune.loguniform(1e-4, 1), "c": tune.quniform(0, 1, 0.25),
            "d": tune.randint(1, 5), "e": tune.qrandint(0, 10, 2), "f": tune.choice(["u", "v"]), "g": 7,
        }
    )  # fmt: skip
    assert fixed == {"g": 7}
    assert space == {
        "a": Float(0, 2), "b": Float(1e-4, 1, log=True), "c": Float(0, 1, step=0.25),
        "d": Int(1, 4), "e": Int(0, 10, step=2), "f": Categorical(["u", "v"]),
    }  # fmt: skip
    for odd in (tune.randn(0, 1), tune.grid_search([1, 2]), {"deep": tune.uniform(0, 1)}):
        with pytest.raises(TunewrightError, match="no counterpart"):
            space_of({"x": odd})
