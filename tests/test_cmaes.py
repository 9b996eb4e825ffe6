"""CMA-ES: it solves what it is known to solve, discrete numbers stay alive, what is inactive learns nothing."""

from __future__ import annotations

import functools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spaces

from tunewright.engines import Categorical, FixArgument, Float, Int, Objective, Observation, Space, State
from tunewright.engines.cmaes import CMAES
from tunewright.engines.random import Random
from tunewright.engines.space import Params

LOSS = (Objective("loss"),)


def cube(n: int) -> Space:
    return Space({f"x{i}": Float(-5, 5) for i in range(n)})


def vector(params: Params) -> np.ndarray:
    return np.array([v for name, v in params.items() if name[0] == "x"])


def told(space: Space, f, trials: int, seed: int = 0, **options) -> tuple[CMAES, list[float]]:
    """An engine after `trials` of its own proposals, and their values."""
    engine, values = CMAES(space, LOSS, seed, **options), []
    for k in range(trials):
        params = dict(engine.ask(index=k)[0].params)
        values.append(f(params))
        engine.tell([Observation(k, params, (values[-1],))])
    return engine, values


def best(space: Space, f, trials: int, seeds: int = 3) -> np.ndarray:
    return np.array([min(told(space, f, trials, seed)[1]) for seed in range(seeds)])


def drawn(engine: CMAES, n: int = 400) -> np.ndarray:
    return engine.space.encode(engine.candidates(n, index=9999))


# ------------------------------------------------------------------------------------------------ what it solves


def sphere(params: Params) -> float:
    return float(np.sum((vector(params) - 1.3) ** 2))


def ellipsoid(turned: np.ndarray):
    scales = np.logspace(0, 4, len(turned))
    return lambda params: float(np.sum(scales * (turned @ (vector(params) - 1.3)) ** 2))


def rosenbrock(params: Params) -> float:
    x = vector(params)
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def test_sphere() -> None:
    assert np.all(best(cube(5), sphere, 450) < 1e-3)


def test_an_ellipsoid_in_any_direction() -> None:
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    for axes in (np.eye(4), turned):
        assert np.all(best(cube(4), ellipsoid(axes), 800, seeds=2) < 1e-2)


def test_rosenbrocks_bent_valley() -> None:
    assert np.all(best(cube(3), rosenbrock, 900, seeds=2) < 1e-2)
    # Coordinate by coordinate it is not solved: along each axis the walls of the valley are near.
    x = np.zeros(3)
    for k in range(900):
        at = x.copy()
        at[k % 3] = np.clip(np.random.default_rng(k).normal(x[k % 3], 0.3), -5, 5)
        x = min((x, at), key=lambda v: rosenbrock({f"x{i}": c for i, c in enumerate(v)}))
    assert rosenbrock({f"x{i}": c for i, c in enumerate(x)}) > 1e-2


def test_an_optimum_at_the_border_is_hit() -> None:
    space = Space({"x0": Float(-1, 1), "x1": Float(1e-4, 1, log=True), "x2": Float(0, 1)})
    values = best(space, lambda c: (1 - c["x0"]) + (math.log10(c["x1"]) + 4) + (c["x2"] - 0.4) ** 2, 150)
    assert np.all(values < 1e-4), "a path that grew against the border would keep the third one from settling"


def test_constraints_hold_and_their_border_is_reached() -> None:
    space = Space({"x0": Float(0, 1), "x1": Float(0, 1)}, constraints=["x0 + x1 <= 1"])
    assert np.all(best(space, lambda c: -c["x0"] - 2 * c["x1"], 150) < -1.95)


# ------------------------------------------------------------------------------------------------ discrete numbers


SWITCHES = Space({**{f"x{i}": Float(-5, 5) for i in range(10)}, **{f"b{i}": Int(0, 1) for i in range(10)}})


def switches(params: Params) -> float:
    return sphere(params) + sum(v for name, v in params.items() if name[0] == "b")


@functools.cache
def switched(seed: int) -> tuple[CMAES, list[float]]:
    return told(SWITCHES, switches, 1000, seed)


def test_switches_do_not_freeze_before_the_reals_are_found() -> None:
    """Without the margin one switch or more stays wrong in each of these runs, which costs 1."""
    assert all(min(switched(seed)[1]) < 1 for seed in range(2))


