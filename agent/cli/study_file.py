"""`study.yaml`: the sweep format of Weights & Biases, with conditions, constraints, schedulers and a Python objective.

Every mistake is named by file, key and value before a trial is spent; a key that is not known is refused, since a
misspelt one would otherwise be ignored in silence.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tunewright.agent.cli.study_training import training
from tunewright.agent.cli.study_verify import HeldOut, held_out
from tunewright.agent.commands import Command, CommandObjective
from tunewright.agent.runners.limits import gpus_of, memory_of
from tunewright.agent.settings import Budget, data_facts
from tunewright.engines.errors import FixArgument, TunewrightError
from tunewright.engines.parameters import Categorical, Derived, Float, Int
from tunewright.engines.space import Space
from tunewright.engines.types import Objective

METHODS = {"bayes": "auto", "random": "random", "grid": "grid"}
TOP = (
    *("advisor", "advisor_deadline", "budget", "command", "constraints", "data", "description", "early_terminate"),
    *("engine",),
    *("fidelity", "gpus", "memory", "method", "metric", "name", "objective", "objectives", "parameters", "program"),
    *("prices", "project", "run_cap", "runner"),
    *("safety", "scheduler", "seed", "store", "study", "task", "timeout", "verify", "workers"),
)
PARAMETER = ("condition", "default", "derived", "distribution", "log", "max", "min", "q", "value", "values")
LOG = ("log_uniform_values", "q_log_uniform_values", "log_uniform", "q_log_uniform")
MAX_EXPONENT = 700  # of e in a float
NUMERIC = ("uniform", "int_uniform", "q_uniform", *LOG)


@dataclass(frozen=True, slots=True)
class StudyFile:
    """What a file asks for. `arguments` are Agent's keyword arguments; a Python `objective` or a `command` trains."""

    path: Path
    arguments: Mapping[str, Any]
    objective: str | None
    workers: int = 1
    command: Command | None = None
    timeout: float | None = None  # seconds of one run
    memory: str | int | None = None  # that one run may take
    gpus: Any = None
    asked: tuple[str, Mapping[str, Any]] = ("local", {})  # the runner and its options
    held_out: HeldOut = field(default_factory=HeldOut)

    @property
    def runner(self) -> tuple[str, dict[str, Any]]:
        """What runs it, as `Agent.tune` takes it: threads where a command waits for processes of its own, which then
        keeps its limits itself. Raises FixArgument."""
        name, options = self.asked
        limits = {} if self.command is not None else {"timeout": self.timeout, "memory": self.memory}
        if name == "local":
            threads = {} if self.command is None else {"processes": False}
            return (name, {**threads, **limits, "gpus": self.gpus, **options})
        if self.gpus is not None:
            fix = f"runner: {{{name}: {{resources: {{gpu: 1}}}}}}"
            raise FixArgument(
                "lists devices of this machine, for the local runner", field="gpus", value=self.gpus, fix=fix
            )
        return (name, {**{key: limit for key, limit in limits.items() if limit is not None}, **options})

    def run_by(self, name: str) -> StudyFile:
        """The same file with another runner; options of its own one do not fit another."""
        return self if name == self.asked[0] else replace(self, asked=(name, {}))

    @property
    def verifying(self) -> StudyFile:
        """What trains the winner again: the file's own words for that, else the search's training."""
        held = self.held_out
        if held.command is not None:
            return replace(self, command=held.command, objective=None)
        return self if held.objective is None else replace(self, command=None, objective=held.objective)


def read(path: Path) -> StudyFile:
    """Raises FixArgument (or FixSpace) for everything that is not understood."""
    if not path.is_file():
        raise FixArgument("no such file", field="study file", value=str(path), fix="give the path of a study.yaml")
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise FixArgument(f"not valid YAML: {error}", field=str(path)) from None


def parse(text: str, path: Path) -> StudyFile:
    """A study file's text; `path` is where it stands or will stand. Raises as `read` does."""
    import yaml

    try:
        _check_keys(yaml.compose(text, yaml.SafeLoader), path)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise FixArgument(f"not valid YAML: {error}", field=str(path)) from None
    try:
        return _study(path, data)
    except TunewrightError as error:
        raise type(error)(
            error.message, field=f"{path.name}: {error.field}", value=error.value, fix=error.fix, **error.data
        ) from None


def _check_keys(node: Any, path: Path) -> None:
    """Raises FixArgument for a key that stands twice: YAML's readers let the last one win in silence."""
    seen: set[str] = set()
    for key, value in node.value if node is not None and node.id == "mapping" else ():
        if key.id == "scalar" and key.value != "<<":
            if key.value in seen:
                where = f"{path.name}: line {key.start_mark.line + 1}"
                raise FixArgument("this key stands twice", field=where, value=key.value, fix="keep one")
            seen.add(key.value)
        _check_keys(value, path)


