"""The portfolio, which has other engines take turns when its leader is stuck, and what "auto" stands for."""

from __future__ import annotations

import pytest

from tunewright.agent import Agent
from tunewright.agent.lineup import MAX_GP_PARAMETERS, choices
from tunewright.engines import Categorical, FixArgument, Float, Objective, Observation, Predictor, Space, State
from tunewright.engines.gp import GP
from tunewright.engines.portfolio import Portfolio
from tunewright.engines.tpe import TPE

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "kind": Categorical(["a", "b"], when="x > 0.5")})
LOSS = [Objective("loss")]


def told(count: int, loss: float | None = 1.0, start: int = 0) -> list[Observation]:
    values, state = (None, State.FAILED) if loss is None else ((loss,), State.COMPLETE)
    return [
        Observation(k, {"x": 0.4 * ((k * 7) % 50) / 50, "y": ((k * 3) % 50) / 50}, values, state)
        for k in range(start, start + count)
    ]


def members(engine: Portfolio, *indices: int) -> list[str]:
    return [engine.ask(index=k)[0].tags["member"] for k in indices]


def test_the_leader_proposes_what_it_would_alone() -> None:
    engine, alone = Portfolio(SPACE, LOSS, 3), GP(SPACE, LOSS, 3)
    for k in range(8):
        (proposal,), (expected,) = engine.ask(index=k), alone.ask(index=k)
        assert proposal.params == expected.params and proposal.tags["member"] == "gp"
        observation = Observation(k, proposal.params, ((proposal.params["x"] - 0.3) ** 2,))
        engine.tell([observation])
        alone.tell([observation])


def test_another_takes_turns_while_nothing_better_is_found_and_no_longer() -> None:
    engine = Portfolio(SPACE, LOSS, 0, patience=5)
    engine.tell(told(5))
    assert members(engine, 5, 6) == ["gp", "gp"], "four since the best are not five"
    engine.tell(told(1, start=5))
    assert members(engine, 6, 7, 8) == ["gp", "tpe", "gp"]
    engine.tell(told(1, loss=None, start=6))
    assert members(engine, 7) == ["tpe"], "a failure is no improvement"
    engine.tell(told(1, loss=0.5, start=7))
    assert members(engine, 8, 9) == ["gp", "gp"], "something better was found"


def test_the_other_has_heard_everything_when_its_turn_comes() -> None:
    engine, alone = Portfolio(SPACE, LOSS, 1, patience=6), TPE(SPACE, LOSS, 1)
    engine.tell(told(4))
    engine.ask(index=4)
    engine.tell(told(12, loss=2.0, start=4))
    alone.tell([*told(4), *told(12, loss=2.0, start=4)])
    assert engine.ask(index=17)[0].params == alone.ask(index=17)[0].params


def test_a_broken_constraint_is_no_improvement() -> None:
    engine = Portfolio(SPACE, LOSS, 0, patience=2)
    engine.tell(told(1))
    engine.tell([Observation(k, {"x": 0.1, "y": k / 10}, (0.1,), constraints=(0.5,)) for k in (1, 2)])
    assert members(engine, 3) == ["tpe"]


def test_trials_that_rest_below_the_best_do_not_count_against_the_leader() -> None:
    engine = Portfolio(SPACE, LOSS, 0, patience=2)
    engine.tell(told(1))
    engine.tell([Observation(k, {"x": 0.1, "y": k / 10}, (0.1,), State.PAUSED, fidelity=3) for k in range(1, 6)])
    assert members(engine, 7) == ["gp"]


def test_a_leader_that_does_not_predict() -> None:
    engine = Portfolio(SPACE, LOSS, 0, members=["tpe", "forest"])
    engine.tell(told(12))
    assert isinstance(engine, Predictor)
    assert engine.predict([{"x": 0.1, "y": 0.2}]).mean.shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"members": ["gp", "oracle"]}, "members"), ({"members": []}, "members"), ({"patience": 0}, "patience")],
)
def test_options_that_cannot_be(options: dict[str, object], field: str) -> None:
    with pytest.raises(FixArgument) as error:
        Portfolio(SPACE, LOSS, 0, **options)
    assert error.value.field == field


def test_why_names_the_engine_that_had_the_turn() -> None:
    agent = Agent({"x": Float(0.0, 1.0)}, metric="loss", advisor=None, store=None)
    for _ in range(3):
        trial = agent.suggest()
        agent.observe(trial, trial["x"])
    assert "Chosen by engine (portfolio, gp)" in str(agent.why(trial))


def wide(count: int) -> Space:
    return Space({f"x{k}": Float(0.0, 1.0) for k in range(count)})


TWO = [Objective("loss"), Objective("ms")]


@pytest.mark.parametrize(
    ("objectives", "space", "scheduler", "order"),
    [
        (LOSS, SPACE, None, ["portfolio", "tpe", "random"]),
        (LOSS, SPACE, "asha", ["portfolio", "tpe", "random"]),
        (LOSS, SPACE, "freeze-thaw", ["freeze-thaw", "gp", "tpe", "random"]),
        (LOSS, wide(MAX_GP_PARAMETERS), None, ["portfolio", "tpe", "random"]),
        (LOSS, wide(MAX_GP_PARAMETERS + 1), None, ["tpe", "random"]),
        (TWO, SPACE, None, ["nsga2", "random"]),
        (TWO, wide(MAX_GP_PARAMETERS + 1), None, ["nsga2", "random"]),
    ],
)
def test_what_auto_stands_for(
    objectives: list[Objective], space: Space, scheduler: str | None, order: list[str]
) -> None:
    assert [choice.source.name for choice in choices("auto", objectives, space, scheduler)] == order
