"""Acquisition functions against Monte Carlo, their limits, and their derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tunewright.engines.gp import acquisition as a

CASES = [(0.0, 1.0, 0.3), (1.2, 0.5, 0.9), (-0.4, 2.0, -1.0), (0.5, 0.1, 0.52)]


@pytest.mark.parametrize(("mean", "std", "best"), CASES)
def test_closed_forms_equal_monte_carlo(mean: float, std: float, best: float) -> None:
    # Equally likely strata instead of raw draws: the error is far below the tolerance without millions of them.
    draws = mean + std * stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    ei = a.expected_improvement(np.array([mean]), np.array([std]), best)[0]
    pi = a.probability_of_improvement(np.array([mean]), np.array([std]), best)[0]
    assert ei == pytest.approx(np.maximum(best - draws, 0.0).mean(), abs=1e-3)
    assert pi == pytest.approx((draws < best).mean(), abs=1e-3)


def test_zero_deviation_gives_zero_and_no_nan() -> None:
    mean, std = np.array([-1.0, 0.0, 1.0]), np.zeros(3)
    with np.errstate(all="raise"):
        assert a.expected_improvement(mean, std, 0.0).tolist() == [0.0, 0.0, 0.0]
        assert a.probability_of_improvement(mean, std, 0.0).tolist() == [0.0, 0.0, 0.0]
    assert a.upper_confidence_bound(mean, std, 2.0).tolist() == [1.0, 0.0, -1.0]
    for name in ("ei", "pi", "ucb"):
        assert all(np.isfinite(part[1:]).all() for part in a.make(name, 0.0, 2.0)(mean, std))


def test_log_h_where_the_plain_form_underflows() -> None:
    for z in (3.0, 0.0, -0.99, -1.01, -5.0, -30.0):

        def tail(t: float, z: float = z) -> float:
            return t * math.exp(z * t - 0.5 * t * t)

        # phi(z) + z Phi(z) = phi(z) * integral of t exp(z t - t^2 / 2) over t > 0
        exact = math.log(integrate.quad(tail, 0.0, 40.0, epsabs=0.0)[0]) - 0.5 * z * z - a.HALF_LOG_2PI
        assert a.log_h(np.array([z]))[0] == pytest.approx(exact, rel=1e-9, abs=1e-9)
    far = a.log_h(np.array([-999.0, -1001.0, -1e8]))
    assert np.isfinite(far).all() and (np.diff(far) < 0).all()
    # phi(z) / z^2, the limit
    assert far[0] == pytest.approx(-0.5 * 999.0**2 - a.HALF_LOG_2PI - 2 * math.log(999.0), abs=1e-5)


@pytest.mark.parametrize("name", ["ei", "pi", "ucb"])
@settings(max_examples=60, deadline=None)
@given(mean=st.floats(-3, 3), std=st.floats(0.05, 3), best=st.floats(-3, 3))
def test_derivatives_equal_differences(name: str, mean: float, std: float, best: float) -> None:
    acquire, step = a.make(name, best, 1.7), 1e-6

    def value(m: float, s: float) -> float:
        return float(acquire(np.array([m]), np.array([s]))[0][0])

    _, by_mean, by_std = acquire(np.array([mean]), np.array([std]))
    tolerance = {"rel": 1e-3, "abs": 1e-4}
    assert by_mean[0] == pytest.approx((value(mean + step, std) - value(mean - step, std)) / (2 * step), **tolerance)
    assert by_std[0] == pytest.approx((value(mean, std + step) - value(mean, std - step)) / (2 * step), **tolerance)


def test_logarithms_agree_with_the_plain_forms() -> None:
    mean, std = np.linspace(-2, 2, 9), np.full(9, 0.7)
    assert np.exp(a.make("ei", 0.1, 0.0)(mean, std)[0]) == pytest.approx(a.expected_improvement(mean, std, 0.1))
    assert np.exp(a.make("pi", 0.1, 0.0)(mean, std)[0]) == pytest.approx(a.probability_of_improvement(mean, std, 0.1))


def test_larger_kappa_explores_farther() -> None:
    mean, std = np.array([0.0, 0.5, 1.5]), np.array([0.1, 0.5, 1.2])  # nearest, between, farthest from the data
    chosen = [int(np.argmax(a.upper_confidence_bound(mean, std, kappa))) for kappa in (0.0, 1.3, 5.0)]
    assert chosen == [0, 1, 2]
