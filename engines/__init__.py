"""Spaces, observations and the algorithms that propose. Pure numbers: no database, no network, no language model."""

from tunewright.engines.errors import (
    FixArgument,
    FixExpression,
    FixParams,
    FixPlugin,
    FixSpace,
    SpaceExhausted,
    TunewrightError,
)
from tunewright.engines.parameters import Categorical, Derived, Float, Int
from tunewright.engines.space import Problem, Space
from tunewright.engines.types import (
    Capabilities,
    Engine,
    Fidelity,
    Objective,
    Observation,
    Prediction,
    Predictor,
    Proposal,
    Scorer,
    State,
    Verdict,
)

__all__ = [
    "Capabilities",
    "Categorical",
    "Derived",
    "Engine",
    "Fidelity",
    "FixArgument",
    "FixExpression",
    "FixParams",
    "FixPlugin",
    "FixSpace",
    "Float",
    "Int",
    "Objective",
    "Observation",
    "Prediction",
    "Predictor",
    "Problem",
    "Proposal",
    "Scorer",
    "Space",
    "SpaceExhausted",
    "State",
    "TunewrightError",
    "Verdict",
]
