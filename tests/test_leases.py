"""Several processes on one study: what a runner holds is its own while it gives signs of life, and is run once more by
somebody else when it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tunewright.agent import Agent, Budget, Float, State, TunewrightError
from tunewright.agent import leases as leasing
from tunewright.agent.leases import Leases
from tunewright.agent.records import Hold
from tunewright.agent.store import Store, current_owner
from tunewright.agent.store.runs import GONE

SPACE = {"x": Float(0, 1)}
HERE = ("local", {"processes": True})
FACTS = {"params": {"x": 1}, "source": "engine", "proposer": "tpe", "seed": 3}


def study(path, trials=4, **options):
    given = {"engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    return Agent(SPACE, metric="loss", store=path, **given)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        objectives = [{"name": "loss", "direction": "minimize"}]
        store.create_study("s", space={}, objectives=objectives, seed=1, config={}, environment={})
        yield store


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a test says so."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(leasing, "time", made)
    return made


def elsewhere():
    """A runner's process on another host, of which nobody here can tell whether it lives."""
    return replace(current_owner(), host="elsewhere")


def new_trial(store, number=0, **hold):
    return store.create_trial(1, expected_number=number, hold=Hold(leased=True, **hold), **FACTS)


def silent_for(watch, clock, seconds):
    for _ in range(int(seconds / leasing.BEAT)):
        clock.now += leasing.BEAT
        watch.look()


# ---------------------------------------------------------------------------------------------------- a worker dies


def test_a_dead_workers_trial_is_run_once_more_from_its_checkpoint(tmp_path):
    def objective(trial):
        if trial.number != 1:
            return trial["x"]
        if trial.attempt == 1:
            with trial.checkpoint(7) as folder:
                (folder / "weights").write_text("seven")
            os.kill(os.getpid(), signal.SIGKILL)
        assert (trial.resume_from, trial.checkpoint_step) == (1, 7)
        return float((trial.checkpoint_dir / "weights").read_text() == "seven")

    agent = study(tmp_path / "s.db")
    agent.tune(objective, runner=HERE)
    assert [t.state for t in agent.trials] == [State.COMPLETE] * 4
    assert [t.attempt for t in agent.trials] == [1, 2, 1, 1]
    events = agent._store.events(1, number=1)
    assert events[0].payload["params"] == agent.trials[1].params
    assert "attempt 1 was given up: its process was killed by SIGKILL" in str(agent.why(1))
    assert agent._store.integrity() == []


def test_a_trial_that_kills_its_workers_is_not_run_for_ever(tmp_path):
    def objective(trial):
        with (tmp_path / "runs").open("a") as file:
            file.write(f"{trial.number} {trial.attempt}\n")
        if trial.number == 1:
            os._exit(3)
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=None)
    agent.tune(objective, trials=3, workers=2)
    assert [t.state for t in agent.trials] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    assert agent.trials[1].error == "its process ended with exit code 3; an earlier attempt died too"
    assert sorted((tmp_path / "runs").read_text().splitlines()) == ["0 1", "1 1", "1 2", "2 1"]


def test_the_last_trial_is_run_again_also_when_the_other_workers_had_nothing_left(tmp_path):
    def objective(trial):
        if trial.number == 0 and trial.attempt == 1:
            time.sleep(0.5)
            os._exit(3)
        return trial["x"]

    agent = study(tmp_path / "s.db", trials=2)
    agent.tune(objective, workers=2)
    assert [t.state for t in agent.trials] == [State.COMPLETE] * 2


# ---------------------------------------------------------------------------------------------------- silence


def test_a_runner_on_another_host_keeps_its_trial_while_it_gives_signs(store, clock):
    new_trial(store, owner=elsewhere())
    watch = Leases(store, 1)
    for _ in range(40):
        clock.now += leasing.BEAT
        with store._connection.write() as db:
            db.execute("UPDATE trials SET beat = beat + 1")
        watch.look()
    assert store.trial(1, 0).state is State.RUNNING
    silent_for(watch, clock, leasing.LEASE - leasing.BEAT)
    assert store.trial(1, 0).state is State.RUNNING
    silent_for(watch, clock, 2 * leasing.BEAT)
    assert (store.trial(1, 0).state, store.trial(1, 0).attempt) == (State.WAITING, 2)
    assert "no sign of life for 120 s" in store.events(1, number=0)[-1].payload["reason"]


