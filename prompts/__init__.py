"""Versioned prompt texts and the type of each answer."""

from tunewright.prompts.answers import Answer, BadAnswer, Candidate, answer_type, parse_propose
from tunewright.prompts.library import Prompt, load, lock_problems

__all__ = ["Answer", "BadAnswer", "Candidate", "Prompt", "answer_type", "load", "lock_problems", "parse_propose"]