def test_whole_numbers_are_found_exactly() -> None:
    wanted = {"i": -4, "j": 7, "k": 40, "s": 0.75}
    space = Space(
        {
            "x0": Float(-5, 5),
            "i": Int(-10, 10),
            "j": Int(0, 12),
            "k": Int(1, 512, log=True),
            "s": Float(0, 1, step=0.25),
        }
    )

    def f(c: Params) -> float:
        return sphere(c) / 100 + sum(
            abs(space.parameters[n].to_unit(c[n]) - space.parameters[n].to_unit(v)) for n, v in wanted.items()
        )

    for seed in range(3):
        engine, values = told(space, f, 400, seed)
        found = engine._history.observations[int(np.argmin(values))].params
        assert {n: found[n] for n in wanted} == {**wanted, "k": pytest.approx(40, abs=1)}


def test_a_discrete_number_always_keeps_a_margin() -> None:
    engine, _ = switched(0)
    units = drawn(engine, 2500)[:, [i for i, name in enumerate(SWITCHES.names) if name[0] == "b"]]
    flipped = np.minimum((units > 0.5).mean(axis=0), (units < 0.5).mean(axis=0))
    least = 1 / (20 * 12)  # of 20 numbers and generations of 4 + 3 ln 20: on average one in a generation is flipped
    assert np.all(flipped > least / 3) and np.median(flipped) < 0.1


# ------------------------------------------------------------------------------------------------ conditions


CHOICES = Space(
    {
        "x0": Float(-5, 5),
        "x1": Float(-5, 5),
        **{f"c{i}": Categorical(list("pqrs")) for i in range(4)},
    }
)


def test_the_best_choices_are_found() -> None:
    def f(c: Params) -> float:
        return sphere(c) / 10 + sum(c[f"c{i}"] != "qpsr"[i] for i in range(4))

    assert np.all(best(CHOICES, f, 300) < 0.1)
    engine, _ = told(CHOICES, f, 200)
    counts = [[c[f"c{i}"] for c in engine.candidates(600, index=1)].count("qpsr"[i]) for i in range(4)]
    assert all(350 < count < 600 for count in counts), "every choice stays possible"


def test_what_was_inactive_has_learned_nothing() -> None:
    space = Space(
        {
            "x0": Float(-5, 5),
            "on": Categorical([True, False]),
            "x1": Float(-5, 5, when={"on": True}),
            "n": Int(1, 9, when={"on": True}),
            "c": Categorical(["p", "q", "r"], when={"on": True}),
        }
    )
    rng = np.random.default_rng(0)
    moved = []
    for seed in range(6):
        engine = CMAES(space, LOSS, seed)
        configs = [{"x0": float(rng.uniform(-5, 5)), "on": False} for _ in range(80)]
        engine.tell([Observation(k, c, ((c["x0"] - 4) ** 2,)) for k, c in enumerate(configs)])
        units = np.array([[c["x1"] / 10 + 0.5] for c in engine.candidates(400, index=1) if c["on"]])
        moved.append((units.mean(), units.std()))
        assert np.allclose(engine._choices.shares[1], 1 / 3)
        assert np.median([c["x0"] for c in engine.candidates(100, index=1)]) > 1
    means, deviations = np.array(moved).T
    assert abs(means.mean() - 0.5) < 3 * max(means.std() / math.sqrt(6), 0.02)
    assert 0.1 < np.median(deviations) < 0.4, "started with 0.25"


def test_a_conditional_optimum() -> None:
    space = Space(
        {
            "model": Categorical(["net", "tree"]),
            "lr": Float(1e-5, 1, log=True, when={"model": "net"}),
            "opt": Categorical(["sgd", "adam"], when={"model": "net"}),
            "depth": Int(1, 20, when={"model": "tree"}),
        }
    )

    def f(c: Params) -> float:
        return (math.log10(c["lr"]) + 3.2) ** 2 + (c["opt"] == "sgd") if "lr" in c else 1 + c["depth"] / 10

    assert np.all(best(space, f, 120, seeds=4) < 0.05)


# ------------------------------------------------------------------------------------------------ ranks


@pytest.mark.parametrize(
    "transform", [lambda v: v**3, lambda v: -1 / (v + 1), lambda v: 1e9 * v - 7], ids=["cube", "inverse", "line"]
)
def test_only_ranks_count(transform) -> None:
    space = Space({**{f"x{i}": Float(-5, 5) for i in range(3)}, "n": Int(1, 9), "c": Categorical(["p", "q"])})
    plain, _ = told(space, lambda c: sphere(c) + c["n"], 120)
    other, _ = told(space, lambda c: transform(sphere(c) + c["n"]), 120)
    assert plain.ask(3, index=120) == other.ask(3, index=120)


