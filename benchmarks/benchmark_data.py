"""The benchmark's folder, with tasks and recorded runs that are no part of this repository; its spaces as ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

VARIABLE = "TUNEWRIGHT_BENCH_DATA"


def benchmark_folder() -> Path:
    """The folder that TUNEWRIGHT_BENCH_DATA names, put on the path so that its modules can be imported."""
    folder = Path(os.environ.get(VARIABLE, ""))
    if not os.environ.get(VARIABLE) or not (folder / "run.py").is_file():
        sys.exit(f"Set {VARIABLE} to the folder of the benchmark (it holds run.py, tasks.py and data/).")
    os.environ.setdefault("YAHPO_DATA", str(folder / "data" / "yahpo"))
    os.environ.setdefault("LLAMBO_REPO", str(folder / "data" / "llambo"))
    sys.path.insert(0, str(folder))
    return folder


def space_of(params: list[Any]) -> Any:
    """A task's neutral parameters as a Space."""
    from tunewright.engines import Categorical, Float, Int, Space

    made: dict[str, Any] = {}
    for p in params:
        when = {p.parent: list(p.when)} if p.parent else None
        if p.kind == "cat":
            made[p.name] = Categorical(list(p.choices), when=when)
        elif p.kind == "int":
            made[p.name] = Int(int(p.low), int(p.high), log=p.log, when=when)
        else:
            made[p.name] = Float(float(p.low), float(p.high), log=p.log, when=when)
    return Space(made)
