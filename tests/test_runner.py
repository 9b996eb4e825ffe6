"""The local runner with worker processes: what comes back, what is reused, what is kept, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tunewright.agent import Agent, Budget, Fidelity, Float, State, TunewrightError
from tunewright.agent.runners import LocalRunner
from tunewright.agent.runners.output import HEAD, TAIL

SPACE = {"x": Float(0, 1)}
PROCESSES = ("local", {"processes": True})


def study(path=None, trials=8, **options):
    given = {"engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    return Agent(SPACE, metric="loss", store=path, **given)


def test_closures_lambdas_and_local_classes_run_in_workers(tmp_path):
    offset, me = 10.0, os.getpid()

    class Loss:
        def __call__(self, x):
            return x + offset

    agent = study(tmp_path / "s.db")
    agent.tune(lambda trial: Loss()(trial["x"]) if os.getpid() != me else 0.0, workers=2)
    assert [t.value for t in agent.trials] == [t["x"] + 10.0 for t in agent.trials]


def test_workers_are_reused_between_trials(tmp_path):
    def objective(trial):
        (trial.folder / "pid").write_text(str(os.getpid()))
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=10)
    agent.tune(objective, workers=2)
    pids = {(t.folder / "pid").read_text() for t in agent.trials}
    assert 1 <= len(pids) <= 2


def test_reports_and_verdicts_cross_the_pipe(tmp_path):
    def objective(trial):
        for step in range((trial.checkpoint_step or 0) + 1, trial.fidelity + 1):
            with trial.checkpoint(step) as folder:
                (folder / "step").write_text(str(step))
            trial.report(step, trial["x"] + 1 / step, {"train": trial["x"]})
            assert trial.curve[-1][0] == step
        return trial["x"] + 1 / trial.fidelity

    fidelity = Fidelity("epoch", 1, 9)
    agent = study(tmp_path / "s.db", trials=9, scheduler="asha", fidelity=fidelity)
    agent.tune(objective, workers=2)
    assert agent.best.fidelity == 9
    assert {t.state for t in agent.trials} == {State.PAUSED, State.COMPLETE}
    assert len(agent.curve(agent.best, "train")) == 9
    assert (agent.best.checkpoint_dir / "step").read_text() == "9"


def test_nan_ends_a_trial_in_a_worker_too(tmp_path):
    def objective(trial):
        for step in range(1, 10):
            (trial.folder / "step").write_text(str(step))
            trial.report(step, float("nan") if step == 3 else 1.0)

    agent = study(tmp_path / "s.db", trials=1)
    agent.tune(objective, runner=PROCESSES)
    assert agent.trials[0].error == "loss was nan at step 3"
    assert (agent.trials[0].folder / "step").read_text() == "3"


def test_two_workers_take_little_more_than_half_the_time(tmp_path):
    """At most 1/1.8 of one worker's, from the moment at which all of them are there."""

    def took(workers):
        place = tmp_path / str(workers)
        place.mkdir()

        def objective(trial):
            (place / f"{os.getpid()}.pid").touch()
            while len(list(place.glob("*.pid"))) < workers:
                time.sleep(0.005)
            began = time.monotonic()
            time.sleep(0.3)
            (place / f"{trial.number}.times").write_text(f"{began} {time.monotonic()}")
            return trial["x"]

        study(tmp_path / f"{workers}.db", trials=16).tune(objective, workers=workers, runner=PROCESSES)
        times = [tuple(map(float, path.read_text().split())) for path in place.glob("*.times")]
        assert len(times) == 16
        return max(end for _, end in times) - min(began for began, _ in times)

    assert took(1) >= 1.8 * took(2)


def test_output_is_kept_per_trial(tmp_path):
    def objective(trial):
        print(f"trial {trial.number} speaks")
        subprocess.run(["sh", "-c", "echo from a child; echo oops >&2"], check=True)
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=3)
    agent.tune(objective, runner=PROCESSES)
    for trial in agent.trials:
        assert sorted(trial.stdout.splitlines()) == ["from a child", f"trial {trial.number} speaks"]
        assert trial.stderr == "oops\n"


def test_a_flood_of_output_keeps_its_first_and_last_megabyte(tmp_path):
    def objective(trial):
        print("first line")
        for _ in range(1200):
            os.write(1, b"x" * 99_999 + b"\n")
        print("last line", flush=True)
        time.sleep(0.6)
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=1)
    agent.tune(objective, runner=PROCESSES)
    kept = agent.trials[0].stdout
    assert len(kept) <= 2 * (HEAD + TAIL) + 200
    assert kept.startswith("first line\n")
    assert kept.endswith("last line\n")
    assert "bytes were left out here" in kept


def test_advisor_keys_are_not_in_the_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef0123456789")

    def objective(trial):
        environment = Path("/proc/self/environ").read_bytes()
        assert b"sk-0123456789" not in environment
        return 0.0 if "OPENAI_API_KEY" not in os.environ else 1.0

    agent = study(tmp_path / "s.db", trials=1)
    agent.tune(objective, runner=PROCESSES)
    assert (agent.trials[0].value, agent.trials[0].error) == (0.0, None)


