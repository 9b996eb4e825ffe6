"""Points of training curves that wait to be written together."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from tunewright.agent.store.codec import kind_of
from tunewright.agent.store.connection import Connection
from tunewright.engines.errors import TunewrightError

FLUSH_POINTS = 256
FLUSH_SECONDS = 1.0

Points = list[tuple[tuple[int, str, float], float]]
"""((trial row, metric, step), value)"""

_UPSERT = """
INSERT INTO metrics (trial, metric, step, value, kind) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (trial, metric, step) DO UPDATE SET value = excluded.value, kind = excluded.kind
"""


class PointBuffer:
    """Written when FLUSH_POINTS wait, or FLUSH_SECONDS after the first of them by a thread that starts with it."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._closed = threading.Event()
        self._empty()

    def _empty(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._points: dict[tuple[int, str, float], float] = {}
        self._arrived = threading.Event()
        self._timer: threading.Thread | None = None

    def _after_fork(self) -> None:
        """A child starts with nothing: what waited in its parent is the parent's to write."""
        if self._pid != os.getpid():
            self._empty()

    def add(self, trial: int, step: float, metrics: Mapping[str, float]) -> None:
        self._after_fork()
        with self._lock:
            for metric, value in metrics.items():
                self._points[trial, metric, step] = float(value)
            waiting = len(self._points)
        if waiting >= FLUSH_POINTS:
            self.flush()
        elif waiting and not self._arrived.is_set():
            self._wake_timer()

    def flush(self) -> None:
        """Points stay when this raises, so that the next flush can try again."""
        self._after_fork()
        if self._points:
            with self._connection.write() as db:
                points = self.write(db)
            self.forget(points)

    def write(self, db: Any) -> Points:
        """Within the caller's transaction; after its commit the caller has them forgotten."""
        self._after_fork()
        with self._lock:
            points = list(self._points.items())
        if not points:
            return points
        rows = []
        for key, value in points:
            kind = kind_of(value)
            rows.append((*key, None if kind else value, kind))
        db.executemany(_UPSERT, rows)
        return points

    def forget(self, points: Points) -> None:
        with self._lock:
            for key, value in points:
                if self._points.get(key) is value:  # else it was reported anew in between
                    del self._points[key]

    def close(self) -> None:
        self._closed.set()
        self._arrived.set()
        self.flush()

    def _wake_timer(self) -> None:
        with self._lock:
            self._arrived.set()
            if self._timer is not None:
                return
            self._timer = threading.Thread(target=self._flush_in_time, name="tunewright-curves", daemon=True)
            self._timer.start()

    def _flush_in_time(self) -> None:
        while True:
            self._arrived.wait()
            if self._closed.wait(FLUSH_SECONDS):
                return
            self._arrived.clear()
            try:
                self.flush()
            except TunewrightError:
                # The points stay: a report that fills the buffer, curve or close raises it to somebody who can act.
                self._arrived.set()
