"""`tunewright completion SHELL`, and what TAB offers: click's own completion, and studies' names from the file.

TAB must be answered at once, so this module loads nothing of ours.
"""

from __future__ import annotations

import contextlib
import sqlite3
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

VARIABLE = "_TUNEWRIGHT_COMPLETE"  # click's name for it
WAIT = 0.2  # seconds for a file that somebody writes to


def script(shell: str, commands: click.Command) -> str:
    """What the shell reads once; afterwards it asks the program itself at each TAB."""
    found = get_completion_class(shell)
    assert found is not None, "click knows bash, zsh and fish"
    made = found(commands, {}, "tunewright", VARIABLE)
    return made.source_template % made.source_vars()


def studies(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names in the study file that the line names; none where it cannot be read at once."""
    path = Path(context.params.get("store") or "tunewright.db")
    names: list[Any] = []
    with contextlib.suppress(sqlite3.Error, OSError):
        address = f"{path.expanduser().resolve(strict=True).as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=WAIT)) as file:
            names = file.execute("select name from studies order by name").fetchall()
    return [CompletionItem(name) for (name,) in names if name.startswith(typed)]


def targets(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """A study's name or a study file's."""
    folder = Path(typed).parent
    files = [*folder.glob("*.yaml"), *folder.glob("*.yml")] if folder.is_dir() else []
    found = sorted(str(file) for file in files if str(file).startswith(typed))
    return [*studies(context, parameter, typed), *map(CompletionItem, found)]


def plugins(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of installed plugins of the option's kind."""
    names = {point.name for point in entry_points(group=f"tunewright.{parameter.name}s")}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(typed)]
