"""`tunewright init`: a study.yaml with comments, from a script's arguments or from a few questions."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import click

from tunewright.agent.cli import render, study_file
from tunewright.agent.cli.script import EPOCHS, FIXED, Argument, Script, read
from tunewright.engines.errors import FixArgument, TunewrightError
from tunewright.prompts.text import plain

MAX_TASK = 300  # characters of what a script says of itself

RATE = re.compile(r"(^|_)(lr|learning_rate|eta0?|step_size)$")
LOGS = re.compile(r"(^|_)(weight_decay|wd|l2|l1|alpha|lambda|reg|eps|epsilon|tol|c|gamma)$")
SHARES = re.compile(r"(^|_)(dropout|drop|drop_rate|drop_path|label_smoothing|mixup|warmup_ratio)$")
PARTS = re.compile(
    r"(^|_)(subsample|colsample\w*|\w+_fraction|max_features|max_samples)$"
)  # of the data; none is nothing
LEAVES = re.compile(r"(^|_)(min_samples_leaf|min_samples_split|min_child_samples|min_data_in_leaf)$")
MOMENTA = re.compile(r"(^|_)(momentum|beta1|beta2|beta_1|beta_2|ema|decay)$")
POWERS = re.compile(r"(^|_)(batch_size|bs|batch|hidden|hidden_size|hidden_dim|width|dim|units|channels|embed_dim)$")
DEPTHS = re.compile(r"(^|_)(layers|num_layers|n_layers|depth|blocks|heads|num_heads|n_heads|max_depth)$")
LOWER = re.compile(r"loss|error|perplexity|rmse|mae|mse|time", re.IGNORECASE)


def run(script: Path | None, output: Path, force: bool, as_json: bool = False) -> None:
    found = None if script is None else read(script)
    if output.exists() and not force:
        raise FixArgument("exists already", field="--output", value=str(output), fix="--force, or another name")
    if found is not None:
        text = from_script(found, output.parent)
    elif sys.stdin.isatty():
        text = from_questions()
    else:
        fix = "tunewright init train.py, or run it on a terminal"
        raise FixArgument("nobody is here to be asked", field="script", fix=fix)
    output.write_text(text, encoding="utf-8")
    study_file.read(output)  # what was written must be understood
    if as_json:
        import yaml

        return render.document({"file": str(output), **yaml.safe_load(text)})
    guessed = " Look it over: every range is a guess from a name." if script is not None else ""
    render.line(f"{output} is written.{guessed}", "green")
    render.commands([f"tunewright doctor {output}", f"tunewright tune {output}"])


# ------------------------------------------------------------------------------------------------ from a script


def from_script(script: Script, folder: Path) -> str:
    """The text of a study file. What was not understood is said in a comment."""
    searched: list[tuple[Argument, list[str]]] = []
    fidelity: Argument | None = None
    kept: list[str] = []
    for argument in script.arguments:
        if EPOCHS.match(argument.name) and isinstance(argument.default, int) and fidelity is None:
            fidelity = argument
        elif entry := _entry(argument):
            searched.append((argument, entry))
        else:
            kept.append(f"#   {argument.flag}: {_why_kept(argument)}")
    if not searched:
        fix = "write its parameters by hand, or tunewright init without a script"
        raise FixArgument("no argument looks like a hyperparameter", field="script", value=str(script.path), fix=fix)
    metric = next((m for m in script.metrics if m.startswith("val")), (script.metrics or ("val_loss",))[0])
    goal = "minimize" if LOWER.search(metric) else "maximize"
    doubt = "" if script.metrics else "  # CHECK: no metric was found in the script"
    try:
        program = script.path.resolve().relative_to(folder.resolve())
    except ValueError:
        program = script.path.resolve()
    words = ["${interpreter}", str(program)]
    for argument, _ in searched:
        words += [argument.flag, f"{{{argument.name}}}"]
    lines = [
        f"# A study of {script.path.name}. The script reports by printing lines such as",
        f'#   {{"step": 3, "{metric}": 0.41}}',
        "# or by `from tunewright.agent import report; report(3, " + f"{metric}=0.41)`.",
        f"metric: {{name: {metric}, goal: {goal}}}{doubt}",
    ]
    if fidelity is not None:
        words += [fidelity.flag, "{fidelity}"]
        lines += [
            "# How far a trial is trained; drop both keys to train each to the end.",
            f"fidelity: {{name: {_unit(fidelity.name)}, min: 1, max: {max(1, fidelity.default)}}}",
            "scheduler: asha",
        ]
    lines += [f"task: {_quoted(plain(script.about, MAX_TASK))}"] if script.about else []
    lines += ["command:", *(f"  - {_quoted(word)}" for word in words), "advisor: rules"]
    lines += [f"budget: {{trials: {max(20, 10 * len(searched))}}}", "parameters:"]
    lines += [line for _, entry in searched for line in entry]
    if kept:
        lines += ["# Left as they are:", *kept]
    return "\n".join(lines) + "\n"


def _unit(name: str) -> str:
    """What `--num-epochs` counts: "epoch"."""
    return re.sub(r"^(num|n|max)_|s$", "", name)


def _entry(argument: Argument) -> list[str] | None:
    """The lines of one parameter, None for what is no hyperparameter or not understood."""
    name, default = argument.name, argument.default
    if argument.unclear or FIXED.search(name):
        return None
    if argument.choices:
        shown = ", ".join(map(_quoted, argument.choices))
        tail = f", default: {_quoted(default)}" if default in argument.choices else ""
        return [f"  {name}: {{values: [{shown}]{tail}}}"]
    if isinstance(default, bool) or not isinstance(default, int | float) or not math.isfinite(default):
        return None
    whole = argument.kind == "int" and isinstance(default, int)
    return [f"  {name}: {{{_range(name, default, whole)}}}  # CHECK this range"]


def _range(name: str, default: float, whole: bool) -> str:
    if RATE.search(name) and default > 0:
        return _log(default / 100, default * 100, default)
    if LOGS.search(name) and default >= 0:
        return _log(default / 100, default * 100, default) if default else _log(1e-6, 1e-1, None)
    if SHARES.search(name) and 0 <= default <= 1:
        return f"min: 0.0, max: {max(0.6, min(1.0, 2 * default)):g}, default: {float(default)!r}"
    if PARTS.search(name) and 0 < default <= 1:
        return f"min: {min(0.3, default / 2):g}, max: 1.0, default: {float(default)!r}"
    if LEAVES.search(name) and whole and default > 0:
        return f"min: {min(2, default)}, max: {max(32, 4 * default)}, log: true, default: {default}"
    if MOMENTA.search(name) and 0 <= default < 1:
        return f"min: 0.0, max: 0.999, default: {float(default)!r}"
    if whole and POWERS.search(name) and default > 0:
        return f"min: {max(1, default // 4)}, max: {default * 4}, log: true, default: {default}"
    if whole and (DEPTHS.search(name) or 0 < default <= 16):
        return f"min: 1, max: {max(2, 2 * int(default))}, default: {max(1, int(default))}"
    if whole:
        return f"min: {max(0, default // 4)}, max: {max(1, default * 4)}, default: {default}"
    if default == 0:
        return "min: 0.0, max: 1.0, default: 0.0"
    low, high = sorted((default / 4, default * 4))
    return f"min: {low!r}, max: {high!r}, default: {float(default)!r}"


def _log(low: float, high: float, default: float | None) -> str:
    tail = "" if default is None else f", default: {default:.10f}".rstrip("0")
    return f"distribution: log_uniform_values, min: {_decimal(low)}, max: {_decimal(high)}{tail}"


def _decimal(value: float) -> str:
    """Without an exponent, which YAML 1.1 takes for text where it has no point."""
    text = f"{value:.12f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _why_kept(argument: Argument) -> str:
    if argument.unclear:
        return argument.unclear
    if FIXED.search(argument.name) or EPOCHS.match(argument.name):
        return "no hyperparameter by its name"
    return "a switch" if argument.kind == "bool" else "its values are not known"


def _quoted(value: Any) -> str:
    """A scalar as YAML reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


