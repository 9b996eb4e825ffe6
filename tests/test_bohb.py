"""BOHB: which fidelity its model stands on, what is drawn at random, and whether both halves of it help."""

from __future__ import annotations

from statistics import mean

import curves
import numpy as np
import pytest

from tunewright.engines import Categorical, Fidelity, FixArgument, Float, Objective, Observation, Space, State
from tunewright.plugins.registry import load

SPACE = Space({"lr": Float(1e-5, 1.0, log=True), "drop": Float(0, 0.8), "opt": Categorical(["sgd", "adam"])})
LOSS = [Objective("loss")]
EPOCHS = Fidelity("epoch", 1, 27)


def engine(**options):
    return load("engines", "bohb")(SPACE, LOSS, 3, fidelity=EPOCHS, **options)


def seen(number, config, loss, level):
    state = State.FAILED if loss is None else State.PAUSED
    return Observation(number, config, None if loss is None else (loss,), state, level)


def test_the_model_stands_on_the_largest_fidelity_with_enough_values():
    """Low fidelity praises small dropout, high fidelity large; min_points + 2 values decide which is believed."""
    configs = SPACE.sample(np.random.default_rng(0), 40)
    told = engine(random_fraction=0, min_points=6)
    told.tell([seen(i, c, c["drop"], 3) for i, c in enumerate(configs)])
    high = [seen(i, c, -c["drop"], 9) for i, c in enumerate(configs)]

    def usual():
        return mean(told.ask(1, (), index=k)[0].params["drop"] for k in range(20))

    told.tell(high[:7])
    assert usual() < 0.3
    told.tell(high[7:20])
    assert usual() > 0.5


def test_a_third_is_drawn_at_random_and_all_of_it_before_there_is_a_model():
    told = engine()
    assert {told.ask(1, (), index=k)[0].tags["phase"] for k in range(9)} == {"startup"}
    told.tell([seen(i, c, c["drop"], 3) for i, c in enumerate(SPACE.sample(np.random.default_rng(0), 20))])
    phases = [told.ask(1, (), index=k)[0].tags["phase"] for k in range(300)]
    assert 0.25 < phases.count("startup") / 300 < 0.42


def test_failures_count_as_bad_at_every_fidelity():
    configs = SPACE.sample(np.random.default_rng(1), 60)
    told = engine(random_fraction=0)
    for i, c in enumerate(configs):
        told.tell([seen(i, c, None if c["lr"] > 1e-2 else c["drop"], 1)])
    assert mean(told.ask(1, (), index=k)[0].params["lr"] > 1e-2 for k in range(30)) < 0.2


@pytest.mark.parametrize("options", [{"random_fraction": 2}, {"min_points": 0}, {"eta": 3}])
def test_options_that_it_does_not_take(options):
    with pytest.raises(FixArgument):
        engine(**options)


def test_it_beats_both_of_its_parents_on_surrogate_curves():
    """At 12 full trainings: Hyperband with random draws, and TPE that trains everything to the end."""

    def usual(engine, scheduler):
        ends = []
        for seed in range(12):
            made = load("engines", engine)(curves.SPACE, LOSS, seed, fidelity=curves.EPOCHS)
            kind = load("schedulers", scheduler)
            options = {"grace": 27} if scheduler == "asha" else {}
            ends.append(
                curves.best_after(made, kind(LOSS, curves.EPOCHS, seed, space=curves.SPACE, **options), 12 * 27)
            )
        return mean(ends)

    bohb = usual("bohb", "hyperband")
    assert bohb < usual("random", "hyperband")
    assert bohb < usual("tpe", "asha")
