"""The doctor on study files: one planted fault each; nothing of the user's is run."""

from __future__ import annotations

import sys

import pytest

from tunewright.agent import TunewrightError
from tunewright.agent.cli import doctor
from tunewright.agent.cli.doctor_file import examine_file

SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--drop", type=float)
raise SystemExit("the doctor must not run this")
"""
COMMAND = f"command: {sys.executable} train.py --lr {{lr}} --drop {{drop}}"
REST = """
metric: {name: val_loss, goal: minimize}
budget: {trials: 50}
parameters:
  lr: {min: 0.00001, max: 0.1, distribution: log_uniform_values}
  drop: {min: 0.0, max: 0.6}
"""


@pytest.fixture
def examine(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "functions.py").write_text("def objective(trial):\n    return 1.0\n\nraise SystemExit('imported')\n")
    (tmp_path / "broken.py").write_text("def objective(trial:\n")

    def findings(head, rest=REST):
        path = tmp_path / "study.yaml"
        path.write_text(f"{head}\n{rest}")
        return {f.code: f for f in examine_file(path)}

    return findings


@pytest.mark.parametrize("head", [COMMAND, "objective: functions.py:objective", "program: train.py"])
def test_a_sound_file_has_no_findings(examine, head):
    assert examine(head) == {}


@pytest.mark.parametrize(
    "head, code, told",
    [
        (COMMAND.replace("{drop}", "{dorp}"), "file", "{drop}"),
        (COMMAND.replace(" --drop {drop}", ""), "unnamed", "--drop {drop}"),
        (COMMAND.replace("--lr", "--learning-rate"), "unknown-flag", "--lr, --drop"),
        (COMMAND.replace("train.py", "gone.py"), "command", "there is no gone.py"),
        ("command: gone-program --lr {lr} --drop {drop}", "command", "command not found: gone-program"),
        (f"{COMMAND}\nverify: {{command: 'gone-program {{lr}} {{drop}}'}}", "command", "gone-program"),
        ("objective: gone.py:objective", "objective", "no gone.py beside"),
        ("objective: functions.py:tune", "objective", "it has objective"),
        ("objective: broken.py:objective", "objective", "line 1"),
        ("objective: functions", "objective", "names no function"),
        ("task: a file that trains nothing", "objective", "nothing says how to train"),
        (f"{COMMAND}\nscheduler: asha", "scheduler", "how far a trial can be trained"),
        (f"{COMMAND}\nscheduler: asher\nfidelity: {{max: 9}}", "scheduler", "asha"),
        (f"{COMMAND}\nscheduler: asha\nfidelity: {{max: 9}}", "no-checkpoint", "TUNEWRIGHT_CHECKPOINT_DIR"),
        (f"{COMMAND}\nscheduler: none\nfidelity: {{max: 9}}", "no-scheduler", "asha"),
        (f"{COMMAND}\nengine: tpee", "engine", "tpe"),
        (f"{COMMAND}\nrunner: locla", "runner", "local"),
    ],
)
def test_one_fault_is_one_finding_with_its_fix(examine, head, code, told):
    found = examine(head)
    assert list(found) == [code]
    assert told in f"{found[code].message} {found[code].fix}"
    assert found[code].fix


def test_a_run_without_limits_and_a_mistake_in_the_plan(examine):
    rest = REST.replace("budget: {trials: 50}", "").replace(", distribution: log_uniform_values", "")
    assert list(examine(COMMAND, rest)) == ["linear-scale", "no-limit"]


def test_exit_codes_and_a_file_that_is_not_there(examine, tmp_path, capsys):
    examine(COMMAND)
    doctor.run(str(tmp_path / "study.yaml"), tmp_path / "none.db", apply=False, as_json=False)
    assert "Nothing is wrong" in capsys.readouterr().out
    for head, code in ((COMMAND.replace(" --drop {drop}", ""), 1), ("objective: gone.py:f", 3)):
        examine(head)
        with pytest.raises(SystemExit) as end:
            doctor.run(str(tmp_path / "study.yaml"), tmp_path / "none.db", apply=False, as_json=True)
        assert end.value.code == code
    with pytest.raises(TunewrightError, match="no such file"):
        examine_file(tmp_path / "gone.yaml")
