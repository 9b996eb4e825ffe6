"""Every example runs as its reader would run it, without a key or a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tunewright.agent import State
from tunewright.agent.store import Store
from tunewright.agent.view import StudyView

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(folder: Path, *words: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def view_of(path: Path, study: str) -> StudyView:
    store = Store.open(path, read_only=True)
    record = store.study(study)
    assert record is not None
    return StudyView(store, record)


def test_the_hand_written_loop(tmp_path: Path) -> None:
    script = str(EXAMPLES / "suggest_loop.py")
    printed = run(tmp_path, script)
    view = view_of(tmp_path / "suggest_loop.db", "boosting")
    trials = view.trials()
    assert [t.state for t in trials] == [State.COMPLETE] * 12
    assert [step for step, _ in view.curve(0)] == [10, 20, 30, 40]
    best = view.best()
    assert best is not None and best.values is not None and trials[0].values is not None
    assert best.values[0] < trials[0].values[0], "tuning found nothing better than the default"
    assert f"best: trial {best.number}, val_loss {best.values[0]:.4f}" in printed


def test_the_hybrid_study_asks_its_server_and_takes_advice(tmp_path: Path) -> None:
    printed = run(tmp_path, str(EXAMPLES / "hybrid_study.py"))
    view = view_of(tmp_path / "hybrid_study.db", "hybrid")
    advised = [t for t in view.trials() if t.source == "advisor"]
    assert len(view.trials()) == 20
    assert advised and all(t.proposer == "openai:scripted" for t in advised)
    assert any(p.status == "rejected" and "lr" in (p.reason or "") for p in view.store.proposals(view.record.id))
    calls = view.store.calls(view.record.id)
    assert calls and all(c.status == "answered" and c.tokens_in == 900 for c in calls)
    assert f"{len(calls)} questions to the model, {len(advised)} trials from its advice" in printed
    assert "Chosen by advisor (openai:scripted)" in printed and "said: A rate near 0.003" in printed


def test_layerwise_decay(tmp_path: Path) -> None:
    printed = run(tmp_path, str(EXAMPLES / "layerwise_decay.py"))
    view = view_of(tmp_path / "layerwise_decay.db", "layerwise")
    assert [t.state for t in view.trials()] == [State.COMPLETE] * 15
    best = view.best()
    default = view.trials()[0].values
    assert best is not None and best.values is not None and default is not None and best.values[0] < default[0]
    assert f"best: trial {best.number}, error {best.values[0]:.3f}" in printed
    # Each part learns at `decay` times the rate of the part above it; the head at that of the topmost layer.
    rates = [float(word) for word in printed.split("its rates: ")[1].split(",")]
    assert len(rates) == 5
    assert rates[-1] == rates[-2] and rates == sorted(rates)


def test_the_study_file(tmp_path: Path) -> None:
    for name in ("study.yaml", "digits_objective.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    printed = run(tmp_path, "-m", "tunewright.agent.cli", "tune", "study.yaml")
    view = view_of(tmp_path / "tunewright.db", "digits")
    trials = view.trials()
    assert [t.state for t in trials] == [State.COMPLETE] * 15
    assert trials[0].params == {"loss": "hinge", "penalty": "l2", "alpha": 1e-4, "learning_rate": "optimal"}
    assert len(view.curve(14)) == 10
    best = view.best()
    assert best is not None and best.values is not None and best.values[0] < 0.06
    assert f"Best: trial {best.number}, val_error {best.values[0]:.6g}" in printed


def test_the_command_file_killed_once_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    for name in ("command.yaml", "train.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    words = ["-m", "tunewright.agent.cli", "tune", "command.yaml", "--trials", "3"]
    with subprocess.Popen([sys.executable, *words], cwd=tmp_path, stdout=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("tunewright.db.files/*/*/checkpoints/*/model.pickle")):
            assert time.monotonic() < deadline and driver.poll() is None
            time.sleep(0.05)
        driver.kill()
    printed = run(tmp_path, *words)
    view = view_of(tmp_path / "tunewright.db", "digits-command")
    best = view.best()
    assert best is not None and best.fidelity == 27
    assert [step for step, _ in view.curve(best.number)] == list(range(1, 28))
    trained_on = [t for t in view.trials() if t.attempt > 1 or t.resume_from == t.number]
    assert trained_on, "nothing went on"
    assert "asha, epoch 1 to 27" in printed and "goes on after" in printed


def test_the_optimiser_from_scratch_finds_the_valley_on_every_seed(tmp_path: Path) -> None:
    printed = run(tmp_path, str(EXAMPLES / "from_scratch.py"))
    found = [float(x) for x in printed.splitlines()[0].split(":")[1].split(",")]
    assert len(found) == 10
    assert all(abs(x - 2.0) < 0.15 for x in found)
