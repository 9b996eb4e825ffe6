"""The Ray runner: the same objective on a cluster, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunewright.agent import Agent, Budget, Fidelity, Float, State, TunewrightError
from tunewright.agent.cli.main import cli

SPACE = {"x": Float(0, 1)}
KEY = "sk-0123456789abcdef0123456789"


@pytest.fixture(autouse=True)
def on_the_cluster(cluster):
    return cluster


def study(path, trials=8, **options):
    given = {"engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    return Agent(SPACE, metric="loss", store=path, **given)


def test_the_same_objective_runs_there_in_actors_that_are_reused(tmp_path, monkeypatch):
    """With what it prints, keys taken out, and without the driver's keys."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    offset, driver = 10.0, os.getpid()

    def objective(trial):
        print(f"trial {trial.number} is told {KEY[:20]}" + KEY[20:])
        subprocess.run(["sh", "-c", "echo from a child >&2"], check=True)
        (trial.folder / "pid").write_text(str(os.getpid()))
        for step in (1, 2, 3):
            trial.report(step, trial["x"] / step, {"train": float(step)})
        assert trial.curve[-1] == (3, trial["x"] / 3)
        assert "OPENAI_API_KEY" not in os.environ
        return trial["x"] + offset if os.getpid() != driver else 0.0

    agent = study(tmp_path / "s.db")
    agent.tune(objective, workers=2, runner="ray")
    assert [(t.value, t.error) for t in agent.trials] == [(t["x"] + 10.0, None) for t in agent.trials]
    assert 1 <= len({(t.folder / "pid").read_text() for t in agent.trials}) <= 2
    assert all(len(agent.curve(t, "train")) == 3 for t in agent.trials)
    for trial in agent.trials:
        assert trial.stdout == f"trial {trial.number} is told [redacted]\n"
        assert trial.stderr == "from a child\n"


def test_every_kind_of_end(tmp_path):
    """An exception, a return of None, NaN at a step, a time limit: each is a failed trial with its reason."""

    def objective(trial):
        if trial.number == 0:
            raise ValueError("shape mismatch")
        if trial.number == 1:
            return None
        if trial.number == 2:
            for step in range(1, 10):
                (trial.folder / "step").write_text(str(step))
                trial.report(step, float("nan") if step == 3 else 1.0)
        if trial.number == 3:
            time.sleep(600)
        if trial.number == 4:
            raise SystemExit("no data")
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=6)
    agent.tune(objective, workers=2, runner=("ray", {"timeout": 2, "resources": {"cpu": 0.5}}))
    errors = [t.error for t in agent.trials]
    assert errors[0].startswith("ValueError: shape mismatch (line ")
    assert "Traceback" in agent.trials[0].stderr
    assert errors[1] == "the objective returned None; return the metric's value"
    assert errors[2] == "loss was nan at step 3"
    assert (agent.trials[2].folder / "step").read_text() == "3"
    assert errors[3] == "ran longer than 2 s"
    assert errors[4].startswith("SystemExit: no data")
    assert agent.trials[5].value == agent.trials[5]["x"]


def climb(trial):
    """Goes on from its checkpoint; `steps` lists what was trained."""
    for step in range((trial.checkpoint_step or 0) + 1, trial.fidelity + 1):
        with trial.checkpoint(step) as folder:
            (folder / "step").write_text(str(step))
        trial.report(step, trial["x"] + 1 / step)
        print(step, flush=True)
    return trial["x"] + 1 / trial.fidelity


@pytest.mark.parametrize("store", [None, "file", "s3"])
def test_paused_trials_go_on_from_their_checkpoints(tmp_path, store, request):
    """On the driver's disk, or at a URL; the best one's is on the driver at the end."""
    options = {"checkpoint_store": str(tmp_path / "elsewhere")} if store == "file" else {}
    if store == "s3":
        options = {"checkpoint_store": (f"s3://tunewright/{tmp_path.name}", request.getfixturevalue("s3"))}
    agent = study(tmp_path / "s.db", trials=9, scheduler="asha", fidelity=Fidelity("epoch", 1, 9))
    agent.tune(climb, workers=2, runner=("ray", options))
    assert agent.best.fidelity == 9
    assert {t.state for t in agent.trials} == {State.PAUSED, State.COMPLETE}
    assert (agent.best.checkpoint_dir / "step").read_text() == "9"
    steps = [int(line) for line in agent.best.stdout.split()]
    assert len(steps) == len(set(steps)), "nothing was trained twice"


