"""Processes that die, fork or compete: what was acknowledged is there exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from store_kit import raw

from tunewright.agent.errors import FixDatabasePath
from tunewright.agent.store import Store
from tunewright.agent.store import buffer as buffering
from tunewright.engines.types import State

FACTS = {"params": {"x": 1}, "source": "engine", "proposer": "tpe", "seed": 3}

# Creates, reports and finishes trials for ever; prints what the store has acknowledged.
WORKER = """
import sys
from tunewright.agent.errors import StudyMoved
from tunewright.agent.records import Hold
from tunewright.agent.store import Store, current_owner
from tunewright.engines.types import State
store = Store.open(sys.argv[1])
store.requeue_dead(1)
while True:
    try:
        number = sum(store.count(1).values())
        store.create_trial(1, expected_number=number, params={"x": 1}, source="engine", proposer="tpe", seed=3,
                           hold=Hold(current_owner()), decision={"n": number})
    except StudyMoved:
        continue
    print("created", number, flush=True)
    for step in range(40):
        store.report(1, number, step, {"loss": 0.5})
    store.finish(1, number, State.COMPLETE, (float(number),), attempt=1)
    print("finished", number, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "crash.db"
    with Store.open(path) as store:
        objectives = [{"name": "loss", "direction": "minimize"}]
        store.create_study("s", space={}, objectives=objectives, seed=1, config={}, environment={})
    return path


def start(path):
    return subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE, text=True)


def kill_after(worker, lines):
    """Lets it print so many lines, kills it at whatever it does then, and returns all it printed."""
    said = [worker.stdout.readline() for _ in range(lines)]
    worker.send_signal(signal.SIGKILL)
    rest = worker.stdout.read().splitlines(keepends=True)
    worker.wait()
    return [line.split() for line in said + rest if line.endswith("\n")]


def acknowledged(words, kind):
    return [int(number) for said, number in words if said == kind]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_processes_lose_nothing_they_acknowledged(path):
    dice = random.Random(4)
    created, finished = [], []
    for _ in range(12):
        words = kill_after(start(path), dice.randint(1, 25))
        created += acknowledged(words, "created")
        finished += acknowledged(words, "finished")
        with Store.open(path, read_only=True) as store:
            assert store.integrity() == []
    with Store.open(path) as store:
        assert len(set(created)) == len(created) and len(set(finished)) == len(finished)
        trials = {t.number: t for t in store.trials(1)}
        assert sorted(trials) == list(range(len(trials))) and set(created) <= set(trials)
        for number in finished:
            assert trials[number].values == (float(number),)
            assert len(store.curve(1, number, "loss").steps) == 40
            assert store.repeats(1, number) == []
        # A kill can fall between a commit and the line that tells of it: at most one such trial each time.
        ended = [e.number for e in store.events(1) if e.kind == "trial_finished"]
        assert len(set(ended)) == len(ended) and len(ended) <= len(finished) + 12
        store.requeue_dead(1)
        assert store.running(1) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_kill_costs_at_most_the_points_that_waited(path):
    code = """
import os, signal, sys
from tunewright.agent.store import Store, buffer
buffer.FLUSH_SECONDS = 3600.0
store = Store.open(sys.argv[1])
store.create_trial(1, expected_number=0, params={}, source="engine", proposer="tpe", seed=3)
for step in range(1000):
    store.report(1, 0, step, {"loss": step})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    kept = 1000 - 1000 % buffering.FLUSH_POINTS
    with Store.open(path) as store:
        assert store.curve(1, 0, "loss").steps == tuple(float(step) for step in range(kept))


def test_a_process_that_just_ends_writes_its_points(path):
    code = """
import sys
from tunewright.agent.store import Store, buffer
buffer.FLUSH_SECONDS = 3600.0
store = Store.open(sys.argv[1])
store.create_trial(1, expected_number=0, params={}, source="engine", proposer="tpe", seed=3)
store.report(1, 0, 1, {"loss": 0.5})
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with Store.open(path) as store:
        assert store.curve(1, 0, "loss").values == (0.5,)


