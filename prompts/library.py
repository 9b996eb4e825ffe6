"""Versioned prompt texts: `<name>/v<k>.md`, TOML front matter between +++ lines, then a system and a user part.

A released file never changes: `lock.toml` holds the hash of every one.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tunewright.engines.errors import FixArgument

_ROOM = Path(__file__).parent
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_USER = "\n=== user ===\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of one prompt. `inputs` are the fields its parts need, `answer` names the type of its answer."""

    name: str
    version: str
    hash: str
    system: str
    user: str
    inputs: tuple[str, ...]
    answer: str

    def render(self, **fields: str) -> tuple[str, str]:
        """(system, user) texts. Raises FixArgument unless exactly the inputs are given.

        A value is put in as it is: braces inside it are never read as placeholders.
        """
        if set(fields) != set(self.inputs):
            raise FixArgument(
                "other fields than the prompt's inputs",
                field=f"prompt {self.name}",
                value=sorted(fields),
                fix=", ".join(self.inputs),
            )
        system, user = (_PLACEHOLDER.sub(lambda m: fields[m[1]], part) for part in (self.system, self.user))
        return system, user


def names() -> list[str]:
    return sorted(folder.name for folder in _ROOM.iterdir() if any(folder.glob("v*.md")))


def versions(name: str) -> list[str]:
    """Oldest first."""
    found = [path.stem for path in (_ROOM / name).glob("v*.md")] if name.isidentifier() else []
    return sorted(found, key=lambda version: int(version[1:]))


@cache
def load(name: str, version: str | None = None) -> Prompt:
    """The prompt in one version ("v1"), the newest by default. Raises FixArgument."""
    known = versions(name)
    if not known:
        raise FixArgument("there is no prompt of this name", field="prompt", value=name, fix=", ".join(names()))
    version = version or known[-1]
    if version not in known:
        raise FixArgument("there is no such version", field=f"prompt {name}", value=version, fix=", ".join(known))
    return parse(_read(name, version), f"{name}/{version}")


def _read(name: str, version: str) -> str:
    return (_ROOM / name / f"{version}.md").read_text(encoding="utf-8")


def parse(text: str, where: str) -> Prompt:
    """A prompt file's text. Raises FixArgument naming `where` when it is malformed."""
    _, opening, rest = text.partition("+++\n")
    front, closing, body = rest.partition("\n+++\n")
    system, separator, user = body.partition(_USER)
    if not (text.startswith("+++\n") and opening and closing and separator):
        raise FixArgument(
            "not a prompt file", field=where, fix=f"+++, front matter, +++, system part, {_USER.strip()}, user part"
        )
    try:
        head = tomllib.loads(front)
        prompt = Prompt(
            name=head["name"],
            version=head["version"],
            hash=hashlib.sha256(text.encode()).hexdigest(),
            system=system.strip(),
            user=user.strip(),
            inputs=tuple(head["inputs"]),
            answer=head["answer"],
        )
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise FixArgument(f"bad front matter: {error}", field=where, fix="name, version, inputs, answer") from None
    if where != f"{prompt.name}/{prompt.version}":
        raise FixArgument("the front matter names another prompt", field=where, value=f"{prompt.name}/{prompt.version}")
    used = set(_PLACEHOLDER.findall(prompt.system + prompt.user))
    if used != set(prompt.inputs):
        raise FixArgument(
            "placeholders and inputs differ", field=where, value=sorted(used), fix=f"inputs = {sorted(used)}"
        )
    return prompt


def lock_problems() -> list[str]:
    """What contradicts the lock file, one line each; empty when every released text is the one that was released."""
    locked = tomllib.loads((_ROOM / "lock.toml").read_text(encoding="utf-8"))
    present = {f"{name}/{version}": load(name, version).hash for name in names() for version in versions(name)}
    out = [f"{file} is locked but gone" for file in locked if file not in present]
    for file, digest in present.items():
        if file not in locked:
            out.append(f'{file} is not locked: add `"{file}" = "{digest}"` to lock.toml')
        elif locked[file] != digest:
            out.append(f"{file} was changed after its release: restore it and write a new version")
    return out