def test_a_late_answer_is_kept_and_the_first_one_stands(store, clock):
    new_trial(store, owner=elsewhere())
    silent_for(Leases(store, 1), clock, leasing.LEASE + 2 * leasing.BEAT)
    again = store.next_waiting(1, Hold(current_owner(), leased=True))
    assert (again.number, again.attempt, again.params) == (0, 2, FACTS["params"])
    store.finish(1, 0, State.COMPLETE, (2.0,), attempt=2)
    with pytest.raises(TunewrightError):
        store.finish(1, 0, State.COMPLETE, (1.0,), attempt=1)
    assert (store.trial(1, 0).values, store.repeats(1, 0)) == ((2.0,), [(1.0,)])


def test_a_watcher_who_slept_holds_it_against_nobody(store, clock):
    new_trial(store, owner=elsewhere())
    watch = Leases(store, 1)
    watch.look()
    for _ in range(5):
        clock.now += 3600.0
        watch.look()
    assert store.trial(1, 0).state is State.RUNNING


def test_signs_are_given_for_what_is_held_and_for_nothing_else(store):
    for number in range(3):
        new_trial(store, number, owner=current_owner() if number < 2 else elsewhere())
    before = store.leases(1)
    Leases(store, 1, lambda: {0, 2}).look()
    after = store.leases(1)
    assert [after[n] != before[n] for n in range(3)] == [True, False, False]


def test_a_sign_that_comes_after_all_keeps_the_trial(store):
    new_trial(store, owner=current_owner())
    old = store.leases(1)[0]
    store.beat(1, [0])
    assert store.take_back(1, 0, old, "silence").state is State.RUNNING
    assert store.take_back(1, 0, store.leases(1)[0], "silence").state is State.WAITING


def test_without_a_lease_nothing_is_taken_from_the_living(tmp_path, clock):
    agent = study(tmp_path / "s.db")
    held = agent.suggest()
    silent_for(Leases(agent._store, agent.study_id), clock, 10 * leasing.LEASE)
    assert agent.trial(held.number).state is State.RUNNING


# Trains every trial's first attempt for so many seconds; its result tells the attempt.
DRIVER = """
import sys, time
from tunewright.agent import Agent, Budget, Float
def objective(trial):
    (trial.folder / f"began-{trial.attempt}").touch()
    time.sleep(float(sys.argv[2]))
    return trial.attempt
agent = Agent({"x": Float(0, 1)}, metric="loss", store=sys.argv[1], engine="random", advisor=None,
              budget=Budget(trials=2))
agent.tune(objective)
"""


def driver(path, seconds):
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(path), str(seconds)])


def wait_for(what):
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_suspended_past_its_lease_loses_its_trial_and_its_answer_is_kept(tmp_path, clock):
    path = tmp_path / "s.db"
    slow = driver(path, 0.5)
    wait_for(lambda: list(tmp_path.glob("s.db.files/*/0/began-1")))
    slow.send_signal(signal.SIGSTOP)
    try:
        agent = study(path, trials=2)
        silent_for(Leases(agent._store, 1), clock, leasing.LEASE + 2 * leasing.BEAT)
        agent.tune(lambda trial: trial.attempt)
        assert [(t.state, t.value) for t in agent.trials] == [(State.COMPLETE, 2.0), (State.COMPLETE, 1.0)]
    finally:
        slow.send_signal(signal.SIGCONT)
    assert slow.wait(60) == 0
    assert agent.trials[0].value == 2.0
    assert agent._store.repeats(1, 0) == [(1.0,)]
    assert agent._store.integrity() == []


def test_a_trial_whose_runner_was_killed_twice_has_failed(store):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    gone = replace(current_owner(), pid=ended.pid)
    new_trial(store, 0, owner=gone)
    store.create_trial(1, expected_number=1, hold=Hold(gone), **FACTS)  # a loop of somebody's own has no lease
    for attempt in (2, 3):
        assert store.requeue_dead(1) == [0, 1]
        if attempt == 2:
            assert [store.next_waiting(1, Hold(gone, leased=n == 0)).number for n in (0, 1)] == [0, 1]
    first, second = store.trials(1)
    assert (first.state, first.error, first.deaths) == (State.FAILED, f"{GONE}; an earlier attempt died too", 2)
    assert (second.state, second.attempt) == (State.WAITING, 3)
    assert store.integrity() == []


# ---------------------------------------------------------------------------------------------------- one study, many