def test_competing_processes_never_share_a_number(path):
    workers = [start(path) for _ in range(2)]
    words: list[list[list[str]]] = [[], []]

    def follow(which):
        words[which] = kill_after(workers[which], 40)

    threads = [threading.Thread(target=follow, args=[which]) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (set(acknowledged(said, "created")) for said in words)
    assert len(first) >= 20 and len(second) >= 20 and not first & second
    with Store.open(path) as store:
        assert store.integrity() == []
        assert {t.number for t in store.trials(1)} >= first | second


def test_processes_that_make_the_same_file_at_once(tmp_path):
    code = """
import sys
from tunewright.agent.store import Store
with Store.open(sys.argv[1]) as store:
    store.create_study(sys.argv[2], space={}, objectives=[{"name": "a"}], seed=1, config={}, environment={})
"""
    path = tmp_path / "new.db"
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)]) for i in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    with Store.open(path) as store:
        assert sorted(study.name for study in store.studies()) == ["0", "1", "2", "3"]


# ---------------------------------------------------------------------------------------------------- fork


def in_child(work):
    """Runs it in a forked child; True when it returned."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
threaded = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@forking
@threaded
def test_a_forked_child_writes_on_a_connection_of_its_own(path, monkeypatch):
    monkeypatch.setattr(buffering, "FLUSH_SECONDS", 3600.0)
    (opened, child_opened), (closed, parent_closed) = os.pipe(), os.pipe()
    store = Store.open(path)
    store.create_trial(1, expected_number=0, **FACTS)
    store.report(1, 0, 0, {"loss": 6.0})
    child = os.fork()
    if child == 0:
        try:
            store.create_trial(1, expected_number=1, **FACTS)
            os.write(child_opened, b".")
            os.read(closed, 1)  # the parent must not think itself the last, and remove the log
            store.report(1, 1, 0, {"loss": 8.0})
            store.finish(1, 1, State.COMPLETE, (1.0,), attempt=1)
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.read(opened, 1)
    store.report(1, 0, 0, {"loss": 7.0})
    store.finish(1, 0, State.COMPLETE, (0.0,), attempt=1)
    store.close()
    os.write(parent_closed, b".")
    assert os.waitpid(child, 0)[1] == 0
    with Store.open(path) as again:
        assert [t.values for t in again.trials(1)] == [(0.0,), (1.0,)]
        assert [again.curve(1, n, "loss").values for n in (0, 1)] == [(7.0,), (8.0,)]
        assert again.integrity() == []


@forking
@threaded
def test_a_fork_waits_for_the_transactions_of_other_threads(path):
    inside = threading.Event()

    def clock():
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            time.sleep(0.2)
            inside.clear()
        return 0.0

    with Store.open(path, clock=clock) as store:
        store.create_trial(1, expected_number=0, **FACTS)
        writer = threading.Thread(target=store.release, args=[1, 0])
        writer.start()
        inside.wait()

        def check():
            assert not inside.is_set()

        assert in_child(check)
        writer.join()
        assert store.trial(1, 0).state is State.WAITING


@forking
@threaded
def test_forking_while_threads_write(path):
    with Store.open(path) as store:
        stop = threading.Event()

        def write():
            while not stop.is_set():
                store.enqueue(1, {"from": "thread"})

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(5):
                assert in_child(lambda: store.enqueue(1, {"from": "child"}))
        finally:
            stop.set()
            writer.join()
        written = [event.payload["params"]["from"] for event in store.events(1) if event.kind == "enqueued"]
        assert written.count("child") == 5
        assert raw(path, "SELECT count(*) FROM queue") == [(len(written),)]
        assert store.integrity() == []


TWO_FORKS = """
import os, sys, threading, time
os.register_at_fork(before=lambda: time.sleep(0.01))  # the first to be registered is the last to run
from tunewright.agent.store import Store

def forks():
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

store = Store.open(sys.argv[1])
threads = [threading.Thread(target=forks, daemon=True) for _ in range(2)]
writer = threading.Thread(target=store.enqueue, args=[1, {}], daemon=True)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
writer.start()
writer.join(20)
print([thread.is_alive() for thread in (*threads, writer)], flush=True)
os._exit(0)
"""


@forking
def test_two_threads_that_fork_at_once_leave_no_lock_behind(path):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", TWO_FORKS, path], capture_output=True, text=True)
    assert done.stdout.strip() == "[False, False, False]", done.stderr


@forking
def test_a_store_in_memory_stays_with_its_process():
    with Store.open(None) as store:

        def use():
            with pytest.raises(FixDatabasePath):
                store.studies()

        assert in_child(use)
        assert store.studies() == []
