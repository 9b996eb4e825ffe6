"""What a talker says made fit for a terminal as it streams: no control characters, no keys."""

from __future__ import annotations

import os
import re

from tunewright.agent.redact import MIN_LENGTH, redact, secret_variables

FORMS = ("sk-", "pk-", "rk-", "xai-", "sk_", "hf_", "gsk_", "ghp_", "AKIA", "AIza", "Bearer ")


class Screen:
    """Pieces in, pieces out. Only a word that may turn out to be a key is held back until it is whole."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        text = self._held + "".join(c for c in piece if c.isprintable() or c in "\n\t")
        # A key holds no white space but after "Bearer".
        cut = max(text.rfind(c) for c in " \n\t") + 1
        if text[:cut].endswith("Bearer "):
            cut -= len("Bearer ")
        if not _may_be_key(text[cut:]):
            cut = len(text)
        self._held = text[cut:]
        return redact(text[:cut])

    def rest(self) -> str:
        """What was held back, at the end of an answer."""
        held, self._held = self._held, ""
        return redact(held)


def _may_be_key(word: str) -> bool:
    """Whether a key may begin in this word and go on after it."""
    values = [v for name in secret_variables() if len(v := os.environ.get(name, "")) >= MIN_LENGTH]
    ends = [word[i:] for i in range(len(word))]
    if any(value.startswith(end) for value in values for end in ends):
        return True
    parts = [word[match.start() :] for match in re.finditer(r"\b\w", word)]
    return any(part.startswith(form) or form.startswith(part) for part in parts for form in FORMS)
