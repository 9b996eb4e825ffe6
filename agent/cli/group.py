"""The group of all commands: those that ship, those that installed plugins bring, and how the reading ones start."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click


class Commands(click.Group):
    """The built-in commands, and those that installed plugins bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._points()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (built_in := super().get_command(ctx, cmd_name)) or cmd_name not in self._points():
            return built_in
        try:
            found = self._points()[cmd_name].load()
        except Exception as error:  # a broken plugin costs its own command only
            return _broken(cmd_name, error)
        return found if isinstance(found, click.Command) else _broken(cmd_name, TypeError("not a click command"))

    @staticmethod
    def _points() -> dict[str, Any]:
        return {point.name: point for point in entry_points(group="tunewright.commands")}


def _broken(name: str, error: Exception) -> click.Command:
    text = f"(broken plugin: {type(error).__name__}: {error})"

    @click.command(name, help=text)
    def command() -> None:
        raise click.ClickException(text)

    return command


def only_reads() -> None:
    """For commands that read and run nothing of the user's. sqlite_utils imports pandas where that is installed, for
    types that are never stored here; it takes longer than all else that such a command does."""
    if "sqlite_utils" not in sys.modules and "pandas" not in sys.modules:
        sys.modules["pandas"] = None  # type: ignore[assignment]  # the import system's word for "not there"
        try:
            import_module("tunewright.agent.store")
        finally:
            del sys.modules["pandas"]
