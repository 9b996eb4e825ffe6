"""The driver's side of a worker process: one trial at a time, within its limits, and what became of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tunewright.agent.errors import TrialFailed, TrialStopped, WorkerDied
from tunewright.agent.redact import secret_variables
from tunewright.agent.runners.limits import obituary
from tunewright.agent.runners.meter import Meter
from tunewright.agent.runners.output import BoundedFile
from tunewright.agent.runners.worker import serve
from tunewright.agent.trial import Trial
from tunewright.engines.errors import TunewrightError

GRACE = 10.0  # seconds between SIGTERM and SIGKILL
OUTPUT = ("stdout.txt", "stderr.txt")
POLL = 0.2  # seconds between two looks at memory and output
WIND_UP = 10.0  # seconds that an objective has to end after a verdict
START = 60.0  # seconds that a worker has to start, beside its trial's


@dataclass(slots=True)
class Orders:
    """What the workers of a run were told: start no more trials, park, stop at once. Plain flags, which a signal
    handler may set at any moment."""

    stop: bool = False
    parked: bool = False
    abort: bool = False


class WorkerProcess:
    """Started with the first trial, reused, and replaced after it died."""

    def __init__(self, objective: bytes, gpus: tuple[str, ...], orders: Orders):
        self._objective, self._gpus, self._orders = objective, gpus, orders
        self._process: Any = None
        self._connection: Connection | None = None
        self._idle = True  # whether it waits for a trial

    def run(self, trial: Trial, timeout: float | None, memory: int | None) -> Any:
        """The objective's value. Raises TrialFailed with the reason, TrialStopped on a verdict, KeyboardInterrupt."""
        import cloudpickle

        self._idle = False
        try:
            connection = self._ready()
            connection.send((trial._record, trial.folder, self._gpus))
            meter = Meter(self._process.pid, self._gpus)
            try:
                kind, *rest = self._converse(connection, trial, timeout, memory, meter)
            finally:
                trial.resources = meter.taken()
        except (EOFError, ConnectionError):
            raise WorkerDied(self._obituary()) from None
        finally:
            if not self._idle:  # it may be in the middle of its trial, and would take the next one for an answer
                self.kill()
            for name in OUTPUT:
                BoundedFile(trial.folder / name).redact()
        if kind == "error":
            raise TrialFailed(rest[0])
        return cloudpickle.loads(rest[0])

    def close(self) -> None:
        """Lets an idle worker end."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(None)
            self._process.join(GRACE)
        self.kill()

    def kill(self) -> None:
        """Its whole process group: SIGTERM, GRACE seconds, SIGKILL."""
        if self._process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
            # The second one too where the worker has ended: it may have left a child that heard the first and stayed.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                try:
                    os.killpg(self._process.pid, number)
                except ProcessLookupError:  # no such group: it is gone, or has not come as far as making its own
                    if self._process.exitcode is None:
                        os.kill(self._process.pid, number)
            self._process.join(patience)
        self._forget()

    # ------------------------------------------------------------------------------------------ inner

    def _ready(self) -> Connection:
        if self._connection is None or self._process.exitcode is not None:
            self._forget()
            self._start()
        assert self._connection is not None, "it was just made"
        return self._connection

    def _start(self) -> None:
        from loky.backend import get_context

        context = get_context("loky")
        mine, theirs = context.Pipe()
        secrets = secret_variables()
        environment = dict.fromkeys(secrets, "") | (
            {"CUDA_VISIBLE_DEVICES": ",".join(self._gpus)} if self._gpus else {}
        )
        # Not daemonic, or an objective could have no processes of its own, for loading its data say.
        self._process = context.Process(target=serve, args=(theirs, secrets, os.getpid()), env=environment)
        self._process.start()
        theirs.close()
        self._connection = mine
        mine.send_bytes(self._objective)

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._process = None

    def _converse(
        self, connection: Connection, trial: Trial, timeout: float | None, memory: int | None, meter: Meter
    ) -> Any:
        """Answers the worker until it has the outcome; keeps the limits meanwhile."""
        verdict, ends = None, None if timeout is None else time.monotonic() + timeout + START
        files = [BoundedFile(trial.folder / name) for name in OUTPUT]
        while True:
            if connection in wait([connection, self._process.sentinel], POLL):
                message = connection.recv()
                if message[0] == "began":
                    ends = None if timeout is None else time.monotonic() + timeout
                elif message[0] == "report":
                    try:
                        connection.send(("ok", trial.report(*message[1:])))
                    except TrialStopped as stop:
                        connection.send(("ok", stop.verdict))
                        verdict, ends = stop, time.monotonic() + WIND_UP
                    except TunewrightError as error:
                        connection.send(("error", str(error)))
                elif message[0] == "note":
                    trial.note(message[1])
                elif message[0] == "curve":
                    connection.send(("ok", list(trial.curve)))
                else:
                    self._idle = True
                    if verdict is not None:
                        raise verdict
                    if message[0] == "stopped":
                        raise TrialFailed("the objective stopped itself without a verdict")
                    return message
            elif self._process.exitcode is not None:
                if verdict is not None:
                    raise verdict
                raise EOFError
            if any(file.too_long for file in files):
                self._trim(files)
            self._check(ends, timeout, verdict)
            meter.look(memory)

    def _check(self, ends: float | None, timeout: float | None, verdict: Any) -> None:
        if self._orders.abort:
            raise KeyboardInterrupt
        if ends is not None and time.monotonic() > ends:
            raise verdict or TrialFailed(f"ran longer than {timeout:g} s")

    def _trim(self, files: Sequence[BoundedFile]) -> None:
        """The group is stopped meanwhile: what it wrote while a file is cut would be cut off with it."""
        import psutil

        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            os.killpg(self._process.pid, signal.SIGSTOP)
            try:
                ends = time.monotonic() + POLL
                while psutil.Process(self._process.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < ends:
                    time.sleep(0.001)
                for file in files:
                    file.trim()
            finally:
                os.killpg(self._process.pid, signal.SIGCONT)

    def _obituary(self) -> str:
        """How the worker died."""
        self._process.join(1.0)
        return obituary("its process", self._process.exitcode)
