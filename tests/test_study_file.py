"""study.yaml: what is understood, and that every mistake is named before a trial is spent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunewright.agent import Budget, Categorical, Derived, Float, Int, Space, TunewrightError
from tunewright.agent.cli import study_file

BASE: dict[str, Any] = {
    "objective": "train.py:objective",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "opt": {"values": ["sgd", "adam"]}},
}
JUNK: list[Any] = [None, 0, -1, 1.5, float("nan"), True, "abc", "", [], [1], [[1]], {}, {"a": 1}]


def read(folder: Path, **changes: Any) -> study_file.StudyFile:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False))
    return study_file.read(path)


def space_of(folder: Path, **parameters: Any) -> Space:
    return read(folder, parameters=parameters).arguments["space"]


def test_a_whole_file(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        name="digits",
        task="a network",
        data={"rows": 1797, "class_counts": [178, 182]},
        method="random",
        metric={"name": "acc", "goal": "maximize"},
        constraints=["x <= 0.9"],
        run_cap=40,
        budget={"seconds": 60},
        advisor="none",
        store="runs.db",
        workers=2,
        seed=3,
        project="ignored",
    )
    arguments = dict(found.arguments)
    space = arguments.pop("space")
    assert space == Space({"x": Float(0, 1), "opt": Categorical(["sgd", "adam"])}, ["x <= 0.9"])
    assert arguments == {
        "metric": "acc",
        "direction": "maximize",
        "engine": "random",
        "seed": 3,
        "task": "a network",
        "data": {"rows": 1797, "class_counts": [178, 182]},
        "advisor": None,
        "budget": Budget(trials=40, seconds=60),
        "study": "digits",
        "store": tmp_path / "runs.db",
    }
    assert (found.objective, found.workers) == ("train.py:objective", 2)


@pytest.mark.parametrize(
    "entry, parameter",
    [
        ({"min": 1, "max": 6}, Int(1, 6)),
        ({"min": 0.0, "max": 1}, Float(0, 1)),
        ({"min": "1e-5", "max": "1e-1", "distribution": "log_uniform_values"}, Float(1e-5, 1e-1, log=True)),
        ({"min": 1, "max": 64, "log": True, "default": 8}, Int(1, 64, log=True, default=8)),
        ({"min": 0, "max": 2, "distribution": "log_uniform"}, Float(1.0, 7.38905609893065, log=True)),
        ({"min": 0, "max": 1, "q": 0.25, "distribution": "q_uniform"}, Float(0, 1, step=0.25)),
        ({"min": 8, "max": 64, "q": 8}, Int(8, 64, step=8)),
        ({"min": 1, "max": 2, "distribution": "uniform"}, Float(1, 2)),
        ({"values": [1, 2, 4]}, Categorical([1, 2, 4])),
        ({"value": 7}, Categorical([7])),
        ({"derived": "4 * x"}, Derived("4 * x")),
        ({"min": 0.0, "max": 0.99, "condition": {"opt": "sgd"}}, Float(0, 0.99, when={"opt": "sgd"})),
    ],
)
def test_each_kind_of_parameter(tmp_path: Path, entry: dict[str, Any], parameter: Any) -> None:
    found = space_of(tmp_path, **BASE["parameters"], p=entry)
    expected = Space({"x": Float(0, 1), "opt": Categorical(["sgd", "adam"]), "p": parameter})
    assert found == expected


def test_several_objectives(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    data = {k: v for k, v in BASE.items() if k != "metric"}
    path.write_text(yaml.safe_dump({**data, "objectives": [{"name": "acc", "goal": "maximize"}, {"name": "ms"}]}))
    found = study_file.read(path).arguments["objectives"]
    assert [(o.name, o.direction) for o in found] == [("acc", "maximize"), ("ms", "minimize")]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"metrik": {"name": "x"}}, ["'metrik'", "did you mean 'metric'?"]),
        ({"budget": {"trails": 3}}, ["budget", "'trails'", "did you mean 'trials'?"]),
        ({"command": ["python"]}, ["objective", "beside command", "keep one"]),
        ({"early_terminate": {"type": "hyperband"}}, ["early_terminate", "max_iter"]),
        ({"early_terminate": {"type": "median"}}, ["early_terminate", "hyperband"]),
        ({"scheduler": 3}, ["scheduler", "asha"]),
        ({"fidelity": {"epochs": 9}}, ["fidelity", "max"]),
        ({"timeout": -3}, ["timeout", "above zero"]),
        ({"memory": "lots"}, ["memory", "'lots'", "2GB"]),
        ({"gpus": [0, 0]}, ["gpus", "twice"]),
        ({"method": "byes"}, ["method", "did you mean 'bayes'?"]),
        ({"early_terminate": {"type": "hyperband", "max_iter": 27, "eta": 0}}, ["early_terminate.eta", "0"]),
        ({"early_terminate": {"type": "hyperband", "max_iter": 27, "s": -2}}, ["early_terminate.s", "-2"]),
        ({"early_terminate": {"type": "hyperband", "max_iter": 27, "min_iter": "x"}}, ["early_terminate.min_iter"]),
        ({"parameters": {"x": {"min": 0}}}, ["parameters.x", "min and max"]),
        ({"parameters": {"x": {"min": 5, "max": 1}}}, ["parameters.x", "inverted"]),
        ({"parameters": {"x": {"min": 0.0, "max": "high"}}}, ["parameters.x.max", "'high'"]),
        ({"parameters": {"x": {"min": 1, "max": 9, "default": 10}}}, ["parameters.x", "default"]),
        ({"parameters": {"x": {"min": 1, "max": 2, "distribution": "unifrom"}}}, ["distribution", "uniform"]),
        ({"parameters": {"x": {"min": 1, "max": 9000, "distribution": "log_uniform"}}}, ["log_uniform_values"]),
        ({"parameters": {"x": {"min": 1, "max": 9, "q": 1.5}}}, ["parameters.x", "1.5"]),
        ({"parameters": {}}, ["parameters"]),
        ({"metric": "loss"}, ["metric", "name"]),
        ({"workers": 0}, ["workers", "0"]),
        ({"constraints": "x < 1"}, ["constraints", "list"]),
    ],
)
def test_a_mistake_is_named_by_file_key_and_value(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(TunewrightError) as caught:
        read(tmp_path, **changes)
    for word in ["study.yaml", *words]:
        assert word in str(caught.value)


def test_junk_anywhere_is_refused_or_understood_but_never_a_traceback(tmp_path: Path) -> None:
    refused = 0
    for key in study_file.TOP:
        for junk in JUNK:
            refused += _is_refused(tmp_path, {key: junk})
    for key in study_file.PARAMETER:
        for junk in JUNK:
            for name, entry in BASE["parameters"].items():
                refused += _is_refused(tmp_path, {"parameters": {name: {**entry, key: junk}}})
    assert refused > 200


def _is_refused(folder: Path, changes: dict[str, Any]) -> bool:
    try:
        read(folder, **changes)
    except TunewrightError:
        return True
    return False


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(TunewrightError, match="no such file"):
        study_file.read(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(TunewrightError, match="not valid YAML"):
        study_file.read(tmp_path / "bad.yaml")


def test_the_objective_is_loaded_from_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helper_of_train.py").write_text("VALUE = 3\n")
    (tmp_path / "train.py").write_text(
        "from helper_of_train import VALUE\n\ndef objective(trial):\n    return VALUE * trial\n"
    )
    assert study_file.load_objective(read(tmp_path))(2) == 6


@pytest.mark.parametrize(
    "spec, source, words",
    [
        ("train.py:nothing", "x = 1\n", "has no function nothing"),
        ("train.py:objective", "import no_such_module\n", "No module named 'no_such_module'"),
        ("missing.py:objective", "", "no file missing.py"),
        ("train.py", "", "names no function"),
        (None, "", "names no function"),
    ],
)
def test_an_objective_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: Any, source: str, words: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "train.py").write_text(source)
    with pytest.raises(TunewrightError, match=words):
        study_file.load_objective(read(tmp_path, objective=spec))


def test_a_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(BASE) + "seed: 1\nworkers: 2\nseed: 2\n")
    with pytest.raises(TunewrightError, match=r"study.yaml: line \d+: this key stands twice \(got 'seed'\)"):
        study_file.read(path)
    path.write_text(yaml.safe_dump(BASE).replace("  x:\n", "  x: {min: 0.0, max: 2.0}\n  x:\n"))
    with pytest.raises(TunewrightError, match="got 'x'"):
        study_file.read(path)


def test_limits_are_the_runners_or_the_commands(tmp_path: Path) -> None:
    limits = {"timeout": 60, "memory": "2GB", "gpus": [0]}
    assert read(tmp_path, **limits).runner == ("local", limits)
    found = read(tmp_path, **limits, objective=None, command="python train.py {x} {opt}")
    assert found.runner == ("local", {"processes": False, "gpus": [0]})
    assert (found.timeout, found.memory) == (60, "2GB")


def test_how_far_to_train(tmp_path: Path) -> None:
    from tunewright.agent.cli.study_training import training
    from tunewright.engines.types import Fidelity

    assert training({}) == {}
    own = training({"fidelity": {"name": "epoch", "max": 27}, "scheduler": {"asha": {"eta": 4}}})
    assert own == {"fidelity": Fidelity("epoch", 1, 27), "scheduler": ("asha", {"eta": 4})}
    sweep = training({"early_terminate": {"type": "hyperband", "min_iter": 3, "max_iter": 27}})
    assert sweep["scheduler"] == ("asha", {"grace": 3, "eta": 3})
    assert sweep["fidelity"] == Fidelity("iteration", 1, 27)
    brackets = training({"early_terminate": {"type": "hyperband", "s": 2, "max_iter": 27}})
    assert brackets["scheduler"] == ("asha", {"grace": 3, "eta": 3})


@pytest.mark.parametrize("none", [None, "none"])
def test_a_file_can_say_that_each_trial_is_trained_to_the_end(none: str | None) -> None:
    from tunewright.agent.cli.study_training import training
    from tunewright.engines.types import Fidelity

    found = training({"fidelity": {"name": "epoch", "max": 27}, "scheduler": none})
    assert found == {"fidelity": Fidelity("epoch", 1, 27), "scheduler": None}
