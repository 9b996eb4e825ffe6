"""The runner that needs nothing: trials in this process."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from tunewright.plugins.hooks import Work


class LocalRunner:
    """One worker runs in the calling thread, several run in threads: for work outside the GIL."""

    def __init__(self, workers: int = 1):
        self.workers = workers
        self._stop = threading.Event()

    def run(self, work: Work) -> None:
        if self.workers == 1:
            self._drain(work)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="tunewright") as pool:
            futures: list[Future[None]] = [pool.submit(self._drain, work) for _ in range(self.workers)]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After Ctrl-C or a worker's error the trials that run end, and no other starts.
                self._stop.set()
            for future in done:
                future.result()

    def _drain(self, work: Work) -> None:
        while not self._stop.is_set() and (trial := work.next()) is not None:
            work.run(trial)
