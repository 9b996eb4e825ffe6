"""A study file with a command: killed and gone on with, devices, pairs of engine and scheduler."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewright.agent import Agent

STUDY = """
metric: {name: val_loss, goal: minimize}
command: PYTHON train.py --lr {lr} --epochs {fidelity}
fidelity: {name: epoch, min: 1, max: 9}
scheduler: {asha: {eta: 3}}
engine: random
advisor: none
budget: {trials: 9}
workers: 2
parameters:
  lr: {distribution: log_uniform_values, min: 0.0001, max: 0.1}
"""
TRAIN = """
import json, os, sys, time
lr, epochs = float(sys.argv[2]), int(sys.argv[4])
place = os.path.join(os.environ["TUNEWRIGHT_CHECKPOINT_DIR"], "state.json")
start = json.load(open(place))["epoch"] if os.path.exists(place) else 0
for epoch in range(start + 1, epochs + 1):
    with open(place + ".part", "w") as file:
        json.dump({"epoch": epoch}, file)
    os.replace(place + ".part", place)
    with open("log.txt", "a") as log:
        log.write(f"{os.environ['TUNEWRIGHT_TRIAL']} {epoch}\\n")
    print(json.dumps({"step": epoch, "val_loss": (lr - 0.01) ** 2 + 1 / epoch}), flush=True)
    time.sleep(0.05)
"""


def tune(folder):
    return [sys.executable, "-m", "tunewright.agent.cli", "tune", "study.yaml", "--store", "s.db"], {"cwd": folder}


def test_a_study_file_with_a_command_killed_and_gone_on_with(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("PYTHON", sys.executable))
    (tmp_path / "train.py").write_text(TRAIN)
    command, where = tune(tmp_path)
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **where)
    log: Path = tmp_path / "log.txt"
    deadline = time.monotonic() + 60
    while not log.exists() or log.read_text().count("\n") < 6:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(0.5)  # what its scripts still do
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **where)
    assert done.returncode == 0, done.stderr
    assert "asha, epoch 1 to 9" in done.stdout
    assert "train.py --lr" in done.stdout
    with Agent(store=tmp_path / "s.db", study="study", advisor=None, engine="random") as agent:
        assert agent.best.fidelity == 9
        epochs = [line.split() for line in log.read_text().splitlines()]
        best = [int(epoch) for number, epoch in epochs if int(number) == agent.best.number]
        assert sorted(set(best)) == list(range(1, 10))
        assert len(best) <= 11, "it went on from its checkpoint, not from the start"


def test_each_worker_of_a_study_file_has_devices_of_its_own(tmp_path):
    text = STUDY.replace("PYTHON", sys.executable).replace("scheduler: {asha: {eta: 3}}", "gpus: [0, 1, 2, 3]")
    (tmp_path / "study.yaml").write_text(text)
    train = (
        "import os\nopen(f'gpu-{os.environ[\"TUNEWRIGHT_TRIAL\"]}', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    (tmp_path / "train.py").write_text(train + TRAIN)
    command, where = tune(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **where)
    assert done.returncode == 0, done.stderr
    assert {path.read_text() for path in tmp_path.glob("gpu-*")} == {"0,1", "2,3"}


@pytest.mark.parametrize("pair", ["asha", "bohb", "hyperband", "pbt"])
def test_a_stated_pair_is_an_engine_of_a_study_file_too(tmp_path, pair):
    text = STUDY.replace("PYTHON", sys.executable).replace("scheduler: {asha: {eta: 3}}\n", "")
    (tmp_path / "study.yaml").write_text(text.replace("engine: random", f"engine: {pair}"))
    (tmp_path / "train.py").write_text(TRAIN.replace("time.sleep(0.05)", ""))
    command, where = tune(tmp_path)
    done = subprocess.run([*command, "--trials", "1"], capture_output=True, text=True, timeout=120, **where)
    assert done.returncode == 0, done.stderr
    assert f"{'hyperband' if pair == 'bohb' else pair}, epoch 1 to 9" in done.stdout


def test_what_rests_is_gone_on_with_when_all_trials_of_the_budget_are_made(tmp_path):
    """Killed after the last new trial began: no trial is left to make, and the promotions are still due."""
    text = STUDY.replace("PYTHON", sys.executable).replace("workers: 2", "workers: 1").replace("asha", "halving")
    (tmp_path / "study.yaml").write_text(text)
    (tmp_path / "train.py").write_text(TRAIN)
    command, where = tune(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **where) as driver:
        for line in driver.stdout:
            if line.startswith("[9/9]"):
                break
        driver.kill()
        driver.communicate()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **where)
    assert done.returncode == 0, done.stderr
    assert "Nothing is left to run" not in done.stdout
    assert "/9]" not in done.stdout, "what goes on is no new trial"
    with Agent(store=tmp_path / "s.db", study="study", advisor=None, engine="random") as agent:
        assert agent.best.fidelity == 9
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, **where)
    assert "Nothing is left to run" in again.stdout
