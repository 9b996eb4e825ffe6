"""What a training script takes as arguments, read from its source without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.engines.errors import FixArgument

EPOCHS = re.compile(r"^(num_|n_|max_)?(epochs?|steps|iters|iterations)$")
FIXED = re.compile(
    r"(^|_)(seed|device|gpu|gpus|workers|num_workers|path|dir|dirname|file|data|dataset|root|output|out|log|logs|save|"
    r"resume|checkpoint|ckpt|name|project|entity|verbose|debug|port|host|rank|local_rank|amp|fp16|config|cache|tag)(_|$)"
)
METRIC = re.compile(r"""["']((?:val|valid|validation|test|eval)_\w+|accuracy|loss)["']\s*:|\breport\([^)]*?(\w+)\s*=""")


@dataclass(frozen=True, slots=True)
class Argument:
    """One `add_argument`: its name, the flag as it is written, and what is known of its values, or why nothing is."""

    name: str
    flag: str
    default: Any = None
    kind: str | None = None  # "int", "float", "str", "bool" where it is known
    choices: tuple[Any, ...] = ()
    unclear: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    path: Path
    arguments: tuple[Argument, ...]
    metrics: tuple[str, ...] = field(default=())  # names that look like what it reports
    about: str = ""  # what it says of itself


def read(path: Path) -> Script:
    """Raises FixArgument for a file that is no Python."""
    if not path.is_file():
        raise FixArgument("no such file", field="script", value=str(path), fix="give the path of a training script")
    source = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise FixArgument(
            f"is not Python: {error.msg} in line {error.lineno}", field="script", value=str(path)
        ) from None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_argument(node)]
    found = [argument for call in sorted(calls, key=lambda c: c.lineno) if (argument := _argument(call)) is not None]
    metrics = [first or second for first, second in METRIC.findall(source)]
    about = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    return Script(path, tuple(found), tuple(dict.fromkeys(m for m in metrics if m != "step")), about)


def _is_argument(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"


def _argument(call: ast.Call) -> Argument | None:
    """None for an argument without a flag: a tuner cannot know what stands there."""
    flags = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    long = [flag for flag in flags if flag.startswith("--")] or [flag for flag in flags if flag.startswith("-")]
    if not long:
        return None
    flag = long[0]
    given = {k.arg: k.value for k in call.keywords if k.arg}
    name = flag.lstrip("-").replace("-", "_")
    default, unclear = _literal(given, "default")
    choices, odd = _literal(given, "choices")
    said = _literal(given, "help")[0]
    words = said if isinstance(said, str) else ""
    named = given.get("type")
    kind = named.id if isinstance(named, ast.Name) else None
    if action := _literal(given, "action")[0]:
        if action not in ("store", "store_true", "store_false"):
            unclear = unclear or f"action {action}"
        elif action != "store":
            return Argument(name, flag, action == "store_false", "bool", help=words)
    if kind is None and default is not None:
        kind = type(default).__name__
    return Argument(name, flag, default, kind, tuple(choices or ()), unclear or odd, words)


def _literal(given: Mapping[str, ast.expr], name: str) -> tuple[Any, str]:
    if name not in given:
        return None, ""
    try:
        return ast.literal_eval(given[name]), ""
    except ValueError:
        return None, f"its {name} is computed: {ast.unparse(given[name])}"
