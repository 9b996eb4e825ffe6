"""Versioned prompt texts and the type of each answer.

Names are loaded when first used: pydantic takes longer to import than what a command that only reads has to do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright.prompts.answers import Answer, Candidate, answer_type, parse_propose
    from tunewright.prompts.beliefs import Priors, parse_priors, priors_type
    from tunewright.prompts.library import Prompt, load, lock_problems
    from tunewright.prompts.opinions import (
        Diagnosis,
        Learned,
        Remedy,
        Summary,
        SummaryType,
        diagnosis_type,
        parse_diagnosis,
        parse_summary,
    )
    from tunewright.prompts.reading import BadAnswer

_HOMES = {
    "Answer": "tunewright.prompts.answers",
    "BadAnswer": "tunewright.prompts.reading",
    "Candidate": "tunewright.prompts.answers",
    "Diagnosis": "tunewright.prompts.opinions",
    "Learned": "tunewright.prompts.opinions",
    "Priors": "tunewright.prompts.beliefs",
    "Prompt": "tunewright.prompts.library",
    "Remedy": "tunewright.prompts.opinions",
    "Summary": "tunewright.prompts.opinions",
    "SummaryType": "tunewright.prompts.opinions",
    "answer_type": "tunewright.prompts.answers",
    "diagnosis_type": "tunewright.prompts.opinions",
    "load": "tunewright.prompts.library",
    "lock_problems": "tunewright.prompts.library",
    "parse_diagnosis": "tunewright.prompts.opinions",
    "parse_priors": "tunewright.prompts.beliefs",
    "parse_propose": "tunewright.prompts.answers",
    "parse_summary": "tunewright.prompts.opinions",
    "priors_type": "tunewright.prompts.beliefs",
}

__all__ = [
    "Answer",
    "BadAnswer",
    "Candidate",
    "Diagnosis",
    "Learned",
    "Priors",
    "Prompt",
    "Remedy",
    "Summary",
    "SummaryType",
    "answer_type",
    "diagnosis_type",
    "load",
    "lock_problems",
    "parse_diagnosis",
    "parse_priors",
    "parse_propose",
    "parse_summary",
    "priors_type",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