def _study(path: Path, data: Any) -> StudyFile:
    if not isinstance(data, Mapping):
        raise FixArgument("must be a mapping of keys", field="top level", value=data)
    _known(data, TOP, "top level")
    parameters = data.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise FixArgument("must map names to parameters", field="parameters", value=parameters)
    made = {name: parameter(str(name), entry) for name, entry in parameters.items()}
    constraints = data.get("constraints") or []
    if not isinstance(constraints, list):
        raise FixArgument("must be a list", field="constraints", value=constraints, fix='- "layers * width <= 512"')
    arguments: dict[str, Any] = {"space": Space(made, constraints)}
    arguments |= _metric(data)
    arguments["engine"] = data.get("engine") or METHODS[_method(data)]
    for key in ("advisor_deadline", "safety", "seed"):
        if data.get(key) is not None:
            arguments[key] = data[key]
    if data.get("task") is not None:
        arguments["task"] = str(data["task"])
    if data.get("data") is not None:
        arguments["data"] = data_facts(data["data"])
    if "advisor" in data:
        arguments["advisor"] = None if data["advisor"] in (None, "none") else data["advisor"]
    if data.get("prices") is not None:
        prices = data["prices"]
        arguments["prices"] = path.parent / prices if isinstance(prices, str) else prices
    arguments["budget"] = _budget(data)
    arguments["study"] = str(data.get("study") or data.get("name") or path.stem)
    if data.get("store"):
        arguments["store"] = path.parent / str(data["store"])
    arguments |= training(data)
    workers = data.get("workers", 1)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise FixArgument("must be a whole number above zero", field="workers", value=workers)
    command = _command(data, arguments["space"])
    timeout, memory, gpus = (data.get(key) for key in ("timeout", "memory", "gpus"))
    if timeout is not None and (isinstance(timeout, bool) or not _number(timeout, "timeout") > 0):
        raise FixArgument("must be seconds above zero", field="timeout", value=timeout, fix="timeout: 3600")
    memory_of(memory)
    gpus_of(gpus, 1)
    asked = _runner(data.get("runner"))
    held = held_out(data.get("verify"), arguments["space"].declared)
    return StudyFile(path, arguments, data.get("objective"), workers, command, timeout, memory, gpus, asked, held)