def test_failures_broken_constraints_and_low_fidelities_push_away() -> None:
    worse = [
        {"values": None, "state": State.FAILED},
        {"values": (math.nan,)},
        {"values": (-9.0,), "constraints": (1.0,)},
        {"values": (-9.0,), "state": State.STOPPED, "fidelity": 1},
    ]
    for kind in worse:
        engine = CMAES(cube(2), LOSS, 0)
        rng = np.random.default_rng(1)
        for k in range(60):
            params = {"x0": float(rng.uniform(-5, 5)), "x1": float(rng.uniform(-5, 5))}
            bad = params["x0"] < 0
            engine.tell([Observation(k, params, **(kind if bad else {"values": (1.0,), "fidelity": 9}))])
        assert np.median(drawn(engine)[:, 0]) > 0.6


# ------------------------------------------------------------------------------------------------ generations, restarts


def changes(space: Space, values, trials: int) -> list[int]:
    """After which observations the distribution is another one."""
    engine = CMAES(space, LOSS, 0)
    probes, out, before = space.sample(np.random.default_rng(5), 3), [], None
    for k in range(trials):
        params = engine.ask(index=k)[0].params
        engine.tell([Observation(k, params, (values(k),))])
        now = engine.score(probes).tolist()
        if before is not None and now != before:
            out.append(k + 1)
        before = now
    return out


def test_generations_are_blocks_of_the_told_history() -> None:
    assert changes(cube(5), lambda k: float((k * 7) % 10), 40) == [8, 16, 24, 32, 40]  # 4 + 3 ln 5


def test_a_run_without_progress_is_restarted_with_twice_the_population() -> None:
    # Nothing is better than the first: after 10 + 30 * 2 / 6 = 20 generations of 6 the run ends.
    ends = changes(cube(2), lambda k: 0.0 if k == 0 else 1.0 + (k * 7) % 11, 200)
    gaps = np.diff([0, *ends]).tolist()
    assert gaps[:22] == [6] * 22 and set(gaps[22:]) == {12}


def test_a_restart_leaves_a_local_optimum() -> None:
    """A broad valley that a first run falls into, and a deeper, narrower one in the corner."""
    space = cube(2)

    def f(c: Params) -> float:
        x = vector(c)
        return float(min(1 + np.sum(x**2), np.sum((x - 3.5) ** 2) * 3))

    assert min(told(space, f, 200)[1]) >= 1
    assert np.sum(best(space, f, 1000) < 0.5) >= 2


def test_equal_ones_share_their_weights() -> None:
    """All of a generation fails alike: it says nothing about directions, and the middle of its points is kept to."""
    engine = CMAES(cube(2), LOSS, 0)
    at = [(-4.0, 2.0), (4.0, 2.0), (-4.0, -2.0), (4.0, -2.0), (0.0, 1.0), (0.0, -1.0)]
    engine.tell([Observation(k, {"x0": a, "x1": b}, None, State.FAILED) for k, (a, b) in enumerate(at)])
    assert np.all(np.abs(drawn(engine).mean(axis=0) - 0.5) < 0.06)


def test_injected_points_draw_it_without_tearing_it_apart() -> None:
    engine, _ = told(cube(4), sphere, 160)
    before = drawn(engine)
    engine.tell([Observation(160 + k, {f"x{i}": -4.9 for i in range(4)}, (-1.0,), own=False) for k in range(8)])
    after = drawn(engine)
    shift = np.abs(after.mean(axis=0) - before.mean(axis=0)) / before.std(axis=0)
    assert np.all(after.mean(axis=0) < before.mean(axis=0))
    assert np.linalg.norm(shift) < 2 + 8 / 6 + 0.5, "no longer than the bound on a step, in deviations"
    assert np.all(after.std(axis=0) < 6 * before.std(axis=0))


# ------------------------------------------------------------------------------------------------ proposals, scores


def test_it_starts_at_the_default_or_the_middle() -> None:
    space = Space({"lr": Float(1e-4, 1e-2, log=True), "n": Int(1, 9, default=2), "c": Categorical(["x", "y"])})
    first = CMAES(space, LOSS, 0).ask(5, index=0)
    assert first[0].params == {"lr": pytest.approx(1e-3), "n": 2, "c": "x"}
    assert all(p.tags == {"phase": "startup"} for p in first)
    assert np.median([p.params["n"] for p in CMAES(space, LOSS, 0).ask(60, index=0)]) < 4


