"""What the rules advisor makes of a curve that was read."""

from __future__ import annotations

from typing import Any

import pytest
from rules_kit import BOOSTING, MLP, ask, log, params_of, trial

from tunewright.engines.parameters import Categorical, Float
from tunewright.engines.space import Space

TRAINED = Space({**MLP.parameters, "schedule": Categorical(["constant", "cosine"]), "weight_decay": log(1e-6, 1e-1)})
SHOWN = {"lr": 0.1, "batch_size": 64, "n_layers": 3, "n_units": 256, "dropout": 0.1, "schedule": "constant"}
SHOWN |= {"weight_decay": 1e-4}


def answered(text: str, space: Space = TRAINED, params: dict[str, Any] = SHOWN, **more: Any) -> dict[str, Any]:
    """The first candidate where trial 3 is the best and its curve was read so."""
    others = [trial(k, params | {"dropout": 0.3 + k / 10}, 0.9) for k in range(3)] if "dropout" in params else []
    facts = {"trials": [trial(3, params, 0.5), *others], "n_trials": 4, "diagnoses": [{"number": 3, "text": text}]}
    first: dict[str, Any] = ask(space, **facts, **more)["candidates"][0]
    return first


def test_an_oscillating_curve_leads_to_a_lower_learning_rate_and_a_schedule() -> None:
    first = answered("oscillating: val_loss swings by ±0.2 about every 2 reports and does not settle")
    assert first["params"] == SHOWN | {"lr": 0.033, "schedule": "cosine"}
    assert first["rationale"].startswith("Trial 3 was oscillating: val_loss swings by ±0.2")
    assert "lr 0.1 -> 0.033" in first["rationale"] and "Loshchilov & Hutter" in first["rationale"]


def test_an_overfitting_curve_leads_to_more_regularisation() -> None:
    first = answered("overfitting: val_loss was best at step 9 (0.4) and got worse to 0.5")
    assert first["params"] == SHOWN | {"weight_decay": 4e-4, "dropout": 0.25}
    trees = {"eta": 0.3, "n_estimators": 500, "max_depth": 9}
    assert answered("overfitting: rounds 200 on", BOOSTING, trees)["params"] == trees | {"max_depth": 8}


def test_an_explosion_is_a_divergence() -> None:
    assert answered("exploding: loss grows")["params"]["lr"] < 0.05


GAN = Space({"lr_g": log(1e-5, 1e-2), "lr_d": log(1e-5, 1e-2), "gp_weight": log(0.1, 100), "beta1": Float(0.0, 0.9)})
BALANCED = {"lr_g": 2e-4, "lr_d": 2e-4, "gp_weight": 1.0, "beta1": 0.5}


@pytest.mark.parametrize(
    "text, change",
    [
        ("unbalanced: d_loss fell from 0.7 to 0.01 while g_loss rose", {"lr_d": 1e-4, "gp_weight": 2.0}),
        ("unbalanced: g_loss fell from 0.7 to 0.01 while d_loss rose", {"lr_g": 6.6e-5}),
        ("mode collapse: coverage fell from 0.8 to 0.1", {"lr_g": 1e-4, "gp_weight": 2.0, "beta1": 0.25}),
    ],
)
def test_two_networks_out_of_balance(text: str, change: dict[str, float]) -> None:
    assert answered(text, GAN, BALANCED)["params"] == pytest.approx(BALANCED | change)


def test_a_plateau_is_answered_after_everything_else_and_health_not_at_all() -> None:
    facts = {"trials": [trial(3, SHOWN, 0.5)], "n_trials": 1}
    usual = params_of(ask(TRAINED, 8, **facts))
    flat = ask(TRAINED, 40, **facts, diagnoses=[{"number": 3, "text": "plateau: nothing since step 4"}])
    assert params_of(flat)[:8] == usual
    assert any("Trial 3 was plateau" in c["rationale"] for c in flat["candidates"])
    assert params_of(ask(TRAINED, 8, **facts, diagnoses=[{"number": 3, "text": "still improving: yes"}])) == usual
    assert params_of(ask(TRAINED, 8, **facts, diagnoses=[{"number": 9, "text": "oscillating: no such trial"}])) == usual
