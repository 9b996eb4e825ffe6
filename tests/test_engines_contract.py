"""Every registered engine meets the contract that outsiders' engines are held to."""

from __future__ import annotations

from tunewright.engines.testing import EngineContract
from tunewright.plugins.registry import load, names

OPTIONS = {"grid": {"points": 40}}  # the contract's one-float space must outlast its histories


def _case(name: str) -> type[EngineContract]:
    def make(*arguments, **options):
        # Loaded when a test runs: a broken engine fails its own tests, not the collection of all.
        return load("engines", name)(*arguments, **options)

    return type(f"Test_{name}", (EngineContract,), {"engine": staticmethod(make), "options": OPTIONS.get(name, {})})


globals().update({f"Test_{name}": _case(name) for name in names("engines")})
