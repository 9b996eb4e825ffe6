"""Shapes and forecasts of training curves. `labelled_curves` draws them, without knowing how they are read."""

from __future__ import annotations

import math
from collections import Counter

import labelled_curves
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.engines.curves import FAULTS, Shape, read

SEEDS = range(20_000, 20_040)  # none that anything was tuned on


def curve(values, first=1, stride=1):
    return [(first + stride * k, float(value)) for k, value in enumerate(values)]


@pytest.fixture(scope="module")
def named():
    """How often each kind of labelled curve was given each name."""
    found = {}
    for fault in (*labelled_curves.HEALTHY, *labelled_curves.FAULTS):
        cases = [labelled_curves.draw(fault, seed) for seed in SEEDS]
        found[fault] = Counter(read(c.curves, c.metric, c.direction, c.horizon).shape for c in cases)
    return found


def test_nine_in_ten_labelled_curves_get_their_name(named):
    shares = {fault: counts[Shape(fault)] / len(SEEDS) for fault, counts in named.items()}
    assert np.mean(list(shares.values())) >= 0.9
    assert min(shares.values()) >= 0.85, shares


def test_healthy_curves_raise_no_alarm(named):
    alarms = sum(named[kind][fault] for kind in labelled_curves.HEALTHY for fault in FAULTS)
    assert alarms <= 0.05 * len(SEEDS) * len(labelled_curves.HEALTHY)


# ------------------------------------------------------------------------------------------------ what is said


def test_evidence_has_the_numbers_and_the_step():
    found = read({"val_loss": curve([0.9, 0.7, math.nan])}, "val_loss")
    assert (found.shape, found.since, found.forecast) == (Shape.DIVERGED, 3, None)
    assert str(found) == "diverged: val_loss is not a number from step 3 on"
    epochs = np.arange(30)
    val = np.where(epochs < 10, 1 - 0.06 * epochs, 0.4 + 0.02 * (epochs - 10))
    found = read({"train_loss": curve(np.exp(-epochs / 8)), "val_loss": curve(val)}, "val_loss")
    assert found.shape is Shape.OVERFITTING and found.fault and abs(found.since - 11) <= 1
    assert "val_loss was best at step 1" in found.evidence and "train_loss went from" in found.evidence


def test_another_metric_that_broke_is_named():
    found = read({"val_loss": curve(np.geomspace(1, 0.1, 12)), "grad_norm": curve([1, 5, math.inf])}, "val_loss")
    assert found.shape is Shape.DIVERGED and "grad_norm is infinite from step 3" in found.evidence


def test_swings_of_a_high_learning_rate():
    values = [0.5 + 0.2 * (-1) ** k + 0.5 * math.exp(-k / 5) for k in range(40)]
    found = read({"loss": curve(values)}, "loss")
    assert found.shape is Shape.OSCILLATING and "every 2 reports" in found.evidence


def test_a_rise_together_with_training_is_no_overfitting():
    epochs = np.arange(40)
    both = np.where(epochs < 20, 1 - 0.03 * epochs, 0.4 + 0.01 * (epochs - 20))
    assert read({"val_loss": curve(both), "train_loss": curve(both)}, "val_loss").shape is not Shape.OVERFITTING
    assert read({"train_loss": curve(both)}, "train_loss").shape is not Shape.OVERFITTING


@pytest.mark.parametrize("names", [("g_loss", "d_loss"), ("loss_G", "loss/D"), ("generator_loss", "critic_loss")])
def test_two_networks_are_told_by_their_names(names):
    t = np.linspace(0, 1, 60)
    curves = {names[0]: curve(1 + 8 * t), names[1]: curve(0.69 * np.exp(-8 * t)), "fid": curve(90 - 20 * t)}
    found = read(curves, "fid")
    assert found.shape is Shape.UNBALANCED and names[1] in found.evidence.split(" while ")[0]
    assert read({"fid": curves["fid"], "a": curves[names[0]], "b": curves[names[1]]}, "fid").shape is Shape.IMPROVING


