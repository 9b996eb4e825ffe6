"""Opening: what is wrong with a path is said, nothing is ever overwritten, and the journal is a safe one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils.utils import sqlite3
from store_kit import raw

from tunewright.agent.errors import FixDatabasePath, RestoreDatabase, UnlockDatabase, UpgradeSQLite
from tunewright.agent.store import Store, connection, journal
from tunewright.engines.errors import TunewrightError
from tunewright.engines.types import State

# Another process whose SQLite has the WAL-reset bug, or says so. It opens the store it is given and tells the journal.
AFFECTED = """
import sys, sqlite3
sys.modules["pysqlite3"] = None
sqlite3.sqlite_version = "3.40.1"
from tunewright.agent.store import Store, connection
connection.ALONE_SECONDS = 0.2
try:
    with Store.open(sys.argv[1]) as store:
        print(store.journal_mode, [study.name for study in store.studies()], store.integrity())
except Exception as error:
    print(type(error).__name__)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a b#c?.db"


def fill(path, trials=3):
    with Store.open(path) as store:
        objectives = [{"name": "loss", "direction": "minimize"}]
        study = store.create_study("s", space={}, objectives=objectives, seed=1, config={}, environment={})
        for number in range(trials):
            facts = {"params": {"x": number}, "source": "engine", "proposer": "tpe", "seed": 3}
            store.create_trial(study.id, expected_number=number, **facts)
            store.finish(study.id, number, State.COMPLETE, (1.0,), attempt=1)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_everything_is_there_after_closing(path):
    with Store.open(fill(path)) as store:
        assert [t.params for t in store.trials(1)] == [{"x": 0}, {"x": 1}, {"x": 2}]
        assert store.path == path
        assert store.integrity() == []


@pytest.mark.parametrize("nowhere", [None, ":memory:"])
def test_memory_leaves_no_file(tmp_path, monkeypatch, nowhere):
    monkeypatch.chdir(tmp_path)
    with Store.open(nowhere) as store:
        assert (store.path, store.journal_mode) == (None, "memory")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder(tmp_path):
    with pytest.raises(FixDatabasePath) as caught:
        Store.open(tmp_path / "no" / "s.db")
    assert "mkdir" in str(caught.value)
    with pytest.raises(FixDatabasePath):
        Store.open(tmp_path)
    with pytest.raises(FixDatabasePath):
        Store.open(tmp_path / "none.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"lr,loss\n0.1,0.5\n" * 200, b"x", b"\0" * 4096])
def test_a_file_that_is_no_database_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(FixDatabasePath):
        Store.open(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(path):
    raw(path, "CREATE TABLE theirs (a)")
    before = digest(path)
    with pytest.raises(FixDatabasePath):
        Store.open(path)
    assert digest(path) == before


def test_an_empty_file_becomes_a_store(path):
    path.touch()
    with pytest.raises(FixDatabasePath):
        Store.open(path, read_only=True)
    assert Store.open(path).studies() == []


def test_a_newer_schema_is_refused(path):
    fill(path)
    raw(path, "PRAGMA user_version = 99")
    before = digest(path)
    with pytest.raises(FixDatabasePath) as caught:
        Store.open(path)
    assert caught.value.data["schema"] == 99 and digest(path) == before


def test_reading_only(path):
    fill(path)
    before = digest(path)
    with Store.open(path, read_only=True) as store:
        assert len(store.trials(1)) == 3
        with pytest.raises(FixDatabasePath):
            store.enqueue(1, {})
    assert digest(path) == before


# ---------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("offset", [*range(0, 100, 3), 101, 105, 4096, 4097, 8192 + 3])
def test_a_flipped_byte_is_never_written_over(path, offset):
    fill(path)
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)
    before = digest(path)
    try:
        with Store.open(path, read_only=False) as store:
            assert len(store.trials(1)) == 3  # SQLite found it to be of no importance
    except (RestoreDatabase, FixDatabasePath):
        assert digest(path) == before


@pytest.mark.parametrize("where", ["magic", "schema", "page", "short"])
def test_a_damaged_store_asks_to_be_restored(path, where):
    fill(path)
    content = bytearray(path.read_bytes())
    if where == "magic":
        content[:16] = b"\xff" * 16
    elif where == "schema":
        content[100:2000] = os.urandom(1900)
    elif where == "page":
        content[4096 * 3 : 4096 * 8] = b"\x55" * (4096 * 5)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    before = digest(path)
    with pytest.raises(RestoreDatabase):
        Store.open(path)
    assert digest(path) == before


def test_a_log_without_its_database_is_kept(path):
    fill(path)
    log = Path(f"{path}-wal")
    log.write_bytes(b"committed work")
    path.unlink()
    with pytest.raises(RestoreDatabase):
        Store.open(path)
    assert log.read_bytes() == b"committed work" and not path.exists()


@pytest.mark.parametrize("end", ["unlink", "replace"])
def test_a_file_that_vanished_takes_no_more_writes(path, end):
    fill(path)
    other = fill(path.with_name("other.db"))
    with Store.open(path) as store:
        path.unlink() if end == "unlink" else other.replace(path)
        with pytest.raises(FixDatabasePath):
            store.enqueue(1, {})


def test_integrity_tells_a_trial_from_its_events(path):
    fill(path)
    raw(path, "UPDATE trials SET params = '{\"x\":9}' WHERE number = 1")
    raw(path, 'UPDATE "values" SET value = 2 WHERE trial = 3')
    with Store.open(path) as store:
        assert store.integrity() == [f"study s: trial {n} is not what its events say" for n in (1, 2)]


@pytest.mark.parametrize("change", ["UPDATE events SET kind = 'x'", "DELETE FROM events"])
def test_events_cannot_be_changed(path, change):
    fill(path)
    with pytest.raises(sqlite3.IntegrityError):
        raw(path, change)


# ---------------------------------------------------------------------------------------------------- locks


def test_a_locked_file_is_an_error_of_ours(path, monkeypatch):
    fill(path)
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.05)
    with Store.open(path) as store:
        holder = sqlite3.connect(str(path), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnlockDatabase):
            store.enqueue(1, {})
        holder.close()
        assert store.enqueue(1, {}) == 1


