"""Files of older schemas: each released one opens, tells everything, and is brought up to date with a copy kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from store_kit import raw

from tunewright.agent.cli import reading
from tunewright.agent.errors import FixDatabasePath
from tunewright.agent.store import Store, migrations
from tunewright.agent.store.repair import check, salvage
from tunewright.engines.types import State

FROZEN = Path(__file__).parent / "frozen"


TABLES = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'texts_%' ORDER BY type, name"
"""Below a full-text index they are SQLite's own."""


@pytest.fixture(params=[1, 2])
def frozen(tmp_path, request):
    """A file that a release with this schema made."""
    return Path(shutil.copy(FROZEN / f"schema_v{request.param}.db", tmp_path / f"frozen-{request.param}.db"))


def test_a_file_of_an_older_schema_still_tells_everything(frozen):
    with Store.open(frozen) as store:
        assert store.integrity() == []
        study = store.study("frozen")
        assert study is not None and (study.seed, study.created) == (7, 1_700_000_000.0)
        assert study.config["task"] == "a study kept in amber"
        trials = store.trials(study.id)
        assert [t.values for t in trials] == [(0.5,), (0.25,), None, None]
        assert [t.state for t in trials] == [State.COMPLETE, State.COMPLETE, State.FAILED, State.RUNNING]
        assert all(t.trained > 0 for t in trials[:3])
        assert trials[2].error == "CUDA out of memory"
        assert repr(store.curve(study.id, 1, "loss").values) == "(1.0, nan, inf)"
        assert store.decision(study.id, 1) == {"source": "engine", "number": 1}
        assert store.proposals(study.id, 1)[0].source.version == "0.1.0"
        assert store.next_queued(study.id) == (1, {"lr": 0.02})
        (call,) = store.calls(study.id)
        assert (call.answer, call.usd, store.spent(study.id)) == ("lower the rate", None, (59, 0.0, 1))
        assert store.call_messages(call.id)[1] == ("user", "What next?")
        assert store.thread(1) == [("user", "hello")]
        assert [hit.kind for hit in store.search("memory")] == ["error"]
        assert store.requeue_dead(study.id) == []


def test_a_file_of_schema_2_tells_what_schema_1_had_no_place_for(tmp_path):
    with Store.open(shutil.copy(FROZEN / "schema_v2.db", tmp_path / "f.db")) as store:
        first, last = store.trial(1, 0), store.trial(1, 3)
        assert first.device_seconds == 2 * first.trained
        assert (last.attempt, last.deaths, list(store.leases(1))) == (2, 1, [3])
        assert store.resources(1, [0, 3])[0].memory == 2**20
        assert "trial_noted" in [e.kind for e in store.events(1, number=3)]


def test_a_file_of_an_older_schema_still_takes_everything(frozen):
    fill_again = {"params": {"lr": 0.02}, "source": "queue", "proposer": "user", "seed": 4, "queue_id": 1}
    with Store.open(frozen) as store:
        store.create_trial(1, expected_number=4, **fill_again)
        store.finish(1, 4, State.COMPLETE, (0.125,), attempt=1)
        best = store.best(1, maximize=False)
        assert best is not None and best.number == 4 and store.integrity() == []


def test_todays_schema_is_the_newest_frozen_one(tmp_path, frozen):
    path = tmp_path / "new.db"
    Store.open(path).close()
    Store.open(frozen).close()
    newest = max(FROZEN.glob("schema_v*.db"))
    assert raw(path, TABLES) == raw(frozen, TABLES) == raw(newest, TABLES)


def test_a_copy_is_kept_of_a_file_that_is_brought_up_to_date(tmp_path):
    old = Path(shutil.copy(FROZEN / "schema_v1.db", tmp_path / "f.db"))
    before = raw(old, TABLES)
    with pytest.raises(FixDatabasePath, match="older schema 1"):
        Store.open(old, read_only=True)
    with Store.open(old) as store:
        assert len(store.trials(1)) == 4
    copy = tmp_path / "f.db.schema-1"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f.db", "f.db.schema-1"]
    assert (raw(copy, TABLES), raw(copy, "PRAGMA user_version")) == (before, [(1,)])
    made = copy.stat().st_mtime_ns
    Store.open(old).close()
    assert copy.stat().st_mtime_ns == made


def test_a_file_is_as_it_was_when_it_cannot_be_brought_up_to_date(tmp_path, monkeypatch):
    def breaks(database):
        database.execute("ALTER TABLE trials ADD COLUMN half INTEGER")
        raise RuntimeError("in the middle")

    old = Path(shutil.copy(FROZEN / "schema_v1.db", tmp_path / "f.db"))
    before = raw(old, TABLES)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (migrations.MIGRATIONS[0], breaks))
        with pytest.raises(RuntimeError):
            Store.open(old)
    assert raw(old, TABLES) == before
    with Store.open(old) as store:
        assert store.integrity() == []


def test_the_commands_bring_an_older_file_up_to_date(tmp_path, capsys):
    old = Path(shutil.copy(FROZEN / "schema_v1.db", tmp_path / "f.db"))
    reading.list_studies(old, False)
    assert "frozen" in capsys.readouterr().out
    assert raw(old, "PRAGMA user_version") == [(migrations.VERSION,)]


def test_an_old_file_that_is_damaged_is_salvaged_into_todays_schema(tmp_path):
    old = Path(shutil.copy(FROZEN / "schema_v1.db", tmp_path / "f.db"))
    done = salvage(old, tmp_path / "new.db")
    assert (done.corrected, check(tmp_path / "new.db")) == (0, [])
    with Store.open(tmp_path / "new.db") as store:
        assert all(t.trained > 0 for t in store.trials(1)[:3])
