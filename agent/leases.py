"""Signs of life of the trials that runners hold, and the end of those that show none; and of a study's time.

No two clocks are compared: whoever looks remembers the latest sign of each trial and for how long, of his own watching,
it has not changed. So a clock that is set back or forth, another machine's wrong one, or a watcher who slept himself
ends nobody's lease.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection
from types import TracebackType

from tunewright.agent.settings import Budget
from tunewright.agent.store import Store
from tunewright.engines.errors import TunewrightError

BEAT = 10.0  # seconds between two signs of life
LEASE = 120.0  # seconds of silence that end a lease: more than a minute's lock on the file


class Leases:
    """One process' view of a study's leases. `with` it, a thread gives signs for the numbers that `held` names and
    looks for others' trials without any."""

    def __init__(self, store: Store, study_id: int, held: Callable[[], Collection[int]] = tuple):
        self._store, self._study_id, self._held = store, study_id, held
        self._silent: dict[int, tuple[tuple[int, float], float]] = {}  # number -> (its lease, seconds without a change)
        self._looked: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tunewright-leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(BEAT):
            # A locked file or a full disk: the next look may go well, and whoever trains is told by his own calls.
            with contextlib.suppress(TunewrightError):
                self.look()

    def look_when_due(self) -> None:
        """Without a thread: at most one look each BEAT seconds."""
        if self._looked is None or time.monotonic() - self._looked >= BEAT:
            self.look()

    def look(self) -> None:
        now = time.monotonic()
        # Who was suspended himself must not hold the time against others.
        passed = 0.0 if self._looked is None else min(now - self._looked, 2 * BEAT)
        self._looked = now
        if numbers := self._held():
            self._store.beat(self._study_id, numbers)
        self._store.requeue_dead(self._study_id)
        silent = {}
        for number, lease in self._store.leases(self._study_id).items():
            before, seconds = self._silent.get(number, (None, 0.0))
            silent[number] = (lease, seconds + passed if lease == before else 0.0)
            if silent[number][1] >= LEASE:
                reason = f"its runner gave no sign of life for {LEASE:.0f} s"
                self._store.take_back(self._study_id, number, lease, reason)
        self._silent = silent


class TimeCap:
    """Whether a study's budget of time is used up: looked at once a second, and then for good."""

    def __init__(self, store: Store, study_id: int, budget: Budget):
        self._store, self._study_id = store, study_id
        self._seconds, hours = budget.seconds, budget.gpu_hours
        self._device_seconds = None if hours is None else hours * 3600
        self._over, self._due = False, 0.0

    def over(self) -> bool:
        if self._seconds is None and self._device_seconds is None:
            return False
        if (now := time.monotonic()) >= self._due:
            seconds, device_seconds = self._store.used(self._study_id)
            self._over = seconds >= (self._seconds or math.inf) or device_seconds >= (self._device_seconds or math.inf)
            self._due = math.inf if self._over else now + 1.0
        return self._over
