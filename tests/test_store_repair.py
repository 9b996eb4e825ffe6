"""Damaged files: what is wrong is told, what can be read is brought over, and the events have the last word."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys

import pytest

from tunewright.agent import Agent, Budget, Float, TunewrightError
from tunewright.agent.store import Store
from tunewright.agent.store.repair import check, salvage

SPACE = {"x": Float(0, 1)}


@pytest.fixture
def made(tmp_path):
    """A file with three studies, 60 trials, curves, advice and errors; and what it holds."""
    path = tmp_path / "study.db"
    for name in ("a", "b", "c"):
        agent = Agent(SPACE, metric="loss", engine="random", store=path, study=name, budget=Budget(trials=20))

        def objective(trial):
            for step in range(5):
                trial.report(step, trial["x"] + step)
            if trial.number == 3:
                raise RuntimeError("out of the window")
            return trial["x"]

        agent.tune(objective)
        agent.close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    return path, contents(path)


def contents(path):
    with Store.open(path, read_only=True) as store:
        return {
            (study.name, trial.number): (trial, store.curve(study.id, trial.number, "loss").values)
            for study in store.studies()
            for trial in store.trials(study.id)
        }


def test_a_sound_file_has_no_problems_and_salvages_whole(made, tmp_path):
    path, before = made
    assert check(path) == []
    done = salvage(path, tmp_path / "new.db")
    assert (done.unread, done.corrected) == ({}, 0)
    assert contents(tmp_path / "new.db") == before
    assert check(tmp_path / "new.db") == []
    with Store.open(tmp_path / "new.db") as store:
        assert store.search("window")


def test_trials_that_do_not_follow_their_events_are_told_and_mended(made, tmp_path):
    path, before = made
    with sqlite3.connect(path) as raw:
        raw.execute('UPDATE "values" SET value = -1 WHERE trial = 5')
        raw.execute("UPDATE trials SET state = 'running', event = NULL, finished = NULL WHERE id = 8")
        raw.execute("DELETE FROM metrics WHERE trial = 9")
        raw.execute("DELETE FROM decisions WHERE trial = 9")
        raw.execute("DELETE FROM proposals WHERE taken_by = 8 AND study = 1")
        raw.execute('DELETE FROM "values" WHERE trial = 9')
        raw.execute("DELETE FROM trials WHERE id = 9")
    raw.close()
    problems = check(path)
    assert any("trial 4 is not what its events say" in p for p in problems)
    assert any("trial 8" in p for p in problems)
    done = salvage(path, tmp_path / "new.db")
    assert done.corrected == 3
    after = contents(tmp_path / "new.db")
    assert {k: v[0] for k, v in after.items()} == {k: v[0] for k, v in before.items()}
    assert check(tmp_path / "new.db") == []


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_cost_little_and_never_lie(made, tmp_path, seed):
    """Bytes of some pages are overwritten; what comes over is a part of what was there, and sound."""
    path, before = made
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    page = int.from_bytes(data[16:18], "big")
    pages = len(data) // page
    for _ in range(3):
        at = rng.randrange(1, pages) * page
        data[at : at + page] = rng.randbytes(page) if seed % 2 else bytes(page)
    path.write_bytes(bytes(data))
    assert check(path) != []
    done = salvage(path, tmp_path / "new.db")
    assert check(tmp_path / "new.db") == []
    after = contents(tmp_path / "new.db")
    for key, (trial, _) in after.items():
        was = before[key][0]
        assert (trial.params, trial.seed) == (was.params, was.seed)
        assert trial.values in (was.values, None), "a result is the one that was there, or none"
    assert len(after) >= 20 or done.unread


def test_a_torn_file(made, tmp_path):
    path, before = made
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert check(path) != []
    salvage(path, tmp_path / "new.db")
    after = contents(tmp_path / "new.db")
    assert check(tmp_path / "new.db") == []
    assert all(before[k][0].params == v[0].params for k, v in after.items())


def test_a_salvaged_study_goes_on(made, tmp_path):
    path, _ = made
    salvage(path, tmp_path / "new.db")
    agent = Agent(store=tmp_path / "new.db", study="a", engine="random", advisor=None, budget=Budget(trials=25))
    agent.tune(lambda trial: trial["x"])
    assert len(agent.trials) == 25


def test_paths_that_cannot_be(tmp_path, made):
    path, _ = made
    with pytest.raises(TunewrightError, match="no such file"):
        salvage(tmp_path / "none.db", tmp_path / "new.db")
    with pytest.raises(TunewrightError, match="exists already"):
        salvage(path, path)


def tunewright(*words):
    command = [sys.executable, "-c", "from tunewright.agent.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_commands(made, tmp_path):
    path, _ = made
    sound = tunewright("db", "check", path)
    assert (sound.returncode, "sound" in sound.stdout) == (0, True), sound.stderr
    rebuilt = tunewright("db", "rebuild", path, tmp_path / "rebuilt.db")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "trials: 60 rows" in rebuilt.stdout
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    data[3 * size : 6 * size] = bytes(3 * size)
    path.write_bytes(bytes(data))
    broken = tunewright("db", "check", path)
    assert broken.returncode == 1
    assert "damaged" in broken.stdout
    assert tunewright("db", "rebuild", path, tmp_path / "again.db").returncode != 0
    saved = tunewright("db", "salvage", path, tmp_path / "saved.db")
    assert saved.returncode == 0, saved.stderr
    assert "damage met in" in saved.stdout
    assert tunewright("db", "check", tmp_path / "saved.db").returncode == 0
