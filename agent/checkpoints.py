"""A trial's checkpoints: each is a folder that is there whole or not at all.

A new one is written in a folder of its own and takes its name by one rename when it is finished and on the disk; then
the one before goes. A kill at any moment leaves the newest finished one.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunewright.engines.errors import FixArgument

_FINISHED = re.compile(r"(\d+)-step-(\d+)")  # the serial number tells which is newest: a step may be saved again

COPY_TRIES = 20


class Checkpoints:
    """Those of one trial, in `folder`/checkpoints."""

    def __init__(self, folder: Path):
        self._folder = folder / "checkpoints"

    def current(self) -> Path:
        """The folder of the newest checkpoint; an empty one before there is any."""
        newest = self.newest()
        path = newest[2] if newest else self._folder / "0-step-0"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def step(self) -> int | None:
        """The step after which the newest was written, None without one; 0 for files put into `current()` by hand."""
        while newest := self.newest():
            with suppress(FileNotFoundError):  # a newer one takes its place: whoever trains may write while others look
                return newest[1] if any(newest[2].iterdir()) else None
        return None

    def newest(self) -> tuple[int, int, Path] | None:
        """Its (serial number, step, folder), None before there is one."""
        finished = self._finished()
        return finished[-1] if finished else None

    @contextmanager
    def write(self, step: int, serial: int | None = None) -> Iterator[Path]:
        """An empty folder to fill; on leaving the block it becomes the newest checkpoint, unless an error left it.
        `serial`: the number that a copy from elsewhere has had there."""
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise FixArgument("must be a whole number from 0", field="step", value=step, fix="checkpoint(step=epoch)")
        self._clean()
        partial = self._folder / f".partial-{os.getpid()}-{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            yield partial
            _sync(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._finish(partial, step, serial)

    def copy(self, parent: Checkpoints) -> Copy | None:
        """The newest checkpoint of `parent`, to become this trial's by `Copy.keep`; None where it has none."""
        for left in reversed(range(COPY_TRIES)):
            if (newest := parent.newest()) is None:
                return None
            _, step, source = newest
            partial = parent._folder / f".partial-{os.getpid()}-{uuid.uuid4().hex}"
            try:
                if not any(source.iterdir()):
                    return None
                shutil.copytree(source, partial)
                _sync(partial)
                return Copy(self, partial, step)
            except (FileNotFoundError, shutil.Error):
                # The parent wrote a newer one meanwhile, or its script renamed a file that it had just written.
                shutil.rmtree(partial, ignore_errors=True)
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _clean(self) -> None:
        """Removes what a process that was killed left half written."""
        import psutil

        for entry in self._folder.glob(".partial-*-*"):
            if not psutil.pid_exists(int(entry.name.split("-")[1])):
                shutil.rmtree(entry, ignore_errors=True)

    def _finish(self, partial: Path, step: int, serial: int | None = None) -> None:
        if serial is None:
            newest = self.newest()
            serial = newest[0] + 1 if newest else 1
        self._folder.mkdir(parents=True, exist_ok=True)
        os.rename(partial, self._folder / f"{serial}-step-{step}")
        _sync_folder(self._folder)
        for _, _, old in self._finished()[:-1]:
            shutil.rmtree(old, ignore_errors=True)

    def _finished(self) -> list[tuple[int, int, Path]]:
        """(serial, step, folder), oldest first."""
        if not self._folder.is_dir():
            return []
        named = [(_FINISHED.fullmatch(entry.name), entry) for entry in self._folder.iterdir()]
        return sorted((int(match[1]), int(match[2]), entry) for match, entry in named if match)


class Copy:
    """A parent's checkpoint after `step`, copied and not yet in place."""

    def __init__(self, checkpoints: Checkpoints, partial: Path, step: int):
        self.step = step
        self._checkpoints, self._partial = checkpoints, partial

    def keep(self) -> None:
        self._checkpoints._finish(self._partial, self.step)

    def drop(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Everything below `folder` onto the disk, so that a rename cannot outrun what it names."""
    for place, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has_checkpoint(files: Path, number: int) -> bool:
    """Whether trial `number`, whose files lie below `files`, has one to go on from."""
    return Checkpoints(files / str(number)).step is not None
