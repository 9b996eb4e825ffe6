"""Versioned prompt texts and the type of each answer."""

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
