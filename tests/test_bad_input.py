"""Bad input: a clear message with the field, the value and the fix, before a trial is spent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunewright.agent import Agent, Budget, Categorical, Fidelity, Float, Int, Objective, Space, TunewrightError

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "opt": Categorical(["sgd", "adam"])}
EPOCHS = Fidelity("epoch", 1, 9)
TWO = [Objective("acc", "maximize"), Objective("ms")]


def agent(**changes):
    return Agent(**{"space": SPACE, "metric": "loss", "store": None, "advisor": None, **changes})


CASES = {
    "inverted bounds": (lambda: Float(1.0, 0.1), ["Float", "inverted", "Float(0.1, 1.0)"]),
    "log of zero": (lambda: Float(0, 1, log=True), ["Float", "log", "above 0"]),
    "not finite": (lambda: Float(0, float("inf")), ["Float", "high", "inf"]),
    "whole numbers": (lambda: Int(1, 2.5), ["Int", "2.5"]),
    "default outside": (lambda: Int(1, 4, default=9), ["default", "9"]),
    "duplicate choices": (lambda: Categorical(["a", "a"]), ["'a'", "twice"]),
    "no choices": (lambda: Categorical([]), ["choices"]),
    "unknown parent": (lambda: Space({"a": Int(1, 2, when={"b": 1})}), ["a.when", "b"]),
    "impossible condition": (
        lambda: Space({"b": Categorical(["x"]), "a": Int(1, 2, when={"b": "y"})}),
        ["a.when", "'y'", "b"],
    ),
    "cyclic conditions": (
        lambda: Space({"a": Int(1, 2, when="b > 1"), "b": Int(1, 2, when="a > 1")}),
        ["circle", "a -> b -> a"],
    ),
    "empty space": (lambda: agent(space={}), ["space", "at least one"]),
    "no space": (lambda: agent(space=None), ["space", "new"]),
    "no metric": (lambda: agent(metric=None), ["metric", "val_loss"]),
    "direction": (lambda: agent(direction="down"), ["direction", "'down'", "maximize"]),
    "data is words": (lambda: agent(data="1797 rows"), ["data", "'1797 rows'", "class_counts"]),
    "data holds an object": (lambda: agent(data={"rows": object()}), ["data.rows", "neither a number"]),
    "too much data": (lambda: agent(data={f"f{i}": i for i in range(30)}), ["data", "30", "more than 20"]),
    "metric is a parameter": (lambda: agent(metric="lr"), ["metric", "'lr'", "rename"]),
    "two objectives of one name": (
        lambda: agent(metric=None, objectives=[Objective("a"), Objective("a")]),
        ["objectives", "same name"],
    ),
    "accuracy without a direction": (lambda: agent(metric="val_acc"), ["direction", "val_acc", "maximize"]),
    "tuning the seed": (
        lambda: agent(space={"x": Float(0, 1), "random_state": Int(0, 9)}),
        ["random_state", "trial.seed"],
    ),
    "unknown engine": (lambda: agent(engine="tpee"), ["engine", "'tpee'", "did you mean 'tpe'"]),
    "engine options": (lambda: agent(engine=("random", {"speed": 3})), ["random", "speed"]),
    "not an engine": (lambda: agent(engine=3), ["engine", "3", "tpe"]),
    "unknown advisor": (lambda: agent(advisor="oracle:big"), ["advisor", "'oracle'", "rules"]),
    "not an advisor": (lambda: agent(advisor=3), ["advisor", "3"]),
    "safety": (lambda: agent(safety="max"), ["safety", "'max'", "strict"]),
    "deadline": (lambda: agent(advisor_deadline=0), ["advisor_deadline", "0"]),
    "seed": (lambda: agent(seed=-1), ["seed", "-1"]),
    "budget": (lambda: Budget(trials=0), ["budget.trials", "0"]),
    "scheduler alone": (lambda: agent(scheduler="asha"), ["fidelity", 'Fidelity("epoch"']),
    "scheduler name": (lambda: agent(scheduler="ahsa", fidelity=EPOCHS), ["scheduler", "ahsa", "asha"]),
    "scheduler option": (lambda: agent(scheduler=("asha", {"etta": 3}), fidelity=EPOCHS), ["asha", "etta"]),
    "scheduler value": (lambda: agent(scheduler=("asha", {"eta": 1}), fidelity=EPOCHS), ["eta", "1", "2"]),
    "scheduler kind": (lambda: agent(scheduler=3, fidelity=EPOCHS), ["scheduler", "3", '"asha"']),
    "scheduler twice": (
        lambda: agent(engine="hyperband", scheduler="asha", fidelity=EPOCHS),
        ["scheduler", "hyperband", "random"],
    ),
    "scheduler and two metrics": (
        lambda: agent(metric=None, objectives=TWO, scheduler="asha", fidelity=EPOCHS),
        ["scheduler", "one metric"],
    ),
    "fidelity": (lambda: agent(fidelity=3), ["fidelity", "3", 'Fidelity("epoch"']),
    "missing space file": (lambda: agent(space="no/such.yaml"), ["space", "no/such.yaml"]),
    "enqueue": (lambda: agent().enqueue({"lr": 5.0, "opt": "sgd"}), ["enqueue", "lr", "5.0", "outside"]),
    "enqueue unknown": (lambda: agent().enqueue({"lrr": 0.1}), ["lrr", "not a parameter"]),
    "unlimited": (lambda: agent().tune(lambda trial: 0.0), ["trials", "Budget"]),
    "workers": (lambda: agent().tune(lambda trial: 0.0, 1, workers=0), ["workers", "0"]),
    "runner": (lambda: agent().tune(lambda trial: 0.0, 1, runner="slurm"), ["runner", "'slurm'", "local"]),
    "n": (lambda: agent().suggest(n=0), ["n", "0"]),
    "unknown metric": (lambda: _observe({"accuracy": 0.3}), ["accuracy", "loss"]),
    "text result": (lambda: _observe("0.3"), ["loss", "'0.3'", "number"]),
    "nothing reported": (lambda: _report(None), ["value", "nothing"]),
    "no such trial": (lambda: agent().observe(7, 0.1), ["7"]),
}


def _observe(value):
    a = agent()
    a.observe(a.suggest(), value)


def _report(value):
    a = agent()
    a.report(a.suggest(), 1, value)


@pytest.mark.parametrize("name", CASES)
def test_message_names_field_value_and_fix(name: str) -> None:
    call, words = CASES[name]
    with pytest.raises(TunewrightError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_nothing_is_left_behind_by_bad_arguments(tmp_path: Path) -> None:
    file = tmp_path / "t.db"
    for bad in ({"engine": "tpee"}, {"advisor": "oracle"}, {"safety": "x"}, {"metric": None}):
        with pytest.raises(TunewrightError):
            agent(store=file, **bad)
    fresh = agent(store=file, study="study")
    assert fresh.trials == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"space": {"lr": Float(1e-5, 1.0, log=True)}}, ["another space", "lr:", "opt removed", "edit_space"]),
        ({"metric": "val_error"}, ["metric", "val_error", "loss"]),
        ({"direction": "maximize"}, ["maximize"]),
        ({"seed": 4}, ["seed", "4"]),
    ],
)
def test_resuming_with_other_arguments(tmp_path: Path, changes, words) -> None:
    agent(store=tmp_path / "t.db").close()
    with pytest.raises(TunewrightError) as caught:
        agent(store=tmp_path / "t.db", **changes)
    for word in words:
        assert word in str(caught.value)


def test_unusable_files(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 1000)
    before = text.read_bytes()
    for path in (text, tmp_path / "missing" / "t.db", tmp_path):
        with pytest.raises(TunewrightError) as caught:
            agent(store=path)
        assert str(path) in str(caught.value)
    assert text.read_bytes() == before


def test_a_corrupt_file_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    agent(store=path).close()
    damaged = bytearray(path.read_bytes())
    damaged[100:3000] = os.urandom(2900)
    path.write_bytes(bytes(damaged))
    with pytest.raises(TunewrightError) as caught:
        agent(store=path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == bytes(damaged)


def test_a_money_cap_needs_a_price() -> None:
    from tunewright.agent.testing import FakeAdvisor

    with pytest.raises(TunewrightError, match=r"budget.usd.*price of fake is unknown"):
        agent(advisor=FakeAdvisor([]), budget=Budget(usd=0.05))
    agent(advisor="rules", budget=Budget(usd=0.05))
