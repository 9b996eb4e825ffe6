"""Running trials on this machine."""

from tunewright.agent.runners.local import LocalRunner

__all__ = ["LocalRunner"]
