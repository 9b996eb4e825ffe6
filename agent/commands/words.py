"""The words of a command: macros and parameters put in, never a shell.

A command is split into words before any value is put in, so a value can neither end a word nor start another.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.engines.errors import FixArgument
from tunewright.engines.expressions import Expression
from tunewright.engines.parameters import Derived
from tunewright.engines.space import Space

FACTS = ("checkpoint_dir", "fidelity", "seed", "trial")
"""What a word may name besides parameters."""
LISTS = ("args", "args_no_hyphens", "args_no_boolean_flags", "args_json")
MACROS = ("env", "interpreter", "program", *LISTS, "envvar:NAME")
DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
"""What a program alone stands for, as in W&B sweeps."""

_NAME = r"[A-Za-z_][\w.]*"
_PART = re.compile(rf"\$\{{([^{{}}]*)\}}|\{{\{{({_NAME})\}}\}}|\{{({_NAME})([!:][^{{}}]*)?\}}")
_FLAG = re.compile(r"--?[A-Za-z][^=]*")
_PYTHON = re.compile(r"python[\d.]*")
_SHELL = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", "&>"})


class Slot(NamedTuple):
    """A part of a word that a value takes the place of."""

    name: str


class Arguments(NamedTuple):
    """A word that becomes one word for each active parameter, or one for all of them."""

    style: str

    def words(self, params: Mapping[str, Any]) -> list[str]:
        match self.style:
            case "args_json":
                return [json.dumps(dict(params))]
            case "args_no_hyphens":
                return [f"{name}={value}" for name, value in params.items()]
            case "args_no_boolean_flags":
                kept = ((name, value) for name, value in params.items() if value is not False)
                return [f"--{name}" if value is True else f"--{name}={value}" for name, value in kept]
        return [f"--{name}={value}" for name, value in params.items()]


Word = tuple[str | Slot, ...]


class Command:
    """A command that was understood: `words` turns it into an argument list for one configuration.

    command: one string, split as a POSIX shell would split it, or a list of words; None stands for DEFAULT.
    names: the parameters that words may name as {name}; {{name}} is the text {name} itself.

    A parameter that is inactive takes its word along, and the word before it where that is a flag alone (`--momentum`,
    `-m`: one or two hyphens, a letter, no "=") and the word that goes is not itself one with a hyphen in front. So
    `--momentum {momentum}` and `--momentum={momentum}` both vanish whole.
    """

    def __init__(self, command: Any, program: str | None, names: Iterable[str]):
        self.names, self._program = tuple(names), program
        texts = _split(command)
        self._words = [self._parsed(text, i) for i, text in enumerate(texts)]
        if isinstance(self._words[0], Arguments):
            raise FixArgument("begins with arguments, not with a program", field="command", value=texts[0])
        slots = {p.name for word in self._words if isinstance(word, tuple) for p in word if isinstance(p, Slot)}
        lists_all = any(isinstance(word, Arguments) for word in self._words)
        self.used = frozenset(self.names) if lists_all else frozenset(slots & set(self.names))

    def unnamed(self, space: Space) -> list[str]:
        """The parameters of `space` that neither a word nor a derived value in a word takes."""
        taken = set(self.used)
        for name, parameter in reversed(list(space.declared.items())):
            if isinstance(parameter, Derived) and name in taken:
                taken.update(Expression(parameter.expression).names)
        return [name for name in space.names if name not in taken]

    def words(self, params: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
        """The argument list for the active parameters and the FACTS of a trial."""
        values = {**facts, **params}
        out: list[str] = []
        flag = False  # whether the last of `out` is a flag alone, to which the next word may belong
        for word in self._words:
            if isinstance(word, Arguments):
                out += word.words(params)
                flag = False
            elif all(isinstance(part, str) or part.name in values for part in word):
                out.append("".join(part if isinstance(part, str) else str(values[part.name]) for part in word))
                flag = all(isinstance(part, str) for part in word) and _FLAG.fullmatch(out[-1]) is not None
            else:
                if flag and not (isinstance(word[0], str) and word[0].startswith("-")):
                    out.pop()
                flag = False
        return out

    def program_of(self, cwd: Path) -> str | None:
        """The file to execute, absolute, for a command run in `cwd`; None where its name depends on a parameter.

        Raises FixArgument for a program or a Python script that is not there, or that may not be executed.
        """
        fixed = ["".join(map(str, word)) if all(isinstance(p, str) for p in word) else None for word in self._words]
        for text in fixed:
            if text is None or not (text.startswith("-") or _PYTHON.fullmatch(Path(text).name) or _is_env(text)):
                if text is not None and text.endswith(".py") and not (cwd / text).is_file():
                    raise FixArgument(f"there is no {text} in {cwd}", field="command", value=text)
                break
        return None if fixed[0] is None else executable(fixed[0], cwd)

    def told(self, fact: str) -> bool:
        """Whether a word names this one of FACTS."""
        return Slot(fact) in [part for word in self._words if isinstance(word, tuple) for part in word]

    def flags(self) -> list[str]:
        """The long flags that it gives by name: `--lr {lr}`, `--lr={lr}`."""
        first = [word[0] for word in self._words if not isinstance(word, Arguments) and isinstance(word[0], str)]
        return [text.partition("=")[0] for text in first if text.startswith("--") and len(text) > 2]

    def script_of(self, cwd: Path) -> Path | None:
        """The Python script that it runs; None where its first words say of none that is there."""
        for word in self._words:
            text = word[0] if len(word) == 1 and not isinstance(word, Arguments) else None
            if isinstance(text, str) and text.endswith(".py"):
                return cwd / text if (cwd / text).is_file() else None
            if not isinstance(text, str) or not (_PYTHON.fullmatch(Path(text).name) or _is_env(text)):
                return None
        return None

    # ------------------------------------------------------------------------------------------ parsing

    def _parsed(self, text: str, index: int) -> Word | Arguments:
        if text[:2] == "${" and text[2:-1] in LISTS and text[-1] == "}":
            return Arguments(text[2:-1])
        parts: list[str | Slot] = []
        end = 0
        for match in _PART.finditer(text):
            parts.append(text[end : match.start()])
            parts.append(self._part(match, text))
            end = match.end()
        parts.append(text[end:])
        word = tuple(part for part in parts if part != "")
        return word or ("",)

    def _part(self, match: re.Match[str], text: str) -> str | Slot:
        macro, literal, name, style = match.groups()
        if macro is not None:
            return self._macro(macro, text)
        if literal is not None:
            return f"{{{literal}}}"
        if style is not None:
            if name not in (*self.names, *FACTS):
                return match[0]
            raise FixArgument("formats are not supported", field="command", value=text, fix=f"write {{{name}}}")
        if name in self.names and name in FACTS:
            raise FixArgument(
                f"{{{name}}} could be the parameter or the trial's own", field="command", value=text,
                fix=f"rename the parameter {name}",
            )  # fmt: skip
        if name not in (*self.names, *FACTS):
            near = get_close_matches(name, [*self.names, *FACTS], n=1)
            listed = ", ".join(self.names)
            hint = f"{{{near[0]}}}" if near else f"one of {listed}, or {{{{{name}}}}} for the text itself"
            raise FixArgument(f"names no parameter: {{{name}}}", field="command", value=text, fix=hint)
        return Slot(name)

    def _macro(self, macro: str, text: str) -> str:
        if macro == "env":
            return "/usr/bin/env"
        if macro == "interpreter":
            return sys.executable
        if macro == "program":
            if self._program is None:
                raise FixArgument("is used by the command", field="program", fix="program: train.py")
            return self._program
        if macro.startswith("envvar:"):
            name = macro.removeprefix("envvar:")
            if name not in os.environ:
                where = f"command: ${{{macro}}}"
                raise FixArgument("is not set in the environment", field=where, fix=f"export {name}=")
            return os.environ[name]
        if macro in LISTS:
            raise FixArgument(f"${{{macro}}} must be a word of its own", field="command", value=text)
        known = ", ".join(f"${{{name}}}" for name in MACROS)
        raise FixArgument(f"unknown macro ${{{macro}}}", field="command", value=text, fix=f"use {known}")


def _split(command: Any) -> Sequence[str]:
    if command is None:
        return DEFAULT
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise FixArgument(f"cannot be split into words: {error}", field="command", value=command) from None
        if meant := _SHELL & set(words):
            fix = 'put it in a script, or name the shell: [bash, -c, "..."]'
            message = f"no shell reads it, so {min(meant)} has no effect"
            raise FixArgument(message, field="command", value=command, fix=fix)
    elif isinstance(command, list | tuple) and all(isinstance(w, str | int | float) for w in command):
        words = [str(word) for word in command]
    else:
        fix = "command: python train.py --lr {lr}"
        raise FixArgument("must be one line of text or a list of words", field="command", value=command, fix=fix)
    if not words or not words[0]:
        raise FixArgument("is empty", field="command", value=command, fix="command: python train.py --lr {lr}")
    if any("\0" in word for word in words):
        raise FixArgument("holds a NUL character", field="command", value=command)
    return words


def _is_env(text: str) -> bool:
    return Path(text).name == "env"


def executable(name: str, cwd: Path) -> str:
    """The absolute path of a program: looked up in PATH, or below `cwd` where the name holds a slash.

    Raises FixArgument where it is not there or may not be executed.
    """
    if os.sep in name:
        path = cwd / name
        if not path.is_file():
            raise FixArgument(f"not found: there is no {path}", field="command", value=name)
        if not os.access(path, os.X_OK):
            raise FixArgument(f"{path} is not executable", field="command", value=name, fix=f"chmod +x {path}")
        return str(path.absolute())
    found = shutil.which(name)
    if found is None:
        fix = None
        if (cwd / name).is_file():
            fix = f"./{name}"
        elif _PYTHON.fullmatch(name):
            fix = f"${{interpreter}}, which is {sys.executable}"
        elif "=" in name:
            fix = f"env {name} ..."
        raise FixArgument(f"command not found: {name}", field="command", value=name, fix=fix)
    return os.path.abspath(found)


def shown(words: Sequence[str]) -> str:
    """An argument list as one would type it."""
    return shlex.join(words).replace("'{", "{").replace("}'", "}")
