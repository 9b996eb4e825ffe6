"""`tunewright replay`: whether a study's decisions follow from its file."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from tunewright.agent.cli import reading, render
from tunewright.agent.cli.main import EXIT_FAILED
from tunewright.agent.replay import replay


def run(study: str | None, store: Path, as_json: bool) -> None:
    with reading.opened(store) as file:
        record = reading.chosen(file, study)
        found = replay(file, record)
    if as_json:
        render.document({"study": record.name, **dataclasses.asdict(found)})
    else:
        calls = f"{render.count(found.calls, 'recorded call')}" + (
            f", {len(found.changed)} of them asked in other words today" if found.changed else ""
        )
        render.line(f"{record.name}: {render.count(found.decisions, 'decision')} derived again, {calls}.")
        if found.difference is None:
            render.line("Every one came out as it is stored.", "green")
        else:
            render.line(f"The first that did not: {found.difference}", "red")
    if found.difference is not None:
        sys.exit(EXIT_FAILED)
