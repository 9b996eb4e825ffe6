"""Any training command as the objective: its words, its metrics, its outcomes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from tunewright.agent import Agent, Budget, Categorical, Derived, Fidelity, Float, Space, State, TunewrightError
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


def study(tmp_path, script, trials=1, timeout=None, metrics=("loss",), memory=None, **options):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "train.py").write_text(textwrap.dedent(script))
    space = Space(SPACE)
    command = Command(f"{sys.executable} train.py --lr {{lr}}", None, space.declared)
    given = {"metric": "loss", "engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    agent = Agent(space, store=tmp_path / "s.db", **given)
    agent.tune(CommandObjective(command, metrics, tmp_path, timeout, memory), runner=("local", {"processes": False}))
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


def test_a_script_that_only_prints_may_run_past_its_pause(tmp_path):
    """Its checkpoint is then further than the verdict was, and the next run may have nothing left to print."""
    script = """
    import os
    done = os.environ["TUNEWRIGHT_CHECKPOINT_DIR"] + "/done"
    if not os.path.exists(done):
        print("\\n".join('{"step": %d, "loss": %d}' % (step, 100 - step) for step in range(1, 10)), flush=True)
        open(done, "w").close()
    """
    agent = study(tmp_path, script, trials=9, scheduler="asha", fidelity=Fidelity("epoch", 1, 9))
    assert {t.state for t in agent.trials} == {State.PAUSED, State.COMPLETE}
    assert (agent.best.value, agent.best.fidelity) == (91.0, 9)
    assert all([step for step, _ in t.curve] == list(range(1, 10)) for t in agent.trials)


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


def test_a_command_leaves_nothing_behind(tmp_path, monkeypatch):
    """No thread, no open file, no process, no folder, also where its reports are still waiting for an answer."""
    # A folder of its own, since tests beside this one make sockets too; its path is short, as these need.
    alone = tempfile.TemporaryDirectory(prefix="left-")
    monkeypatch.setattr(tempfile, "tempdir", alone.name)
    script = """
    import threading
    from tunewright.agent import report
    for number in range(3):
        threading.Thread(target=report, args=(number + 1,), kwargs={"loss": float("nan")}, daemon=True).start()
    threading.Event().wait(600)
    """

    def left():
        names = sorted(t.name for t in threading.enumerate() if t.name.startswith(("tunewright-r", "tunewright-o")))
        channels = list(Path(alone.name).glob("tunewright-*"))
        own = psutil.Process()
        return names, own.num_fds(), channels, [child.pid for child in own.children(recursive=True)]

    study(tmp_path / "1", script)
    before = left()
    study(tmp_path / "2", script, trials=4)
    deadline = time.monotonic() + 10
    while left()[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    names, files, channels, children = left()
    assert names == []
    assert files <= before[1] + 3  # the second study's own file
    assert channels == before[2] == [] and children == before[3]
    alone.cleanup()


def test_a_script_that_eats_memory_is_ended(tmp_path):
    script = """
    import time
    held = []
    while True:
        held.append(bytearray(20 * 2**20))
        time.sleep(0.01)
    """
    trial = study(tmp_path, script, memory="300MB").trials[0]
    assert "of memory, the cap is 300 MB" in trial.error


@pytest.mark.parametrize(
    "script, told",
    [
        ("import os; os.kill(os.getpid(), 40)", "the command was killed by signal 40"),
        ("import sys; sys.exit(137)", "exit code 137, which is how a shell tells of SIGKILL (out of memory?)"),
        ("print('{\"a\": ' + '[' * 30000, flush=True); import sys; sys.exit(5)", "ended with exit code 5"),
        ('print(\'{"loss": "0.3"}\')', "the script printed loss as text, '0.3'; a number has no quotes"),
        ("from tunewright.agent import report; report(1, val=0.5)", "the script printed no loss; it printed: val"),
    ],
)
def test_odd_ends(tmp_path, script, told):
    assert told in study(tmp_path, script).trials[0].error


def test_a_program_that_cannot_be_started_is_a_failed_trial(tmp_path):
    program = tmp_path / "train.sh"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    agent = Agent(SPACE, metric="loss", store=None, engine="random", advisor=None, budget=Budget(trials=1))
    agent.tune(CommandObjective(Command("./train.sh {lr}", None, list(SPACE)), ["loss"], tmp_path))
    assert agent.trials[0].error.startswith("the command cannot be started: [Errno 2] No such file")


def test_a_log_that_cannot_be_written_does_not_cost_the_trial(tmp_path):
    script = """import sys; print("x" * 200_000, file=sys.stderr); print('{"loss": 0.5}', flush=True)"""
    command = CommandObjective(Command([sys.executable, "-c", script], None, list(SPACE)), ["loss"], tmp_path)

    def objective(trial):
        for name in ("stdout.txt", "stderr.txt"):
            (trial.folder / name).mkdir()
        return command(trial)

    agent = Agent(SPACE, metric="loss", store=None, engine="random", advisor=None, budget=Budget(trials=1))
    agent.tune(objective, runner=("local", {"processes": False}))
    assert (agent.trials[0].error, agent.best.values) == (None, (0.5,))


def test_a_command_does_not_stay_behind_where_nothing_can_watch_it(tmp_path, monkeypatch):
    def refused(group):
        watched.append(group)
        raise BlockingIOError("no more processes")

    watched = []
    monkeypatch.setattr(processes, "_Guard", refused)
    trial = study(tmp_path, "import time; time.sleep(60)").trials[0]
    assert trial.error == "the command cannot be watched: no more processes"
    assert not psutil.pid_exists(watched[0])


def test_what_no_word_takes_is_told():
    space = Space({"lr": Float(0, 1), "wd": Float(0, 1), "scale": Float(0, 1), "rate": Derived("lr * scale")})

    def unnamed(command):
        return Command(command, None, space.declared).unnamed(space)

    assert unnamed("train --lr {lr}") == ["wd", "scale"]
    assert unnamed("train --rate {rate}") == ["wd"]
    assert unnamed(["train", "${args}"]) == []