def test_a_trial_whose_actor_is_killed_is_begun_once_more_from_its_checkpoint(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Path(tempfile.mkdtemp(prefix=f"tunewright-trial-{dead.pid}-"))

    def objective(trial):
        with (tmp_path / f"{trial.number}.runs").open("a") as file:
            file.write(f"{trial.attempt} {trial.checkpoint_step} {trial['x']}\n")
        if trial.number in (1, 2) and (trial.attempt == 1 or trial.number == 2):
            with trial.checkpoint(4) as folder:
                (folder / "model").write_text("4")
            os.kill(os.getpid(), signal.SIGKILL)
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=4)
    agent.tune(objective, 4, workers=2, runner=("ray", {"checkpoint_store": str(tmp_path / "store")}))
    assert [t.state for t in agent.trials] == [State.COMPLETE, State.COMPLETE, State.FAILED, State.COMPLETE]
    assert "its worker died" in agent.trials[2].error
    runs = [(tmp_path / f"{n}.runs").read_text().split("\n")[:-1] for n in range(4)]
    assert [len(one) for one in runs] == [1, 2, 2, 1]
    for number in (1, 2):
        x = agent.trials[number]["x"]
        assert runs[number] == [f"1 None {x}", f"2 4 {x}"]
    assert not left.exists(), "an actor removes what those before it left"


