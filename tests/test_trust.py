"""Earned trust: what evaluated advice does to the share of later advice, and the fall to a private engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.agent import Agent, Budget, Float, Objective
from tunewright.agent.arbiter import Advice, Policy, Record, Scores, decide, turn
from tunewright.agent.testing import FakeAdvisor
from tunewright.agent.trust import Result, Trust, earned
from tunewright.engines import Float as FloatParameter
from tunewright.engines import Proposal, Space
from tunewright.engines.noise import noise_floor

MODEL = Proposal({"x": 0.1})
POLICY = Policy(budget=100)
BAD = Trust(2.0, 6.0, 4)


def history(losses, advised):
    return [Result(i, "a" if i in advised else None, loss) for i, loss in enumerate(losses)]


def test_an_untried_advisor_counts_as_much_as_the_engine():
    trust = earned([], "a")
    assert (trust.mean, trust.factor, trust.evaluated) == (0.5, 1.0, 0)


def test_winning_raises_and_losing_lowers_it():
    losses = [5.0, 4.0, 1.0, 6.0, 5.5]
    assert earned(history(losses, {2}), "a").mean == pytest.approx(3 / 5)
    assert earned(history([-x for x in losses], {2}), "a").mean == pytest.approx(2 / 5)


def test_a_trial_that_lost_to_all_takes_the_whole_share_until_one_of_them_is_worse():
    assert earned(history([9.0, 1.0], {0}), "a").low
    assert earned(history([9.0, 1.0, 2.0], {0}), "a").low
    assert not earned(history([9.0, 1.0, 10.0], {0}), "a").low
    assert earned(history([1.0, 2.0, 9.0, 1.5, 8.0, 2.5], {2, 4}), "a").low


def test_ties_inside_the_noise_floor_count_half():
    results = history([1.0, 1.1, 0.95, 1.05], {2})
    assert earned(results, "a", noise=0.2).mean == pytest.approx(0.5)
    assert earned(results, "a", noise=0.01).mean > 0.5


def test_failures_lose_against_results_and_tie_with_failures():
    assert earned(history([1.0, math.inf, 2.0], {1}), "a").mean == pytest.approx(2 / 5)
    assert earned(history([math.inf, math.inf], {1}), "a").mean == pytest.approx(0.5)


def test_old_merit_fades():
    good_then_bad = [(0.0, True), (1.0, False)] * 6 + [(9.0, True), (1.0, False)] * 8
    losses, flags = zip(*good_then_bad, strict=True)
    advised = {i for i, flag in enumerate(flags) if flag}
    means = [earned(history(losses[:n], advised), "a").mean for n in (12, 28)]
    assert means[0] > 0.6
    assert means[1] < 0.35


def test_only_results_of_one_fidelity_are_compared():
    results = [Result(0, None, 1.0, 9), Result(1, "a", 5.0, 1), Result(2, None, 6.0, 1)]
    assert earned(results, "a").mean == pytest.approx(3 / 5)


def test_each_advisor_earns_its_own():
    results = [Result(0, None, 1.0), Result(1, "a", 5.0), Result(2, "b", 0.5)]
    assert earned(results, "a").mean < 0.5 < earned(results, "b").mean


@given(st.lists(st.tuples(st.booleans(), st.floats(-5, 5) | st.just(math.inf)), max_size=40), st.floats(0, 2))
def test_trust_is_a_probability_and_its_factor_a_share(rows, noise):
    trust = earned([Result(i, "a" if flag else None, loss) for i, (flag, loss) in enumerate(rows)], "a", noise)
    assert 0 < trust.mean < 1
    assert 0 <= trust.factor <= 1
    assert trust.low == (trust.factor == 0)


def test_low_trust_leaves_one_probe_in_twenty():
    assert turn(MODEL, Record(30, 5, 3, 20, BAD), POLICY)[0] is None
    assert turn(MODEL, Record(40, 5, 3, 20, BAD), POLICY)[0] == "probe"
    assert "trust" in turn(MODEL, Record(30, 5, 3, 20, BAD), POLICY)[1]


def test_low_trust_ends_the_seeds():
    startup = Proposal({"x": 0.1}, tags={"phase": "startup"})
    assert turn(startup, Record(3, 2, 0, 2, BAD), POLICY)[0] is None


def test_seeds_wait_for_a_judgement_of_those_before():
    startup = Proposal({"x": 0.1}, tags={"phase": "startup"})
    phase, why = turn(startup, Record(3, 2, unjudged=2), POLICY)
    assert phase is None and why == "2 advised trials wait to be held against the engine's own"
    assert turn(startup, Record(3, 2, trust=Trust(3.8, 2.05, 2)), POLICY)[0] == "seed"


def test_advice_that_begins_a_study_waits_for_a_trial_of_the_engines():
    startup = Proposal({"x": 0.1}, tags={"phase": "startup"})
    begun = Record(1, 1, unjudged=1)
    phase, why = turn(startup, begun, POLICY)
    assert phase is None and why == "1 advised trial waits to be held against the engine's own"
    assert decide(Advice(), [startup], Scores(), begun, POLICY).numbers["unjudged"] == 1
    assert turn(startup, Record(2, 1, unjudged=1), POLICY)[0] == "seed", "a default stands beside it"
    assert turn(startup, Record(2, 1, unjudged=1, given=1), POLICY)[0] == "seed", "a point of the user's does"


@pytest.mark.parametrize("engine", ["tpe", "gp", "random"])
def test_one_bad_seed_is_all_that_a_beginning_costs(engine):
    """The engine draws before the advisor has spent its seeds, so that there is something to hold them against."""
    worst.n = 0
    agent = run(FakeAdvisor(worst), trials=50, engine=engine, stop=12)
    assert [t.number for t in agent.trials if t.source == "advisor"] == [0]
    assert agent.config["fell_to_strict"]["at"] == 4


def test_a_lost_trial_parts_the_engine_from_advice_by_three_comparisons():
    few = earned(history([9.0, 1.0, 2.0], {0}), "a")
    assert few.low and not few.lost
    assert earned(history([9.0, 1.0, 2.0, 3.0], {0}), "a").lost


def test_each_probe_doubles_the_wait_for_the_next_and_the_last_tenth_has_none():
    assert turn(MODEL, Record(40, 1, 1, 20, BAD, probes=1), POLICY)[1].endswith("it may try one trial in 40")
    assert turn(MODEL, Record(60, 1, 1, 20, BAD, probes=1), POLICY)[0] == "probe"
    assert turn(MODEL, Record(89, 1, 0, 20, BAD), POLICY)[0] == "probe"
    phase, why = turn(MODEL, Record(90, 1, 0, 20, BAD), POLICY)
    assert phase is None and "too late" in why
    assert turn(MODEL, Record(100, 1, 0, 20, BAD), POLICY)[0] == "probe", "past a budget that was only assumed"


def test_with_several_objectives_nobody_is_judged_and_seeds_go_on():
    rng = np.random.default_rng(0)
    agent = Agent(
        {"x": Float(0, 1), "y": Float(0, 1)}, objectives=[Objective("a"), Objective("b")], engine="random", store=None,
        advisor=FakeAdvisor(lambda request: [{"x": rng.random(), "y": rng.random()}]), budget=Budget(trials=50),
    )  # fmt: skip
    for _ in range(8):
        trial = agent.suggest()
        agent.observe(trial, {"a": trial["x"], "b": trial["y"]})
    assert len([t for t in agent.trials if t.source == "advisor"]) == 5


def objective(x):
    return (x - 0.3) ** 2


def run(advisor, trials=60, engine="tpe", stop=None):
    agent = Agent(
        {"x": Float(0, 1), "y": Float(0, 1)}, metric="loss", engine=engine, advisor=advisor, store=None,
        budget=Budget(trials=trials),
    )  # fmt: skip
    for _ in range(stop or trials):
        trial = agent.suggest()
        agent.observe(trial, objective(trial["x"]) + 0.1 * trial["y"])
    return agent


def worst(request):
    """Always near the worst corner, never the same point twice."""
    worst.n += 1
    rng = np.random.default_rng(worst.n)
    return [{"x": 1 - 0.05 * rng.random(), "y": 1 - 0.05 * rng.random()}]


def test_bad_advice_is_soon_left_out_and_the_engine_goes_on_alone():
    worst.n = 0
    agent = run(FakeAdvisor(worst))
    advised = [t.number for t in agent.trials if t.source == "advisor"]
    assert 1 <= len(advised) <= 4
    assert agent.config["fell_to_strict"]["at"] <= 4
    assert "trust in the advisor is low" in agent.trials[30].reason
    assert agent.best.value < 0.05


def test_good_advice_keeps_its_share():
    rng = np.random.default_rng(0)
    agent = run(FakeAdvisor(lambda request: [{"x": 0.3 + 0.05 * rng.normal(), "y": 0.05 * rng.random()}]))
    assert "fell_to_strict" not in agent.config
    assert len([t for t in agent.trials if t.source == "advisor"]) >= 5


def test_the_fall_is_remembered(tmp_path):
    worst.n = 0
    path = tmp_path / "s.db"
    given = {"metric": "loss", "engine": "tpe", "budget": Budget(trials=60), "store": path}
    space = {"x": Float(0, 1), "y": Float(0, 1)}
    first = Agent(space, advisor=FakeAdvisor(worst), **given)
    for _ in range(25):
        trial = first.suggest()
        first.observe(trial, objective(trial["x"]) + 0.1 * trial["y"])
    fell = first.config["fell_to_strict"]
    first.close()
    again = Agent(space, advisor=FakeAdvisor(worst), **given)
    assert again.config["fell_to_strict"] == fell
    assert again._strict


def test_noise_is_measured_from_repeats_and_from_neighbours():
    space = Space({"x": FloatParameter(0, 1), "y": FloatParameter(0, 1)})
    rng = np.random.default_rng(3)
    configs = space.sample(rng, 200)
    clean = np.array([(c["x"] - 0.4) ** 2 + c["y"] for c in configs])
    found = noise_floor(space, configs, clean + 0.1 * rng.normal(size=200))
    assert 0.06 < found < 0.16
    assert noise_floor(space, configs, clean) < 0.05
    twice = configs[:20] * 2
    repeated = np.concatenate([clean[:20], clean[:20]]) + 0.1 * rng.normal(size=40)
    assert 0.06 < noise_floor(space, twice, repeated) < 0.15
    assert noise_floor(space, configs[:5], clean[:5]) is None


def test_noise_of_many_trials_is_measured_between_neighbours():
    space = Space({"x": FloatParameter(0, 1), "y": FloatParameter(0, 1)})
    rng = np.random.default_rng(3)
    configs = space.sample(rng, 1_100)
    clean = np.array([(c["x"] - 0.4) ** 2 + c["y"] for c in configs])
    assert 0.09 < noise_floor(space, configs, clean + 0.1 * rng.normal(size=1_100)) < 0.11
    assert 0 < noise_floor(space, configs, clean) < 0.01
    assert noise_floor(space, configs, np.full(1_100, 0.5)) == 0.0


def test_noise_counts_as_evident_only_where_the_losses_show_it():
    rng = np.random.default_rng(5)
    space = Space({f"x{i}": FloatParameter(0, 1) for i in range(3)})
    configs = space.sample(rng, 60)
    smooth = np.array([sum((c[f"x{i}"] - 0.4) ** 2 for i in range(3)) for c in configs])
    assert noise_floor(space, configs, smooth, evident=True) is None
    assumed = noise_floor(space, configs, smooth)
    assert assumed is not None and assumed > 0  # an upper end, for who is cautious
    noisy = smooth + 0.1 * rng.normal(size=60)
    assert noise_floor(space, configs, noisy, evident=True) == noise_floor(space, configs, noisy) > 0.05
    repeated = noise_floor(space, [*configs, configs[0]], np.append(smooth, smooth[0] + 0.02), evident=True)
    assert repeated == noise_floor(space, [*configs, configs[0]], np.append(smooth, smooth[0] + 0.02)) > 0.005
    assert noise_floor(space, space.sample(rng, 1_001), rng.random(1_001), evident=True) is None  # too many to ask
