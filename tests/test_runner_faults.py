"""Trials that crash, hang, eat memory or are interrupted: each has a clear outcome, and the study goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tunewright.agent import Agent, Budget, Float, State
from tunewright.agent.runners import process as processes

SPACE = {"x": Float(0, 1)}


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)


def run(tmp_path, objective, trials=3, **options):
    agent = Agent(SPACE, metric="loss", store=tmp_path / "s.db", engine="random", advisor=None,
                  budget=Budget(trials=trials))  # fmt: skip
    agent.tune(objective, runner=("local", {"processes": True, **options}))
    return agent


def dies(how):
    def objective(trial):
        if trial.number == 1:
            how()
        return trial["x"]

    return objective


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def segfault():
    import ctypes

    ctypes.string_at(0)


def leave():
    os._exit(3)


def sys_exit():
    sys.exit("no data")


@pytest.mark.parametrize(
    "how, words",
    [
        (kill, "its process was killed by SIGKILL (out of memory?)"),
        (segfault, "its process was killed by SIGSEGV"),
        (leave, "its process ended with exit code 3"),
        (sys_exit, "SystemExit: no data"),
    ],
)
def test_a_worker_that_dies_fails_its_trial_and_is_replaced(tmp_path, how, words):
    agent = run(tmp_path, dies(how))
    assert [t.state for t in agent.trials] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    assert agent.trials[1].error.startswith(words)


def test_an_exception_is_the_reason_and_its_traceback_is_kept(tmp_path):
    def objective(trial):
        raise ValueError("shape mismatch")

    agent = run(tmp_path, objective, trials=1)
    assert agent.trials[0].error.startswith("ValueError: shape mismatch (line ")
    assert "Traceback" in agent.trials[0].stderr


def test_an_exception_that_cannot_be_pickled_is_no_problem(tmp_path):
    def objective(trial):
        class Odd(Exception):
            def __reduce__(self):
                raise TypeError("never")

        raise Odd("strange")

    assert run(tmp_path, objective, trials=1).trials[0].error.startswith("Odd: strange")


def test_a_trial_that_hangs_is_ended_with_its_children(tmp_path):
    def objective(trial):
        if trial.number == 0:
            child = subprocess.Popen(["sleep", "600"])
            (trial.folder / "child").write_text(str(child.pid))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        return trial["x"]

    began = time.monotonic()
    agent = run(tmp_path, objective, trials=2, timeout=2)
    assert time.monotonic() - began < 30
    assert agent.trials[0].error == "ran longer than 2 s"
    assert agent.trials[1].state is State.COMPLETE
    pid = int((agent.trials[0].folder / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_the_time_that_a_worker_takes_to_start_is_not_its_trials(tmp_path):
    class Slow:
        def __reduce__(self):
            return (lambda: time.sleep(1.5) or (lambda trial: trial["x"])), ()

        def __call__(self, trial):
            return trial["x"]

    assert run(tmp_path, Slow(), trials=2, timeout=1).best is not None


def test_a_child_that_ignores_the_first_signal_is_ended_too(tmp_path):
    def objective(trial):
        if trial.number == 0:
            child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait; sleep 600"])
            (trial.folder / "child").write_text(str(child.pid))
            time.sleep(600)
        return trial["x"]

    agent = run(tmp_path, objective, trials=2, timeout=2)
    pid = int((agent.trials[0].folder / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_a_trial_that_eats_memory_is_ended(tmp_path):
    def objective(trial):
        if trial.number == 0:
            held = []
            while True:
                held.append(bytearray(20 * 2**20))
                time.sleep(0.01)
        return trial["x"]

    agent = run(tmp_path, objective, trials=2, memory="700MB")
    assert "of memory, the cap is 700 MB" in agent.trials[0].error
    assert agent.trials[1].state is State.COMPLETE


def test_an_objective_that_ignores_its_verdict_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "WIND_UP", 0.5)

    def objective(trial):
        while True:
            try:
                trial.report(1, float("nan"))
            except Exception:
                time.sleep(600)

    agent = run(tmp_path, objective, trials=1)
    assert agent.trials[0].error == "loss was nan at step 1"


SCRIPT = """
import sys, time
from tunewright.agent import Agent, Budget, Float

def objective(trial):
    (trial.folder / "began").write_text("")
    time.sleep(float(sys.argv[3]))
    return trial["x"]

agent = Agent({"x": Float(0, 1)}, metric="loss", store=sys.argv[1], study="s", engine="random", advisor=None,
              budget=Budget(trials=50))
try:
    agent.tune(objective, workers=int(sys.argv[2]), runner=("local", {"processes": sys.argv[4] == "yes"}))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def start(tmp_path, workers, seconds, in_processes):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, script, tmp_path / "s.db", str(workers), str(seconds), in_processes]
    child = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("s.db.files/*/*/began")):
        assert time.monotonic() < deadline and child.poll() is None, child.communicate()
        time.sleep(0.05)
    return child


def states(tmp_path):
    with Agent(store=tmp_path / "s.db", study="s", advisor=None, engine="random") as agent:
        return [t.state for t in agent.trials]


@pytest.mark.parametrize("workers, in_processes", [(1, "no"), (1, "yes"), (2, "yes")])
def test_ctrl_c_once_parks(tmp_path, workers, in_processes):
    child = start(tmp_path, workers, 1.5, in_processes)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "interrupted\n")
    assert "Parking:" in err
    found = states(tmp_path)
    assert 1 <= len(found) <= workers
    assert set(found) == {State.COMPLETE}


@pytest.mark.parametrize("workers, in_processes", [(1, "no"), (2, "yes")])
def test_ctrl_c_twice_stops_at_once_and_hands_the_trials_back(tmp_path, workers, in_processes):
    child = start(tmp_path, workers, 600, in_processes)
    child.send_signal(signal.SIGINT)
    assert "Parking" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "interrupted\n")
    found = states(tmp_path)
    assert found and set(found) == {State.WAITING}


def test_a_worker_can_be_ended_before_it_has_a_group_of_its_own(tmp_path, monkeypatch):
    for name in ("GRACE", "POLL", "START"):  # its time is over while its interpreter starts
        monkeypatch.setattr(processes, name, 0.01)

    def objective(trial):
        (tmp_path / "trained").touch()
        os._exit(3)

    agent = run(tmp_path, objective, trials=1, timeout=0.01)
    assert agent.trials[0].state is State.FAILED
    assert not (tmp_path / "trained").exists()


def test_workers_end_with_a_driver_that_was_killed(tmp_path):
    child = start(tmp_path, 2, 600, "yes")
    workers = [p for p in psutil.Process(child.pid).children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]
    assert len(workers) >= 1
    child.kill()
    child.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not [p for p in alive if p.status() != "zombie"]
    child.communicate()
