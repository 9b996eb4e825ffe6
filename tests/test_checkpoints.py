"""Checkpoints on disk: whole or not at all, whatever happens to the process that writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tunewright.agent import TunewrightError
from tunewright.agent.checkpoints import Checkpoints


def write_for_ever(place):
    checkpoints = Checkpoints(place)
    for step in range(checkpoints.step or 0, 10**6):
        with checkpoints.write(step + 1) as folder:
            for name in ("weights", "optimizer", "step"):
                (folder / name).write_text(str(step + 1))


def partials(place):
    return list((place / "checkpoints").glob(".partial-*"))


def test_a_kill_at_any_moment_leaves_the_newest_finished_one(tmp_path):
    last = 0
    for _ in range(15):
        pid = os.fork()
        if pid == 0:
            try:
                write_for_ever(tmp_path)
            finally:
                os._exit(1)
        while not partials(tmp_path) or (Checkpoints(tmp_path).step or 0) <= last:
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = Checkpoints(tmp_path)
        step, folder = found.step, found.current()
        assert step > last
        assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
            ("weights", "optimizer", "step"), str(step)
        )
        last = step
    with Checkpoints(tmp_path).write(last + 1) as folder:
        (folder / "step").write_text("new")
        assert len(partials(tmp_path)) == 1, "what the killed ones left is gone"
    assert partials(tmp_path) == []
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [Checkpoints(tmp_path).current().name]


def test_an_error_while_writing_leaves_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with checkpoints.write(3) as folder:
        (folder / "a").write_text("3")
    with pytest.raises(OSError, match="disk"), checkpoints.write(4) as folder:
        (folder / "a").write_text("4")
        raise OSError("disk full")
    assert checkpoints.step == 3
    assert (checkpoints.current() / "a").read_text() == "3"
    assert partials(tmp_path) == []


@pytest.mark.parametrize("step", [-1, 1.5, True, "3"])
def test_a_step_is_a_whole_number(tmp_path, step):
    with pytest.raises(TunewrightError, match="step"), Checkpoints(tmp_path).write(step):
        pass


def test_a_parent_that_goes_on_writing_is_copied_whole(tmp_path):
    """By `checkpoint`, which replaces the folder, and by a script that renames its own file in it."""
    parent, ended = Checkpoints(tmp_path / "parent"), threading.Event()
    for _ in range(2):
        with parent.write(1) as folder:
            (folder / "own").write_text("x" * 1000)

    def go_on():
        step = 1
        while not ended.is_set():
            step += 1
            with parent.write(step) as folder:
                (folder / "own").write_text("x" * 1000)
            for _ in range(20):
                part = parent.current() / "model.part"
                part.write_text("y" * 1000)
                os.replace(part, part.with_name("model"))

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        for number in range(40):
            child = Checkpoints(tmp_path / str(number))
            child.copy(parent).keep()
            assert (child.current() / "own").read_text() == "x" * 1000
            assert child.step >= 1
    finally:
        ended.set()
        writer.join()


def test_nothing_to_copy(tmp_path):
    parent, child = Checkpoints(tmp_path / "a"), Checkpoints(tmp_path / "b")
    assert child.copy(parent) is None
    parent.current()
    assert child.copy(parent) is None


SCRATCH = """
import os, sys
from tunewright.agent import Agent, Float

agent = Agent({"x": Float(0, 1)}, metric="loss", store=None, advisor=None)
trial = agent.suggest()
(trial.checkpoint_dir / "weights").write_text("1")
agent.close()
child = os.fork()
if not child:
    sys.exit(0)  # runs what is registered for the end of a process
os.waitpid(child, 0)
assert (trial.checkpoint_dir / "weights").exists()
print(trial.checkpoint_dir)
"""


def test_a_study_in_memory_leaves_no_files_behind(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", SCRATCH],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert str(tmp_path) in ended.stdout and list(tmp_path.iterdir()) == []
