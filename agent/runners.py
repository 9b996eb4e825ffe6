"""The runner that needs nothing: trials in this process."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from tunewright.plugins.hooks import Work


class LocalRunner:
    """One worker runs in the calling thread, several run in threads: for work outside the GIL."""

    def __init__(self, workers: int = 1):
        self.workers = workers

    def run(self, work: Work) -> None:
        if self.workers == 1:
            self._drain(work)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="tunewright") as pool:
            futures: list[Future[None]] = [pool.submit(self._drain, work) for _ in range(self.workers)]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()

    @staticmethod
    def _drain(work: Work) -> None:
        while (trial := work.next()) is not None:
            work.run(trial)
