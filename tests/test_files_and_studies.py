"""A study and the file that it was made of: what the draft hands on, and what is said once the two differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tunewright.agent.cli.main import cli
from tunewright.agent.tools import BY_NAME
from tunewright.agent.workbench import Workbench

SCRIPT = '''"""Trains a quadratic bowl."""
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()
for epoch in range(1, args.epochs + 1):
    print(json.dumps({"step": epoch, "val_loss": args.lr + 1 / epoch}), flush=True)
'''
STALE = "train.yaml is not changed and keeps its space; the study's own counts"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def made(folder: Path, **more: object) -> Workbench:
    bench = Workbench(folder / "s.db")
    BY_NAME["create_study"].call(bench, {"file": "train.py", **more})
    return bench


def test_what_the_draft_read_is_the_studys_task(folder: Path) -> None:
    with made(folder) as bench:
        assert BY_NAME["study"].call(bench, {})["task"] == "Trains a quadratic bowl."


def test_words_of_the_person_come_before_the_scripts(folder: Path) -> None:
    with made(folder, task="a bowl with two rims") as bench:
        assert BY_NAME["study"].call(bench, {})["task"] == "a bowl with two rims"


def test_the_question_shows_what_differs_from_the_draft(folder: Path) -> None:
    tool = BY_NAME["create_study"]
    with Workbench(folder / "s.db") as bench:
        given = {"file": "train.py", "parameters": {"lr": {"max": 0.1}}}
        lines = tool.question(bench, tool.parse(given)).splitlines()
        less = tool.question(bench, tool.parse({"file": "train.py", "parameters": {"width": None}}))
    lr = next(line for line in lines if line.startswith("  lr: "))
    assert lr.startswith("  lr: 0.0001 to 0.1, ") and "(drafted: 0.0001 to 1, " in lr
    assert "drafted" not in next(line for line in lines if line.startswith("  width: "))
    assert "  about: Trains a quadratic bowl." in lines
    assert "left out of the draft: width" in less


def test_a_file_that_an_edit_leaves_behind_is_named(folder: Path) -> None:
    tool, edit = BY_NAME["edit_space"], {"parameters": {"lr": {"max": 0.1}}}
    with made(folder) as bench:
        assert STALE in tool.question(bench, tool.parse(edit))
        assert any(line.startswith(STALE) and "export wandb" in line for line in tool.call(bench, edit))
        back = tool.call(bench, {"parameters": {"lr": {"max": 1.0}}})
        assert not any(STALE in line for line in back)  # the file is true again
        tool.call(bench, edit)
        written = BY_NAME["export"].call(bench, {"format": "wandb"})["file"]
        assert "max: 0.1" in (folder / written).read_text()
    with Workbench(folder / "s.db", file=folder / "train.yaml") as again:
        assert again.notice is not None
        assert "train.yaml has another space than the study, whose own is searched" in again.notice
    with Workbench(folder / "s.db") as unnamed:
        assert unnamed.notice is None


def test_a_run_of_an_older_file_says_how_to_write_the_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with made(folder) as bench:
        BY_NAME["edit_space"].call(bench, {"parameters": {"lr": {"max": 0.1}}})
    told = CliRunner().invoke(cli, ["tune", "train.yaml", "--store", "s.db", "--trials", "1"]).output
    assert "edited since train.yaml was written" in told and "tunewright export --format wandb" in told


def test_a_belief_that_an_edit_left_nothing_to_test_says_so(folder: Path) -> None:
    with made(folder) as bench:
        for lr, value in ((0.02, 1.0), (0.5, 2.0), (0.03, 1.1)):
            BY_NAME["enqueue"].call(bench, {"params": {"lr": lr}})
            number = BY_NAME["suggest"].call(bench, {})["number"]
            bench.agent.report(number, 1, value)
        BY_NAME["note"].call(bench, {"text": "lr above 0.1 diverges"})
        BY_NAME["edit_space"].call(bench, {"parameters": {"lr": {"max": 0.1}}})
        fate = BY_NAME["beliefs"].call(bench, {})[0]["fate"]
    assert "not to be tested: all of today's space is where it points" in fate
    assert "no trials to compare yet" not in fate and "proposals since" not in fate
