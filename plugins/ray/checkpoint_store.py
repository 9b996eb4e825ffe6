"""Checkpoints of trials at an fsspec URL, where another machine can take them up.

A checkpoint is a folder of files and a manifest that is written after them, as one small object: without a manifest
that can be read, there is no checkpoint. The one before goes only when the next one's manifest is there. So a kill at
any moment leaves the newest finished one, on file systems and on object stores, which know no rename.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.agent.checkpoints import Checkpoints
from tunewright.engines.errors import FixArgument

_ENTRY = re.compile(r"(\d{8})-[0-9a-f]{32}(\.json)?")  # a folder of files, or its manifest
TRIES = 5  # readings of a place where a newer checkpoint replaces the one that is being read


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished checkpoint: where its files lie, and their sizes in bytes. `serial` and `step` as in Checkpoints."""

    place: str
    serial: int
    step: int
    files: Mapping[str, int]


class CheckpointStore:
    """Those of one study: a folder of that name below `url`, and in it one for each trial. `options` go to fsspec's
    file system. Raises FixArgument for a URL that no file system takes."""

    def __init__(self, url: str, options: Mapping[str, Any], study: str = ""):
        try:
            import fsspec
        except ImportError:
            raise FixArgument(
                "needs the library fsspec", field="checkpoint_store", value=url, fix="pip install 'tunewright[ray]'"
            ) from None
        local = {"auto_mkdir": True} if "://" not in url or url.startswith(("file:", "local:")) else {}
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **local, **options)
        except (ImportError, ValueError, TypeError) as error:
            raise FixArgument(f"cannot be used: {error}", field="checkpoint_store", value=url) from error
        self._root = f"{root.rstrip('/')}/{study}".rstrip("/")

    def check(self) -> None:
        """Writes, reads and removes a small object. Raises FixArgument."""
        place = f"{self._root}/{uuid.uuid4().hex}"
        try:
            self._fs.pipe_file(place, b"{}")
            self._fs.cat_file(place)
            self._fs.rm_file(place)
        except Exception as error:  # each file system has errors of its own
            message = f"cannot be written: {type(error).__name__}: {error}"
            raise FixArgument(message, field="checkpoint_store", value=self._root) from error

    def newest(self, trial: int) -> Manifest | None:
        for name in reversed(self._entries(trial)):
            if name.endswith(".json") and (manifest := self._read(f"{self._root}/{trial}/{name}")) is not None:
                return manifest
        return None

    def keep(self, trial: int, checkpoints: Checkpoints) -> bool:
        """The newest of `checkpoints` becomes the trial's here; those before it go. False where a script kept changing
        the files while they were read: nothing is kept then."""
        newest = checkpoints.newest()
        serial, step = newest[:2] if newest else (0, 0)
        folder = checkpoints.current()
        before = self._entries(trial)
        order = max((int(name.split("-")[0]) for name in before), default=0) + 1
        name = f"{order:08d}-{uuid.uuid4().hex}"
        place = f"{self._root}/{trial}/{name}"
        for _ in range(TRIES):
            files = signature(folder)
            try:
                self._fs.put([str(folder / f) for f, _, _ in files], [f"{place}/{f}" for f, _, _ in files])
            except FileNotFoundError:  # a script renamed it meanwhile
                continue
            if signature(folder) == files:
                break
        else:
            return False
        sizes = {name: size for name, size, _ in files}
        manifest = {"place": name, "serial": serial, "step": step, "files": sizes}
        self._fs.pipe_file(f"{place}.json", json.dumps(manifest).encode())
        # Manifests first: what has none is no checkpoint, so nothing half removed can be taken for one.
        for old in sorted(before, key=lambda entry: not entry.endswith(".json")):
            self._remove(f"{self._root}/{trial}/{old}")
        return True

    def restore(self, trial: int, checkpoints: Checkpoints) -> bool:
        """Brings the newest one into `checkpoints`, under its own number. Returns whether there is one."""
        for left in reversed(range(TRIES)):
            manifest = self.newest(trial)
            if manifest is None:
                return False
            if (mine := checkpoints.newest()) is not None:
                if mine[0] >= manifest.serial > 0:
                    return True
                if mine[0] == manifest.serial:  # files put there by hand, maybe older ones
                    shutil.rmtree(mine[2])
            try:
                with checkpoints.write(manifest.step, serial=manifest.serial) as folder:
                    self._fetch(manifest, folder)
                return True
            except FileNotFoundError:  # a newer one took its place meanwhile
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _fetch(self, manifest: Manifest, folder: Path) -> None:
        targets = {name: folder / name for name in manifest.files}
        for path in targets.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get([f"{manifest.place}/{name}" for name in targets], [str(path) for path in targets.values()])
        for name, size in manifest.files.items():
            if not targets[name].is_file() or targets[name].stat().st_size != size:
                raise FileNotFoundError(f"{manifest.place}/{name} is not the file of its manifest")

    def _entries(self, trial: int) -> list[str]:
        """Names of folders and manifests, oldest first."""
        try:
            found = self._fs.ls(f"{self._root}/{trial}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = {path.rstrip("/").rpartition("/")[2] for path in found}
        return sorted(name for name in names if _ENTRY.fullmatch(name))

    def _read(self, path: str) -> Manifest | None:
        """None where it is not there any more, or only half written."""
        try:
            found = json.loads(self._fs.cat_file(path))
        except (FileNotFoundError, ValueError):
            return None
        place = f"{path.rpartition('/')[0]}/{found['place']}"
        return Manifest(place, found["serial"], found["step"], found["files"])

    def _remove(self, path: str) -> None:
        try:
            self._fs.rm(path, recursive=not path.endswith(".json"))
        except FileNotFoundError:
            return  # another worker of this trial was here first


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells whether files in a folder changed: names, sizes and times of change."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                stat = path.stat()
            except FileNotFoundError:  # renamed meanwhile
                continue
            found.append((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))
