"""kill -9 at any moment: nothing acknowledged is missing or doubled, and the study goes on as it would have."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewright.agent import Agent, State
from tunewright.agent.store import Store

STUDY = """
import sys
from tunewright.agent import Agent, Budget, Categorical, Float, Int

def loss(p):
    return (p["x"] - 0.3) ** 2 + 0.1 * p["k"] + (0.2 if p["c"] == "a" else p["y"])

space = {"x": Float(0, 1), "k": Int(1, 4), "c": Categorical(["a", "b"]), "y": Float(0, 1, when={"c": "b"})}
agent = Agent(space, metric="loss", store=sys.argv[1], advisor=sys.argv[2] if sys.argv[2] != "None" else None,
              engine=sys.argv[3], budget=Budget(trials=int(sys.argv[4])), safety=sys.argv[5])
print("open", flush=True)
while len(agent.trials) < agent.budget.trials or any(not t.state.finished for t in agent.trials):
    trial = agent.suggest()
    for step in range(3):
        agent.report(trial, step, trial["x"] / (step + 1))
    agent.observe(trial, loss(trial.params))
    print(trial.number, flush=True)
print("done", flush=True)
"""


def start(path: Path, advisor: str, engine: str, trials: int, safety: str) -> subprocess.Popen:
    words = [sys.executable, "-c", STUDY, str(path), advisor, engine, str(trials), safety]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, bufsize=1)


def finish(path: Path, *rest) -> list:
    process = start(path, *rest)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and out.endswith("done\n")
    return configurations(path)


def configurations(path: Path) -> list:
    with Store.open(path) as store:
        return [(t.number, dict(t.params), t.source, t.values) for t in store.trials(1)]


@pytest.mark.parametrize(
    "advisor, engine, safety", [("None", "tpe", "shared"), ("rules", "tpe", "shared"), ("rules", "sobol", "strict")]
)
def test_killed_again_and_again(tmp_path: Path, advisor: str, engine: str, safety: str) -> None:
    trials = 24
    whole = finish(tmp_path / "whole.db", advisor, engine, trials, safety)
    path, rng = tmp_path / "killed.db", random.Random(engine + safety)
    acknowledged: set[int] = set()
    for _ in range(6):
        process = start(path, advisor, engine, trials, safety)
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        time.sleep(rng.random() * 0.15)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged |= {int(line) for line in process.stdout.read().split() if line.isdigit()}
        process.wait()
        with Store.open(path) as store:
            assert store.integrity() == []
            ended = {t.number for t in store.trials(1, states=(State.COMPLETE,))}
        assert acknowledged <= ended
    assert finish(path, advisor, engine, trials, safety) == whole


def test_the_same_history_gives_the_same_next_trial(tmp_path: Path) -> None:
    """Without a kill: reopening after every trial changes nothing."""
    whole = finish(tmp_path / "whole.db", "None", "tpe", 15, "shared")
    path = tmp_path / "reopened.db"
    for n in range(1, 16):
        finish(path, "None", "tpe", n, "shared") if n in (1, 9) else _step(path)
    assert configurations(path) == whole


def _step(path: Path) -> None:
    agent = Agent(store=path, advisor=None, engine="tpe")
    trial = agent.suggest()
    p = trial.params
    agent.observe(trial, (p["x"] - 0.3) ** 2 + 0.1 * p["k"] + (0.2 if p["c"] == "a" else p["y"]))
    agent.close()


def test_a_dead_owners_trial_comes_back_first(tmp_path: Path) -> None:
    code = (
        "import sys, os; from tunewright.agent import Agent, Float\n"
        "a = Agent({'x': Float(0, 1)}, metric='loss', store=sys.argv[1], advisor=None)\n"
        "a.observe(a.suggest(), 1.0); t = a.suggest(); print(t.params['x'], flush=True); os._exit(9)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.db")], capture_output=True, text=True)
    agent = Agent(store=tmp_path / "t.db", advisor=None)
    trial = agent.suggest()
    assert (trial.number, trial.attempt, trial["x"]) == (1, 2, float(out.stdout))
    agent.observe(trial, 0.5)
    assert agent.suggest().number == 2


def test_a_living_owners_trial_is_left_alone(tmp_path: Path) -> None:
    agent = Agent(store=tmp_path / "t.db", advisor=None, **_new())
    held = agent.suggest()
    other = Agent(store=tmp_path / "t.db", advisor=None)
    assert other.suggest().number == 1
    other.release(held.number)
    assert (back := other.suggest()).number == 0 and back.attempt == 2


def _new():
    from tunewright.agent import Float

    return {"space": {"x": Float(0, 1)}, "metric": "loss"}


def test_two_processes_never_share_a_number(tmp_path: Path) -> None:
    Agent(store=tmp_path / "t.db", advisor=None, **_new()).close()
    code = (
        "import sys; from tunewright.agent import Agent\n"
        "a = Agent(store=sys.argv[1], advisor=None, engine='random')\n"
        "for _ in range(25):\n    t = a.suggest(); a.observe(t, t['x']); print(t.number)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "t.db")], stdout=subprocess.PIPE, text=True)
        for _ in "ab"
    ]
    numbers = [int(line) for p in both for line in p.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(50))
    with Store.open(tmp_path / "t.db") as store:
        assert len({json.dumps(dict(t.params)) for t in store.trials(1)}) == 50
