"""The answers of the rules advisor."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_kit import BOOSTING, MLP, SVM, ask, log, params_of, trial

from tunewright.engines.parameters import Categorical, Derived, Float, Int
from tunewright.engines.space import Space
from tunewright.plugins import hooks, registry
from tunewright.plugins.rules import RulesAdvisor
from tunewright.plugins.rules.book import families
from tunewright.prompts import answer_type

# ----------------------------------------------------------------------------------------------- settings, couplings


def test_settings_are_diverse_and_name_their_source() -> None:
    answer = ask(BOOSTING)
    depths = {p["max_depth"] for p in params_of(answer)}
    assert len(answer["candidates"]) >= 3 and min(depths) <= 3 and max(depths) >= 10
    assert "Friedman 2001" in answer["candidates"][0]["rationale"]


def test_values_outside_the_range_become_usual_ones_not_borders() -> None:
    space = Space({"eta": log(0.07, 0.45), "max_depth": Int(4, 9), "min_child_weight": log(1.5, 60)})
    for params in params_of(ask(space, task="xgboost")):
        assert 0.07 < params["eta"] < 0.45 and 4 <= params["max_depth"] < 9 and 1.5 < params["min_child_weight"] < 60


def test_a_usual_value_on_the_border_is_no_substitute() -> None:
    assert params_of(ask(Space({"eta": log(0.1, 0.45), "max_leaves": Int(0, 9)}), task="xgboost"))[0]["eta"] == 0.1
    assert params_of(ask(Space({"eta": log(0.1, 0.45), "n_estimators": Int(50, 999)})))[0]["eta"] == 0.2


def test_a_setting_needs_its_parameters_and_its_defining_word() -> None:
    def said(space: Space, task: str) -> str:
        return " ".join(c["rationale"] for c in ask(space, task=task)["candidates"])

    with_rounds, without = said(BOOSTING, "xgboost"), said(Space({"eta": log(0.01, 0.5)}), "xgboost")
    assert "Slow learning rate" in with_rounds and "Moderate steps" not in with_rounds
    assert "Moderate steps" in without and "Slow learning rate" not in without
    kernels = said(Space({"kernel": Categorical(["linear", "poly"]), "C": log(0.01, 1000)}), "SVM")
    assert "Linear kernel" in kernels and "Quadratic kernel" in kernels and "Firmer margin" not in kernels


def test_fewer_rounds_than_a_setting_wants_raise_its_learning_rate() -> None:
    def eta(most: int) -> float:
        return params_of(ask(Space({"eta": log(0.001, 1), "n_estimators": Int(20, most)}), task="xgboost"))[0]["eta"]

    assert eta(1000) == 0.05
    assert eta(240) == pytest.approx(0.05 * 500 / 200)
    assert eta(60) == pytest.approx(0.05 * 4), "the rule holds within a factor of four"


@pytest.mark.parametrize(("task", "power"), [("CNN trained with SGD", 1.0), ("CNN trained with Adam", 0.5)])
def test_the_learning_rate_follows_the_batch(task: str, power: float) -> None:
    def rate(batch: int) -> float:
        space = Space({"lr": log(1e-6, 10), "batch_size": Categorical([batch]), "weight_decay": log(1e-6, 0.1)})
        return params_of(ask(space, task=task, wanted=1))[0]["lr"]

    usual = 128 if power == 1.0 else 64
    assert rate(2 * usual) / rate(usual) == pytest.approx(2**power, rel=1e-3)
    assert rate(usual // 2) / rate(usual) == pytest.approx(0.5**power, rel=1e-3)


def test_the_learning_rate_follows_the_momentum() -> None:
    def rate(momentum: float) -> float:
        space = Space({"lr": log(1e-6, 10), "momentum": Float(momentum, momentum), "weight_decay": log(1e-6, 0.1)})
        return params_of(ask(space, task="CNN", wanted=1))[0]["lr"]

    assert rate(0.95) / rate(0.9) == pytest.approx(0.5, rel=1e-3)


def test_a_setting_for_another_optimizer_is_not_proposed() -> None:
    fixed = Space({"lr": log(1e-4, 1), "momentum": Float(0, 0.99), "weight_decay": log(1e-6, 0.1)})
    assert all("Adam" not in c["rationale"] for c in ask(fixed, task="CNN")["candidates"])
    free = Space(
        {
            "opt": Categorical(["rmsprop", "adam"]),
            "lr": log(1e-4, 1),
            "momentum": Float(0, 0.99, when={"opt": "rmsprop"}),
        }
    )
    answers = params_of(ask(free, task="CNN"))
    assert answers and all(p["opt"] == "adam" and "momentum" not in p for p in answers)


def test_a_searched_exponent_is_given_as_an_exponent() -> None:
    space = Space({"log10_lr": Float(-5, -1), "batch_size": Int(16, 512, log=True), "n_units": Int(16, 512)})
    rates = [p["log10_lr"] for p in params_of(ask(space, task="MLP with Adam"))]
    assert rates[0] == pytest.approx(-3)
    assert RulesAdvisor().defaults(space, "MLP")["log10_lr"] == pytest.approx(-3)


def test_whole_numbers_of_features_are_taken_as_counts() -> None:
    space = Space({"max_features": Int(1, 40), "n_estimators": Int(100, 900), "min_samples_leaf": Int(1, 20)})
    assert params_of(ask(space))[0]["max_features"] == 12


def test_constraints_are_kept() -> None:
    space = Space(
        {
            "num_leaves": Int(4, 200, log=True),
            "max_depth": Int(2, 12),
            "learning_rate": log(0.01, 0.3),
            "cells": Derived("2 ** max_depth"),
        },
        constraints=["num_leaves <= cells", "num_leaves <= 60"],
    )
    assert len(ask(space)["candidates"]) >= 2
    fixed = Space({"eta": log(0.01, 0.5), "max_depth": Int(2, 12), "subsample": Float(0.3, 1)}, ["max_depth == 6"])
    rates = {p["eta"] for p in params_of(ask(fixed))}
    assert rates == {0.1, 0.05}, "settings that want another depth keep what else they say"


# ------------------------------------------------------------------------------------------------ later


def history(space: Space, n: int) -> list[dict[str, Any]]:
    """The trials of a study in which every candidate of up to n answers is tried."""
    trials: list[dict[str, Any]] = []
    for _ in range(n):
        answer = ask(space, 3, trials=trials, n_trials=len(trials))
        if answer["stance"] != "propose":
            assert answer["stance"] == "accept_engine" and "tried" in answer["summary"]
            break
        for candidate in answer["candidates"]:
            value = float(len(json.dumps(candidate)) % 17)
            trials.append(trial(len(trials), candidate["params"], value))
    return trials


@pytest.mark.parametrize("space", [BOOSTING, MLP, SVM], ids=["boosting", "mlp", "svm"])
def test_nothing_tried_is_ever_proposed_again_and_it_ends_with_the_engine(space: Space) -> None:
    trials = history(space, 60)
    keys = [space.key(t["params"]) for t in trials]
    assert len(keys) == len(set(keys)) > 4
    assert len(trials) < 180


def test_running_and_rejected_configurations_are_not_proposed() -> None:
    first, second = params_of(ask(BOOSTING, 2))
    later = params_of(ask(BOOSTING, 5, running=[{"params": first}], rejected=[{"params": second, "reason": "repeat"}]))
    assert later and first not in later and second not in later


def test_all_but_equal_counts_as_tried_and_another_word_does_not() -> None:
    space = Space({"n_neighbors": Int(1, 500), "weights": Categorical(["uniform", "distance"]), "p": Float(1, 2)})
    first = params_of(ask(space, 1))[0]
    near, other = first | {"n_neighbors": first["n_neighbors"] + 1}, first | {"weights": "uniform"}
    assert first not in params_of(ask(space, 9, running=[{"params": near}]))
    assert first in params_of(ask(space, 9, running=[{"params": other}]))
    assert first in params_of(ask(space, 9, running=[{"params": first | {"n_neighbors": 40}}]))


def test_later_it_steps_from_the_best_trial_several_parameters_at_once() -> None:
    best = {"eta": 0.2, "n_estimators": 200, "max_depth": 6}
    trials = [trial(7, best, 0.1), trial(3, {"eta": 0.4, "n_estimators": 70, "max_depth": 3}, 0.3)]
    answer = ask(BOOSTING, 1, trials=trials, n_trials=30)
    assert params_of(answer) == [{"eta": 0.1, "n_estimators": 400, "max_depth": 6}]
    assert "From trial 7" in answer["candidates"][0]["rationale"]


def test_a_step_that_would_leave_the_range_comes_shortened_after_whole_ones() -> None:
    best = {"eta": 0.013, "n_estimators": 200, "max_depth": 6}
    found = params_of(ask(BOOSTING, 9, trials=[trial(1, best, 0.1)], n_trials=30))
    assert any(p["eta"] == pytest.approx(0.013) for p in found) and all(p["eta"] >= 0.01 for p in found)
    best = {"eta": 0.016, "n_estimators": 200, "max_depth": 6}
    found = params_of(ask(BOOSTING, 9, trials=[trial(1, best, 0.1)], n_trials=30))
    shortened = next(i for i, p in enumerate(found) if p["eta"] == pytest.approx(0.016 * 0.5**0.5, rel=1e-4))
    assert shortened > 0 and found[shortened]["n_estimators"] == 283


def test_a_step_may_hold_what_a_coupling_would_carry_along() -> None:
    found = params_of(ask(SVM, 9, trials=[trial(1, {"C": 5.0, "gamma": 0.02}, 0.1)], n_trials=30))
    assert {"C": 5.0, "gamma": 0.05} in found  # the same cost
    assert any(p["gamma"] == pytest.approx(0.006) and p["C"] == pytest.approx(16.5) for p in found)  # the diagonal


def test_a_step_of_a_fraction_is_taken_in_counts() -> None:
    space = Space({"max_features": Int(1, 40), "n_estimators": Int(100, 900), "min_samples_leaf": Int(1, 20)})
    best = {"max_features": 10, "n_estimators": 500, "min_samples_leaf": 2}
    first = params_of(ask(space, 1, trials=[trial(1, best, 0.1)], n_trials=30))[0]
    assert first == {"max_features": 16, "n_estimators": 500, "min_samples_leaf": 3}


def test_a_partly_trained_trial_is_not_the_best() -> None:
    partial = trial(1, {"eta": 0.05, "n_estimators": 100, "max_depth": 3}, 0.1, partial=True)
    whole = trial(2, {"eta": 0.3, "n_estimators": 100, "max_depth": 6}, 0.9, partial=False)
    assert "From trial 2," in ask(BOOSTING, 1, trials=[partial, whole], n_trials=30)["candidates"][0]["rationale"]


def test_the_best_is_read_with_the_objectives_direction() -> None:
    low, high = {"eta": 0.05, "n_estimators": 100, "max_depth": 3}, {"eta": 0.3, "n_estimators": 100, "max_depth": 6}
    trials = [trial(1, low, 0.1), trial(2, high, 0.9)]
    for direction, number in (("minimize", 1), ("maximize", 2)):
        answer = ask(BOOSTING, 1, trials=trials, n_trials=30, objectives=[{"name": "y", "direction": direction}])
        assert f"From trial {number}," in answer["candidates"][0]["rationale"]


def test_a_way_that_a_trial_already_went_and_lost_is_not_taken() -> None:
    best = {"eta": 0.2, "n_estimators": 200, "max_depth": 6}
    lost = {"eta": 0.12, "n_estimators": 330, "max_depth": 6}
    found = params_of(ask(BOOSTING, 5, trials=[trial(1, best, 0.1), trial(2, lost, 0.2)], n_trials=30))
    assert found and {"eta": 0.1, "n_estimators": 400, "max_depth": 6} not in found


def test_results_that_lean_one_way_change_the_order_of_steps() -> None:
    def rows(sign: int) -> list[dict[str, Any]]:
        levels = [0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16]
        ranked = sorted(levels, key=lambda eta: sign * eta)
        configs = [{"eta": eta, "n_estimators": 300, "max_depth": 3 + i % 2} for i, eta in enumerate(ranked)]
        return [trial(i, params, 0.1 * i) for i, params in enumerate(configs)]

    up, down = (params_of(ask(BOOSTING, 1, trials=rows(s), n_trials=30))[0]["eta"] for s in (-1, 1))
    assert up > 0.16 and down < 0.02


@pytest.mark.parametrize("error", ["loss is nan", "training diverged", "no finite value", "Infinity in gradients"])
def test_a_divergence_lowers_the_learning_rate(error: str) -> None:
    failed = {"lr": 0.05, "batch_size": 64, "n_layers": 3, "n_units": 256, "dropout": 0.1}
    answer = ask(MLP, 4, trials=[trial(0, failed, None, error=error)], n_trials=1, failed=1)
    assert params_of(answer) and all(p["lr"] < 0.05 for p in params_of(answer))
    assert params_of(answer)[0] == failed | {"lr": 0.01}
    assert "Trial 0 failed" in answer["candidates"][0]["rationale"]


def test_a_memory_failure_makes_batches_smaller_and_scales_the_step() -> None:
    failed = {"lr": 0.01, "batch_size": 256, "n_layers": 3, "n_units": 256, "dropout": 0.1}
    first = params_of(ask(MLP, 1, trials=[trial(0, failed, None, error="CUDA out of memory")], n_trials=1))[0]
    assert first["batch_size"] == 128 and first["lr"] == pytest.approx(0.01 * 0.5**0.5, rel=1e-4)


def test_nothing_at_or_above_a_learning_rate_that_diverged_is_proposed() -> None:
    good = {"lr": 1e-4, "batch_size": 64, "n_layers": 2, "n_units": 128, "dropout": 0.1}
    bad = good | {"lr": 9e-4}
    trials = [trial(0, good, 0.4), trial(1, bad, None, error="nan")]
    for n_trials in (2, 30):
        found = params_of(ask(MLP, 8, trials=trials, n_trials=n_trials))
        assert found and all(p["lr"] < 9e-4 for p in found)


def test_failures_given_as_rows_count_too() -> None:
    failed = {"lr": 0.05, "batch_size": 64, "n_layers": 3, "n_units": 256, "dropout": 0.1}
    found = params_of(ask(MLP, 4, failed=[{"number": 0, "params": failed, "error": "nan"}]))
    assert found and all(p["lr"] < 0.05 for p in found)


# ------------------------------------------------------------------------------------------------ the protocol


def test_it_is_registered_and_meets_the_protocols() -> None:
    advisor = registry.load("advisors", "rules")("anything")
    assert isinstance(advisor, hooks.Advisor) and isinstance(advisor, hooks.KnowsDefaults)
    assert (advisor.name, advisor.model, advisor.free_of_charge) == ("rules", "anything", True)


def test_another_question_is_refused_for_good() -> None:
    request = hooks.AdviceRequest("diagnose", (), answer_type(SVM, 1), SVM, {})
    with pytest.raises(hooks.AdvisorFailed) as caught:
        RulesAdvisor().complete(request, timeout=1.0)
    assert not caught.value.retryable


NAMES = sorted({name for family in families().values() for entry in family.entries.values() for name in entry.names})
WORDS = sorted({c for family in families().values() for e in family.entries.values() for c in e.choices})


@st.composite
def parameters(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["log", "float", "int", "step", "words", "numbers", "flags"]))
    if kind == "words":
        return Categorical(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True)))
    if kind == "numbers":
        sizes = st.sampled_from([0, 0.01, 0.1, 0.5, 2, 8, 64, 128, 1000])
        choices: list[Any] = draw(st.lists(sizes, min_size=1, unique=True))
        return Categorical([*choices, None] if draw(st.booleans()) else choices)
    if kind == "flags":
        return Categorical([True, False])
    if kind == "int":
        low = draw(st.integers(0, 200))
        return Int(low, low + draw(st.integers(0, 2000)), log=low > 0 and draw(st.booleans()))
    if kind == "step":
        return Int(draw(st.integers(0, 5)), draw(st.integers(5, 300)), step=draw(st.integers(1, 7)))
    low_float = 10.0 ** draw(st.floats(-7, 2))
    high = low_float * 10.0 ** draw(st.floats(0, 5))
    return Float(low_float, high, log=True) if kind == "log" else Float(draw(st.sampled_from([0.0, low_float])), high)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=7, unique_by=str.lower))
    declared: dict[str, Any] = {}
    for name in names:
        parameter = draw(parameters())
        parents = [n for n, p in declared.items() if isinstance(p, Categorical)]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            when = {parent: declared[parent].choices[0]}
            if isinstance(parameter, Categorical):
                parameter = Categorical(parameter.choices, when=when)
            else:
                kind = type(parameter)
                parameter = kind(parameter.low, parameter.high, log=parameter.log, step=parameter.step, when=when)
        declared[name] = parameter
    return Space(declared)


TASKS = [None, "xgboost", "random forest", "CNN with sgd", "fine-tune BERT", "LoRA", "SVM", "PPO", "MLP", "kNN", "GAN"]
ERRORS = [None, "nan", "out of memory", "timed out", "KeyError"]


@settings(max_examples=150, deadline=None)
@given(st.data(), spaces(), st.sampled_from(TASKS), st.integers(0, 8), st.integers(0, 10_000))
def test_every_answer_is_valid_new_and_the_same_again(
    data: st.DataObject, space: Space, task: str | None, n: int, seed: int
) -> None:
    configs = space.sample(np.random.default_rng(seed), n) if n else []
    trials = [
        trial(i, params, data.draw(st.one_of(st.none(), st.floats(-9, 9))), error=data.draw(st.sampled_from(ERRORS)))
        for i, params in enumerate(configs)
    ]
    facts = {"task": task, "trials": trials, "n_trials": data.draw(st.sampled_from([n, 40]))}
    answer = ask(space, 4, **facts)  # asks that every candidate is valid
    assert ask(space, 4, **facts) == answer
    tried = {space.key(params) for params in configs}
    keys = [space.key(p) for p in params_of(answer)]
    assert len(keys) == len(set(keys)) <= 4 and not tried & set(keys)
    assert (answer["stance"] == "propose") is bool(keys)
    for name, value in RulesAdvisor().defaults(space, task).items():
        assert space.parameters[name].problem(value) is None


def test_a_setting_next_to_a_trial_that_lost_waits_until_steps_from_the_best_were_tried() -> None:
    space = Space({"max_depth": Int(1, 15), "min_samples_leaf": Int(1, 40), "min_samples_split": Int(2, 80)})
    shallow = {"max_depth": 4, "min_samples_leaf": 10, "min_samples_split": 20}
    deep = {"max_depth": 15, "min_samples_leaf": 11, "min_samples_split": 26}
    middle = {"max_depth": 8, "min_samples_leaf": 5, "min_samples_split": 10}

    def first(values: list[float]) -> str:
        rows = [trial(i, p, v) for i, (p, v) in enumerate(zip([shallow, deep, middle], values, strict=True))]
        return ask(space, task="a decision tree", wanted=1, trials=rows, n_trials=3)["candidates"][0]["rationale"]

    assert first([0.3, 0.1, 0.2]).startswith("Deep tree with large leaves"), "next to the best"
    assert first([0.1, 0.3, 0.2]).startswith("From trial 0"), "deep lost"


def test_trials_that_lost_far_away_cast_no_doubt_on_settings() -> None:
    space = Space({"max_depth": Int(1, 15), "min_samples_leaf": Int(1, 400), "min_samples_split": Int(2, 400)})
    poor = [{"max_depth": d, "min_samples_leaf": 200 + d, "min_samples_split": 300} for d in (1, 4, 7, 10, 13)]
    rows = [trial(i, p, 0.9) for i, p in enumerate(poor)]
    answer = ask(space, task="a decision tree", wanted=1, trials=rows, n_trials=5)
    assert answer["candidates"][0]["rationale"].startswith("Moderate depth")


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ("50,000 training rows", 50_000), ("1_000_000 rows", 1_000_000), ("1e6 samples", 1_000_000),
        ("10k rows", 10_000),
        ("1.5 million rows", 1_500_000), ("batches of 64 examples, 50000 rows", 50_000), ("3 rows", 1_000),
        ("9" * 5_000 + " rows", 1_000), ("a table", 1_000),
    ],
)  # fmt: skip
def test_the_rows_that_a_task_names_make_counts_into_fractions(said: str, rows: int) -> None:
    space = Space({"max_depth": Int(1, 20), "min_samples_split": Float(1e-9, 0.5, log=True)})
    found = RulesAdvisor().defaults(space, f"a decision tree of scikit-learn, {said}")
    assert found["min_samples_split"] == pytest.approx(2 / rows, rel=1e-4)
