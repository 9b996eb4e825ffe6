"""Trials that are paused or stopped, in the same words wherever they are told: show, why, the tools, notices."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tunewright.agent import Agent, Budget, Fidelity, Float
from tunewright.agent.chat.words import tell
from tunewright.agent.cli.main import cli
from tunewright.agent.tools import BY_NAME
from tunewright.agent.workbench import Workbench

SCRIPT = """
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["TUNEWRIGHT_CHECKPOINT_DIR"])
for epoch in range(1, int(sys.argv[2]) + 1):
    if {saves}:
        (folder / "epoch").write_text(str(epoch))
    print(json.dumps({{"step": epoch, "loss": float(sys.argv[1]) + 1 / epoch}}), flush=True)
"""
STUDY = """
study: s
metric: {{name: loss, goal: minimize}}
fidelity: {{name: epoch, min: 1, max: 9}}
scheduler: asha
command: ["{python}", train.py, "{{x}}", "{{fidelity}}"]
advisor: none
engine: random
budget: {{trials: 9}}
parameters:
  x: {{min: 0.0, max: 1.0, default: 0.5}}
"""


def trained(trial: Any) -> float:
    value = 1.0
    for epoch in range(1, trial.fidelity + 1):
        value = math.nan if trial.number == 1 else trial["x"] + 1 / epoch
        trial.report(epoch, value)
    return value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Nine trials under ASHA, the second of which reported no number."""
    file = tmp_path / "s.db"
    space = {"x": Float(0, 1, default=0.5)}
    with Agent(space, metric="loss", engine="random", scheduler="asha", fidelity=Fidelity("epoch", 1, 9),
               advisor=None, store=file, study="s", budget=Budget(trials=9)) as agent:  # fmt: skip
        agent.tune(trained, 9)
    return file


def test_a_paused_trial_has_one_reason_everywhere(path: Path) -> None:
    with Workbench(path) as bench:
        paused = next(t.number for t in bench.agent.trials if t.state == "paused" and len(t.curve) == 1)
        ending = BY_NAME["trial"].call(bench, {"number": paused})["ended_because"]
        why = bench.agent.why(paused)
        glance = BY_NAME["study"].call(bench, {})
    assert ending.startswith("paused by asha at epoch 1 with loss ")
    assert " of 8 there: it rests, and goes on once it is among the best 1 in 3 there" in ending
    assert f"Its end: {ending}" in str(why) and why.to_dict()["ending"] == ending
    assert "Training: began, to train to epoch 1; paused at epoch 1 with " in str(why)
    meant = "asha let it rest at that epoch; it goes on once it is among the best 1 in 3 there"
    assert glance["states_mean"]["paused"] == meant
    assert f"paused: {meant}" in tell("study", glance)
    shown = CliRunner().invoke(cli, ["show", "--store", str(path)]).output
    assert shown.count(f"paused: {meant}") == 1


def test_what_is_no_number_is_not_said_to_go_on(path: Path) -> None:
    with Workbench(path) as bench:
        found = BY_NAME["trial"].call(bench, {"number": 1})
    assert "there: " not in found["ended_because"] and "goes on once" not in found["ended_because"]


def test_best_trials_say_who_is_left_out(path: Path) -> None:
    with Workbench(path) as bench:
        counts = BY_NAME["study"].call(bench, {})["trials"]
        best = BY_NAME["trials"].call(bench, {"sort": "best", "limit": 50})
        latest = BY_NAME["trials"].call(bench, {"sort": "latest", "limit": 50})
    assert f"{counts['paused']} paused" in best["left_out"] and "no value" in best["left_out"]
    assert len(best["result"]) == counts["complete"]
    assert len(latest["result"]) == 9 and "left_out" not in latest
    assert any(line.startswith("Left out: ") for line in tell("trials", best))
    assert latest["result"][-1]["by"] == "default"


@pytest.mark.parametrize("saves", [False, True])
def test_a_command_that_saves_nothing_is_told_at_its_first_rest(tmp_path: Path, saves: bool) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.format(saves=saves))
    (tmp_path / "study.yaml").write_text(STUDY.format(python=sys.executable))
    with Workbench(tmp_path / "s.db", file=tmp_path / "study.yaml") as bench:
        BY_NAME["run"].call(bench, {"trials": 2})
        first = BY_NAME["wait"].call(bench, {"seconds": 60})
        BY_NAME["run"].call(bench, {"trials": 1})
        second = BY_NAME["wait"].call(bench, {"seconds": 60})
        found = BY_NAME["doctor"].call(bench, {})
    assert first["ended"] == 2 and "notices" not in second
    assert len(first.get("notices", [])) == (0 if saves else 1)
    if not saves:
        assert "trained from its first step again" in first["notices"][0]
        assert "TUNEWRIGHT_CHECKPOINT_DIR" in first["notices"][0]
    told = next(f for f in found if f["code"] == "no-checkpoint")
    assert "from its first step again" in told["message"] and "TUNEWRIGHT_CHECKPOINT_DIR" in told["fix"]
