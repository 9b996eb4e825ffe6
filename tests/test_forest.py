"""The random-forest engine: its variance, its encoding, and what it finds where conditions and categories decide."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

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
    Scorer,
    Space,
    State,
)
from tunewright.engines.forest import MIN_VARIANCE, Forest, Trees
from tunewright.engines.types import Params

LOSS = [Objective("loss")]
BRANCHES = {
    "model": Categorical(["svm", "net", "trees", "linear"]),
    "l2": Float(1e-6, 1.0, log=True),
    "kernel": Categorical(["rbf", "poly", "sigmoid"], when={"model": "svm"}),
    "degree": Int(2, 6, when={"kernel": "poly"}),
    "layers": Int(1, 8, when={"model": "net"}),
    "lr": Float(1e-5, 1.0, log=True, when={"model": "net"}),
    "depth": Int(1, 12, when={"model": "trees"}),
}


def branches_loss(p: Any) -> float:
    """Least, at 0, in the polynomial kernel of degree 3: two conditions and two categories deep."""
    loss = 0.05 * (math.log10(p["l2"]) + 2) ** 2
    match p["model"]:
        case "svm":
            return loss + (0.3 * abs(p["degree"] - 3) if p["kernel"] == "poly" else 0.6)
        case "net":
            return loss + 1.0 + 0.1 * abs(p["layers"] - 4) + 0.1 * abs(math.log10(p["lr"]) + 3)
        case "trees":
            return loss + 1.0 + 0.1 * abs(p["depth"] - 5)
    return loss + 1.2


def play(engine: Forest, loss: Any, n: int) -> list[Observation]:
    told = []
    for k in range(n):
        params = engine.ask(index=k)[0].params
        value = loss(params)
        state = State.FAILED if value is None else State.COMPLETE
        told.append(Observation(k, params, None if value is None else (value,), state))
        engine.tell(told[-1:])
    return told


def test_mean_and_variance_are_those_of_the_law_of_total_variance() -> None:
    from sklearn.tree import ExtraTreeRegressor

    rng = np.random.default_rng(0)
    x, new = rng.random((40, 3)), rng.random((25, 3)).astype(np.float32)
    x[20:] = x[:20]  # twins with unlike values, so that leaves have a variance of their own
    y = rng.standard_normal(40)
    mean, variance = Trees(x, y, np.random.default_rng(5), trees=7).predict(new)
    means, within = [], []
    state = np.random.RandomState(int(np.random.default_rng(5).integers(2**32)))
    for _ in range(7):
        tree = ExtraTreeRegressor(random_state=state).fit(x, y)
        leaf, of = tree.apply(new), tree.apply(x)
        means.append([y[of == k].mean() for k in leaf])
        within.append([max(y[of == k].var(), MIN_VARIANCE) for k in leaf])
    mu, s2 = np.array(means), np.array(within)
    assert s2.max() > 10 * MIN_VARIANCE
    assert mean == pytest.approx(mu.mean(0))
    assert variance == pytest.approx((s2 + mu**2).mean(0) - mu.mean(0) ** 2)


def test_the_engine_meets_the_protocols() -> None:
    engine = Forest(Space(BRANCHES), LOSS, 0)
    assert isinstance(engine, Engine) and isinstance(engine, Scorer) and isinstance(engine, Predictor)


def test_it_finds_an_optimum_behind_conditions_and_categories() -> None:
    space, ours, random = Space(BRANCHES), [], []
    for seed in range(10):
        told = play(Forest(space, LOSS, seed), branches_loss, 30)
        ours.append(min(o.values[0] for o in told if o.values))
        random.append(min(branches_loss(p) for p in space.sample(np.random.default_rng(seed), 30)))
    assert sum(a < b for a, b in zip(ours, random, strict=True)) >= 8
    assert np.mean(ours) < 0.5 * np.mean(random)


def test_the_order_of_choices_changes_nothing() -> None:
    runs = []
    for order in (["svm", "net", "trees", "linear"], ["linear", "trees", "net", "svm"]):
        engine = Forest(Space({**BRANCHES, "model": Categorical(order)}), LOSS, 4)
        told = play(engine, branches_loss, 14)
        probe = [told[3].params, told[9].params]
        runs.append(([o.params for o in told], engine.score(probe).tolist(), engine.predict(probe).mean.tolist()))
    assert runs[0] == runs[1]


def test_what_is_switched_off_can_be_told_from_every_value() -> None:
    """The same loss all along the child's range, another one without it: nothing but its absence explains the two."""
    space = Space({"a": Float(0, 1), "child": Float(0, 1, when="a > 0.5")})
    engine = Forest(space, LOSS, 0)
    configs = space.sample(np.random.default_rng(0), 40)
    engine.tell([Observation(k, p, (1.0 if "child" in p else 0.0,)) for k, p in enumerate(configs)])
    mean = engine.predict([{"a": 0.9, "child": 0.0}, {"a": 0.9, "child": 0.5}, {"a": 0.1}]).mean[:, 0]
    assert mean == pytest.approx([1.0, 1.0, 0.0], abs=0.05)


