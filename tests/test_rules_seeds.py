"""What the rules do with the first results of a study."""

from __future__ import annotations

from typing import Any

import pytest
from rules_kit import MLP, ask, log, params_of, trial

from tunewright.engines.parameters import Float, Int
from tunewright.engines.space import Space
from tunewright.plugins.rules import RulesAdvisor

SGD = Space({"lr": log(1e-4, 0.1), "batch_size": Int(16, 512, log=True), "momentum": Float(0.1, 0.99)})
WORDS = "a multilayer perceptron trained by SGD"


def at(lr: float, batch: int, momentum: float = 0.9) -> dict[str, Any]:
    return {"lr": lr, "batch_size": batch, "momentum": momentum}


def rationales(rows: list[dict[str, Any]], wanted: int = 4, known: int = 30) -> list[str]:
    answer = ask(SGD, wanted, task=WORDS, trials=rows, n_trials=known)
    return [c["rationale"] for c in answer["candidates"]]


def test_seeds_are_asked_for_one_by_one() -> None:
    assert len(params_of(ask(MLP, 5, seeding=True))) == 1
    assert params_of(ask(MLP, 5, seeding=True)) == params_of(ask(MLP, 5, seeding=False))[:1]
    assert len(params_of(ask(MLP, 5, seeding=False))) > 1


def test_after_a_seed_that_won_come_steps_from_it_and_after_one_that_lost_the_next_setting() -> None:
    default = params_of(ask(MLP, 9))[-1]
    first = params_of(ask(MLP, 1, trials=[trial(0, default, 0.5)], n_trials=1))[0]

    def then(value: float) -> str:
        rows = [trial(0, default, 0.5), trial(1, first, value)]
        return ask(MLP, 1, trials=rows, n_trials=2, seeding=True)["candidates"][0]["rationale"]

    assert then(0.4).startswith("From trial 1, ")
    assert not then(0.6).startswith("From trial")


def test_a_setting_that_the_range_presses_onto_a_measured_one_is_no_other() -> None:
    """Where the kernel's usual widths lie outside, the SVM's settings differ from its default by little more than C."""
    narrow = Space({"C": log(1, 1000), "gamma": log(1e-4, 1e-3), "tol": log(1e-5, 1e-1)})
    default = RulesAdvisor().defaults(narrow, "an SVM")
    rows = [trial(0, dict(default), 0.5)]
    first = ask(narrow, 1, task="an SVM", trials=rows, n_trials=1, seeding=True)["candidates"][0]
    assert first["rationale"].startswith("From trial 0, ")
    wide = Space({"C": log(0.01, 1000), "gamma": log(1e-5, 10), "tol": log(1e-5, 1e-1)})
    rows = [trial(0, dict(RulesAdvisor().defaults(wide, "an SVM")), 0.5)]
    first = ask(wide, 1, task="an SVM", trials=rows, n_trials=1, seeding=True)["candidates"][0]
    assert first["rationale"].startswith("Firmer margin")


def test_the_width_of_a_kernel_is_searched_both_ways_at_the_same_cost() -> None:
    space = Space({"C": log(0.01, 1000), "gamma": log(1e-5, 10)})
    rows = [trial(0, {"C": 1.0, "gamma": 0.01}, 0.5)]
    steps = params_of(ask(space, 30, task="an SVM", trials=rows, n_trials=30))
    assert {p["gamma"] > 0.01 for p in steps if p["C"] == 1.0 and p["gamma"] != 0.01} == {True, False}


def test_a_network_for_sgd_has_a_deep_and_strongly_regularised_setting() -> None:
    space = Space({**SGD.parameters, "n_layers": Int(1, 12), "weight_decay": Float(1e-5, 0.1), "dropout": Float(0, 1)})
    deep = next(p for p in params_of(ask(space, 9, task=WORDS)) if p["n_layers"] >= 8)
    assert deep["weight_decay"] >= 0.01 and deep["dropout"] >= 0.2


@pytest.mark.parametrize(("best", "other", "way"), [(32, 128, "larger steps"), (128, 32, "smaller steps")])
def test_the_step_that_counts_is_the_effective_one(best: int, other: int, way: str) -> None:
    """At the same learning rate smaller batches mean larger steps per example."""
    leaning = [r for r in rationales([trial(0, at(0.01, best), 0.1), trial(1, at(0.01, other), 0.2)]) if "lean" in r]
    assert any(r.startswith(f"From trial 0, {way}: lr") for r in leaning)


def test_a_learning_rate_that_only_followed_its_batch_and_momentum_shows_no_trend() -> None:
    for best, other in [(at(0.01, 32), at(0.04, 128)), (at(0.01, 32, 0.9), at(0.02, 32, 0.8))]:
        said = rationales([trial(0, best, 0.1), trial(1, other, 0.2)], wanted=9)
        assert not any("steps: lr" in r and "lean" in r for r in said) and any("steps: lr" in r for r in said)


def test_a_whole_step_of_momentum_comes_before_a_learning_rate_at_the_end_of_its_range() -> None:
    found = params_of(ask(SGD, 9, task=WORDS, trials=[trial(0, at(0.05, 64), 0.1)], n_trials=30))
    momentum, shortened = at(0.05, 64, 0.95), next(p for p in found if p["lr"] > 0.05 and p["batch_size"] == 64)
    assert found.index(momentum) < found.index(shortened)
    found = params_of(ask(SGD, 9, task=WORDS, trials=[trial(0, at(0.02, 64), 0.1)], n_trials=30))
    assert found.index(at(0.06, 64)) < found.index(at(0.02, 64, 0.95))
