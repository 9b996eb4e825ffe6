"""Keys out of every text that is kept or shown.

The values of environment variables that hold secrets are looked up at each call, since a key may be set at any
time, and replaced wherever they occur; so is what has the form of a provider's key.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?(_|$)", re.IGNORECASE)
SECRET_FORM = re.compile(
    r"\b((sk|pk|rk|xai)-|(sk|hf|gsk|ghp)_(?=\w*\d)|AKIA|AIza)[A-Za-z0-9_\-]{16,}|(?<=Bearer )[A-Za-z0-9._~+/\-]{8,}=*"
)
MIN_LENGTH = 8  # shorter values ("1", "true") would redact ordinary words
MASK = "[redacted]"


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return SECRET_NAME.search(name) is not None


def secret_variables() -> list[str]:
    """Names of environment variables that hold secrets."""
    return [name for name in os.environ if _is_secret(name)]


def redact(text: str) -> str:
    for name in secret_variables():
        value = os.environ.get(name, "")
        if len(value) >= MIN_LENGTH and value in text:
            text = text.replace(value, MASK)
    return SECRET_FORM.sub(MASK, text)
