"""What can go wrong around a study, on both journals: nothing acknowledged is lost, and the study goes on as it would
have. docs/reliability.md lists these tests beside those of single parts."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import faults
import pytest
from sqlite_utils.utils import sqlite3

from tunewright.agent import Agent, Budget, Float, State, TunewrightError
from tunewright.agent import lineup as lineups
from tunewright.agent.errors import FixDatabasePath, RestoreDatabase, UnlockDatabase
from tunewright.agent.store import Store, connection
from tunewright.engines import Capabilities, Proposal

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
FACTS = {"params": {"x": 1}, "source": "engine", "proposer": "tpe", "seed": 3}
SPACE = {"x": Float(0, 1)}


@pytest.fixture(params=["wal", "delete"])
def path(tmp_path, monkeypatch, request):
    """A place for a file whose journal is the write-ahead log or a rollback journal."""
    monkeypatch.setattr(connection, "is_local", lambda path: request.param == "wal")
    monkeypatch.setattr(connection, "wal_is_sound", lambda version: True)
    place = tmp_path / "s.db"
    with Store.open(place) as store:
        assert store.journal_mode == request.param
    return place


def new_study(path):
    with Store.open(path) as store:
        objectives = [{"name": "loss", "direction": "minimize"}]
        store.create_study("s", space={}, objectives=objectives, seed=1, config={}, environment={})
    return path


def tune(path, trials, **options):
    given = {"engine": "random", "advisor": None, "budget": Budget(trials=trials), **options}
    return Agent(SPACE, metric="loss", store=path, **given)


# ---------------------------------------------------------------------------------------------------- kill -9

EVERY = 7  # of the moments at which a run passes a commit, a call or a rename; `make soak` takes all of them


def test_a_kill_before_or_after_a_commit_a_call_or_a_rename(path, tmp_path):
    seen: list[str] = []
    whole = Path(shutil.copy(path, tmp_path / "whole.db"))
    faults.train(whole, lambda number, value: None, faults.killer(-1, seen))
    assert {name.split(":")[0] for name in seen} == {"commit", "call", "rename"}
    expected = faults.configurations(whole)
    for at in range(0, len(seen), EVERY):
        place = path.with_name(f"killed-{at}.db")
        shutil.copy(path, place)
        ended, told = faults.in_child(lambda tell, at=at, place=place: faults.train(place, tell, faults.killer(at)))
        assert ended == signal.SIGKILL, seen[at]
        faults.check(place, told)
        ended, rest = faults.in_child(lambda tell, place=place: faults.train(place, tell, lambda name: None))
        assert ended == 0, seen[at]
        faults.check(place, told | rest)
        assert not told.keys() & rest.keys()
        assert faults.configurations(place) == expected, f"killed at {seen[at]}"


def test_a_log_or_journal_that_is_gone_is_no_lie(path):
    """Killed inside a transaction, and then somebody tidies up. What is left opens and is sound, or is told to be
    damaged; of what the file itself holds nothing is lost."""
    new_study(path)

    def work(tell):
        store = Store.open(path)
        for number in range(20):
            store.create_trial(1, expected_number=number, **FACTS)
            store.finish(1, number, State.COMPLETE, (1.0,), attempt=1)
        with store._connection.write() as db:
            db.execute("PRAGMA cache_size = 1")
            db.execute("PRAGMA cache_spill = 1")
            for number in range(400):
                row = {"study": 1, "number": number, "kind": "filler", "payload": '"' + "x" * 500 + '"', "created": 0.0}
                store._insert(db, "events", row)
            os.kill(os.getpid(), signal.SIGKILL)

    ended, _ = faults.in_child(work)
    assert ended == signal.SIGKILL
    left = [Path(f"{path}-{kind}") for kind in ("wal", "journal") if Path(f"{path}-{kind}").exists()]
    assert left, "a transaction was open"
    for file in left:
        file.unlink()
    try:
        with Store.open(path) as store:
            assert store.integrity() == []
            assert len(store.trials(1)) <= 20
    except RestoreDatabase:
        pass


# ---------------------------------------------------------------------------------------------------- the disk


def test_a_full_disk_is_an_error_and_costs_nothing_that_was_acknowledged(path):
    new_study(path)
    with Store.open(path) as store:
        pages = store._connection._live().execute("PRAGMA page_count").fetchone()[0]
        store._connection._live().execute(f"PRAGMA max_page_count = {pages + 4}")
        done = []
        with pytest.raises(FixDatabasePath, match="full"):
            for number in range(1000):
                store.create_trial(1, expected_number=number, **FACTS)
                store.report(1, number, 0, {"loss": 0.5})
                store.finish(1, number, State.COMPLETE, (float(number),), attempt=1)
                done.append(number)
        assert store.integrity() == []
        assert [t.number for t in store.trials(1, states=[State.COMPLETE])] == done
        store._connection._live().execute(f"PRAGMA max_page_count = {pages + 4000}")  # somebody made room
        for trial in store.running(1):
            store.finish(1, trial.number, State.COMPLETE, (1.0,), attempt=1)
        assert len(store.trials(1, states=[State.COMPLETE])) >= len(done)
        assert all(store.curve(1, number, "loss").values == (0.5,) for number in done)
        assert store.integrity() == []


def test_a_write_that_the_system_refuses_is_an_error_of_ours(path):
    """A limit on the size of files: not SQLite's own count of pages, but the write itself fails."""
    new_study(path)

    def work(tell):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = Store.open(path)
        size = max(file.stat().st_size for file in path.parent.glob("s.db*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
        try:
            for number in range(1000):
                store.enqueue(1, {"x": "y" * 500})
                tell(number, 0.0)
        except FixDatabasePath:
            os._exit(0)

    ended, told = faults.in_child(work)
    assert ended == 0
    with Store.open(path) as store:
        assert store.integrity() == []
        assert [event.payload["id"] - 1 for event in store.events(1) if event.kind == "enqueued"] == list(told)
        assert 0 < len(told) < 1000


def test_files_and_folders_that_may_not_be_written(path):
    new_study(path)
    # Other users may not enter pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="tunewright-test-"))
    try:
        place = Path(shutil.copy(path, folder / "s.db"))
        place.chmod(0o444)
        folder.chmod(0o555)

        def work(tell):
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)  # root may write everywhere
            with pytest.raises(FixDatabasePath, match="no permission to write"):
                Store.open(place)
            with Store.open(place, read_only=True) as store:
                assert store.study("s") is not None
            with pytest.raises(FixDatabasePath):
                Store.open(folder / "new.db")

        assert faults.in_child(work)[0] == 0
        assert sorted(file.name for file in folder.iterdir()) == ["s.db"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# ---------------------------------------------------------------------------------------------------- other processes


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_lock_that_goes_away_in_time_is_waited_for(path, kind):
    """Five seconds and a minute, a hundred times faster."""
    new_study(path)
    assert connection.LOCK_SECONDS > 60
    for seconds in (0.05, 0.6):
        with Store.open(path) as store:
            holder = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
            holder.execute(f"BEGIN {kind}")
            timer = threading.Timer(seconds, holder.close)
            timer.start()
            began = time.monotonic()
            store.enqueue(1, {"x": 1})
            assert time.monotonic() - began >= seconds * 0.9
            timer.join()


def test_a_reader_waits_for_a_lock_only_without_a_log(path):
    new_study(path)
    with Store.open(path) as store:
        holder = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.2, holder.close)
        timer.start()
        assert store.study("s") is not None
        assert timer.is_alive() == (store.journal_mode == "wal")
        timer.join()


def test_a_lock_that_stays_is_named_and_the_study_goes_on_after_it(path, monkeypatch):
    agent = tune(path, 4)
    agent.tune(lambda trial: trial["x"], trials=2)
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.1)
    holder = sqlite3.connect(str(path), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnlockDatabase, match="another process has held the file"):
        agent.tune(lambda trial: trial["x"])
    holder.close()
    agent.tune(lambda trial: trial["x"])
    assert [t.state for t in agent.trials] == [State.COMPLETE] * 4
    assert agent._store.integrity() == []


