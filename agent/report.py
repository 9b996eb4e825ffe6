"""`report`: what a training script calls to tell the study that runs it how it is doing."""

from __future__ import annotations

import json
import os
import sys
from functools import lru_cache
from multiprocessing.connection import Client, Connection

from tunewright.agent.results import number_of
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import Verdict

CHANNEL = "TUNEWRIGHT_REPORT"


def report(step: float | None = None, /, **metrics: float) -> Verdict:
    """Reports metrics of one step: `report(epoch, val_loss=0.41)`; steps left out count up from 1.

    STOP: end now, what was reported counts. PAUSE: end now, the trial may go on later from its checkpoint, so save one
    before you report. Outside a study the line is printed and the verdict is CONTINUE.
    """
    if not metrics:
        raise FixArgument("nothing to report", field="metrics", fix="report(3, val_loss=0.41)")
    numbers = {name: number_of(value, name) for name, value in metrics.items()}
    if step is not None:
        numbers["step"] = number_of(step, "step", finite=True)
    line = json.dumps(numbers)
    channel = os.environ.get(CHANNEL)
    if channel is None:
        print(line, file=sys.stdout, flush=True)
        return Verdict.CONTINUE
    connection = _connection(channel, os.getpid())
    connection.send_bytes(line.encode())
    return Verdict(connection.recv_bytes().decode())


@lru_cache(maxsize=1)
def _connection(channel: str, pid: int) -> Connection:
    """One for each process: a forked child must not talk on its parent's."""
    place = json.loads(channel)
    return Client(place["address"], authkey=bytes.fromhex(place["key"]))
