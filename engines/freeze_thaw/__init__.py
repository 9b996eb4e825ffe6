"""Partial training curves taken together: a process over (configuration, step) and the engine that asks it."""

from tunewright.engines.freeze_thaw.engine import FreezeThaw

__all__ = ["FreezeThaw"]
