"""The runner that needs nothing else: trials in this process, in threads, or in worker processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from types import FrameType, TracebackType
from typing import Any

from tunewright.agent.runners.limits import gpus_of, memory_of
from tunewright.agent.runners.process import Orders, WorkerProcess
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import Work

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class LocalRunner:
    """One worker runs in the calling thread, several in processes of their own.

    processes: True or False (threads, for work that waits for other processes) instead of that rule.
    timeout: seconds that one trial may run. memory: what its processes may hold, in bytes or "2GB". Either needs
    processes. gpus: ids of devices, or "auto"; each worker has its own share of them and sees no other.

    Ctrl-C parks: the trials that run end, no other starts, and KeyboardInterrupt is raised. A second one, SIGTERM, or
    SIGHUP (a terminal that went away; not under nohup), stops at once and hands the trials back.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        processes: bool | None = None,
        timeout: float | None = None,
        memory: int | str | None = None,
        gpus: Any = None,
    ):
        if timeout is not None and (isinstance(timeout, bool) or not timeout > 0):
            raise FixArgument("must be seconds above zero", field="timeout", value=timeout)
        self.workers, self._timeout, self._memory = workers, timeout, memory_of(memory)
        limited = timeout is not None or memory is not None
        if processes is False and limited:
            raise FixArgument("a thread cannot be limited", field="processes", value=False, fix="processes=True")
        self._gpus = gpus_of(gpus, workers)
        self._processes = workers > 1 or limited or gpus is not None if processes is None else processes
        self._orders = Orders()

    def run(self, work: Work) -> None:
        objective = pickled(work.objective) if self._processes else None
        with Interrupts(work, self._orders, self.workers):
            if self.workers == 1 and not self._processes:
                self._drain(work, self._gpus[0], None)
            else:
                drains = [partial(self._drain, work, gpus, objective) for gpus in self._gpus]
                side_by_side(work, self._orders, drains)
        if self._orders.parked:
            raise KeyboardInterrupt

    def _drain(self, work: Work, gpus: tuple[str, ...], objective: bytes | None) -> None:
        process = None if objective is None else WorkerProcess(objective, gpus, self._orders)
        try:
            while not self._orders.stop and (trial := work.next(len(gpus))) is not None:
                trial.gpus, trial.interrupted = gpus, self._interrupted
                work.run(trial, None if process is None else self._execute(process))
        finally:
            if process is not None:
                process.close()

    def _interrupted(self) -> bool:
        return self._orders.abort

    def _execute(self, process: WorkerProcess) -> Callable[[Trial], Any]:
        return lambda trial: process.run(trial, self._timeout, self._memory)


def pickled(objective: Any) -> bytes:
    """The objective as a worker gets it. Raises FixArgument."""
    import cloudpickle

    try:
        return cloudpickle.dumps(objective)
    except Exception as error:
        raise FixArgument(
            f"cannot be sent to a worker process: {type(error).__name__}: {error}",
            field="objective",
            fix='open such things inside the objective, or runner=("local", {"processes": False})',
        ) from error


def side_by_side(
    work: Work,
    orders: Orders,
    drains: Sequence[Callable[[], None]],
    meanwhile: Callable[[Sequence[Future[None]]], None] | None = None,
) -> None:
    """Runs the workers' loops in a thread each, until all have ended or one raises, which it raises then."""
    with ThreadPoolExecutor(len(drains), thread_name_prefix="tunewright") as pool:
        futures = [pool.submit(drain) for drain in drains]
        try:
            if meanwhile is not None:
                meanwhile(futures)
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # After a worker's error the trials that run end, and no other starts.
            orders.stop = True
            work.stop()
        for future in done:
            future.result()


class Interrupts:
    """Ctrl-C while a study runs: once parks it, twice stops it. Only the main thread can be told."""

    def __init__(self, work: Work, orders: Orders, workers: int):
        self._work, self._orders, self._workers = work, orders, workers
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._orders.stop = True
        self._work.stop()
        if self._orders.parked or number != signal.SIGINT:
            self._orders.abort = True
            raise KeyboardInterrupt
        self._orders.parked = True
        which = "the trial that runs ends" if self._workers == 1 else "the trials that run end"
        self._work.notice(f"Parking: {which} first. Ctrl-C again stops at once.")