def test_two_agents_on_one_study(path):
    agents = [tune(path, 24) for _ in range(2)]
    seen: list[int] = []

    def objective(trial):
        seen.append(trial.number)
        return trial["x"]

    threads = [threading.Thread(target=agent.tune, args=[objective]) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(24))
    assert agents[0]._store.integrity() == []
    assert {t.state for t in agents[1].trials} == {State.COMPLETE}


def test_a_child_that_was_forked_after_opening(path):
    agent = tune(path, 6)
    agent.observe(agent.suggest(), 1.0)

    def work(tell):
        for _ in range(2):
            trial = agent.suggest()
            agent.observe(trial, 2.0)
            tell(trial.number, 2.0)

    ended, told = faults.in_child(work)
    assert (ended, sorted(told)) == (0, [1, 2])
    agent.observe(agent.suggest(), 3.0)
    assert [t.value for t in agent.trials] == [1.0, 2.0, 2.0, 3.0]
    assert agent._store.integrity() == []


# ---------------------------------------------------------------------------------------------------- time


def test_a_clock_that_jumps_by_an_hour(path):
    now = [1_700_000_000.0]
    with Store.open(path, clock=lambda: now[0]) as store:
        objectives = [{"name": "loss", "direction": "minimize"}]
        store.create_study("s", space={}, objectives=objectives, seed=1, config={}, environment={})
        for number, jump in enumerate((3600, -7200, 3600, 0)):
            store.create_trial(1, expected_number=number, **FACTS)
            now[0] += jump
            store.report(1, number, 0, {"loss": 1.0})
            ended = store.finish(1, number, State.COMPLETE, (float(number),), attempt=1)
            assert 0 <= ended.trained < 60
        events = [t.event for t in store.trials(1)]
        assert events == sorted(events)
        assert store.integrity() == []


