"""Any command as the objective: its words, its process, what it prints, and how a script talks back."""

from tunewright.agent.commands.objective import CommandObjective
from tunewright.agent.commands.words import Command

__all__ = ["Command", "CommandObjective"]