DRIVER = """
import os, sys, time
from pathlib import Path
from tunewright.agent import Agent, Budget, Fidelity, Float

folder, address, slow = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "slow"

def objective(trial):
    with (folder / f"{trial.number}.runs").open("a") as file:
        file.write(f"{trial.attempt} {trial.checkpoint_step} {trial['x']}\\n")
    with trial.checkpoint(7) as place:
        (place / "model").write_text("7")
    if slow and trial.number >= 3:
        (folder / f"{trial.number}.hangs").touch()
        time.sleep(600 if slow != "park" else 2)
    return trial["x"]

agent = Agent({"x": Float(0, 1)}, metric="loss", store=folder / "s.db", engine="random", advisor=None,
              budget=Budget(trials=8))
try:
    agent.tune(objective, workers=2, runner=("ray", {"address": address, "checkpoint_store": str(folder / "store")}))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def drive(tmp_path, cluster, how):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    words = [sys.executable, str(script), str(tmp_path), cluster, how]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hanging(tmp_path, child):
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*.hangs"))) < 2:
        assert time.monotonic() < deadline and child.poll() is None, child.communicate()
        time.sleep(0.05)


def test_a_driver_that_was_killed_runs_no_finished_trial_again(tmp_path, cluster):
    child = drive(tmp_path, cluster, "slow")
    hanging(tmp_path, child)
    child.kill()
    child.communicate()
    child = drive(tmp_path, cluster, "fast")
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    with Agent(store=tmp_path / "s.db", advisor=None, engine="random") as agent:
        trials = agent.trials
    assert [t.state for t in trials] == [State.COMPLETE] * 8
    runs = [(tmp_path / f"{n}.runs").read_text().split("\n")[:-1] for n in range(8)]
    assert [len(one) for one in runs] == [1, 1, 1, 2, 2, 1, 1, 1]
    for number in (3, 4):
        x = trials[number]["x"]
        assert runs[number] == [f"1 None {x}", f"2 7 {x}"]


def test_ctrl_c_twice_stops_at_once_and_hands_the_trials_back(tmp_path, cluster):
    child = drive(tmp_path, cluster, "slow")
    hanging(tmp_path, child)
    child.send_signal(signal.SIGINT)
    assert "Parking" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "interrupted\n"), err
    with Agent(store=tmp_path / "s.db", advisor=None, engine="random") as agent:
        assert [t.state for t in agent.trials] == [State.COMPLETE] * 3 + [State.WAITING] * 2


def test_ctrl_c_once_parks(tmp_path):
    """The trials that run end, and no other starts."""
    began = tmp_path / "began"

    def interrupt(agent, trial):
        os.kill(os.getpid(), signal.SIGINT)

    notices = []
    agent = study(tmp_path / "s.db", trials=20)
    with pytest.raises(KeyboardInterrupt):
        agent.tune(
            lambda trial: began.touch() or trial["x"], workers=2, runner="ray", callbacks=[interrupt],
            on_notice=notices.append,
        )  # fmt: skip
    assert 1 <= len(agent.trials) <= 3 and {t.state for t in agent.trials} == {State.COMPLETE}
    # On a busy machine the workers' start may have been mentioned before.
    assert notices[-1].startswith("Parking: the trials that run end first.")
    assert began.exists()


def test_two_workers_share_a_device(tmp_path):
    def objective(trial):
        (tmp_path / f"{trial.number}.device").write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {','.join(trial.gpus)}")
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=4)
    agent.tune(objective, workers=2, runner=("ray", {"resources": {"cpu": 0.5, "gpu": 0.5}}))
    assert {path.read_text() for path in tmp_path.glob("*.device")} == {"0 0"}
    assert len(list(tmp_path.glob("*.device"))) == 4


def test_a_command_runs_there_too(tmp_path):
    (tmp_path / "train.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps({'step': 1, 'loss': float(sys.argv[1]) + 1}))\n"
        "print(json.dumps({'step': 2, 'loss': float(sys.argv[1])}))\n"
        "print(os.environ.get('OPENAI_API_KEY'), os.getppid(), file=sys.stderr)\n"
    )
    file = tmp_path / "study.yaml"
    file.write_text(
        textwrap.dedent(
            """
            command: ["${interpreter}", train.py, "{x}"]
            metric: {name: loss, goal: minimize}
            engine: random
            advisor: none
            budget: {trials: 3}
            store: s.db
            parameters: {x: {min: 0.0, max: 1.0}}
            """
        )
    )
    done = CliRunner().invoke(cli, ["tune", str(file), "--runner", "ray"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with Agent(store=tmp_path / "s.db", study="study", advisor=None, engine="random") as agent:
        for trial in agent.trials:
            assert trial.value == pytest.approx(trial["x"]) and len(trial.curve) == 2
            assert trial.stderr.startswith("None ")
            assert str(os.getpid()) not in trial.stderr.split()
            assert trial.stdout.count("loss") == 2


def test_a_scheduled_study_without_a_common_disk_is_refused(tmp_path):
    """Before anything is trained: it would begin its trials from the start at every rung."""

    def hide(agent, trial):
        for token in agent.files.glob(".driver-*"):
            token.unlink()

    agent = study(tmp_path / "s.db", scheduler="asha", fidelity=Fidelity("epoch", 1, 9))
    with pytest.raises(TunewrightError, match="checkpoint_store"):
        agent.tune(climb, workers=1, runner="ray", on_start=[hide])
    assert {t.state for t in agent.trials} == {State.WAITING}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"resources": {"gpu": 1.5}}, "can be a fraction only below 1.*fix: 1 or 2|fraction only below 1"),
        ({"resources": {"cpu": -1}}, "must be an amount"),
        ({"resources": [1]}, "must map names to amounts"),
        ({"checkpoint_store": 7}, "must be a URL"),
        ({"checkpoint_store": "nosuch://x"}, "checkpoint_store"),
        ({"timeout": 0}, "timeout"),
        ({"memory": "lots"}, "memory"),
        ({"adress": "auto"}, "did you mean 'address'"),
        ({"address": "10.0.0.1:6379"}, "connected already"),
    ],
)
def test_wrong_options_are_refused_before_a_trial(tmp_path, options, words):
    agent = study(tmp_path / "s.db")
    with pytest.raises(TunewrightError, match=words):
        agent.tune(lambda trial: 0.0, workers=2, runner=("ray", options))
    assert agent.trials == []
