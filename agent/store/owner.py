"""Which process holds a trial, and whether it still lives."""

from __future__ import annotations

import os
import socket
import sys
from functools import lru_cache
from pathlib import Path

from tunewright.agent.records import Owner


def current_owner() -> Owner:
    """This process."""
    return _owner_of(os.getpid())


@lru_cache(maxsize=8)
def _owner_of(pid: int) -> Owner:
    return Owner(socket.gethostname(), _boot_id(), pid, _start_time(pid) or 0.0)


def is_dead(owner: Owner) -> bool:
    """True only when this host can tell for certain: it was booted since, the process is gone or its pid was reused."""
    here = current_owner()
    if owner.host != here.host:
        return False
    if owner.boot != here.boot:
        return bool(owner.boot and here.boot)
    started = _start_time(owner.pid)
    if started is not None:
        return started != owner.started
    return _gone(owner.pid)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> float | None:
    """Seconds from boot to the start of the process; None where there is no such process or no /proc (see proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in parentheses and may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):  # ended, only not yet collected by its parent
        return -1.0
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _gone(pid: int) -> bool:
    if sys.platform == "win32":  # there os.kill(pid, 0) is no question but a Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