def _runner(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """A name, or one name with its options: {ray: {resources: {gpu: 0.5}}}."""
    if entry is None:
        return ("local", {})
    if isinstance(entry, str):
        return (entry, {})
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
        if isinstance(options, Mapping):
            return (str(name), dict(options))
    fix = "runner: {ray: {resources: {gpu: 0.5}}}"
    raise FixArgument("must be a name, or one name with options", field="runner", value=entry, fix=fix)


def _method(data: Mapping[str, Any]) -> str:
    method = data.get("method", "bayes")
    if not isinstance(method, str) or method not in METHODS:
        near = get_close_matches(str(method), METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        fix = f"{hint}known: {', '.join(METHODS)}; engine: takes the name of an engine"
        raise FixArgument("unknown method", field="method", value=method, fix=fix)
    return method


def _command(data: Mapping[str, Any], space: Space) -> Command | None:
    program = data.get("program")
    if "command" not in data and program is None:
        return None
    if data.get("objective") is not None:
        raise FixArgument(
            "stands beside command or program", field="objective", value=data["objective"], fix="keep one"
        )
    if program is not None and not isinstance(program, str):
        raise FixArgument("must be a script's name", field="program", value=program, fix="program: train.py")
    return Command(data.get("command"), program, space.declared)


def _known(entry: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in entry:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise FixArgument(f"unknown key {key!r}", field=where, fix=hint)


def _metric(data: Mapping[str, Any]) -> dict[str, Any]:
    if "objectives" in data:
        if not isinstance(data["objectives"], list):
            raise FixArgument(
                "must be a list", field="objectives", value=data["objectives"], fix="- {name: acc, goal: maximize}"
            )
        return {
            "objectives": [Objective(**_goal(entry, f"objectives[{i}]")) for i, entry in enumerate(data["objectives"])]
        }
    if "metric" not in data:
        raise FixArgument("is missing", field="metric", fix="metric: {name: val_loss, goal: minimize}")
    goal = _goal(data["metric"], "metric")
    return {"metric": goal["name"], "direction": goal["direction"]}


def _goal(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise FixArgument("needs a name", field=where, value=entry, fix="{name: val_loss, goal: minimize}")
    _known(entry, ("name", "goal"), where)
    return {"name": entry["name"], "direction": entry.get("goal", "minimize")}


def _budget(data: Mapping[str, Any]) -> Budget:
    entry = data.get("budget") or {}
    if not isinstance(entry, Mapping):
        raise FixArgument("must be a mapping", field="budget", value=entry, fix="budget: {trials: 50}")
    _known(entry, ("trials", "seconds", "gpu_hours", "tokens", "usd"), "budget")
    cap = data.get("run_cap")
    return Budget(**({"trials": cap} if cap is not None else {}) | dict(entry))


def parameter(name: str, entry: Any) -> Any:
    where = f"parameters.{name}"
    if not isinstance(entry, Mapping):
        raise FixArgument("must be a mapping", field=where, value=entry, fix="{min: 0.0, max: 1.0} or {values: [a, b]}")
    _known(entry, PARAMETER, where)
    if "derived" in entry:
        return Derived(str(entry["derived"]))
    common = {"when": entry.get("condition"), "default": entry.get("default")}
    try:
        if "value" in entry:
            return Categorical([entry["value"]], when=common["when"])
        if "values" in entry:
            return Categorical(entry["values"], **common)
        return _numeric(entry, where, common)
    except FixArgument:
        raise
    except TunewrightError as error:
        raise type(error)(error.message, field=where, value=error.value, fix=error.fix) from None


def _numeric(entry: Mapping[str, Any], where: str, common: Mapping[str, Any]) -> Float | Int:
    if "min" not in entry or "max" not in entry:
        raise FixArgument("needs values, value, or min and max", field=where, value=dict(entry))
    low, high = (_number(entry[k], f"{where}.{k}") for k in ("min", "max"))
    whole = isinstance(low, int) and isinstance(high, int)
    kind = entry.get("distribution") or ("int_uniform" if whole else "uniform")
    if kind not in NUMERIC:
        near = get_close_matches(str(kind), NUMERIC, n=1)
        raise FixArgument(
            "unknown distribution",
            field=f"{where}.distribution",
            value=kind,
            fix=near[0] if near else ", ".join(NUMERIC),
        )
    log = kind in LOG or bool(entry.get("log"))
    if kind in ("log_uniform", "q_log_uniform"):  # W&B gives these bounds as natural exponents
        if max(low, high) > MAX_EXPONENT:
            fix = f"distribution: {kind}_values takes the values themselves"
            raise FixArgument("its bounds are exponents of e here", field=where, value=(low, high), fix=fix)
        low, high = math.exp(low), math.exp(high)
    q = entry.get("q")
    # W&B's quantised log scale steps by 1 where no q is given.
    if (
        kind == "int_uniform"
        or (whole and log and kind == "uniform")
        or (whole and kind == "q_log_uniform_values" and q in (None, 1))
    ):
        if not whole:
            raise FixArgument("needs whole bounds", field=where, value=(low, high), fix="distribution: uniform")
        return Int(int(low), int(high), log=log, step=1 if q is None else q, **common)
    if kind.startswith("q_") and log:
        raise FixArgument("a log scale cannot be quantised", field=f"{where}.q", value=q, fix="drop q, or list values")
    return Float(low, high, log=log, step=q if kind == "q_uniform" else None, **common)


def _number(value: Any, where: str) -> int | float:
    """YAML 1.1 reads 1e-5, without a point, as text."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise FixArgument("is not a number", field=where, value=value)
    return value


def load_objective(file: StudyFile) -> Callable[[Any], Any]:
    """What trains a trial: the command, or the function that `objective: path.py:function` or
    `package.module:function` names, paths beside the file."""
    if file.command is not None:
        metrics = [o.name for o in file.arguments.get("objectives", ())] or [file.arguments["metric"]]
        return CommandObjective(file.command, metrics, file.path.resolve().parent, file.timeout, file.memory)
    spec = file.objective
    if not isinstance(spec, str) or ":" not in spec:
        raise FixArgument(
            "names no function",
            field=f"{file.path.name}: objective",
            value=spec,
            fix="objective: train.py:objective, or command: python train.py --lr {lr}",
        )
    place, _, name = spec.rpartition(":")
    folder = file.path.resolve().parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        if place.endswith(".py"):
            source = folder / place
            found = importlib.util.spec_from_file_location(source.stem, source)
            if found is None or found.loader is None or not source.is_file():
                raise ImportError(f"no file {source.name} beside {file.path.name}")
            module = importlib.util.module_from_spec(found)
            sys.modules.setdefault(source.stem, module)
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except Exception as error:
        raise FixArgument(
            f"cannot be imported: {type(error).__name__}: {error}", field=f"{file.path.name}: objective", value=spec
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise FixArgument(f"{place} has no function {name}", field=f"{file.path.name}: objective", value=spec)
    return function
