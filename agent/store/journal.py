"""Which journal a file may use: the write-ahead log needs a sound library and a local disk."""

from __future__ import annotations

import re
from pathlib import Path

_SHARED = frozenset(["9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre"])
_SHARED |= frozenset(["nfs", "nfs4", "smb3", "smbfs", "vboxsf"])


def wal_is_sound(version: tuple[int, ...]) -> bool:
    """Whether this SQLite release is free of the WAL-reset bug, which can damage a file that two connections
    write and checkpoint at the same moment: fixed in 3.51.3, 3.50.7 and 3.44.6 (https://sqlite.org/wal.html)."""
    if version >= (3, 51, 3):
        return True
    return any(version[:2] == fixed[:2] and version >= fixed for fixed in ((3, 50, 7), (3, 44, 6)))


def is_local(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether the file lies on a disk of this machine: the log's index is shared memory, which no network carries.

    True where the system has no list of mounts to ask, but for a Windows network path.
    """
    place = path.resolve()
    if place.as_posix().startswith("//"):
        return False
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return True
    kind, depth = "", -1
    for line in lines:
        _, folder, found, *_ = line.split(" ")
        # The kernel writes blanks in a mount point as octal escapes: proc(5).
        mount = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), folder))
        if place.is_relative_to(mount) and len(mount.parts) >= depth:
            kind, depth = found, len(mount.parts)
    return kind not in _SHARED and not kind.startswith("fuse.")
