"""Freeze-thaw meets the contract that outsiders' schedulers are held to."""

from __future__ import annotations

from tunewright.engines.schedulers import FreezeThaw
from tunewright.engines.schedulers.testing import SchedulerContract


class TestFreezeThaw(SchedulerContract):
    scheduler = FreezeThaw
