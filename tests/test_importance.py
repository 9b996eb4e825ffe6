"""How much each parameter matters."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.engines.errors import FixArgument
from tunewright.engines.importance import MIN_TRIALS, MOST, importance
from tunewright.engines.parameters import Float
from tunewright.engines.space import Space
from tunewright.engines.types import Objective, Observation

SPACE = Space({"strong": Float(0, 1), "weak": Float(0, 1), "none": Float(0, 1)})
LOSS = Objective("loss", "minimize")


def told(count: int) -> list[Observation]:
    points = np.random.default_rng(0).random((count, 3))
    return [
        Observation(number, dict(zip(SPACE.names, map(float, x), strict=True)), (float(3 * x[0] + x[1]),))
        for number, x in enumerate(points)
    ]


@pytest.mark.parametrize("count", [200, MOST + 500])
def test_the_order_and_the_shares(count):
    shares = importance(SPACE, told(count), LOSS, seed=1)
    assert list(shares) == ["strong", "weak", "none"]
    assert sum(shares.values()) == pytest.approx(1.0)
    # The increase in squared error goes with the square of the slope: nine to one.
    assert shares["strong"] == pytest.approx(0.9, abs=0.04) and shares["none"] < 0.02


def test_of_many_results_the_same_ones_are_looked_at_each_time():
    many = told(MOST + 500)
    assert importance(SPACE, many, LOSS, seed=1) == importance(SPACE, many, LOSS, seed=1)


def test_too_few_results():
    with pytest.raises(FixArgument, match=f"at least {MIN_TRIALS} trials"):
        importance(SPACE, told(MIN_TRIALS - 1), LOSS, seed=1)
