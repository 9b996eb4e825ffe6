"""What every test stands on: no network, no keys, one thread per process, repeatable examples."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Two test processes on two cores: more threads only wait for each other, and sums come out in another order.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

for name in [
    n for n in os.environ if n.startswith(("OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "TUNEWRIGHT_"))
]:
    del os.environ[name]

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

LOCAL_HOSTS = {None, "", "localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1", b"::1"}


class NetworkBlocked(AssertionError):
    """A test reached for a real host."""


def _refuse_real_hosts(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple) and isinstance(args[1][0], str):
        host = args[1][0]
    else:
        return
    if host not in LOCAL_HOSTS:
        raise NetworkBlocked(f"{event}: tests talk to this machine only, not to {host!r}")


# An audit hook sees every socket of the process, whichever library opens it and whenever it was imported.
sys.addaudithook(_refuse_real_hosts)


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a store may be made; nothing is there yet."""
    return tmp_path / "tunewright.db"


@pytest.fixture
def canary_key(monkeypatch: pytest.MonkeyPatch) -> str:
    """An OPENAI_API_KEY that must turn up nowhere: not in a file, a log, an error or a child's environment."""
    key = "sk-canary-4b7f1e90c2d84a6fb35e8d1c7a92f0e6"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    return key
