"""The benchmark scripts as modules, and a parameter as the benchmark describes one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@dataclass(frozen=True)
class Param:
    """As the benchmark describes a parameter."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()
    parent: str | None = None
    when: tuple[str, ...] = ()


def script(name: str) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield import_module(name)
        for ours in (name, "summary", "benchmark_data"):
            sys.modules.pop(ours, None)
