"""The command line. `main` is what the `tunewright` script calls."""

from __future__ import annotations

from tunewright.agent.cli.main import main

__all__ = ["main"]
