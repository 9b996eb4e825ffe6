"""`tunewright db`: is a study file sound, and what can be saved of it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from tunewright.agent.cli import render
from tunewright.agent.cli.main import EXIT_FAILED
from tunewright.agent.errors import RestoreDatabase
from tunewright.agent.store import repair


def check(file: Path, as_json: bool) -> None:
    problems = repair.check(file)
    if as_json:
        render.document({"file": str(file), "problems": problems})
    elif not problems:
        render.line(f"{file} is sound: every trial is what its events say.", "green")
    for problem in problems if not as_json else ():
        render.line(problem, "red")
    if problems:
        sys.exit(EXIT_FAILED)


def salvage(file: Path, output: Path, as_json: bool) -> None:
    done = repair.salvage(file, output)
    if as_json:
        return render.document({**dataclasses.asdict(done), "path": str(done.path)})
    for table, rows in done.rows.items():
        lost = done.unread.get(table)
        if rows or lost:
            text = f"{table}: {render.count(rows, 'row')}"
            render.line(
                text + (f", damage met in {render.count(lost, 'place')}" if lost else ""), "yellow" if lost else ""
            )
    if done.corrected:
        render.line(f"{render.count(done.corrected, 'trial')} made anew from their events", "yellow")
    render.line(f"What could be read is in {output}; {file} is as it was.", "green")


def rebuild(file: Path, output: Path, as_json: bool) -> None:
    """The same copy, of a file that can be read in full. Raises RestoreDatabase for one that cannot."""
    if damaged := [problem for problem in repair.check(file) if "is not what its events say" not in problem]:
        raise RestoreDatabase(damaged[0], field="store", value=str(file), fix="tunewright db salvage FILE OUTPUT")
    salvage(file, output, as_json)
