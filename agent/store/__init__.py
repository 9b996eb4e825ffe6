"""The store: everything a project knows, in one SQLite file."""

from __future__ import annotations

from tunewright.agent.store.calls import Spent
from tunewright.agent.store.glance import LATEST
from tunewright.agent.store.owner import current_owner, is_dead
from tunewright.agent.store.store import Event, Hit, Store
from tunewright.agent.store.studies import Summary

__all__ = ["LATEST", "Event", "Hit", "Spent", "Store", "Summary", "current_owner", "is_dead"]