# ------------------------------------------------------------------------------------------------ from questions


def from_questions() -> str:
    """Five questions; an answer that the study file's own reader refuses is asked for again."""
    render.line("Five questions; the file can be changed afterwards.", "bold")
    command = click.prompt(
        "1. What trains one trial? {name} stands for a parameter", default="python train.py --lr {lr}"
    )
    metric = click.prompt("2. Which metric does it print, as JSON lines?", default="val_loss")
    goal = click.prompt("   Is it to", type=click.Choice(["minimize", "maximize"]), default="minimize")
    entries: dict[str, str] = {}  # the last line given for a name counts
    render.line("3. Its parameters, one a line, as `lr 1e-5..1e-1 log`, `layers 1..6` or `opt sgd,adam`; empty ends.")
    while True:
        text = click.prompt("  ", default="", show_default=False)
        if not text.strip():
            if entries:
                break
            continue
        try:
            line = parameter_line(text)
            entries[line.split(":")[0]] = line
        except TunewrightError as error:
            render.line(f"   {error}", "yellow")
    trials = click.prompt("4. How many trials?", type=click.IntRange(1), default=50)
    task = click.prompt("5. Anything the tuner should know?", default="", show_default=False)
    lines = [f"command: {_quoted(command)}", f"metric: {{name: {_quoted(metric)}, goal: {goal}}}"]
    lines += [f"task: {_quoted(task)}"] if task else []
    return (
        "\n".join([*lines, "advisor: rules", f"budget: {{trials: {trials}}}", "parameters:", *entries.values()]) + "\n"
    )


def parameter_line(text: str) -> str:
    """`name low..high [log]` or `name a,b,c` as a line of a study file. Raises FixArgument."""
    import yaml

    match = re.fullmatch(r"\s*([A-Za-z_][\w.]*)\s+(\S.*?)\s*", text)
    if match is None:
        raise FixArgument("needs a name and values", field="parameter", value=text, fix="lr 1e-5..1e-1 log")
    name, values = match[1], match[2]
    if bounds := re.fullmatch(r"(\S+?)\s*\.\.\s*(\S+)(\s+log)?", values):
        numbers = [_number(bounds[1], name), _number(bounds[2], name)]
        low, high = (_decimal(n) if isinstance(n, float) else str(n) for n in numbers)
        line = f"  {name}: {{min: {low}, max: {high}{', log: true' if bounds[3] else ''}}}"
    elif ".." in values:
        raise FixArgument(
            "is no range", field=name, value=values, fix="lr 1e-5..1e-1, with log after it where it helps"
        )
    else:
        choices = [_quoted(_scalar(choice.strip())) for choice in values.split(",") if choice.strip()]
        line = f"  {name}: {{values: [{', '.join(choices)}]}}"
    study_file.parameter(name, yaml.safe_load(line)[name])
    return line


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(text: str, name: str) -> int | float:
    value = _scalar(text)
    if isinstance(value, str):
        raise FixArgument("is not a number", field=name, value=text, fix="lr 1e-5..1e-1 log")
    return value
