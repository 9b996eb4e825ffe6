"""`tunewright init`: study files from scripts and answers, which the product's own reader understands."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tunewright.agent import Categorical, Float, Int, TunewrightError
from tunewright.agent.cli import study_file
from tunewright.agent.cli.init import _quoted, from_questions, from_script, parameter_line
from tunewright.agent.cli.script import read

SCRIPT = """
import argparse, json
DEFAULT_DIR = "/data"

def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--lr", "--learning-rate", type=float, default=1e-3)
    parser.add_argument("-b", "--batch-size", type=int, default=64)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="adamw")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", default=DEFAULT_DIR)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--warmup", type=int, default=compute())
    return parser.parse_args()

def main():
    raise SystemExit("this must never run")
    print(json.dumps({"step": 1, "val_accuracy": 0.5}))

main()
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def test_a_script_becomes_a_study_file_without_running_it(script, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text := from_script(read(script), tmp_path))
    asked = study_file.read(path)
    space = asked.arguments["space"].parameters
    assert list(space) == ["lr", "batch_size", "weight_decay", "dropout", "momentum", "num_layers", "optimizer"]
    assert space["lr"] == Float(1e-5, 0.1, log=True, default=1e-3)
    assert space["batch_size"] == Int(16, 256, log=True, default=64)
    assert space["weight_decay"].log
    assert space["optimizer"] == Categorical(["sgd", "adamw"], default="adamw")
    assert (asked.arguments["metric"], asked.arguments["direction"]) == ("val_accuracy", "maximize")
    assert asked.arguments["fidelity"].high == 30
    words = asked.command.words(asked.arguments["space"].default(), {"fidelity": 3})
    assert words[1:5] == ["train.py", "--lr", "0.001", "--batch-size"]
    assert words[-2:] == ["--epochs", "3"]
    for kept in ("--seed", "--output-dir", "--amp", "--warmup: its default is computed: compute()"):
        assert f"#   {kept}" in text


def test_a_script_without_hyperparameters_says_so(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("import argparse\nargparse.ArgumentParser().add_argument('--seed', type=int, default=0)\n")
    with pytest.raises(TunewrightError, match="no argument looks like"):
        from_script(read(path), tmp_path)
    path.write_text("def broken(:")
    with pytest.raises(TunewrightError, match="is not Python"):
        read(path)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("lr 1e-5..1e-1 log", Float(1e-5, 0.1, log=True)),
        ("layers 1..6", Int(1, 6)),
        ("drop 0.0 .. 0.5", Float(0.0, 0.5)),
        ("opt sgd, adam", Categorical(["sgd", "adam"])),
        ("width 16,32,64", Categorical([16, 32, 64])),
    ],
)
def test_parameters_in_a_line(line, expected):
    ((name, entry),) = yaml.safe_load(parameter_line(line)).items()
    assert study_file.parameter(name, entry) == expected


@pytest.mark.parametrize("line", ["lr", "lr 5..1", "lr 0..1 log", "lr a..b", "lr 1..2 lag", "9 1..2"])
def test_a_line_that_does_not_fit_is_refused(line):
    with pytest.raises(TunewrightError):
        parameter_line(line)


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\x85\u2028\u2029\ufeff")))
def test_any_text_survives_the_quoting(text):
    assert yaml.safe_load(f"x: {_quoted(text)}")["x"] == text


def test_five_questions(tmp_path, monkeypatch, capsys):
    rates = ["lr 1e-5..1e-1 lag", "lr 1e-4..1e-1 log", "lr 1e-5..1e-1 log"]
    first = ["python train.py --lr {lr} --opt {opt}", "val_acc", "maximize"]
    answers = iter([*first, *rates, "opt sgd,adam", "", 12, "lr above 0.05: diverges"])
    monkeypatch.setattr("click.prompt", lambda *words, **options: next(answers))
    path = tmp_path / "study.yaml"
    path.write_text(from_questions())
    asked = study_file.read(path)
    assert asked.arguments["space"].parameters["lr"] == Float(1e-5, 0.1, log=True)
    assert asked.arguments["task"] == "lr above 0.05: diverges"
    assert (asked.arguments["direction"], asked.arguments["budget"].trials) == ("maximize", 12)
    assert "is no range" in capsys.readouterr().out


def init(folder, *words):
    command = [sys.executable, "-m", "tunewright.agent.cli", "init", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_the_command_writes_once(script, tmp_path):
    done = init(tmp_path, "train.py")
    assert done.returncode == 0, done.stderr
    assert "tunewright tune study.yaml" in done.stdout
    again = init(tmp_path, "train.py")
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert init(tmp_path, "train.py", "--force").returncode == 0
    assert "nobody is here to be asked" in init(tmp_path, "--output", "other.yaml").stderr


def test_parts_of_the_data_are_never_nothing_and_leaves_are_searched_by_factors(tmp_path):
    source = "import argparse\nparser = argparse.ArgumentParser()\n"
    source += "parser.add_argument('--subsample', type=float, default=1.0)\n"
    source += "parser.add_argument('--min-samples-leaf', type=int, default=1)\n"
    (tmp_path / "train.py").write_text(source)
    found = yaml.safe_load(from_script(read(tmp_path / "train.py"), tmp_path))["parameters"]
    assert found["subsample"] == {"min": 0.3, "max": 1.0, "default": 1.0}
    assert found["min_samples_leaf"] == {"min": 1, "max": 32, "log": True, "default": 1}
