"""What a trial prints, kept in its folder and bounded: the first megabyte and the last."""

from __future__ import annotations

from pathlib import Path

from tunewright.agent.redact import redact

HEAD = TAIL = 2**20
_GAP = "\n... {missing} bytes were left out here ...\n"


class BoundedFile:
    """A file that others append to (O_APPEND). `trim` cuts its middle out once it is `too_long`; nobody may write
    meanwhile."""

    def __init__(self, path: Path):
        self.path = path
        self._missing = 0
        self._gap = 0

    @property
    def too_long(self) -> bool:
        return self._size() > 2 * (HEAD + TAIL)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def trim(self) -> None:
        size = self._size()
        if size <= 2 * (HEAD + TAIL):
            return
        with self.path.open("r+b") as file:
            file.seek(size - TAIL)
            tail = file.read(TAIL)
            self._missing += size - HEAD - TAIL - self._gap
            gap = _GAP.format(missing=self._missing).encode()
            self._gap = len(gap)
            file.seek(HEAD)
            file.write(gap + tail)
            file.truncate()

    def redact(self) -> None:
        """Takes keys out, where an objective brought one along and printed it."""
        try:
            kept = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
        if (clean := redact(kept)) != kept:
            self.path.write_text(clean, encoding="utf-8", errors="surrogateescape")