def test_prediction_is_in_the_metrics_units_and_maximising_mirrors_minimising() -> None:
    space = Space({"x": Float(0, 1)})
    low, high = Forest(space, LOSS, 0), Forest(space, [Objective("acc", "maximize")], 0)
    data = [(k / 9, 100 + 20 * (k / 9 - 0.4) ** 2) for k in range(10)]
    low.tell([Observation(k, {"x": x}, (y,)) for k, (x, y) in enumerate(data)])
    high.tell([Observation(k, {"x": x}, (-y,)) for k, (x, y) in enumerate(data)])
    probe = [{"x": data[3][0]}, {"x": data[8][0]}, {"x": 0.95}]
    prediction = low.predict(probe)
    assert prediction.mean.shape == prediction.std.shape == (3, 1)
    assert prediction.mean[:2, 0] == pytest.approx([data[3][1], data[8][1]], abs=1e-6)
    assert 100 < prediction.mean[2, 0] < 108
    assert 0 < prediction.std[0, 0] < prediction.std[2, 0] < 8
    assert high.predict(probe).mean == pytest.approx(-prediction.mean)
    assert high.predict(probe).std == pytest.approx(prediction.std)


def test_it_starts_at_the_default_or_the_middle_and_spreads() -> None:
    assert Forest(Space({"x": Float(0, 1, default=0.2)}), LOSS, 0).ask(index=0)[0].params == {"x": 0.2}
    first, *others = Forest(Space({"x": Float(0, 4), "n": Int(1, 3)}), LOSS, 0).ask(3, index=0)
    assert first.params == {"x": 2.0, "n": 2} and first.tags["phase"] == "startup"
    assert all(abs(p.params["x"] - 2.0) > 0.5 or p.params["n"] != 2 for p in others)


def test_the_stated_share_is_drawn_without_the_model() -> None:
    space = Space({"x": Float(0, 1)})
    told = [Observation(k, {"x": k / 9}, ((k / 9 - 0.3) ** 2,)) for k in range(10)]

    def drawn(share: float) -> int:
        engine = Forest(space, LOSS, 0, random_share=share)
        engine.tell(told)
        return sum(engine.ask(index=k)[0].tags.get("phase") == "startup" for k in range(10, 50))

    assert drawn(0.0) == 0 and drawn(1.0) == 40 and 4 <= drawn(0.25) <= 16


def test_pending_points_are_kept_away_from() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    engine = Forest(space, LOSS, 0, random_share=0.0)
    play(engine, lambda p: math.sin(9 * p["x"]) + math.cos(7 * p["y"]), 8)
    (alone,) = engine.ask(index=8)
    assert engine.ask(index=8, pending=[alone])[0] != alone
    rows = space.encode([p.params for p in engine.ask(4, index=8)])
    assert min(np.abs(a - b).max() for i, a in enumerate(rows) for b in rows[:i]) > 0.005
    # A fantasy takes a promising value's place: nearby, less is expected than before.
    assert engine.ask(index=9, pending=[alone]) != engine.ask(index=9)


def test_failures_are_learned_and_avoided() -> None:
    engine = Forest(Space({"x": Float(0, 1), "y": Float(0, 1)}), LOSS, 0, random_share=0.0)
    # The loss falls towards the cliff, so that only the failures can hold the engine back.
    told = play(engine, lambda p: None if p["x"] > 0.6 else -p["x"] + (p["y"] - 0.5) ** 2, 40)
    assert sum(o.values is None for o in told[20:]) <= 10
    assert min(o.values[0] for o in told if o.values) < -0.57
    scores = engine.score([{"x": 0.9, "y": 0.5}, {"x": 0.58, "y": 0.5}])
    assert scores[0] < scores[1]