@pytest.mark.parametrize(
    "space",
    [Space({"a": Int(1, 8), "c": Categorical(list("pqrst"))}), Space({"a": Int(1, 400)})],
    ids=["small", "large"],
)
def test_nothing_repeats_while_a_discrete_space_has_room(space: Space) -> None:
    engine, seen = CMAES(space, LOSS, 3), set()
    for k in range(40):
        params = dict(engine.ask(index=k)[0].params)
        assert space.key(params) not in seen
        seen.add(space.key(params))
        engine.tell([Observation(k, params, (float(params["a"]),))])
    if space.size() == 40:
        assert space.problems(engine.ask(index=40)[0].params) == []


def test_a_found_optimum_of_a_large_grid_is_not_repeated() -> None:
    space = Space({f"n{i}": Int(0, 30) for i in range(4)})
    engine, _ = told(space, lambda c: sum((v - 11) ** 2 for v in c.values()), 300)
    assert len(engine._history.keys) == 300


def test_scores_are_log_densities_relative_to_the_uniform() -> None:
    space = Space({"x0": Float(-5, 5), "x1": Float(-5, 5), "n": Int(1, 40), "c": Categorical(["p", "q", "r"])})
    engine, _ = told(space, lambda c: sphere(c) + (c["n"] - 20) ** 2 / 50 + (c["c"] == "p"), 50)
    densities = np.exp(engine.score(space.sample(np.random.default_rng(0), 4000)))
    assert densities.mean() == pytest.approx(1, abs=0.25)
    assert np.median(engine.score(engine.candidates(100, index=50))) > np.median(np.log(densities)) + 1


@settings(max_examples=25, deadline=None)
@given(spaces(), st.integers(0, 999), st.integers(0, 2))
def test_any_space_and_history_gives_valid_proposals_and_finite_scores(space: Space, seed: int, kind: int) -> None:
    rng = np.random.default_rng(seed)
    configs = space.sample(rng, 40)
    values = [rng.normal(size=40), rng.integers(0, 2, 40), np.zeros(40)][kind].tolist()
    engine = CMAES(space, LOSS, seed)
    engine.tell(
        [Observation(k, c, None if k % 9 == 3 else (v,)) for k, (c, v) in enumerate(zip(configs, values, strict=True))]
    )
    for proposal in engine.ask(3, index=40):
        assert space.problems(proposal.params) == []
    assert np.all(np.isfinite(engine.score(configs)))
    assert all(space.problems(c) == [] for c in engine.candidates(5, index=40))


def test_it_beats_random_search_on_a_mixed_conditional_space() -> None:
    space = Space(
        {
            "lr": Float(1e-6, 1, log=True),
            "width": Int(1, 512, log=True),
            "opt": Categorical(["sgd", "adam", "rms"]),
            "momentum": Float(0, 1, when={"opt": "sgd"}),
        }
    )

    def f(c: Params) -> float:
        rest = (c["momentum"] - 0.9) ** 2 if c["opt"] == "sgd" else 0.3
        return (math.log10(c["lr"]) + 2.4) ** 2 + (math.log2(c["width"]) - 6) ** 2 / 4 + rest

    def chance(seed: int) -> float:
        return min(f(p.params) for p in Random(space, LOSS, seed).ask(120, index=0))

    gain = np.array([chance(seed) for seed in range(10)]) - best(space, f, 120, seeds=10)
    assert np.mean(gain > 0) >= 0.7 and gain.mean() > 2 * gain.std(ddof=1) / math.sqrt(10)


def test_bad_options_are_refused() -> None:
    for options in ({"sigma": 0}, {"sigma": 1.5}, {"sigma": True}, {"population": 2}, {"elite": 1}):
        with pytest.raises(FixArgument, match=r"sigma|population|elite"):
            CMAES(cube(2), LOSS, 0, **options)


def test_scipy_is_not_imported_before_a_generation_is_told() -> None:
    code = (
        "import sys; from tunewright.engines import *; from tunewright.engines.cmaes import CMAES\n"
        "engine = CMAES(Space({'x': Float(0, 1), 'n': Int(1, 9)}), [Objective('y')], 0)\n"
        "engine.tell([Observation(k, p.params, (k,)) for k, p in enumerate(engine.ask(5, index=0))])\n"
        "assert 'scipy' not in sys.modules\n"
        "engine.tell([Observation(5, engine.ask(index=5)[0].params, (1,))]); assert 'scipy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
