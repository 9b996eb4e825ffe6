"""Checkpoints at a URL: whole or not there, on a file system and in S3."""

from __future__ import annotations

import pytest

from tunewright.agent import TunewrightError
from tunewright.agent.checkpoints import Checkpoints
from tunewright.plugins.ray.checkpoint_store import CheckpointStore


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path):
    if request.param == "file":
        return str(tmp_path / "store"), {}
    return f"s3://tunewright/{tmp_path.name}", request.getfixturevalue("s3")


def write(folder, step, **files):
    checkpoints = Checkpoints(folder)
    with checkpoints.write(step) as partial:
        for name, text in files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(text)
    return checkpoints


def read(store, folder, trial=3):
    """(step, {file: text}) of what a worker elsewhere would go on from, None without a checkpoint."""
    checkpoints = Checkpoints(folder)
    if not store.restore(trial, checkpoints):
        return None
    current = checkpoints.current()
    files = {str(p.relative_to(current)): p.read_text() for p in current.rglob("*") if p.is_file()}
    return checkpoints.step, files


def test_the_newest_is_found_elsewhere_and_the_ones_before_are_gone(place, tmp_path):
    store = CheckpointStore(*place, "study")
    store.check()
    assert read(store, tmp_path / "a") is None
    for step in (1, 2, 5):
        assert store.keep(3, write(tmp_path / "w", step, **{"model": f"m{step}", "deep/rng": str(step)}))
    other = CheckpointStore(*place, "study")
    assert read(other, tmp_path / "b") == (5, {"model": "m5", "deep/rng": "5"})
    assert len(other._entries(3)) == 2  # its files and its manifest
    assert read(other, tmp_path / "b", trial=4) is None
    assert read(CheckpointStore(*place, "other"), tmp_path / "c") is None


def test_a_worker_that_took_it_up_goes_on_counting(place, tmp_path):
    store = CheckpointStore(*place, "study")
    store.keep(3, write(tmp_path / "a", 1, model="1"))
    assert read(store, tmp_path / "b") == (1, {"model": "1"})
    store.keep(3, write(tmp_path / "b", 2, model="2"))
    assert read(store, tmp_path / "a") == (2, {"model": "2"})


class Killed(BaseException):
    """Stands for the end of the process."""


class Dying:
    """A file system whose user is killed before its call number `left`, or in the middle of writing it."""

    def __init__(self, real, left, torn):
        self._real, self._left, self._torn = real, left, torn

    def __getattr__(self, name):
        def call(*args, **options):
            if self._left == 0:
                if self._torn and name == "pipe_file":
                    self._real.pipe_file(args[0], args[1][: len(args[1]) // 2])
                if self._torn and name == "put":
                    self._real.put(args[0][:1], args[1][:1])
                raise Killed
            self._left -= 1
            return getattr(self._real, name)(*args, **options)

        return call


def test_a_kill_at_any_moment_leaves_the_newest_finished_one(place, tmp_path):
    """And the next one is kept as ever."""
    ended = 0
    for torn in (False, True):
        for left in range(20):
            store, trial = CheckpointStore(*place, "study"), 100 * torn + left
            store.keep(trial, write(tmp_path / f"{trial}", 1, model="old", rng="old"))
            checkpoints = write(tmp_path / f"{trial}", 2, model="new", rng="new")
            real, store._fs = store._fs, Dying(store._fs, left, torn)
            try:
                store.keep(trial, checkpoints)
                break  # it had fewer calls to make
            except Killed:
                ended += 1
            store._fs = real
            found = read(CheckpointStore(*place, "study"), tmp_path / f"{trial}-there", trial)
            assert found in [(1, {"model": "old", "rng": "old"}), (2, {"model": "new", "rng": "new"})]
            store.keep(trial, write(tmp_path / f"{trial}", 3, model="next", rng="next"))
            found = read(CheckpointStore(*place, "study"), tmp_path / f"{trial}-later", trial)
            assert found == (3, {"model": "next", "rng": "next"})
            assert len(store._entries(trial)) == 2
    assert ended >= 8


def test_what_a_script_writes_by_hand_is_kept_too(place, tmp_path):
    store, mine = CheckpointStore(*place, "study"), Checkpoints(tmp_path / "a")
    for text in ("1", "22"):
        (mine.current() / "model").write_text(text)
        assert store.keep(3, mine)
        assert read(store, tmp_path / "b") == (0, {"model": text})


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "/proc/nothing/here"])
def test_a_store_that_cannot_be_used_is_refused(url):
    with pytest.raises(TunewrightError, match="checkpoint_store"):
        CheckpointStore(url, {}, "study").check()