def test_measured_constraints_count_as_failures() -> None:
    def proposed(constraints: Any) -> float:
        engine = Forest(Space({"x": Float(0, 1)}), LOSS, 0, random_share=0.0)
        engine.tell([Observation(k, {"x": k / 9}, (1 - k / 9,), constraints=constraints(k / 9)) for k in range(10)])
        return engine.ask(index=10)[0].params["x"]

    assert proposed(lambda x: (x - 0.55,)) < 0.7 < proposed(lambda x: ())


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_only_failures_are_survived(value: float | None) -> None:
    engine = Forest(Space({"x": Float(0, 1)}), LOSS, 0)
    engine.tell([Observation(k, {"x": k / 6}, None if value is None else (value,)) for k in range(6)])
    assert 0 <= engine.ask(index=6)[0].params["x"] <= 1
    assert engine.score([{"x": 0.33}]).tolist() == [0.0]
    assert np.isnan(engine.predict([{"x": 0.33}]).mean).all()


def test_scores_rank_the_promising_above_the_rest() -> None:
    engine = Forest(Space(BRANCHES), LOSS, 0, random_share=0.0)
    told = play(engine, branches_loss, 25)
    chosen = engine.score([p.params for p in engine.ask(index=25)])[0]
    assert chosen > np.quantile(engine.score(engine.candidates(256, index=25)), 0.95)
    worst = max(told, key=lambda o: o.values[0])
    assert chosen > engine.score([worst.params])[0]


def test_low_fidelity_trials_inform_the_full_one() -> None:
    space, fidelity = Space({"x": Float(0, 1)}), Fidelity("epoch", 1, 81)
    full = [Observation(20 + k, {"x": x}, ((x - 0.7) ** 2,), fidelity=81) for k, x in enumerate((0.1, 0.4, 0.95))]
    low = [Observation(k, {"x": k / 19}, (0.01 + (k / 19 - 0.7) ** 2,), fidelity=1) for k in range(20)]
    informed, alone = (Forest(space, LOSS, 0, fidelity=fidelity, random_share=0.0) for _ in range(2))
    informed.tell([*low, *full])
    alone.tell(full)
    probe: list[Params] = [{"x": 0.95}, {"x": 0.65}]
    mean = informed.predict(probe).mean[:, 0]
    assert mean[0] == pytest.approx(0.0625, abs=1e-6), "a loss at low fidelity was taken for one at full"
    assert abs(mean[1] - 0.0025) < 0.8 * abs(alone.predict(probe).mean[1, 0] - 0.0025)
    proposal = informed.ask(index=23, fidelity=9)[0]
    assert proposal.fidelity == 9 and abs(proposal.params["x"] - 0.7) < 0.2


def test_thousands_of_trials_are_affordable_and_still_learned_from() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    engine = Forest(space, LOSS, 0, random_share=0.0)
    points = space.sample(np.random.default_rng(0), 1200)
    engine.tell([Observation(k, p, ((p["x"] - 0.37) ** 2 + (p["y"] - 0.61) ** 2,)) for k, p in enumerate(points)])
    found = engine.ask(index=1200)[0].params
    assert abs(found["x"] - 0.37) < 0.1 and abs(found["y"] - 0.61) < 0.1


def test_a_constraint_of_the_space_is_met_by_every_proposal() -> None:
    space = Space({"a": Float(0, 1), "b": Float(0, 1)}, constraints=["a + b <= 0.5"])
    told = play(Forest(space, LOSS, 0), lambda p: -p["a"] - p["b"], 20)
    assert all(space.problems(o.params) == [] for o in told)
    assert min(o.values[0] for o in told if o.values) < -0.45


@pytest.mark.parametrize("options", [{"startup": 0}, {"random_share": 1.5}, {"random_share": math.nan}])
def test_wrong_options_name_the_argument(options: dict[str, Any]) -> None:
    with pytest.raises(FixArgument) as caught:
        Forest(Space(BRANCHES), LOSS, 0, **options)
    assert caught.value.field == next(iter(options))


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(FixArgument, match="no such option"):
        Forest(Space(BRANCHES), LOSS, 0, depth=3)


def test_libraries_wait_for_the_first_model() -> None:
    code = (
        "import sys; from tunewright.engines import *; from tunewright.engines.forest import Forest;"
        "e = Forest(Space({'x': Float(0, 1), 'c': Categorical(['a', 'b'])}), [Objective('l')], 0); e.ask(3, index=0);"
        "assert not {'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
