"""What the rules advisor knows, which model families it recognises, and the defaults it names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunewright.engines.parameters import Categorical, Float, Int
from tunewright.engines.space import Space
from tunewright.plugins.rules import RulesAdvisor
from tunewright.plugins.rules.advisor import answer as ask
from tunewright.plugins.rules.book import families
from tunewright.plugins.rules.matching import detect


def log(low: float, high: float) -> Float:
    return Float(low, high, log=True)


BLINDED = Space({"x1": log(1e-5, 1e-1), "x2": Int(1, 100), "x3": Float(0, 1), "x4": Categorical(["a", "b"])})


# ------------------------------------------------------------------------------------------------ the knowledge


@pytest.mark.parametrize("family", families().values(), ids=lambda f: f.key)
def test_every_line_has_a_reason_and_a_source(family: Any) -> None:
    for line in (*family.entries.values(), *family.recipes, *family.couplings, *family.moves):
        assert len(line.reason) > 3 and len(line.source) > 5, line
        assert any(c.isdigit() for c in line.source) or "docs" in line.source, f"a year or an official page: {line}"


@pytest.mark.parametrize("family", families().values(), ids=lambda f: f.key)
def test_values_lie_in_their_usual_range_and_words_among_the_usual_choices(family: Any) -> None:
    for entry in family.entries.values():
        assert entry.choices or entry.low is not None, entry.key
        wanted = [entry.usual, *entry.defaults.values()]
        wanted += [recipe.values[entry.key] for recipe in family.recipes if entry.key in recipe.values]
        wanted += [move.set[entry.key] for move in family.moves if entry.key in move.set]
        for value in (v for values in wanted for v in values):
            if isinstance(value, str):
                assert value in entry.choices, (entry.key, value)
            elif value not in (0, -1):  # off, and without limit
                assert entry.low <= value <= entry.high, (entry.key, value)


@pytest.mark.parametrize("family", families().values(), ids=lambda f: f.key)
def test_recipes_moves_couplings_and_levers_name_entries_of_their_family(family: Any) -> None:
    used = {k for r in family.recipes for k in (*r.values, *r.needs, *r.unless)}
    used |= {k for c in family.couplings for k in (c.leader, c.follower)} | {k for m in family.moves for k in m.keys}
    used |= {k for keys in family.levers.values() for k in keys} | set(family.expects)
    assert used <= set(family.entries)
    assert {d for e in family.entries.values() for d in e.defaults} and len(family.recipes) >= 3


# ------------------------------------------------------------------------------------------------ recognition

SPACES = [
    ("linear", None, {"C": log(1e-3, 1e3), "penalty": Categorical(["l1", "l2"]), "solver": Categorical(["saga"])}),
    ("linear", None, {"alpha": log(1e-4, 10), "l1_ratio": Float(0, 1)}),
    ("svm", None, {"svc__C": log(0.01, 1e3), "svc__gamma": log(1e-5, 10)}),
    ("neighbors", None, {"n_neighbors": Int(1, 50), "weights": Categorical(["uniform", "distance"]), "p": Int(1, 2)}),
    ("tree", None, {"max_depth": Int(2, 20), "min_samples_leaf": Int(1, 50), "min_samples_split": Int(2, 50)}),
    ("forest", None, {"n_estimators": Int(50, 500), "max_features": Float(0.1, 1), "min_samples_leaf": Int(1, 20)}),
    ("adaboost", "AdaBoost for churn", {"n_estimators": Int(25, 500), "learning_rate": log(0.01, 2)}),
    ("boosting", None, {"eta": log(0.01, 0.5), "n_estimators": Int(50, 1000), "max_depth": Int(2, 12)}),
    ("boosting", None, {"num_leaves": Int(8, 256), "learning_rate": log(0.01, 0.3), "feature_fraction": Float(0.3, 1)}),
    ("mlp", None, {"lr": log(1e-5, 0.1), "batch_size": Int(16, 512), "n_layers": Int(1, 6), "n_units": Int(16, 512)}),
    ("neural", None, {"lr": log(1e-5, 0.1), "batch_size": Int(16, 512), "weight_decay": log(1e-6, 0.1)}),
    ("cnn", "a small CNN on photos", {"lr": log(1e-4, 1), "momentum": Float(0, 0.99), "weight_decay": log(1e-6, 0.1)}),
    (
        "transformer",
        "fine-tune BERT",
        {"learning_rate": log(1e-6, 1e-4), "warmup_ratio": Float(0, 0.3), "num_train_epochs": Int(1, 5)},
    ),
    ("lora", None, {"lr": log(1e-5, 1e-3), "lora_r": Categorical([4, 8, 16]), "lora_alpha": Int(8, 64)}),
    ("diffusion", "DreamBooth", {"learning_rate": log(1e-6, 1e-3), "max_train_steps": Int(100, 5000)}),
    ("gan", None, {"lr_g": log(1e-5, 1e-2), "lr_d": log(1e-5, 1e-2), "beta1": Float(0, 0.9)}),
    ("ppo", None, {"lr": log(1e-5, 1e-2), "n_steps": Categorical([128, 2048]), "gae_lambda": Float(0.8, 1)}),
    ("dqn", None, {"lr": log(1e-5, 1e-2), "buffer_size": Int(10**3, 10**6), "target_update_interval": Int(100, 10**4)}),
    ("sac", "SAC for a robot", {"learning_rate": log(1e-5, 1e-2), "tau": log(1e-3, 0.1), "gamma": Float(0.9, 0.999)}),
]


@pytest.mark.parametrize(("family", "task", "parameters"), SPACES, ids=[f"{s[0]}{i}" for i, s in enumerate(SPACES)])
def test_families_are_recognised_and_answered(family: str, task: str | None, parameters: dict[str, Any]) -> None:
    space = Space(parameters)
    found = detect(space, task)
    assert (found.family.key, found.certain) == (family, True)
    assert set(found.known) == set(parameters)
    answer = ask(space, {"task": task, "wanted": 5})
    assert answer["stance"] == "propose" and found.family.title in answer["summary"]
    distinct = {json.dumps(c["params"], sort_keys=True) for c in answer["candidates"]}
    assert len(distinct) == len(answer["candidates"]) >= 2
    assert all(len(c["rationale"]) > 40 for c in answer["candidates"])


@pytest.mark.parametrize("task", [None, "tune it well", "random forest on a table"])
def test_blinded_names_abstain_and_say_why(task: str | None) -> None:
    answer = ask(BLINDED, {"task": task, "wanted": 5})
    assert answer["stance"] == "abstain" and answer["candidates"] == []
    assert "0 of 4 parameters" in answer["summary"]
    assert RulesAdvisor().defaults(BLINDED, task) == {}


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": Float(0, 2), "top_p": Float(0, 1), "alpha": Float(0, 1)},
        {"a": Float(0, 1), "k": Int(1, 9), "p": Int(1, 2)},
        {"max_lr_mm": Float(200, 900), "width_mm": Float(1, 20), "depth_mm": Float(1, 20)},
        {"lr": Float(200, 900), "batch_size": Float(1e6, 1e7)},
    ],
)
def test_unrelated_spaces_abstain(parameters: dict[str, Any]) -> None:
    assert ask(Space(parameters), {})["stance"] == "abstain"


def test_a_known_name_with_another_range_is_unknown() -> None:
    assert "lr" not in detect(Space({"lr": Float(200, 900), "batch_size": Int(16, 64)}), "a neural network").known


def test_words_before_the_head_noun_and_indices_are_looked_through() -> None:
    space = Space(
        {
            "encoder.encoder_dropout": Float(0, 0.5),
            "n_units_l2": Int(16, 512),
            "learningRate": log(1e-5, 1e-1),
            "min_lr": log(1e-7, 1e-3),
            "block_c": log(0.01, 100),
        }
    )
    assert not detect(Space({"block_c": log(0.01, 100), "C": log(0.01, 100)}), "SVM").known.keys() - {"C"}
    known = {name: k.entry.key for name, k in detect(space, "MLP").known.items()}
    assert known == {"encoder.encoder_dropout": "dropout", "n_units_l2": "width", "learningRate": "learning_rate"}


# ------------------------------------------------------------------------------------------------ defaults


def test_defaults_are_those_of_the_library_that_is_meant() -> None:
    def defaults(task: str | None, **more: Any) -> dict[str, Any]:
        space = Space({"learning_rate": log(0.005, 0.5), "n_estimators": Int(50, 2000), **more})
        return dict(RulesAdvisor().defaults(space, task))

    assert defaults("XGBoost") == {"learning_rate": 0.3, "n_estimators": 100}
    assert defaults("LightGBM") == {"learning_rate": 0.1, "n_estimators": 100}
    assert defaults("CatBoost") == {"learning_rate": 0.03, "n_estimators": 1000}
    assert defaults(None, num_leaves=Int(4, 200)) == {"learning_rate": 0.1, "n_estimators": 100, "num_leaves": 31}


def test_a_default_outside_the_range_becomes_the_nearest_usual_value_never_the_border() -> None:
    space = Space({"eta": log(0.01, 0.2), "n_estimators": Int(200, 1000), "max_depth": Int(2, 12)})
    assert RulesAdvisor().defaults(space, None) == {"eta": 0.1, "n_estimators": 300, "max_depth": 6}


def test_a_default_that_switches_something_off_is_as_near_to_off_as_the_range_allows() -> None:
    space = Space({"eta": log(0.01, 0.5), "gamma": log(1e-4, 10), "alpha": Float(0, 1), "subsample": Float(0.1, 0.95)})
    found = RulesAdvisor().defaults(space, "xgboost")
    assert 1e-4 < found["gamma"] < 2e-4 and found["alpha"] == 0, "gamma is 0, alpha too and that lies in its range"
    assert 0.9 < found["subsample"] < 0.95, "all rows"


def test_a_default_follows_what_it_is_coupled_to() -> None:
    smooth = Space({"C": log(1, 1e4), "gamma": log(1e-5, 1e-3)})
    found = RulesAdvisor().defaults(smooth, "SVM")
    assert found["C"] * found["gamma"] == pytest.approx(0.05, rel=1e-2), "C 1 belongs to a gamma of 0.05"


@pytest.mark.parametrize(("task", "rows"), [("a decision tree", 1000), ("a decision tree on 150 samples", 150)])
def test_counts_of_rows_become_fractions(task: str, rows: int) -> None:
    space = Space({"max_depth": Int(1, 15), "min_samples_leaf": Float(0.001, 0.49), "min_samples_split": Float(0, 1)})
    first = ask(space, {"task": task, "wanted": 1})["candidates"][0]["params"]
    assert first["min_samples_leaf"] == pytest.approx(5 / rows, rel=1e-3)
    assert first["min_samples_split"] == pytest.approx(10 / rows, rel=1e-3)


def test_the_usual_rate_depends_on_the_fixed_optimizer_and_an_uncertain_family_has_no_defaults() -> None:
    space = Space({"lr": log(1e-5, 1), "weight_decay": log(1e-6, 0.1)})
    assert RulesAdvisor().defaults(space, "CNN with SGD")["lr"] == 0.01
    assert RulesAdvisor().defaults(space, "CNN with Adam")["lr"] == 0.001
    unclear = Space({"alpha": log(1e-4, 10), "top_p": Float(0, 1)})
    assert "alpha" in detect(unclear, None).known and RulesAdvisor().defaults(unclear, None) == {}


def test_words_none_and_true_become_the_spaces_own_choices() -> None:
    space = Space(
        {
            "max_features": Categorical([None, "SQRT"]),
            "bootstrap": Categorical([False, True]),
            "max_depth": Categorical([5, None]),
            "n_estimators": Categorical([50, 100, 400]),
        }
    )
    assert RulesAdvisor().defaults(space, "random forest") == {
        "max_features": "SQRT",
        "bootstrap": True,
        "max_depth": None,
        "n_estimators": 100,
    }
