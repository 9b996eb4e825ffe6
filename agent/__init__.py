"""The agent: `Agent`, the spaces it searches, and the errors it raises.

Names are loaded when first used, so that the command line starts without numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent
    from tunewright.agent.errors import AlreadyObserved, AwaitTrials, BudgetSpent, TrialPaused, TrialStopped
    from tunewright.agent.layerwise import layerwise_rates
    from tunewright.agent.report import report
    from tunewright.agent.settings import Budget
    from tunewright.agent.trial import Trial
    from tunewright.agent.why import Why
    from tunewright.engines.errors import SpaceExhausted, TunewrightError
    from tunewright.engines.parameters import Categorical, Derived, Float, Int
    from tunewright.engines.space import Space
    from tunewright.engines.types import Fidelity, Objective, State, Verdict

_HOMES = {
    "Agent": "tunewright.agent.agent",
    "AlreadyObserved": "tunewright.agent.errors",
    "Budget": "tunewright.agent.settings",
    "AwaitTrials": "tunewright.agent.errors",
    "BudgetSpent": "tunewright.agent.errors",
    "Categorical": "tunewright.engines.parameters",
    "Derived": "tunewright.engines.parameters",
    "Fidelity": "tunewright.engines.types",
    "Float": "tunewright.engines.parameters",
    "Int": "tunewright.engines.parameters",
    "Objective": "tunewright.engines.types",
    "Space": "tunewright.engines.space",
    "SpaceExhausted": "tunewright.engines.errors",
    "State": "tunewright.engines.types",
    "Trial": "tunewright.agent.trial",
    "TrialPaused": "tunewright.agent.errors",
    "TrialStopped": "tunewright.agent.errors",
    "TunewrightError": "tunewright.engines.errors",
    "Verdict": "tunewright.engines.types",
    "Why": "tunewright.agent.why",
    "layerwise_rates": "tunewright.agent.layerwise",
    "report": "tunewright.agent.report",
}

__all__ = [
    "Agent", "AlreadyObserved", "AwaitTrials", "Budget", "BudgetSpent", "Categorical", "Derived", "Fidelity", "Float",
    "Int", "Objective", "Space", "SpaceExhausted", "State", "Trial", "TrialPaused", "TrialStopped", "TunewrightError",
    "Verdict", "Why", "layerwise_rates", "report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