# ---------------------------------------------------------------------------------------------------- journals


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
        ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 53, 0), True),
        ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_releases_with_the_wal_reset_bug(version, sound):
    assert journal.wal_is_sound(version) is sound


def test_disks_that_are_not_local(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sdb /srv/my\\040data/disk xfs rw 0 0\nnas:/x /srv/my\\040data nfs4 rw 0 0\n/dev/sda / ext4 rw 0 0\n"
        "me@host: /remote fuse.sshfs rw 0 0\n"
    )
    places = {"/home/s.db": True, "/srv/my data/s.db": False, "/srv/my data/disk/s.db": True, "/remote/s.db": False}
    assert {p: journal.is_local(Path(p), mounts) for p in places} == places
    assert journal.is_local(Path("/srv/x.db"), tmp_path / "no such list")


@pytest.mark.parametrize(
    ("sound", "local", "mode"), [(True, True, "wal"), (False, True, "delete"), (True, False, "delete")]
)
def test_a_new_file_gets_a_safe_journal(path, monkeypatch, sound, local, mode):
    monkeypatch.setattr(connection, "wal_is_sound", lambda version: sound)
    monkeypatch.setattr(connection, "is_local", lambda path: local)
    with Store.open(path) as store:
        assert store.journal_mode == mode
    with Store.open(fill(path)) as store:
        assert store.journal_mode == mode and store.integrity() == []


def test_an_old_file_keeps_its_journal(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(connection, "is_local", lambda path: False)
        fill(path)
    with Store.open(path) as store:
        assert store.journal_mode == "delete"


def test_an_affected_library_takes_over_a_log_only_when_alone(path, monkeypatch):
    monkeypatch.setattr(connection, "wal_is_sound", lambda version: True)
    fill(path)
    with Store.open(path) as store:
        store.enqueue(1, {})
        assert run(AFFECTED, path) == "UpgradeSQLite"
        store.enqueue(1, {})
    assert run(AFFECTED, path) == "delete ['s'] []"
    with Store.open(path) as store:
        queued = [event.kind for event in store.events(1)].count("enqueued")
        assert (store.journal_mode, queued) == ("delete", 2)
        assert run(AFFECTED, path) == "delete ['s'] []"


def test_a_log_on_a_shared_disk_is_left_by_the_last(path, monkeypatch):
    monkeypatch.setattr(connection, "wal_is_sound", lambda version: True)
    fill(path)
    monkeypatch.setattr(connection, "ALONE_SECONDS", 0.05)
    with Store.open(path):
        monkeypatch.setattr(connection, "is_local", lambda path: False)
        with pytest.raises(UnlockDatabase):
            Store.open(path)
    with Store.open(path) as store:
        assert store.journal_mode == "delete" and len(store.trials(1)) == 3


def test_libraries_without_strict_tables_are_refused(path, monkeypatch):
    monkeypatch.setattr(connection, "sqlite_version", lambda: (3, 36, 0))
    with pytest.raises(UpgradeSQLite):
        Store.open(path)


def test_all_errors_are_ours(path):
    assert all(
        issubclass(e, TunewrightError) for e in (FixDatabasePath, RestoreDatabase, UnlockDatabase, UpgradeSQLite)
    )