# ---------------------------------------------------------------------------------------------------- plugins


class Odd:
    """An engine of somebody else's that does well twice."""

    capabilities = Capabilities()

    def __init__(self, fault):
        self.fault, self.asked = fault, 0

    def tell(self, observations):
        pass

    def ask(self, n=1, pending=(), *, index, fidelity=None):
        self.asked += 1
        return self.fault() if self.asked > 2 else [Proposal({"x": self.asked / 10})]


def raises():
    raise RuntimeError("a bug in a plugin")


RUBBISH = [
    (raises, "a bug in a plugin"),
    (lambda: threading.Event().wait(), "gave no answer within 0.2 s"),
    (lambda: [], "IndexError"),
    (lambda: "x", "AttributeError"),
    (lambda: [Proposal({"x": "y"})], "not a number"),
    (lambda: [Proposal({"x": float("nan")})], "not finite"),
    (lambda: [Proposal({"z": 1.0})], "z: is not a parameter of this space"),
]


@pytest.mark.parametrize(("fault", "told"), RUBBISH)
def test_an_engine_that_raises_hangs_or_returns_rubbish(store_path, monkeypatch, fault, told):
    monkeypatch.setattr(lineups, "PATIENCE", 0.2)
    agent = tune(store_path, 6, engine=[Odd(fault), "sobol"])
    agent.tune(lambda trial: trial["x"])
    who = [t.proposer for t in agent.trials if t.source == "engine"]
    assert who == ["Odd"] * 2 + ["sobol"] * (len(who) - 2) and len(who) > 2
    first = next(t.number for t in agent.trials if t.proposer == "sobol")
    assert "Fallback: Odd " in str(agent.why(first)) and told in str(agent.why(first))
    with pytest.raises(TunewrightError):
        agent.suggest()
