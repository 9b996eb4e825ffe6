"""Any training command as the objective: its words, its metrics, its outcomes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tunewright.agent import Agent, Budget, Categorical, Fidelity, Float, Space, State, TunewrightError
from tunewright.agent.commands import Command, CommandObjective
from tunewright.agent.commands import process as processes

SPACE = {"lr": Float(0.001, 1.0), "opt": Categorical(["sgd", "adam"]), "momentum": Float(0, 0.9, when={"opt": "sgd"})}
FACTS = {"checkpoint_dir": "/c", "seed": 7, "trial": 3}


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)


def words(command, params, program=None):
    return Command(command, program, list(SPACE)).words(params, FACTS)


ADAM, SGD = {"lr": 0.1, "opt": "adam"}, {"lr": 0.1, "opt": "sgd", "momentum": 0.5}


@pytest.mark.parametrize(
    "command, params, expected",
    [
        ("train --lr {lr} --opt {opt}", ADAM, ["train", "--lr", "0.1", "--opt", "adam"]),
        ("train --momentum {momentum} --lr={lr}", ADAM, ["train", "--lr=0.1"]),
        ("train --momentum {momentum} --lr={lr}", SGD, ["train", "--momentum", "0.5", "--lr=0.1"]),
        ("train --m={momentum} x", ADAM, ["train", "x"]),
        ("train -s {seed} -o out/{trial}", ADAM, ["train", "-s", "7", "-o", "out/3"]),
        (["train", "${args}"], ADAM, ["train", "--lr=0.1", "--opt=adam"]),
        (["train", "${args_no_hyphens}"], ADAM, ["train", "lr=0.1", "opt=adam"]),
        (["train", "${args_json}"], ADAM, ["train", '{"lr": 0.1, "opt": "adam"}']),
        ("train '{lr} {opt}' {{lr}}", ADAM, ["train", "0.1 adam", "{lr}"]),
    ],
)
def test_words_are_split_first_and_filled_afterwards(command, params, expected):
    assert words(command, params) == expected


def test_no_value_ends_a_word_or_reaches_a_shell():
    hostile = {"lr": 0.1, "opt": "adam; rm -rf / $(reboot) `x` \"'"}
    assert words("train --opt {opt}", hostile) == ["train", "--opt", hostile["opt"]]


@pytest.mark.parametrize(
    "command, told",
    [
        ("train --lr {learning_rate}", "names no parameter"),
        ("train --lr {lr:.3f}", "formats"),
        ("train | tee log", "no shell"),
        ("train 'open", "split"),
        ("", "empty"),
        (["train", "${nothing}"], "unknown macro"),
        (7, "one line of text"),
    ],
)
def test_wrong_commands_are_refused(command, told):
    with pytest.raises(TunewrightError, match=told):
        Command(command, None, list(SPACE))


def test_a_program_that_is_not_there_is_refused_before_a_trial(tmp_path):
    for command, told in (("no-such-program {lr}", "not found"), ("./train.sh {lr}", "not found"),
                          ("python3 nowhere.py {lr}", "nowhere.py")):  # fmt: skip
        with pytest.raises(TunewrightError, match=told):
            CommandObjective(Command(command, None, list(SPACE)), ["loss"], tmp_path)


# ------------------------------------------------------------------------------------------------ running


def study(tmp_path, script, trials=1, timeout=None, metrics=("loss",), **options):
    (tmp_path / "train.py").write_text(textwrap.dedent(script))
    space = Space(SPACE)
    command = Command(f"{sys.executable} train.py --lr {{lr}}", None, space.declared)
    given = {"metric": "loss", "engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    agent = Agent(space, store=tmp_path / "s.db", **given)
    agent.tune(CommandObjective(command, metrics, tmp_path, timeout), runner=("local", {"processes": False}))
    return agent


def test_json_lines_are_the_curve_and_the_result(tmp_path):
    agent = study(
        tmp_path,
        """
        import json, sys
        print("epoch 1 of 3, a word with {braces}")
        for step in (1, 2, 3):
            print(json.dumps({"step": step, "loss": 1 / step, "acc": 0.5, "note": "x", "flag": True}))
        print('{"broken": ')
        """,
        trials=2,
    )
    trial = agent.trials[0]
    assert (trial.state, trial.value) == (State.COMPLETE, pytest.approx(1 / 3))
    assert [step for step, _ in trial.curve] == [1, 2, 3]
    assert len(agent.curve(trial, "acc")) == 3
    assert "epoch 1 of 3" in trial.stdout


def test_steps_count_up_where_none_is_named(tmp_path):
    agent = study(tmp_path, "for x in (3, 2): print('{\"loss\": %d}' % x)")
    assert list(agent.trials[0].curve) == [(1, 3), (2, 2)]


def test_report_inside_the_script_hears_the_verdict(tmp_path):
    script = """
    import os, sys, time
    from tunewright.agent import report
    start = int(open(os.environ["TUNEWRIGHT_CHECKPOINT_DIR"] + "/step").read()) if os.path.exists(
        os.environ["TUNEWRIGHT_CHECKPOINT_DIR"] + "/step") else 0
    for step in range(start + 1, int(os.environ["TUNEWRIGHT_FIDELITY"]) + 1):
        with open(os.environ["TUNEWRIGHT_CHECKPOINT_DIR"] + "/step", "w") as f:
            f.write(str(step))
        verdict = report(step, loss=float(sys.argv[2]) + 1 / step)
        print("verdict", verdict.value, "at", step, flush=True)
        if verdict != "continue":
            sys.exit(0)
    """
    agent = study(tmp_path, script, trials=9, scheduler="asha", fidelity=Fidelity("epoch", 1, 9))
    assert agent.best.fidelity == 9
    assert {t.state for t in agent.trials} == {State.PAUSED, State.COMPLETE}
    steps = [line.split()[-1] for line in agent.best.stdout.splitlines()]
    assert steps == [str(n) for n in range(1, 10)], "it went on from its checkpoint, no step twice"


def test_a_verdict_ends_a_script_that_only_prints(tmp_path):
    script = """
    import time
    for step in range(1, 1000):
        print('{"step": %d, "loss": 1.0}' % step, flush=True)
        time.sleep(0.05)
    """
    began = time.monotonic()
    agent = study(tmp_path, script, trials=1, scheduler="asha", fidelity=Fidelity("epoch", 1, 9))
    assert time.monotonic() - began < 20
    assert agent.trials[0].fidelity == 9 or agent.trials[0].state is State.PAUSED


def test_nan_at_step_three_ends_at_step_three(tmp_path):
    agent = study(tmp_path, """
    import time
    for step, loss in ((1, "1.0"), (2, "0.5"), (3, "NaN")):
        print('{"step": %d, "loss": %s}' % (step, loss), flush=True)
    time.sleep(600)
    """)  # fmt: skip
    assert agent.trials[0].error == "loss was nan at step 3"


@pytest.mark.parametrize(
    "script, told",
    [
        ("import sys; print('oops: no data', file=sys.stderr); sys.exit(4)", "exit code 4: oops: no data"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL (out of memory?)"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ('print(\'{"accuracy": 0.9, "val": 1}\')', "the script printed no loss; it printed: accuracy, val"),
        ("print('done')", "nor any metric; a line like"),
    ],
)
def test_outcomes_in_one_sentence(tmp_path, script, told):
    trial = study(tmp_path, script).trials[0]
    assert trial.state is State.FAILED
    assert told in trial.error


def test_a_script_that_hangs_is_ended_with_its_children(tmp_path):
    script = """
    import os, signal, subprocess, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    open("child", "w").write(str(child.pid))
    time.sleep(600)
    """
    trial = study(tmp_path, script, timeout=2).trials[0]
    assert trial.error == "ran longer than 2 s"
    pid = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_a_child_that_outlives_the_script_is_ended_and_waits_for_nobody(tmp_path):
    script = """
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    open("child", "w").write(str(child.pid))
    print('{"loss": 1.0}')
    """
    began = time.monotonic()
    trial = study(tmp_path, script).trials[0]
    assert trial.value == 1.0
    assert time.monotonic() - began < 20
    pid = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_a_gigabyte_of_output_is_bounded(tmp_path):
    script = """
    import os, sys
    print("first line", flush=True)
    block = (b"y" * 99 + b"\\n") * 10_000
    for _ in range(1_000):
        os.write(1, block)
    print('{"loss": 0.25}', flush=True)
    """
    before = psutil.Process().memory_info().rss
    began = time.monotonic()
    trial = study(tmp_path, script).trials[0]
    assert trial.value == 0.25
    assert time.monotonic() - began < 60
    assert psutil.Process().memory_info().rss - before < 200 * 2**20
    kept = trial.stdout
    assert len(kept) < 3 * 2**20
    assert kept.startswith("first line\n") and kept.endswith('{"loss": 0.25}\n')
    assert "bytes were left out here" in kept


def test_odd_output_is_no_problem(tmp_path):
    script = """
    import os, sys
    os.write(1, b"\\xff\\xfe broken \\x00 text\\n")
    os.write(1, b"x" * 10_000_000 + b"\\n")
    os.write(1, b'{"loss": 0.5}\\n')
    os.close(1); os.close(2)
    """
    assert study(tmp_path, script).trials[0].value == 0.5


def test_keys_are_not_in_the_environment_and_the_trial_is(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef0123456789")
    script = """
    import json, os
    assert "OPENAI_API_KEY" not in os.environ
    assert json.loads(os.environ["TUNEWRIGHT_PARAMS"])["lr"] > 0
    assert int(os.environ["TUNEWRIGHT_SEED"]) > 0
    print("sk-0123456789abcdef0123456789")
    print(json.dumps({"loss": int(os.environ["TUNEWRIGHT_TRIAL"])}))
    """
    trial = study(tmp_path, script).trials[0]
    assert (trial.value, trial.error) == (0.0, None)
    assert "sk-0123" not in trial.stdout


def test_report_outside_a_study_prints_its_line():
    code = "from tunewright.agent import report; print(report(2, loss=0.5) == 'continue')"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TUNEWRIGHT")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == '{"loss": 0.5, "step": 2.0}\nTrue\n'


# ------------------------------------------------------------------------------------------------ the study file

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