TUNER = """
import sys, time
from tunewright.agent import Agent, Budget, Float
agent = Agent({"x": Float(0, 1)}, metric="loss", store=sys.argv[1], engine="random", advisor=None,
              budget=Budget(trials=30))
def objective(trial):
    time.sleep(0.01)
    print(trial.number, trial.source, flush=True)
    return trial["x"]
for x in (0.25, 0.5, 0.75):
    if sys.argv[2] == "0":
        agent.enqueue({"x": x})
agent.tune(objective)
"""


def test_processes_that_tune_one_file_share_the_study(tmp_path):
    """They come to a file that is not there yet; the first of them makes it."""
    path = tmp_path / "s.db"
    words = [sys.executable, "-c", TUNER, str(path)]
    tuners = [
        subprocess.Popen([*words, str(i)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(3)
    ]
    said = [tuner.communicate(timeout=90) for tuner in tuners]
    assert [tuner.returncode for tuner in tuners] == [0, 0, 0], said
    lines = [line.split() for out, _ in said for line in out.splitlines()]
    assert sorted(int(number) for number, _ in lines) == list(range(30))
    assert sum(source == "queue" for _, source in lines) == 3
    with Store.open(path) as store:
        assert store.integrity() == []
        trials = store.trials(1)
        assert len({json.dumps(dict(t.params)) for t in trials}) == 30
        assert {t.state for t in trials} == {State.COMPLETE}


# ---------------------------------------------------------------------------------------------------- time


def test_time_is_counted_over_all_runs_of_a_trial(store):
    ticks = [0.0]
    store._monotonic = lambda: ticks[0]
    new_trial(store, owner=current_owner(), devices=2)
    ticks[0] += 5
    store.pause(1, 0, 0.5, 1, attempt=1)
    store.resume(1, 0, 3, hold=Hold(current_owner(), True, 1), action={"kind": "resume", "number": 0, "to": 3})
    ticks[0] += 3
    assert store.used(1) == (8.0, 13.0)
    store.release(1, 0)
    store.next_waiting(1, Hold(current_owner(), True, 1))
    ticks[0] += 2
    ended = store.finish(1, 0, State.COMPLETE, (0.5,), attempt=2)
    assert (ended.trained, ended.device_seconds) == (10.0, 15.0)
    assert store.integrity() == []


def test_a_cap_on_time_holds_for_all_processes_together(store, tmp_path):
    caps = {"seconds": 15.0, "gpu_hours": 1.0}
    ticks = [0.0]
    with Store.open(tmp_path / "s.db") as other:
        store._monotonic = other._monotonic = lambda: ticks[0]
        new_trial(store, 0, owner=current_owner(), **caps)
        new_trial(other, 1, owner=current_owner(), **caps)
        ticks[0] = 7.0
        store.finish(1, 0, State.COMPLETE, (1.0,), attempt=1)
        new_trial(store, 2, owner=current_owner(), **caps)
        ticks[0] = 8.0
        other.finish(1, 1, State.COMPLETE, (1.0,), attempt=1)
        for by in (store, other):
            with pytest.raises(TunewrightError, match=r"trials trained 1[56] s of the budget's 15"):
                new_trial(by, 3, owner=current_owner(), **caps)
        assert len(store.trials(1)) == 3


def test_a_trial_that_reports_is_stopped_when_the_time_is_up(tmp_path):
    agent = study(tmp_path / "s.db", budget=Budget(seconds=0.3))

    def objective(trial):
        for step in range(1000):
            trial.report(step, 1.0 / (step + 1))
            time.sleep(0.02)
        return 0.0

    began = time.monotonic()
    agent.tune(objective)
    assert time.monotonic() - began < 15
    assert [t.state for t in agent.trials] == [State.STOPPED]
    assert 0.3 <= agent.trials[0]._record.trained < 15


def test_hours_of_devices_are_counted_and_end_the_study(tmp_path):
    agent = study(tmp_path / "s.db", budget=Budget(gpu_hours=0.2 / 3600))

    def objective(trial):
        time.sleep(0.15)
        return trial["x"]

    agent.tune(objective, workers=2, runner=("local", {"gpus": [0, 1], "processes": False}))
    # Two at a time, a device each: after the first pair .3 device seconds are used, and no third begins.
    assert len(agent.trials) == 2
    with pytest.raises(TunewrightError, match="gives trials no devices"):
        agent.tune(objective)
