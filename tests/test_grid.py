"""Grid search hands out every configuration once, lazily, and goes on where it was after a replay."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spaces

from tunewright.engines import (
    Categorical,
    FixArgument,
    Float,
    Int,
    Objective,
    Observation,
    Proposal,
    Space,
    SpaceExhausted,
)
from tunewright.engines.grid import Grid
from tunewright.engines.space import Params

LOSS = (Objective("loss"),)
SMALL = Space({"c": Categorical(["a", "b"]), "n": Int(1, 3), "f": Float(0, 1, when={"c": "b"})})


def grid(space: Space, **options) -> Grid:
    return Grid(space, LOSS, 0, **options)


def seen(number: int, params: Params, **more) -> Observation:
    return Observation(number, params, (1.0,), **more)


def drain(engine: Grid, start: int = 0) -> list[Params]:
    out: list[Params] = []
    try:
        while True:
            out.append(dict(engine.ask(index=start + len(out))[0].params))
            engine.tell([seen(start + len(out), out[-1])])
    except SpaceExhausted:
        return out


def test_every_configuration_once_in_order_then_exhausted() -> None:
    got = drain(grid(SMALL, points=2))
    assert got == [
        *({"c": "a", "n": n} for n in (1, 2, 3)),
        *({"c": "b", "n": n, "f": f} for n in (1, 2, 3) for f in (0.0, 1.0)),
    ]


@settings(max_examples=30, deadline=None)
@given(spaces(finite=True, most=3))
def test_a_finite_space_is_drained_exactly(space: Space) -> None:
    got = drain(grid(space))
    assert len(got) == len({space.key(c) for c in got}) == space.size()


def test_five_points_of_a_continuous_parameter_unless_told_otherwise() -> None:
    assert [c["f"] for c in drain(grid(Space({"f": Float(0, 1)})))] == [0, 0.25, 0.5, 0.75, 1]
    assert [c["f"] for c in drain(grid(Space({"f": Float(0, 1)}), points=1))] == [0.5]
    assert len(drain(grid(Space({"n": Int(1, 40)})))) == 40


def test_what_others_tried_or_run_is_passed_over_until_it_is_free_again() -> None:
    engine = grid(SMALL, points=2)
    engine.tell([seen(0, {"c": "a", "n": 2}, own=False)])
    running = [Proposal({"c": "a", "n": 1})]
    assert [p.params for p in engine.ask(2, running, index=1)] == [{"c": "a", "n": 3}, {"c": "b", "n": 1, "f": 0.0}]
    # The running one was displaced or given up: its turn comes first again, and nothing is lost.
    assert engine.ask(index=2)[0].params == {"c": "a", "n": 1}
    assert len(drain(engine, 2)) == 8


def test_a_batch_at_the_end_is_as_long_as_what_is_left() -> None:
    engine = grid(Space({"n": Int(1, 3)}))
    engine.tell([seen(0, {"n": 1})])
    assert [p.params["n"] for p in engine.ask(5, index=1)] == [2, 3]
    with pytest.raises(SpaceExhausted):
        engine.ask(1, [Proposal({"n": 2}), Proposal({"n": 3})], index=3)
    assert engine.ask(index=3)[0].params == {"n": 2}


def test_failed_configurations_are_not_tried_again() -> None:
    engine = grid(Space({"n": Int(1, 2)}))
    engine.tell([Observation(0, {"n": 1}, None)])
    assert engine.ask(index=1)[0].params == {"n": 2}


@given(st.lists(st.integers(0, 8), unique=True), st.integers(0, 8))
def test_a_replay_of_what_was_told_goes_on_in_the_same_place(order: list[int], asks: int) -> None:
    every = drain(grid(SMALL, points=2))
    live, replayed = grid(SMALL, points=2), grid(SMALL, points=2)
    history = [seen(k, every[i]) for k, i in enumerate(order)]
    for k, observation in enumerate(history):
        if k < asks:
            live.ask(2, index=k)
        live.tell([observation])
    replayed.tell(history)
    assert drain(live, len(order)) == drain(replayed, len(order)) == [c for i, c in enumerate(every) if i not in order]


def test_a_huge_grid_is_never_held_whole() -> None:
    space = Space({f"p{i}": Int(1, 1000) for i in range(5)} | {"wide": Int(0, 10**12)})
    engine = grid(space)
    expected = itertools.islice(space.enumerate(5), 200)
    for k, config in enumerate(expected):
        assert engine.ask(index=k)[0].params == config
        engine.tell([seen(k, config)])
    assert len(engine._open) < 10 and sys.getsizeof(engine._open) < 10_000


def test_bad_options_are_refused() -> None:
    for options in ({"points": 0}, {"points": 2.5}, {"points": True}, {"pionts": 3}):
        with pytest.raises(FixArgument, match=r"points|pionts"):
            grid(SMALL, **options)
