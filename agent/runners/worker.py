"""A worker process: it gets the objective once and trials one after the other; what they report goes to the driver.

Messages to the driver are tuples: ("began",), ("report", step, value, metrics), ("curve",), ("value", pickled),
("error", text), ("stopped",), ("note", text). Reports and curves are answered by ("ok", result) or ("error", text).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from tunewright.agent.errors import TrialFailed, TrialStopped
from tunewright.agent.records import TrialRecord
from tunewright.agent.results import number_of
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import Point, Verdict

ORPHAN_SECONDS = 0.5  # between two looks whether the driver lives


class Link:
    """Stands for the agent in the worker: a trial's reports and its curve go through the pipe."""

    study_id = 0

    def __init__(self, connection: Connection):
        self._connection = connection
        self._lock = threading.Lock()

    def report(
        self, trial: Trial, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> Verdict:
        plain = {str(name): number_of(one, str(name)) for name, one in (metrics or {}).items()}
        main = None if value is None else number_of(value, "value")
        return Verdict(self._ask("report", number_of(step, "step"), main, plain))

    @property
    def _store(self) -> Link:
        return self  # of which a trial asks no more than `add_note`

    def add_note(self, study_id: int, number: int, text: str) -> None:
        with self._lock:
            self._connection.send(("note", str(text)))

    def curve(self, trial: Trial) -> Sequence[Point]:
        return [(step, value) for step, value in self._ask("curve")]

    def _ask(self, *message: Any) -> Any:
        with self._lock:
            self._connection.send(message)
            kind, answer = self._connection.recv()
        if kind == "error":
            raise FixArgument(answer)
        return answer

    def __getattr__(self, name: str) -> NoReturn:
        raise FixArgument(
            f"{name} cannot be used inside a worker process",
            field="trial",
            fix='use it in a callback, or run with runner=("local", {"processes": False})',
        )


def serve(connection: Connection, secrets: Sequence[str], driver: int) -> None:
    """Until the driver, a process id, says None or is gone."""
    os.setsid()  # its own group: a trial's children can be ended with it, and Ctrl-C is the driver's to handle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in secrets:
        os.environ.pop(name, None)
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        objective = load_objective(connection.recv_bytes())
        while (task := connection.recv()) is not None:
            record, folder, gpus = task
            _run(connection, objective, record, folder, gpus)


def load_objective(pickled: bytes) -> Callable[[Trial], Any]:
    """What a trial is given to; where it cannot be loaded here, each trial fails with the reason."""
    import cloudpickle

    try:
        loaded: Callable[[Trial], Any] = cloudpickle.loads(pickled)
    except Exception as error:
        reason = f"the objective cannot be loaded in a worker process: {type(error).__name__}: {error}"

        def loaded(trial: Trial) -> Any:
            raise TrialFailed(reason)

    return loaded


def outcome(objective: Callable[[Trial], Any], trial: Trial) -> tuple[Any, ...]:
    """The message that tells what became of a trial: it cannot raise."""
    import cloudpickle

    try:
        return "value", cloudpickle.dumps(objective(trial))
    except TrialStopped:
        return ("stopped",)
    except TrialFailed as error:
        return "error", str(error)
    except BaseException as error:  # a SystemExit of a training must not end the worker either
        traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{type(error).__name__}: {error} (line {place.lineno} of {place.name})"


def _run(connection: Connection, objective: Any, record: TrialRecord, folder: Path, gpus: tuple[str, ...]) -> None:
    trial = Trial(Link(connection), record, stops=True, folder=folder)  # type: ignore[arg-type]
    with captured(folder, trial.note):
        trial.gpus = gpus
        connection.send(("began",))
        answer = outcome(objective, trial)
    connection.send(answer)


@contextlib.contextmanager
def captured(folder: Path, note: Callable[[str], None] | None = None) -> Any:
    """File descriptors 1 and 2 go to the trial's files, so that C code and child processes are caught too."""
    kept = [os.dup(1), os.dup(2)]
    try:
        for descriptor, name in ((1, "stdout.txt"), (2, "stderr.txt")):
            opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError) as error:  # a full disk, or a stream that the objective closed
                if note is not None:
                    note(f"a part of what it printed was lost ({error})")
        for descriptor, old in zip((1, 2), kept, strict=True):
            os.dup2(old, descriptor)
            os.close(old)


def _end_with(driver: int) -> None:
    """Ends this process and its group when the driver is gone, also in the middle of an objective."""
    wait = threading.Event()
    while not wait.wait(ORPHAN_SECONDS):
        if os.getppid() != driver:
            os.killpg(0, signal.SIGKILL)