def test_gpu_slots_are_never_shared(tmp_path):
    def objective(trial):
        assert ",".join(trial.gpus) == os.environ["CUDA_VISIBLE_DEVICES"]
        (trial.folder / "gpu").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        (trial.folder / "pid").write_text(str(os.getpid()))
        time.sleep(0.1)
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=8)
    agent.tune(objective, workers=2, runner=("local", {"gpus": [0, 1, 2, 3]}))
    seen = {(t.folder / "pid").read_text(): (t.folder / "gpu").read_text() for t in agent.trials}
    assert sorted(seen.values()) == ["0,1", "2,3"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"memory": "lots"}, "memory"),
        ({"memory": 0}, "memory"),
        ({"timeout": 0}, "timeout"),
        ({"processes": False, "timeout": 3}, "processes"),
        ({"gpus": [0]}, "workers=1"),
        ({"gpus": [0, 0]}, "twice"),
        ({"threads": 3}, "there is no option 'threads'.*known: processes, timeout, memory, gpus"),
        ({"time_out": 3}, "did you mean 'timeout'"),
    ],
)
def test_wrong_options_are_refused_before_a_trial(tmp_path, options, words):
    agent = study(tmp_path / "s.db")
    with pytest.raises(TunewrightError, match=words):
        agent.tune(lambda trial: 0.0, workers=2, runner=("local", options))
    assert agent.trials == []


def test_an_objective_that_cannot_be_sent_is_refused_with_the_way_out(tmp_path):
    lock = threading.Lock()
    agent = study(tmp_path / "s.db")
    with pytest.raises(TunewrightError, match='"processes": False'):
        agent.tune(lambda trial: lock.locked(), workers=2)
    assert agent.trials == []


def test_an_objective_may_have_processes_of_its_own(tmp_path):
    """As a loader of training data has them."""

    def objective(trial):
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return float(sum(pool.map(abs, [-1, 2])))

    agent = study(tmp_path / "s.db", trials=2)
    agent.tune(objective, runner=PROCESSES)
    assert [(t.value, t.error) for t in agent.trials] == [(3.0, None)] * 2


def test_an_objective_that_a_worker_cannot_load_says_why(tmp_path):
    class Odd:
        def __reduce__(self):
            return exec, ("raise ImportError('no module named here')",)

        def __call__(self, trial):
            return 0.0

    agent = study(tmp_path / "s.db", trials=2)
    agent.tune(Odd(), runner=PROCESSES)
    for trial in agent.trials:
        assert trial.error.startswith("the objective cannot be loaded in a worker process: ImportError: no module")


def test_a_fault_of_the_driver_amid_a_report_does_not_reach_the_next_trial(tmp_path, monkeypatch):
    agent = study(tmp_path / "s.db", trials=3)
    sound = agent.report

    def report(trial, step, value=None, metrics=None):
        if trial.number == 1:
            raise RuntimeError("the file cannot be written")
        return sound(trial, step, value, metrics)

    monkeypatch.setattr(agent, "report", report)

    def objective(trial):
        trial.report(1, trial.number + 10.0)
        return float(trial.number)

    agent.tune(objective, runner=PROCESSES)
    assert [t.value for t in agent.trials] == [0.0, None, 2.0]
    assert agent.trials[1].error.startswith("RuntimeError: the file cannot be written")


def test_what_only_the_driver_can_do_says_so(tmp_path):
    agent = study(tmp_path / "s.db", trials=1)
    agent.tune(lambda trial: len(trial.reason), runner=PROCESSES)
    assert "cannot be used inside a worker process" in agent.trials[0].error


def test_nothing_is_left_behind(tmp_path):
    own = psutil.Process()
    agent = study(tmp_path / "s.db")
    agent.tune(lambda trial: trial["x"], workers=2)
    before = own.num_fds()
    agent.close()
    agent = study(tmp_path / "t.db")
    agent.tune(lambda trial: trial["x"], workers=2)
    agent.close()
    assert own.num_fds() <= before
    names = [" ".join(child.cmdline()) for child in own.children(recursive=True) if child.status() != "zombie"]
    assert not [name for name in names if "loky.backend.popen" in name]


def test_a_notebook_style_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from tunewright.agent import Agent, Float\n"
        "agent = Agent({'x': Float(0, 1)}, metric='loss', advisor=None, engine='random', store=None)\n"
        "agent.tune(lambda t: t['x'], 4, workers=2)\n"
        "print(len(agent.trials))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "4\n", done.stderr


@pytest.mark.parametrize("text, size", [("2GB", 2 * 2**30), ("512 MiB", 512 * 2**20), ("1.5g", 3 * 2**29), (7, 7)])
def test_memory_in_words(text, size):
    from tunewright.agent.runners.limits import memory_of

    assert memory_of(text) == size
    assert LocalRunner(memory=text)
