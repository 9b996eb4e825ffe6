"""Keys out of every text that is kept or shown.

The values of environment variables that hold secrets are looked up at each call, since a key may be set at any
time, and replaced wherever they occur; so is what has the form of a provider's key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache

SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?(_|$)", re.IGNORECASE)
SECRET_FORM = re.compile(
    r"\b((sk|pk|rk|xai)-|(sk|hf|gsk|ghp)_(?=\w*\d)|AKIA|AIza)[A-Za-z0-9_\-]{16,}|(?<=Bearer )[A-Za-z0-9._~+/\-]{8,}=*"
)
# One of these stands in whatever has such a form, and looking for all of them takes a fraction of a search for forms.
_FORM_MARKS = ("sk-", "pk-", "rk-", "xai-", "sk_", "hf_", "ghp_", "AKIA", "AIza", "Bearer ")
MIN_LENGTH = 8  # shorter values ("1", "true") would redact ordinary words
MASK = "[redacted]"


# As bytes where there are such: to decode every name at each call takes longer than all else here.
_ENVIRONMENT: Iterable[str | bytes] = getattr(os, "environb", os.environ)


@lru_cache(maxsize=4096)
def _is_secret(name: str | bytes) -> bool:
    return SECRET_NAME.search(os.fsdecode(name)) is not None


def secret_variables() -> list[str]:
    """Names of environment variables that hold secrets."""
    return list(map(os.fsdecode, filter(_is_secret, _ENVIRONMENT)))


def redact(text: str) -> str:
    if len(text) < MIN_LENGTH:  # most texts are names, and looking the environment up takes longer than they do
        return text
    return _without_forms(_without_values(text))


class Redactor:
    """Redacts a text that comes in pieces: what may be the beginning of a key is kept back until the rest is known."""

    # The end of a text that a key may go on after, with the word before it that makes it one.
    _OPEN = re.compile(r"(?:Bearer\s?)?[A-Za-z0-9._~+/=\-]*\Z")
    _LONGEST = 4_096  # characters that are kept back

    def __init__(self) -> None:
        self.rest = ""  # what is kept back

    def feed(self, piece: str) -> str:
        """What can be said by now."""
        text = _without_values(self.rest + piece)
        found = self._OPEN.search(text, max(0, len(text) - self._LONGEST))
        cut = min(found.start() if found else len(text), len(text) - _begun(text))
        self.rest = text[cut:]
        return _without_forms(text[:cut])

    def end(self) -> str:
        """The rest."""
        rest, self.rest = self.rest, ""
        return redact(rest)


def _secrets() -> list[str]:
    return [value for name in secret_variables() if len(value := os.environ.get(name, "")) >= MIN_LENGTH]


def _without_values(text: str) -> str:
    for value in _secrets():
        if value in text:
            text = text.replace(value, MASK)
    return text


def _without_forms(text: str) -> str:
    return SECRET_FORM.sub(MASK, text) if any(mark in text for mark in _FORM_MARKS) else text


def _begun(text: str) -> int:
    """Characters at the end of a text with which one of the secrets begins."""
    longest = 0
    for value in _secrets():
        for size in range(min(len(value) - 1, len(text)), longest, -1):
            if text.endswith(value[:size]):
                longest = size
                break
    return longest
