"""The Gaussian process against scikit-learn's, and the engine's contract and skill."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunewright.engines import (
    Categorical,
    Engine,
    Fidelity,
    FixArgument,
    Float,
    Int,
    Objective,
    Observation,
    Predictor,
    Proposal,
    Scorer,
    Space,
    State,
)
from tunewright.engines.gp import GP
from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.gp.model import refit_size, standardize, subset
from tunewright.engines.gp.regression import Hyperparameters, Posterior, fit

LOSS = [Objective("loss")]
MIXED = {
    "lr": Float(1e-5, 1.0, log=True),
    "layers": Int(1, 6),
    "opt": Categorical(["sgd", "adam", "lamb"]),
    "momentum": Float(0.0, 0.99, when={"opt": "sgd"}),
    "drop": Float(0.0, 0.5, when="layers >= 3"),
}


def mixed_loss(p: Any) -> float:
    loss = (math.log10(p["lr"]) + {"sgd": 1.0, "adam": 3.0, "lamb": 2.0}[p["opt"]]) ** 2 + 0.2 * (p["layers"] - 4) ** 2
    return loss + 3 * (p.get("momentum", 0.3) - 0.9) ** 2 + p.get("drop", 0.4)


def play(engine: GP, loss: Any, n: int, start: int = 0) -> list[Observation]:
    told = []
    for k in range(start, start + n):
        params = engine.ask(index=k)[0].params
        value = loss(params)
        state = State.FAILED if value is None else State.COMPLETE
        told.append(Observation(k, params, None if value is None else (value,), state))
        engine.tell(told[-1:])
    return told


def best(told: list[Observation]) -> float:
    return min(o.values[0] for o in told if o.values)


# ------------------------------------------------------------------------------------------------ regression


@pytest.mark.parametrize("kernel", ["matern52", "matern32", "rbf"])
def test_posterior_equals_scikit_learn(kernel: str) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

    rng = np.random.default_rng(0)
    x, y, new = rng.random((25, 3)), rng.standard_normal(25), rng.random((40, 3))
    ours = Hyperparameters(np.array([0.3, 0.7, 1.9]), 1.7, 0.02)
    shape = {
        "rbf": RBF(ours.lengthscales),
        "matern32": Matern(ours.lengthscales, nu=1.5),
        "matern52": Matern(ours.lengthscales, nu=2.5),
    }[kernel]
    theirs = GaussianProcessRegressor(ConstantKernel(1.7) * shape, alpha=0.02, optimizer=None).fit(x, y)
    mean, std = Posterior(x, np.arange(3), y, ours, kernel).predict(new)
    expected_mean, expected_std = theirs.predict(new, return_std=True)
    assert np.abs(mean - expected_mean).max() < 1e-8
    assert np.abs(std - expected_std).max() < 1e-8


@pytest.mark.parametrize("kernel", ["matern52", "matern32", "rbf"])
def test_gradients_and_draws_match_the_posterior(kernel: str) -> None:
    rng = np.random.default_rng(1)
    given = Hyperparameters(np.array([0.4, 0.8]), 1.2, 0.01)
    posterior = Posterior(rng.random((12, 2)), np.arange(2), rng.standard_normal(12), given, kernel)
    x, step = rng.random((5, 2)), 1e-6
    mean, std, mean_gradient, std_gradient = posterior.predict_gradient(x)
    assert np.allclose((mean, std), posterior.predict(x), atol=1e-9)
    for k in range(2):
        up, down = posterior.predict(x + step * np.eye(2)[k]), posterior.predict(x - step * np.eye(2)[k])
        assert mean_gradient[:, k] == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-4, abs=1e-6)
        assert std_gradient[:, k] == pytest.approx((up[1] - down[1]) / (2 * step), rel=1e-4, abs=1e-6)
    draws = np.array([posterior.sample(x, rng) for _ in range(4000)])
    assert draws.mean(0) == pytest.approx(mean, abs=0.1)
    assert draws.std(0) == pytest.approx(std, abs=0.1)


def test_fit_finds_what_matters_and_the_noise() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((60, 3))
    clean = np.sin(6 * x[:, 0])
    smooth = fit(x, np.arange(3), clean)
    noisy = fit(x, np.arange(3), clean + 0.5 * rng.standard_normal(60))
    assert 3 * smooth.lengthscales[0] < min(smooth.lengthscales[1:])
    assert 3 * noisy.lengthscales[0] < min(noisy.lengthscales[1:])
    assert smooth.noise < 1e-3 and 0.15 < noisy.noise < 0.4


def test_what_few_trials_say_of_the_roughness_holds_for_a_parameter_that_never_varied() -> None:
    x = np.random.default_rng(3).random((12, 4))
    x[:, 3] = 0.5
    rough, smooth = (fit(x, np.arange(4), y / y.std()) for y in (np.sin(40 * x[:, :3]).sum(1), x[:, :3].sum(1) - 1.5))
    assert rough.lengthscales[3] < 0.5 and smooth.lengthscales[3] > 0.8


def test_believing_the_mean_keeps_it_and_shrinks_the_doubt() -> None:
    rng = np.random.default_rng(3)
    given = Hyperparameters(np.array([0.2]), 1.0, 1e-4)
    posterior = Posterior(rng.random((8, 1)), np.zeros(1, int), rng.standard_normal(8), given)
    here, grid = np.array([[0.5]]), np.linspace(0, 1, 21)[:, None]
    after = posterior.believe(here)
    assert after.predict(grid)[0] == pytest.approx(posterior.predict(grid)[0], abs=1e-6)
    assert after.predict(here)[1][0] < 0.02 < posterior.predict(here)[1][0]
    assert (after.predict(grid)[1] <= posterior.predict(grid)[1] + 1e-9).all()


# ------------------------------------------------------------------------------------------------ model parts


@example([0.0, 1.0, 2e-311])
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_standardizing_keeps_the_order(values: list[float]) -> None:
    z, _, unit = standardize(np.array(values))
    order = np.argsort(values, kind="stable")
    assert np.isfinite(z).all() and unit > 0
    assert (np.diff(z[order]) >= -1e-9).all()


def test_an_explosion_does_not_flatten_the_others() -> None:
    z, centre, unit = standardize(np.array([0.1, 0.2, 0.3, 0.4, 1e12]))
    assert z[3] - z[0] > 0.5
    assert z[0] * unit + centre == pytest.approx(0.1)


def test_a_subset_has_the_best_and_the_latest_and_spreads() -> None:
    rng = np.random.default_rng(0)
    features = np.vstack([0.01 * rng.random((990, 2)), rng.random((10, 2))])[np.r_[990:1000, 0:990]]
    y = rng.random(1000)
    kept = subset(features, y, 90)
    assert len(kept) == 90 == len(set(kept.tolist()))
    assert set(np.argsort(y)[:30].tolist()) | set(range(970, 1000)) | set(range(10)) <= set(kept.tolist())


def test_refit_sizes_depend_on_length_alone_and_grow() -> None:
    sizes = [refit_size(n) for n in range(1, 500)]
    assert sizes[:60] == list(range(1, 61))
    assert sizes == sorted(sizes) and len(set(sizes[60:])) < 30
    assert all(n * 10 // 11 - 1 <= size <= n for n, size in enumerate(sizes, 1))


def test_features_hold_categories_apart_equally_and_inactive_ones_in_the_middle() -> None:
    encoding = Encoding(Space(MIXED))
    configs: list[dict[str, Any]] = [{"lr": 0.1, "layers": 2, "opt": opt} for opt in ("sgd", "adam", "lamb")]
    configs[0]["momentum"] = 0.495  # the middle of its range
    features = encoding.features(encoding.encode(configs))
    assert [((features[i] - features[j]) ** 2).sum() for i, j in ((0, 1), (0, 2), (1, 2))] == pytest.approx([0.25] * 3)


# ------------------------------------------------------------------------------------------------ engine


def test_the_engine_meets_the_protocols() -> None:
    engine = GP(Space(MIXED), LOSS, 0)
    assert isinstance(engine, Engine) and isinstance(engine, Scorer) and isinstance(engine, Predictor)
    assert not GP.capabilities.multi_objective


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 12), max_size=3))
def test_asking_is_pure_however_the_tells_were_batched(seed: int, cuts: list[int]) -> None:
    space = Space(MIXED)
    told = play(GP(space, LOSS, seed), mixed_loss, 12)
    pending = [Proposal(space.sample(np.random.default_rng(seed)))]
    bounds = [0, *sorted(cuts), 12]
    engine, whole = GP(space, LOSS, seed), GP(space, LOSS, seed)
    for low, high in pairwise(bounds):
        engine.tell(told[low:high])
        engine.ask(index=99)
    whole.tell(told)
    assert engine.ask(2, pending, index=12) == whole.ask(2, pending, index=12) == whole.ask(2, pending, index=12)
    assert whole.ask(index=12) != whole.ask(index=12, pending=whole.ask(index=12))


@pytest.mark.parametrize("acquisition", ["ei", "pi", "ucb", "thompson"])
def test_proposals_are_valid_plain_and_new(acquisition: str) -> None:
    space = Space(MIXED, constraints=["lr * layers <= 2"])
    told = play(GP(space, LOSS, 1, acquisition=acquisition), mixed_loss, 12)
    for o in told:
        assert space.problems(o.params) == []
        assert all(type(v) in (int, float, str) for v in o.params.values())
    assert len({space.key(o.params) for o in told}) == 12


def test_the_order_of_choices_changes_nothing() -> None:
    runs = []
    for order in (["sgd", "adam", "lamb"], ["lamb", "sgd", "adam"], ["adam", "lamb", "sgd"]):
        engine = GP(Space({**MIXED, "opt": Categorical(order)}), LOSS, 4)
        told = play(engine, mixed_loss, 14)
        probe = [told[3].params, told[9].params]
        runs.append(([o.params for o in told], engine.score(probe).tolist(), engine.predict(probe).mean.tolist()))
    assert runs[0] == runs[1] == runs[2]


def test_it_starts_at_the_default_or_the_middle() -> None:
    assert GP(Space({"x": Float(0, 1, default=0.2)}), LOSS, 0).ask(index=0)[0].params == {"x": 0.2}
    first = GP(Space({"x": Float(0, 4), "n": Int(1, 3)}), LOSS, 0).ask(index=0)[0]
    assert first.params == {"x": 2.0, "n": 2} and first.tags["phase"] == "startup"


@pytest.mark.parametrize("seed", range(3))
def test_pending_points_are_kept_away_from(seed: int) -> None:
    # A pending point that promises more than the best trial must not draw the rest of its batch to itself.
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    engine = GP(space, LOSS, seed)
    play(engine, lambda p: math.sin(9 * p["x"]) + math.cos(7 * p["y"]), 5)
    rows = space.encode([p.params for p in engine.ask(4, index=5)])
    gaps = [np.abs(a - b).max() for i, a in enumerate(rows) for b in rows[:i]]
    assert min(gaps) > 0.03


def test_a_finite_space_is_used_up_before_anything_is_repeated() -> None:
    space = Space({"a": Int(1, 3), "b": Categorical(["p", "q"]), "c": Int(1, 2, when={"b": "q"})})
    engine = GP(space, LOSS, 0)
    told = play(engine, lambda p: p["a"] + 0.1 * (p["b"] == "q"), 9)
    assert len({space.key(o.params) for o in told}) == space.size() == 9
    again = engine.ask(2, index=9)
    assert space.problems(again[0].params) == [] and again[0].params != again[1].params


def test_failures_are_learned_and_avoided() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    engine = GP(space, LOSS, 0)
    # The loss falls towards the cliff, so that only the failures can hold the engine back.
    told = play(engine, lambda p: None if p["x"] > 0.6 else -p["x"] + (p["y"] - 0.5) ** 2, 30)
    assert all(o.params["x"] < 0.7 for o in told[12:])
    assert best(told) < -0.58
    scores = engine.score([{"x": 0.9, "y": 0.5}, engine.ask(index=30)[0].params])
    assert scores[0] < scores[1]


def test_measured_constraints_count_as_failures_with_a_loss() -> None:
    engine = GP(Space({"x": Float(0, 1)}), LOSS, 0)
    engine.tell([Observation(k, {"x": k / 9}, (1 - k / 9,), constraints=(k / 9 - 0.55,)) for k in range(10)])
    free = GP(Space({"x": Float(0, 1)}), LOSS, 0)
    free.tell([Observation(k, {"x": k / 9}, (1 - k / 9,)) for k in range(10)])
    assert engine.ask(index=10)[0].params["x"] < 0.7 < free.ask(index=10)[0].params["x"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_only_failures_are_survived(value: float | None) -> None:
    engine = GP(Space({"x": Float(0, 1)}), LOSS, 0)
    engine.tell([Observation(k, {"x": k / 6}, None if value is None else (value,)) for k in range(6)])
    config = [{"x": 0.33}]
    assert 0 <= engine.ask(index=6)[0].params["x"] <= 1
    assert engine.score(config).tolist() == [0.0]
    assert np.isnan(engine.predict(config).mean).all()


@pytest.mark.parametrize(
    "losses", [[1.0] * 8, [1.0, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0, 1.0], [0.1, 1e9, 0.2, 1e300, 0.3, 5.0, 0.1, 0.2]]
)
def test_ties_and_explosions_leave_finite_numbers(losses: list[float]) -> None:
    engine = GP(Space({"x": Float(0, 1), "c": Categorical(["a", "b"]), "one": Int(3, 3)}), LOSS, 0)
    engine.tell([Observation(k, {"x": k / 7, "c": "ab"[k % 2], "one": 3}, (y,)) for k, y in enumerate(losses)])
    configs = engine.candidates(20, index=8)
    assert np.isfinite(engine.score(configs)).all() and np.isfinite(engine.predict(configs).std).all()
    assert engine.ask(index=8)[0].params["one"] == 3


def test_prediction_is_in_the_metrics_units_and_maximising_mirrors_minimising() -> None:
    space = Space({"x": Float(0, 1)})
    low, high = GP(space, LOSS, 0), GP(space, [Objective("acc", "maximize")], 0)
    data = [(k / 9, 100 + 20 * (k / 9 - 0.4) ** 2) for k in range(10)]
    low.tell([Observation(k, {"x": x}, (y,)) for k, (x, y) in enumerate(data)])
    high.tell([Observation(k, {"x": x}, (-y,)) for k, (x, y) in enumerate(data)])
    probe = [{"x": 0.4}, {"x": 0.95}]
    prediction = low.predict(probe)
    assert prediction.mean.shape == prediction.std.shape == (2, 1)
    assert prediction.mean[:, 0] == pytest.approx([100.0, 106.05], abs=0.5)
    assert high.predict(probe).mean == pytest.approx(-prediction.mean)
    assert low.ask(index=10)[0].params == high.ask(index=10)[0].params


def test_scores_rank_the_promising_above_the_rest() -> None:
    engine = GP(Space(MIXED), LOSS, 0)
    assert engine.score([{"lr": 0.1, "layers": 2, "opt": "adam"}]).tolist() == [0.0]
    assert len(engine.candidates(30, index=0)) == 30
    told = play(engine, mixed_loss, 20)
    chosen = engine.score([p.params for p in engine.ask(index=20)])
    assert chosen[0] >= engine.score(engine.candidates(256, index=20)).max()
    worst = max(told, key=lambda o: o.values[0])
    assert chosen[0] > engine.score([worst.params])[0]


def test_low_fidelity_trials_inform_the_full_one() -> None:
    space, fidelity = Space({"x": Float(0, 1)}), Fidelity("epoch", 1, 81)
    engine = GP(space, LOSS, 0, fidelity=fidelity)
    told = [Observation(k, {"x": k / 9}, (1.0 + (k / 9 - 0.7) ** 2,), fidelity=1) for k in range(10)]
    told += [Observation(10 + k, {"x": x}, ((x - 0.7) ** 2,), fidelity=81) for k, x in enumerate((0.1, 0.4, 0.95))]
    engine.tell(told)
    mean = engine.predict([{"x": 0.1}, {"x": 0.7}]).mean[:, 0]
    assert mean[0] == pytest.approx(0.36, abs=0.1) and mean[1] == pytest.approx(0.0, abs=0.15)
    assert abs(engine.ask(index=13, fidelity=9)[0].params["x"] - 0.7) < 0.15
    assert engine.ask(index=13, fidelity=9)[0].fidelity == 9


def test_a_share_is_drawn_at_random_where_the_full_fidelity_is_extrapolated() -> None:
    space, fidelity = Space({"x": Float(0, 1)}), Fidelity("epoch", 1, 81)

    def drawn(reached: int, **options: Any) -> list[float]:
        engine = GP(space, LOSS, 0, fidelity=fidelity, **options)
        engine.tell([Observation(k, {"x": k / 9}, ((k / 9 - 0.7) ** 2,), fidelity=reached) for k in range(10)])
        proposals = [engine.ask(index=k)[0] for k in range(100, 160)]
        return [p.params["x"] for p in proposals if p.tags.get("phase") == "startup"]

    few = drawn(9)
    assert 3 <= len(few) <= 18 and np.ptp(few) > 0.5  # 9 of 60 expected, all over the range
    assert len(drawn(9, random_fraction=1.0)) == 60
    assert not drawn(81) and not drawn(9, random_fraction=0.0)


@pytest.mark.parametrize(
    "options", [{"acquisition": "nei"}, {"kernel": "poly"}, {"kappa": -1.0}, {"startup": 0}, {"random_fraction": 2.0}]
)
def test_wrong_options_name_the_argument(options: dict[str, Any]) -> None:
    with pytest.raises(FixArgument) as caught:
        GP(Space(MIXED), LOSS, 0, **options)
    assert caught.value.field == next(iter(options))


def test_thousands_of_trials_are_affordable_and_still_learned_from() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    rng = np.random.default_rng(0)
    engine = GP(space, LOSS, 0)
    points = space.sample(rng, 1200)
    engine.tell([Observation(k, p, ((p["x"] - 0.37) ** 2 + (p["y"] - 0.61) ** 2,)) for k, p in enumerate(points)])
    found = engine.ask(index=1200)[0].params
    assert abs(found["x"] - 0.37) < 0.1 and abs(found["y"] - 0.61) < 0.1


def test_it_beats_random_search_on_a_mixed_conditional_space() -> None:
    space, ours, random = Space(MIXED), [], []
    for seed in range(5):
        ours.append(best(play(GP(space, LOSS, seed), mixed_loss, 25)))
        random.append(min(mixed_loss(p) for p in space.sample(np.random.default_rng(seed), 25)))
    assert sum(a < b for a, b in zip(ours, random, strict=True)) >= 4
    assert np.mean(ours) < 0.5 * np.mean(random)


def branin(p: Any) -> float:
    """Shifted, so that no optimum lies in the middle of the box; lowest value 0.397887."""
    a, b = p["x"] * 15 - 5 + 0.7, p["y"] * 15 - 0.4
    bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10


def test_it_finds_the_optimum_of_shifted_branin() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    ends = [best(play(GP(space, LOSS, seed), branin, 25)) for seed in range(4)]
    assert max(ends) < 0.6


def test_scipy_waits_for_the_first_model() -> None:
    code = (
        "import sys; from tunewright.engines import *; from tunewright.engines.gp import GP;"
        "e = GP(Space({'x': Float(0, 1), 'c': Categorical(['a', 'b'])}), [Objective('l')], 0); e.ask(3, index=0);"
        "assert not {'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
