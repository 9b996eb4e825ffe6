"""Where the benchmark's tasks and the peers' recorded runs lie; they are no part of this repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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