def test_the_direction_of_the_tuned_metric_counts():
    rising = {"val_acc": curve(1 - np.geomspace(0.9, 0.1, 30))}
    assert read(rising, "val_acc", "maximize").shape is Shape.IMPROVING
    assert read(rising, "val_acc", "minimize").shape is not Shape.IMPROVING


@pytest.mark.parametrize("fault", labelled_curves.FAULTS[:3])
def test_units_change_no_name(fault):
    for seed in range(8):
        case = labelled_curves.draw(fault, seed)
        scaled = {n: [(10 * s, 1000 * v) for s, v in points] for n, points in case.curves.items()}
        one, other = (read(c, case.metric, case.direction) for c in (case.curves, scaled))
        assert one.shape is other.shape


def test_too_little_is_too_early():
    assert read({"loss": []}, "loss").shape is Shape.TOO_EARLY
    assert read({"other": curve([1, 2])}, "loss").evidence == "loss was not reported yet"
    assert read({"loss": curve([3.0, 2.0, 1.0])}, "loss", horizon=50).shape is Shape.TOO_EARLY
    rng = np.random.default_rng(0)
    flat = {"loss": curve(1 + 0.1 * rng.normal(size=12))}
    assert read(flat, "loss", horizon=500).shape is Shape.TOO_EARLY
    assert read(flat, "loss", horizon=20).shape is Shape.PLATEAU


# ------------------------------------------------------------------------------------------------ forecasts


def ended(kind, n, seed, noise=0.0):
    rng = np.random.default_rng(seed)
    t = np.arange(1, n + 1)
    rate = rng.uniform(0.3, 1.0)
    y = 0.2 + t**-rate if kind == "power" else 0.2 + np.exp(-rng.uniform(1, 6) * t / n)
    return y + noise * rng.normal(size=n)


@pytest.mark.parametrize("kind", ["power", "exponential"])
@pytest.mark.parametrize("share", [0.2, 0.4])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_end_is_nearer_to_the_forecast_than_to_the_last_value(kind, share, direction):
    errors, last, inside = [], [], []
    sign = 1 if direction == "minimize" else -1
    for seed in range(30):
        y = sign * ended(kind, 60, seed, noise=0.005)
        seen = int(60 * share)
        found = read({"m": curve(y[:seen])}, "m", direction, horizon=60).forecast
        assert found.low <= found.mean <= found.high
        errors.append(abs(found.mean - y[-1]))
        last.append(abs(y[seen - 1] - y[-1]))
        inside.append(found.low <= y[-1] <= found.high)
    assert np.mean(errors) < 0.75 * np.mean(last)
    assert np.mean(inside) >= 0.7


def test_a_forecast_narrows_as_training_goes_on():
    y = ended("power", 60, 1)
    widths = [(f.high - f.low) for k in (10, 25, 50) if (f := read({"m": curve(y[:k])}, "m", horizon=60).forecast)]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 3
    assert read({"m": curve(y)}, "m", horizon=60).forecast is None, "it has ended"
    assert read({"m": curve(y[:20])}, "m").forecast is None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6),
            st.one_of(st.floats(-1e12, 1e12), st.sampled_from([math.nan, math.inf, -math.inf, 0.0])),
        ),
        max_size=40,
    ),
    st.sampled_from(["minimize", "maximize"]),
    st.one_of(st.none(), st.floats(1, 1e7)),
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_whatever_is_reported_is_read(points, direction, horizon):
    found = read({"val_loss": points, "train_loss": points[::2]}, "val_loss", direction, horizon)
    assert found.evidence and "\n" not in found.evidence
    if found.forecast:
        assert all(map(math.isfinite, (found.forecast.mean, found.forecast.low, found.forecast.high)))
        assert found.forecast.low <= found.forecast.high
