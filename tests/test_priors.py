"""Soft beliefs beside an engine: where they point, how they fade, and how trials overrule them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.engines import Categorical, Float, Int, Space
from tunewright.engines.bohb import BOHB
from tunewright.engines.forest import Forest
from tunewright.engines.freeze_thaw import FreezeThaw
from tunewright.engines.gp import GP
from tunewright.engines.portfolio import Portfolio
from tunewright.engines.priors import FADES_FROM, Prior, Tilt, evidence, fading, since
from tunewright.engines.random import Random
from tunewright.engines.tpe import TPE
from tunewright.engines.types import Believer, Objective, Observation, State

SPACE = Space({
    "lr": Float(1e-5, 1e-1, log=True), "layers": Int(1, 6), "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0.0, 0.99, when={"opt": "sgd"}),
})  # fmt: skip
LOSS = Objective("loss", "minimize")
ENGINES = [BOHB, Forest, FreezeThaw, GP, Portfolio, Random, TPE]
HIGH = Prior("lr", "avoid_above", "strong", high=1e-3)


def config(lr: float = 1e-3, layers: int = 2, opt: str = "adam", momentum: float = 0.5) -> dict[str, object]:
    return {"lr": lr, "layers": layers, "opt": opt, **({"momentum": momentum} if opt == "sgd" else {})}


def log(prior: Prior, *configs: dict[str, object]) -> list[float]:
    return Tilt(SPACE, [(prior, 1.0)]).log(SPACE.encode(list(configs))).round(2).tolist()


def seen(number: int, params: dict[str, object], value: float | None) -> Observation:
    return Observation(number, params, None if value is None else (value,), State.COMPLETE if value else State.FAILED)


@pytest.mark.parametrize(
    ("prior", "good", "bad"),
    [
        (HIGH, config(lr=1e-4), config(lr=1e-2)),
        (Prior("lr", "avoid_below", "medium", low=1e-3), config(lr=1e-2), config(lr=1e-4)),
        (Prior("layers", "avoid_above", "medium", high=3), config(layers=3), config(layers=4)),
        (Prior("layers", "prefer_range", "weak", low=2, high=3), config(layers=2), config(layers=5)),
        (Prior("layers", "prefer_values", "weak", values=(6,)), config(layers=6), config(layers=5)),
        (Prior("opt", "avoid_values", "strong", values=("sgd",)), config(opt="adam"), config(opt="sgd")),
        (Prior("momentum", "rising", "medium"), config(opt="sgd", momentum=0.98), config(opt="sgd", momentum=0.02)),
        (Prior("layers", "falling", "medium"), config(layers=1), config(layers=6)),
    ],
)
def test_each_belief_lowers_what_it_speaks_against_by_its_strength(prior, good, bad):
    depth = {"weak": 1.0, "medium": 2.0, "strong": 4.0}[prior.strength]
    high, low = log(prior, good, bad)
    assert high > -0.2 * depth and low < -0.8 * depth
    other = config() if prior.parameter == "momentum" else None
    assert other is None or log(prior, other) == [0.0]  # of an inactive parameter nothing is said


def test_a_condition_keeps_a_belief_to_itself():
    prior = Prior("lr", "avoid_above", "strong", high=1e-3, when={"opt": "sgd"})
    assert log(prior, config(lr=0.09, opt="adam"), config(lr=0.09, opt="sgd")) == [0.0, -4.0]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 0.98), st.sampled_from(["avoid_above", "avoid_below", "prefer_range", "rising", "falling"]))
def test_the_gradient_is_that_of_the_tilt(u, belief):
    tilt = Tilt(SPACE, [(Prior("lr", belief, "strong", low=1e-4, high=1e-2), 0.7)])
    rows = np.array([[u, 0.25, 0.75, np.nan]])
    step = 1e-5
    ahead, back = rows.copy(), rows.copy()
    ahead[0, 0] += step
    back[0, 0] -= step
    numeric = (tilt.log(ahead) - tilt.log(back)) / (2 * step)
    assert tilt.gradient(rows)[0, 0] == pytest.approx(numeric[0], rel=1e-3, abs=1e-3)
    assert not tilt.gradient(rows)[0, 1:].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_lean_away_from_what_they_are_warned_of(engine):
    def high_share(priors: list[Prior]) -> float:
        hits = 0
        for seed in range(10):
            made = engine(SPACE, [LOSS], seed)
            assert isinstance(made, Believer)
            made.believe(priors)
            made.tell([seen(0, config(), 1.0)])
            hits += sum(p.params["lr"] > 1.5e-3 for p in made.ask(3, index=1))
        return hits / 30

    assert high_share([HIGH]) < 0.6 * high_share([])


@pytest.mark.parametrize("engine", ENGINES)
def test_no_priors_and_withdrawn_ones_change_nothing(engine):
    plain, cleared = engine(SPACE, [LOSS], 3), engine(SPACE, [LOSS], 3)
    cleared.believe([HIGH])
    cleared.believe([])
    rng = np.random.default_rng(0)
    told = [seen(i, SPACE.sample(rng), float(rng.random()) + 0.1) for i in range(12)]
    for one in (plain, cleared):
        one.tell(told)
    assert [p.params for p in plain.ask(2, index=12)] == [p.params for p in cleared.ask(2, index=12)]


@pytest.mark.parametrize("engine", [GP, TPE, Forest])
def test_priors_are_told_anew_at_any_time_and_depend_on_history_alone(engine):
    rng = np.random.default_rng(1)
    told = [seen(i, SPACE.sample(rng), float(rng.random()) + 0.1) for i in range(12)]
    early, late = engine(SPACE, [LOSS], 3), engine(SPACE, [LOSS], 3)
    early.believe([HIGH])
    for one in told:
        early.tell([one])
        early.ask(1, index=one.number + 1)
    late.tell(told)
    late.believe([HIGH])
    assert early.ask(1, index=12)[0].params == late.ask(1, index=12)[0].params
    configs = [config(lr=1e-4), config(lr=5e-2)]
    np.testing.assert_array_equal(early.score(configs), late.score(configs))


def test_a_prior_fades_with_the_trials_made_since_it_was_told():
    assert [fading(n) for n in (0, FADES_FROM, 2 * FADES_FROM)] == [1.0, 1.0, 0.5]
    assert fading(1_000) == 0.0
    told = [seen(i, config(), 1.0) for i in range(20)]
    assert since(Prior("lr", "falling", "weak", told_at=15), [*told, *told]) == 5


def test_trials_reject_a_prior_and_then_it_tilts_nothing():
    good = [seen(i, config(lr=10 ** (-2 + i / 20)), 0.1 + i / 100) for i in range(18)]
    poor = [seen(18 + i, config(lr=10 ** (-5 + i / 20)), 1.0 + i / 100) for i in range(18)]
    found = evidence(HIGH, SPACE, good + poor, LOSS)
    assert (found.favoured, found.against, found.won) == (18, 18, 0.0) and found.rejected
    held = evidence(HIGH, SPACE, [seen(o.number, o.params, 2 - o.values[0]) for o in good + poor], LOSS)
    assert held.won == 1.0 and held.trust == 1.0
    engine, plain = GP(SPACE, [LOSS], 0), GP(SPACE, [LOSS], 0)
    engine.believe([HIGH])
    for one in (engine, plain):
        one.tell(good + poor)
    assert engine.ask(1, index=36)[0].params == plain.ask(1, index=36)[0].params


def test_stronger_beliefs_stand_longer():
    def contra(n: int) -> list[Observation]:
        return [seen(i, config(lr=0.05 if i % 2 else 1e-4), 0.1 if i % 2 else 1.0) for i in range(2 * n)]

    needed = []
    for strength in ("weak", "medium", "strong"):
        prior = Prior("lr", "avoid_above", strength, high=1e-3)
        needed.append(next(n for n in range(1, 60) if evidence(prior, SPACE, contra(n), LOSS).rejected))
    assert needed == sorted(set(needed)) and needed[0] <= 4 and needed[-1] <= 20


def test_failures_count_as_losses_and_fidelities_are_not_mixed():
    failing = [seen(i, config(lr=0.05), None) for i in range(3)] + [seen(3 + i, config(lr=1e-4), 9.0) for i in range(3)]
    assert evidence(HIGH, SPACE, failing, LOSS).won == 1.0
    low = [Observation(i, config(lr=0.05), (0.1,), State.STOPPED, 1) for i in range(3)]
    full = [Observation(3 + i, config(lr=1e-4), (1.0,), State.COMPLETE, 9) for i in range(3)]
    assert evidence(HIGH, SPACE, low + full, LOSS).won is None


def test_a_belief_about_what_the_space_lacks_is_silent():
    for prior in (Prior("width", "rising", "weak"), Prior("opt", "prefer_values", "weak", values=("lion",)),
                  Prior("lr", "falling", "weak", when={"sched": "cosine"})):  # fmt: skip
        assert not prior.fits(SPACE)
        engine, plain = Random(SPACE, [LOSS], 0), Random(SPACE, [LOSS], 0)
        engine.believe([prior])
        assert engine.ask(1, index=0)[0].params == plain.ask(1, index=0)[0].params
