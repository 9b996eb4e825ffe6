"""TPE: the densities are densities, the split is fair, and the proposals learn."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import spaces

from tunewright.engines import Categorical, FixArgument, Float, Int, Objective, Observation, Proposal, Space, State
from tunewright.engines.parzen import Axes, Parzen
from tunewright.engines.random import Random
from tunewright.engines.space import Params
from tunewright.engines.tpe import TPE

LOSS = (Objective("loss"),)
LINE = Space({"x": Float(0, 1)})
PLANE = Space({"x": Float(0, 1), "y": Float(0, 1)})
CLUSTERS = Space(
    {
        "model": Categorical(["net", "tree"]),
        "lr": Float(1e-5, 1, log=True, when={"model": "net"}),
        "opt": Categorical(["sgd", "adam"], when={"model": "net"}),
        "depth": Int(1, 20, when={"model": "tree"}),
    }
)


def tpe(space: Space, history: list[tuple[Params, float | None]] = (), seed: int = 0, **options) -> TPE:
    engine = TPE(space, LOSS, seed, **options)
    engine.tell([Observation(k, c, None if v is None else (v,)) for k, (c, v) in enumerate(history)])
    return engine


def minimize(engine, f, trials: int) -> float:
    best = math.inf
    for k in range(trials):
        params = dict(engine.ask(index=k)[0].params)
        best = min(best, value := f(params))
        engine.tell([Observation(k, params, (value,))])
    return best


def parzen(space: Space, units: np.ndarray) -> Parzen:
    return Parzen.fit(Axes(space), units, np.ones(len(units)))


# ------------------------------------------------------------------------------------------------ densities


def test_the_density_of_floats_integrates_to_one() -> None:
    density = parzen(PLANE, np.array([[0.02, 0.5], [0.9, 0.97], [0.4, np.nan]]))
    axis = (np.arange(400) + 0.5) / 400
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(density.log_density(grid)).mean() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    "parameter",
    [
        Int(1, 7),
        Int(0, 20, step=5),
        Int(1, 9, log=True),
        Float(0, 1, step=0.25),
        Categorical(["a", "b", "c"]),
        Int(2, 2),
    ],
)
def test_the_masses_of_a_discrete_parameter_sum_to_one_and_match_its_draws(parameter) -> None:
    space = Space({"p": parameter})
    every = [{"p": parameter.value_at(k)} for k in range(parameter.count)]
    units = space.encode(every)
    density = parzen(space, units[[0, -1, -1]])
    if isinstance(parameter, Int) and parameter.log:
        low, high = math.log(0.5), math.log(9.5)
        widths = np.diff((np.log(np.arange(0.5, 10)) - low) / (high - low))
    else:
        widths = np.full(len(every), 1 / len(every))
    masses = np.exp(density.log_density(units)) * widths
    assert masses.sum() == pytest.approx(1)
    drawn = [c["p"] for c in space.decode(density.sample(np.random.default_rng(0), 5_000))]
    counts = np.array([drawn.count(c["p"]) for c in every])
    likely = masses * 5_000 > 5
    assert counts[~likely].sum() < 20
    if likely.sum() > 1:
        expected = masses[likely] / masses[likely].sum() * counts[likely].sum()
        assert stats.chisquare(counts[likely], expected).pvalue > 1e-4


@pytest.mark.parametrize("parameter", [Int(1, 64), Float(0, 1, step=0.01), Int(1, 1024, log=True)])
def test_the_masses_of_many_values_nearly_sum_to_one(parameter) -> None:
    space = Space({"p": parameter})
    units = space.encode([{"p": parameter.value_at(k)} for k in range(parameter.count)])
    low, high = Axes(space).edges(0, units[:, 0])
    masses = np.exp(parzen(space, units[[0, -1, 20, 20, 20]]).log_density(units)) * (high - low)
    assert masses.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("observations", [6, 400])
def test_the_margins_are_the_densities_of_the_columns_alone(observations: int) -> None:
    rng = np.random.default_rng(0)
    numbers = {"x": Float(0, 1), "n": Int(1, 2000, log=True), "few": Int(1, 4), "one": Int(2, 2)}
    space = Space({**CLUSTERS.parameters, **numbers})
    density = parzen(space, space.encode(space.sample(rng, observations)))
    units = space.encode(space.sample(rng, 50))
    alone = np.zeros(len(units))
    for column in range(units.shape[1]):
        masked = np.full_like(units, np.nan)
        masked[:, column] = units[:, column]
        alone += density.log_density(masked)
    assert np.std(alone) > 0.1
    assert np.allclose(density.log_margins(units), alone, atol=0.05)


def test_what_each_column_tells_alone_counts_beside_what_all_tell_together() -> None:
    space = Space({f"p{k}": Float(0, 1) for k in range(6)})
    rng = np.random.default_rng(0)
    history = [(c, c["p0"]) for c in space.sample(rng, 60)]
    probes = space.sample(rng, 400)
    truth = [c["p0"] for c in probes]
    engine = tpe(space, history)
    good, bad = engine._model()
    units = space.encode(probes)
    together = good.log_density(units) - bad.log_density(units)
    assert stats.spearmanr(engine.score(probes), truth)[0] < stats.spearmanr(together, truth)[0]


def test_the_prior_counts_as_one_observation() -> None:
    far = parzen(LINE, np.array([[0.1], [0.1], [0.1]])).log_density(np.array([[0.9]]))
    assert np.exp(far) == pytest.approx(1 / 4, rel=1e-3)


def test_draws_of_a_float_follow_the_density_up_to_the_borders() -> None:
    density = parzen(LINE, np.array([[0.0], [0.5], [1.0]]))
    drawn = density.sample(np.random.default_rng(1), 20_000)[:, 0]
    assert drawn.min() >= 0 and drawn.max() <= 1
    axis = (np.arange(2000) + 0.5) / 2000
    cdf = np.cumsum(np.exp(density.log_density(axis[:, None]))) / 2000
    assert stats.kstest(drawn, lambda x: np.interp(x, axis, cdf)).pvalue > 1e-4
    assert np.mean((drawn == 0) | (drawn == 1)) < 0.01


def test_an_observation_says_nothing_about_what_was_inactive_in_it() -> None:
    units = CLUSTERS.encode([{"model": "net", "lr": 1e-3, "opt": "sgd"}, {"model": "tree", "depth": 3}])
    density = parzen(CLUSTERS, units)
    probe = CLUSTERS.encode([{"model": "tree", "depth": d} for d in (3, 18)])
    moved = parzen(
        CLUSTERS, CLUSTERS.encode([{"model": "net", "lr": 0.5, "opt": "sgd"}, {"model": "tree", "depth": 3}])
    )
    assert np.allclose(density.log_density(probe), moved.log_density(probe))
    assert np.diff(density.log_density(probe))[0] < 0


def test_recombination_takes_each_value_from_some_observation_or_near_it() -> None:
    density = parzen(PLANE, np.array([[0.2, 0.8], [0.7, 0.1]]))
    units = density.recombine(np.random.default_rng(0), 500)
    assert np.all((units >= 0) & (units <= 1))
    wide = parzen(Space({f"p{i}": Float(0, 1) for i in range(8)}), np.array([[0.2] * 8, [0.7] * 8]))
    units = wide.recombine(np.random.default_rng(0), 500)
    kept = np.isin(units, [0.2, 0.7]).mean()
    assert 0.5 < kept < 0.7
    assert len({tuple(row) for row in np.round(units)}) > 100


@settings(max_examples=12, deadline=None)
@given(spaces(), st.integers(0, 999))
@example(Space({"x": Float(1.0, math.nextafter(1.0, 2.0), log=True), "n": Int(1, 9, log=True)}), 0)
def test_snapped_units_are_those_of_the_values_they_decode_to(space: Space, seed: int) -> None:
    units = np.vstack([np.random.default_rng(seed).random((20, len(space.names))), np.zeros(len(space.names))])
    snapped = Axes(space).snap(units)
    decoded = space.encode(space.decode(units))
    discrete = np.array([math.isfinite(p.count) for p in space.parameters.values()])
    compared = ~np.isnan(decoded) & discrete
    assert np.allclose(snapped[compared], decoded[compared], atol=1e-9)
    assert np.array_equal(snapped[:, ~discrete], units[:, ~discrete])


def test_a_density_does_not_depend_on_the_points_it_is_asked_with() -> None:
    rng = np.random.default_rng(0)
    density = parzen(CLUSTERS, CLUSTERS.encode(CLUSTERS.sample(rng, 3000)))  # more pairs than one block holds
    units = CLUSTERS.encode(CLUSTERS.sample(rng, 90))
    alone = np.concatenate([density.log_density(unit[None]) for unit in units])
    assert np.allclose(density.log_density(units), alone, atol=1e-6)
    assert density.log_density(units[:0]).shape == (0,)


# ------------------------------------------------------------------------------------------------ the split


def good_and_bad(engine: TPE) -> tuple[set[int], set[int]]:
    good, bad = engine._split()
    return set(np.flatnonzero(good).tolist()), set(np.flatnonzero(bad).tolist())


def line(values: list[float | None]) -> list[tuple[Params, float | None]]:
    return [({"x": (k + 0.5) / len(values)}, v) for k, v in enumerate(values)]


def test_the_best_are_good_and_failures_are_bad() -> None:
    values: list[float | None] = [5.0, 1.0, None, 7.0, 2.0, 9.0, 8.0, 6.0, 4.0, None, 3.0, math.nan]
    assert good_and_bad(tpe(LINE, line(values))) == ({1, 4}, {0, 2, 3, 5, 6, 7, 8, 9, 10, 11})
    many = [float(k % 100) + k / 1000 for k in range(100)]
    assert good_and_bad(tpe(LINE, line(many)))[0] == set(range(12))


def test_the_best_of_the_good_weigh_most() -> None:
    history = [({"x": 0.1}, 1.0), ({"x": 0.9}, 2.0), *[({"x": 0.5}, float(k)) for k in range(3, 20)]]
    assert np.diff(tpe(LINE, history).score([{"x": 0.1}, {"x": 0.9}]))[0] < -0.5


def test_equal_values_share_alike_in_what_their_places_get() -> None:
    good, bad = tpe(LINE, line([1.0, *[2.0] * 19]))._split()  # 3 places are good
    assert good[0] > good[1] > 0 and good.sum() == pytest.approx(3)
    assert good[1:] == pytest.approx(good[1]) and bad == pytest.approx([0, *[17 / 19] * 19])
    good, bad = tpe(LINE, line([1.0] * 15 + [2.0] * 3 + [None] * 2))._split()
    assert good == pytest.approx([3 / 15] * 15 + [0] * 5)
    places = np.split((2 * np.arange(17) + 1) / 17, [12, 15])  # 12 of the 17 bad places are theirs
    shares = [places[0].sum() / 15] * 15 + [places[1].mean()] * 3 + [places[2].mean()] * 2
    assert bad == pytest.approx(shares)


def test_the_worse_a_place_the_more_it_says_against_its_surroundings() -> None:
    good, bad = tpe(LINE, line([*map(float, range(20)), None]))._split()
    assert np.count_nonzero(good) == 3 and np.all(bad[:3] == 0)
    assert np.all(np.diff(bad[3:]) > 0) and bad.sum() == pytest.approx(18)


def test_the_order_of_equal_values_does_not_matter() -> None:
    history = [(c, float(c["x"] > 0.5)) for c in PLANE.sample(np.random.default_rng(0), 30)]
    probes = PLANE.sample(np.random.default_rng(1), 20)
    assert np.allclose(tpe(PLANE, history).score(probes), tpe(PLANE, history[::-1]).score(probes))


def test_a_plateau_that_is_known_is_left() -> None:
    shelf = [({"x": x}, 1.0) for x in np.linspace(0.1, 0.5, 20)]
    outside = [({"x": x}, 2.0) for x in (0.7, 0.75)]
    on, off = tpe(LINE, shelf + outside).score([{"x": 0.3}, {"x": 0.95}])
    assert off > on
    first, *_ = tpe(LINE, [*shelf, ({"x": 0.3}, 0.0), *outside]).score([{"x": 0.31}])
    assert first > 0  # what is better than the plateau holds


def test_no_model_before_enough_values_are_in() -> None:
    def phase(values: list[float | None], **options) -> str:
        return tpe(LINE, line(values), **options).ask(index=len(values))[0].tags["phase"]

    values: list[float | None] = [None] * 20 + [float(k) for k in range(7)]
    assert phase(values) == "startup"
    assert phase([*values, 9.0]) == "model"
    assert phase([1.0, 2.0, 3.0], n_startup=3) == "model"


def test_higher_fidelity_counts_first_and_broken_constraints_last() -> None:
    engine = TPE(LINE, LOSS, 0)
    rows = [(9.0, 9, ()), (8.0, 9, ()), *[(float(k), 1, ()) for k in range(10)]]
    engine.tell([Observation(k, {"x": k / 20}, (v,), State.STOPPED, f, c) for k, (v, f, c) in enumerate(rows)])
    assert good_and_bad(engine)[0] == {0, 1}
    engine = TPE(LINE, LOSS, 0)
    rows = [(-9.0, None, (0.5,)), *[(float(k), None, (-1.0, 0.0)) for k in range(10)]]
    engine.tell([Observation(k, {"x": k / 20}, (v,), State.COMPLETE, f, c) for k, (v, f, c) in enumerate(rows)])
    assert good_and_bad(engine)[0] == {1, 2}


# ------------------------------------------------------------------------------------------------ proposals


def test_it_starts_in_the_middle_and_spreads_out() -> None:
    space = Space({"lr": Float(1e-4, 1e-2, log=True), "n": Int(1, 9, default=2), "c": Categorical(["x", "y"])})
    first = tpe(space).ask(8, index=0)
    assert first[0].params == {"lr": pytest.approx(1e-3), "n": 2, "c": "x"}
    assert all(p.tags == {"phase": "startup"} for p in first)
    cells = np.floor(space.encode([p.params for p in first])[1:, 0] * 8)
    assert len(set(cells)) == 7
    later = tpe(space, [(dict(p.params), float(k)) for k, p in enumerate(first)]).ask(index=8)[0]
    assert later.tags == {"phase": "model"}


def test_what_runs_is_taken_to_be_bad() -> None:
    history = line([abs(k - 10) / 20 for k in range(20)])
    engine = tpe(LINE, history)
    alone = engine.ask(index=20)[0]
    crowd = [Proposal({"x": 0.51 + k / 1000}) for k in range(20)]
    away = engine.ask(1, crowd, index=20)[0]
    assert abs(alone.params["x"] - 0.52) < 0.04
    assert abs(away.params["x"] - 0.52) > 0.06


def test_scores_rank_regions_and_ignore_order_of_asking() -> None:
    f = {"net": lambda c: abs(math.log10(c["lr"]) + 3) + (c["opt"] == "sgd"), "tree": lambda c: 2 + c["depth"] / 5}
    configs = CLUSTERS.sample(np.random.default_rng(0), 60)
    engine = tpe(CLUSTERS, [(c, f[c["model"]](c)) for c in configs])
    best, wrong_opt, wrong_lr, other = engine.score(
        [
            {"model": "net", "lr": 1e-3, "opt": "adam"},
            {"model": "net", "lr": 1e-3, "opt": "sgd"},
            {"model": "net", "lr": 0.9, "opt": "adam"},
            {"model": "tree", "depth": 20},
        ]
    )
    assert best > wrong_opt and best > wrong_lr and best > other


@settings(max_examples=20, deadline=None)
@given(spaces(), st.integers(0, 999))
def test_candidates_leave_out_what_is_inactive(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = tpe(space, [(c, float(k)) for k, c in enumerate(space.sample(rng, 12))])
    for config in engine.candidates(30, index=12):
        assert space.problems(config) == []
    units = rng.random((30, len(space.names)))
    expected = space.encode([c for c in space.decode(units) if space.feasible(c)])
    assert np.allclose(engine._valid(units), expected, atol=1e-9, equal_nan=True)


def test_the_proposal_is_its_own_best_candidate_or_close_to_it() -> None:
    engine = tpe(PLANE, [(c, (c["x"] - 0.7) ** 2 + c["y"]) for c in PLANE.sample(np.random.default_rng(0), 40)])
    proposed = engine.score([engine.ask(index=40)[0].params])[0]
    assert proposed >= np.quantile(engine.score(engine.candidates(256, index=40)), 0.9)


@settings(max_examples=12, deadline=None)
@given(spaces(), st.integers(0, 999), st.integers(0, 2))
def test_any_space_and_history_gives_valid_proposals_and_finite_scores(space: Space, seed: int, kind: int) -> None:
    rng = np.random.default_rng(seed)
    configs = space.sample(rng, 20)
    values = [rng.normal(size=20), rng.integers(0, 2, 20), np.zeros(20)][kind].tolist()
    values[3] = None
    engine = tpe(space, list(zip(configs, values, strict=True)))
    for proposal in engine.ask(3, index=20):
        assert space.problems(proposal.params) == []
    assert np.all(np.isfinite(engine.score(configs)))
    assert all(space.problems(c) == [] for c in engine.candidates(5, index=20))


@pytest.mark.parametrize(
    "space",
    [Space({"a": Int(1, 8), "c": Categorical(list("pqrst"))}), Space({"a": Int(1, 400)})],
    ids=["small", "large"],
)
def test_nothing_repeats_while_a_discrete_space_has_room(space: Space) -> None:
    engine, seen = TPE(space, LOSS, 3), set()
    for k in range(40):
        params = dict(engine.ask(index=k)[0].params)
        assert space.key(params) not in seen
        seen.add(space.key(params))
        engine.tell([Observation(k, params, (float(params["a"]),))])
    if space.size() == 40:
        assert space.problems(engine.ask(index=40)[0].params) == []


def test_constraints_hold_even_where_the_model_points_outside() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)}, constraints=["x + y <= 1"])
    engine = TPE(space, LOSS, 0)
    best = minimize(engine, lambda c: -c["x"] - c["y"], 60)
    assert -1 <= best < -0.97
    assert all(space.feasible(o.params) for o in engine._history.observations)


PROBLEMS = {
    "bowl": (PLANE, lambda c: (c["x"] - 0.23) ** 2 + (c["y"] - 0.81) ** 2),
    "log scale": (
        Space({"lr": Float(1e-6, 1, log=True), "n": Int(1, 512, log=True)}),
        lambda c: (math.log10(c["lr"]) + 2.4) ** 2 + (math.log2(c["n"]) - 6) ** 2 / 4,
    ),
    "conditional": (
        CLUSTERS,
        lambda c: (math.log10(c["lr"]) + 3) ** 2 + (c["opt"] == "sgd") if c["model"] == "net" else 1 + c["depth"] / 10,
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_learns(name) -> None:
    space, f = PROBLEMS[name]
    learned = [minimize(TPE(space, LOSS, seed), f, 40) for seed in range(5)]
    chance = [minimize(Random(space, LOSS, seed), f, 40) for seed in range(5)]
    assert np.median(learned) < 0.2 * np.median(chance)


def test_bad_options_are_refused() -> None:
    for options in ({"n_startup": 0}, {"n_startup": 2.5}, {"gamma": 0.1}):
        with pytest.raises(FixArgument, match=r"n_startup|gamma"):
            tpe(LINE, **options)


def test_scipy_is_not_imported_before_a_model_is_fitted() -> None:
    code = (
        "import sys; from tunewright.engines import *; from tunewright.engines.tpe import TPE\n"
        "engine = TPE(Space({'x': Float(0, 1)}), [Objective('y')], 0)\n"
        "for k in range(8): engine.tell([Observation(k, p.params, (k,)) for p in engine.ask(index=k)])\n"
        "assert 'scipy' not in sys.modules\n"
        "engine.ask(index=8); assert 'scipy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
