"""LangChain and a study: a chat model that tunes by talking, and the study tools for people's own agents."""

from tunewright.plugins.chat.tools import study_tools

__all__ = ["study_tools"]
