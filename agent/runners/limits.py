"""What a trial's processes may take (memory, devices), and how they ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from tunewright.engines.errors import FixArgument

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory_of(memory: Any) -> int | None:
    """Bytes, from a number of them or text such as "2GB" and "512 MiB"."""
    if memory is None:
        return None
    found = memory
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?\s*", memory, re.IGNORECASE)
        found = int(float(match[1]) * _UNITS[match[2].lower()]) if match else None
    if isinstance(found, bool) or not isinstance(found, int) or found <= 0:
        raise FixArgument("is not an amount of memory", field="memory", value=memory, fix='memory="2GB"')
    return found


def obituary(who: str, code: int | None, last: str = "") -> str:
    """How a process ended, in one sentence; `last` is what it said last, `code` negative for a signal."""
    if code is None:
        return f"{who} stopped answering"
    if code < 0:
        return f"{who} was killed by {_signal(-code)}"
    hidden = (
        f", which is how a shell tells of {_signal(code - 128)}"
        if code - 128 in {s.value for s in signal.Signals}
        else ""
    )
    return f"{who} ended with exit code {code}{hidden}" + (f": {last}" if last else "")


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


def gpus_of(gpus: Any, workers: int) -> list[tuple[str, ...]]:
    """The devices of each worker, never shared; all empty where none were asked for. Raises FixArgument."""
    if gpus is None:
        return [()] * workers
    ids = _visible() if gpus == "auto" else gpus
    if isinstance(ids, str) or not isinstance(ids, Sequence) or len(set(map(str, ids))) != len(ids):
        raise FixArgument("must be a list of ids, none twice", field="gpus", value=gpus, fix='gpus=[0, 1] or "auto"')
    names = [str(one) for one in ids]
    if len(names) < workers:
        fix = f"workers={len(names)}" if names else "leave gpus out"
        message = f"{workers} workers need a device each, there are {len(names)}"
        raise FixArgument(message, field="gpus", value=gpus, fix=fix)
    share = len(names) // workers
    return [tuple(names[i * share : (i + 1) * share]) for i in range(workers)]


def _visible() -> list[str]:
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [one for one in named.split(",") if one.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20)
    return [str(i) for i, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]
