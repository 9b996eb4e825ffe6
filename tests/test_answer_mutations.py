"""No mutated answer reaches the store as a configuration unless it is valid. `make mutations` does 100,000."""

from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import SPACE, mutated, through_a_study


def test_mutated_answers_through_a_study() -> None:
    rng = random.Random(11)
    counts = through_a_study(mutated(rng) for _ in range(300))
    assert counts["answers"] == 300
    assert counts["open"] > 100 and counts["rejected"] > 100, "both kinds were met"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
PARAMS = st.dictionaries(st.sampled_from(list(SPACE.parameters)) | st.text(max_size=6), VALUES, max_size=8)


ANSWERS = PARAMS.map(lambda params: json.dumps({"candidates": [{"params": params}]}))


@settings(max_examples=30)
@given(st.lists(ANSWERS, min_size=1, max_size=6))
def test_any_values_through_a_study(answers: list[str]) -> None:
    through_a_study(iter(answers))
