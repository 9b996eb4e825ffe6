"""Layer-wise decay of the learning rate: the exact lists for a base and a large encoder."""

from __future__ import annotations

import pytest

from tunewright.agent import TunewrightError, layerwise_rates

# lr = 2e-5 and decay = 0.9, worked out by hand in decimals: each is 0.9 of the one above it.
TWELVE = [
    5.6485907296e-06,  # embeddings, 2e-5 * 0.9^12
    6.2762119218e-06, 6.973568802e-06, 7.74840978e-06, 8.6093442e-06, 9.565938e-06, 1.062882e-05, 1.18098e-05,
    1.3122e-05, 1.458e-05, 1.62e-05, 1.8e-05,
    2e-05,  # layer 12
    2e-05,  # head
]  # fmt: skip
LOWER_HALF_OF_24 = [
    1.5953288612e-06,  # embeddings, 2e-5 * 0.9^24
    1.7725876236e-06, 1.969541804e-06, 2.1883797822e-06, 2.4315330913e-06, 2.7017034348e-06, 3.001892705e-06,
    3.3354363388e-06, 3.7060403765e-06, 4.1178226406e-06, 4.5753584895e-06, 5.0837316551e-06,
]  # fmt: skip


def test_the_exact_list_for_twelve_layers():
    rates = layerwise_rates(2e-5, 0.9, 12)
    assert len(rates) == 14
    assert rates == pytest.approx(TWELVE, rel=1e-9)


def test_the_exact_list_for_twenty_four_layers():
    rates = layerwise_rates(2e-5, 0.9, 24)
    assert len(rates) == 26
    # Its upper half is the list of twelve: what counts is how far a layer is from the top.
    assert rates == pytest.approx(LOWER_HALF_OF_24 + TWELVE, rel=1e-9)


def test_without_decay_all_layers_learn_alike():
    assert layerwise_rates(0.01, 1.0, 3) == [0.01] * 5


@pytest.mark.parametrize(
    "lr, decay, layers, field",
    [
        (2e-5, 0.0, 12, "decay"),
        (2e-5, 1.1, 12, "decay"),
        (2e-5, float("nan"), 12, "decay"),
        (0.0, 0.9, 12, "lr"),
        (float("inf"), 0.9, 12, "lr"),
        (2e-5, 0.9, 0, "layers"),
        (2e-5, 0.9, 12.0, "layers"),
    ],
)
def test_what_makes_no_sense_is_refused(lr, decay, layers, field):
    with pytest.raises(TunewrightError) as error:
        layerwise_rates(lr, decay, layers)
    assert error.value.field == field
