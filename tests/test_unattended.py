"""A run that nobody watches: no terminal, trials that fail, an advisor that is down, a kill, and on it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tunewright.agent import Agent, State

STUDY = """
metric: {name: loss, goal: minimize}
command: ["${interpreter}", train.py, "{lr}", "{trial}"]
advisor: openai:nobody
advisor_deadline: 5
engine: random
budget: {trials: 16}
workers: 2
timeout: 60
parameters: {lr: {min: 0.0, max: 1.0}}
"""
# The first trials all fail; of the later ones one is killed, one turns NaN, one prints nothing, and trial 9 hangs once.
TRAIN = """
import json, os, sys, time
lr, number = float(sys.argv[1]), int(sys.argv[2])
with open("log.txt", "a") as log:
    log.write(f"{number} {os.getpid()}\\n")
if number < 4:
    sys.exit("no data yet")
if number == 6:
    os.kill(os.getpid(), 9)
if number == 9 and not os.path.exists("hung"):
    open("hung", "w").close()
    time.sleep(600)
if number != 8:
    print(json.dumps({"step": 1, "loss": float("nan") if number == 7 else lr}))
"""


def start(folder: Path, **options: object) -> subprocess.Popen[str]:
    # Nobody listens at port 9 of this machine: each call to the provider is refused at once.
    environment = {**os.environ, "OPENAI_API_KEY": "sk-nobody-0123456789", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    command = [sys.executable, "-m", "tunewright.agent.cli", "tune", "study.yaml"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL), **options,
    )  # type: ignore[call-overload]  # fmt: skip


def wait_for(what) -> None:
    deadline = time.monotonic() + 90
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def outcome(folder: Path) -> list[State]:
    with Agent(store=folder / "tunewright.db", study="study", advisor=None, engine="random") as agent:
        assert agent._store.integrity() == []
        return [trial.state for trial in agent.trials]


def test_it_survives_failures_a_silent_provider_and_its_own_death(folder: Path) -> None:
    with (folder / "out.txt").open("w") as out:
        driver = start(folder, stdout=out)
        wait_for((folder / "hung").exists)
        scripts = [int(line.split()[1]) for line in (folder / "log.txt").read_text().splitlines()]
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
    # What it had started ends with it: two runs of one trial would write into the same checkpoint.
    wait_for(lambda: not [pid for pid in scripts if psutil.pid_exists(pid) and _lives(pid)])
    with (folder / "out2.txt").open("w") as out:
        driver = start(folder, stdout=out)
        _, err = driver.communicate(timeout=120)
    assert (driver.returncode, err) == (0, "")
    expected = [State.COMPLETE] * 16
    for number in (0, 1, 2, 3, 6, 7, 8):
        expected[number] = State.FAILED
    assert outcome(folder) == expected
    first, second = ((folder / name).read_text() for name in ("out.txt", "out2.txt"))
    assert "\x1b" not in first + second
    assert "trial 0     failed" in first and "exit code 1: no data yet" in first
    assert "goes on after" in second and "Best: trial" in second
    assert "the engine went on without openai:nobody" in second and "calls failed" in second


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_reader_of_its_lines_who_goes_away_does_not_end_it(folder: Path) -> None:
    (folder / "hung").touch()
    driver = start(folder, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.startswith("[1/16]"):
            break
    driver.stdout.close()
    assert driver.stderr is not None
    assert (driver.stderr.read(), driver.wait(120)) == ("", 0)
    driver.stderr.close()
    assert len(outcome(folder)) == 16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_shutdown_or_a_lost_terminal_hands_the_trials_back(folder: Path, number: signal.Signals) -> None:
    driver = start(folder, stdout=subprocess.DEVNULL)
    wait_for((folder / "hung").exists)
    driver.send_signal(number)
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "Nothing is lost: the same command goes on from here." in err
    states = outcome(folder)
    assert states[9] is State.WAITING and State.RUNNING not in states
