"""The commands. Each body imports what it needs, so that `--help` starts at once."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from tunewright.agent.cli.group import Commands, only_reads

DEFAULT_STORE = "tunewright.db"
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("tunewright"), prog_name="tunewright")
def cli() -> None:
    """Tunes hyperparameters: advice, checked against classical engines; every trial and reason in one file.

    Start with `tunewright demo`: no key, no configuration.
    """


def _offered(what: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """What TAB offers, a function of `completion`, loaded when somebody presses it."""
    return lambda *asked: getattr(import_module("tunewright.agent.cli.completion"), what)(*asked)


study_argument = click.argument("study", required=False, shell_complete=_offered("studies"))
target_argument = click.argument(
    "target", metavar="[STUDY|study.yaml]", required=False, shell_complete=_offered("targets")
)
study_option = click.option(
    "--study", shell_complete=_offered("studies"), help="The study, by default the one last worked on."
)
store_option = click.option(
    "--store", default=DEFAULT_STORE, show_default=True, type=click.Path(path_type=Path), help="The study file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")


@cli.command()
@click.option("--trials", default=20, show_default=True, type=click.IntRange(2), help="How many configurations to try.")
@click.option(
    "--store", default="tunewright-demo.db", show_default=True, type=click.Path(path_type=Path), help="The study file."
)
@json_option
def demo(trials: int, store: Path, as_json: bool) -> None:
    """Tune a small network on real data, in about a minute.

    Needs no key and no network. Ends with a table, best against default, and why the best was tried.
    """
    from tunewright.agent.cli.demo import run

    run(trials, store, as_json)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), help="The study file, instead of the one FILE names.")
@click.option("--study", help="The study's name, instead of the one FILE names.")
@click.option("--trials", type=click.IntRange(1), help="Stop after this many trials of this run.")
@click.option(
    "--advisor", shell_complete=_offered("plugins"),
    help='"rules", "openai:MODEL", "langchain:PROVIDER:MODEL", or "none".',
)  # fmt: skip
@click.option("--engine", shell_complete=_offered("plugins"), help="An engine's name; see `tunewright plugins`.")
@click.option("--workers", type=click.IntRange(1), help="Trials at once.")
@click.option(
    "--runner", shell_complete=_offered("plugins"), help='"local", "ray", or another one of `tunewright plugins`.'
)
@json_option
def tune(
    file: Path,
    store: Path | None,
    study: str | None,
    trials: int | None,
    advisor: str | None,
    engine: str | None,
    workers: int | None,
    runner: str | None,
    as_json: bool,
) -> None:
    """Run the study that a study.yaml describes, or go on with it."""
    from tunewright.agent.cli.tune import run

    changes = {"store": store, "study": study, "engine": engine, "advisor": advisor}
    run(file, {k: v for k, v in changes.items() if v is not None}, trials, workers, as_json, runner)


@cli.command()
@click.argument("script", type=click.Path(path_type=Path), required=False)
@click.option("--output", default="study.yaml", show_default=True, type=click.Path(path_type=Path), help="The file.")
@click.option("--force", is_flag=True, help="Overwrite it.")
@json_option
def init(script: Path | None, output: Path, force: bool, as_json: bool) -> None:
    """Write a study.yaml, from a script's arguments or by asking.

    SCRIPT is read, never run: every argument that looks like a hyperparameter becomes one, with a range to check.
    """
    from tunewright.agent.cli.init import run

    run(script, output, force, as_json)


@cli.command("ls")
@store_option
@json_option
def list_studies(store: Path, as_json: bool) -> None:
    """List the studies of a file."""
    only_reads()
    from tunewright.agent.cli import reading

    reading.list_studies(store, as_json)


@cli.command()
@study_argument
@store_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Trials to list.")
@click.option(
    "--sort", type=click.Choice(["number", "value"]), default="number", show_default=True, help="Latest or best first."
)
@click.option("--summary", is_flag=True, help="What it has shown so far, by its language model where it has one.")
@click.option("--no-model", is_flag=True, help="With --summary: by statistics alone, which costs nothing.")
@json_option
def show(study: str | None, store: Path, limit: int, sort: str, summary: bool, no_model: bool, as_json: bool) -> None:
    """Show one study and its trials.

    By default the study last worked on.
    """
    only_reads()
    from tunewright.agent.cli import reading

    if summary:
        from tunewright.agent.cli import counsel

        return counsel.run(store, study, None, not no_model, as_json)

    reading.show(store, study, limit, sort, as_json)


@cli.command()
@click.argument("number", type=click.IntRange(0))
@study_option
@store_option
@click.option("--diagnose", is_flag=True, help="What went wrong with it, by the study's language model if it has one.")
@click.option("--no-model", is_flag=True, help="With --diagnose: by curves and statistics alone, which costs nothing.")
@json_option
def why(number: int, study: str | None, store: Path, diagnose: bool, no_model: bool, as_json: bool) -> None:
    """Tell why a trial was tried.

    Everything that led to trial NUMBER: the engine's proposal, the advice with every check, calls, fallbacks.
    """
    only_reads()
    from tunewright.agent.cli import reading

    if diagnose:
        from tunewright.agent.cli import counsel

        return counsel.run(store, study, number, not no_model, as_json)

    reading.why(store, study, number, as_json)


@cli.command()
@click.argument("words", required=False)
@study_option
@store_option
@click.option("--withdraw", metavar="NUMBER", type=click.IntRange(1), help="Take a belief back.")
@click.option("--no-model", is_flag=True, help="Read the words by patterns alone, which costs nothing.")
@json_option
def believe(
    words: str | None, study: str | None, store: Path, withdraw: int | None, no_model: bool, as_json: bool
) -> None:
    """Say what you know of the parameters.

    WORDS such as "lr above 0.05 diverges" or "adam works better than sgd" become soft beliefs that tilt the search,
    fade, and are dropped where trials speak against them. Without WORDS: what was said, and what became of it.
    """
    from tunewright.agent.cli.believe import run

    run(words, study, store, withdraw, not no_model, as_json)


@cli.command()
@target_argument
@store_option
@click.option("--apply", is_flag=True, help="Carry out the fixes that can be: edits of the space, repeats to run.")
@json_option
def doctor(target: str | None, store: Path, apply: bool, as_json: bool) -> None:
    """Find what is wrong with a study or a study.yaml.

    Exits with 1 when there are warnings, with 3 when there are errors.
    """
    only_reads()
    from tunewright.agent.cli.doctor import run

    run(target, store, apply, as_json)


@cli.command()
@target_argument
@click.option("--store", type=click.Path(path_type=Path), help="The study file.")
@click.option("--file", type=click.Path(path_type=Path), help="The study.yaml that knows how to train a trial.")
@click.option("--trial", type=click.IntRange(0), help="Another trial than the best.")
@click.option("--seeds", type=click.IntRange(2), help="How many runs, each with a seed of its own; 5 by default.")
@click.option("--held-out", metavar="WORDS", help='What is measured on: "test split".')
@click.option("--command", metavar="TEXT", help="A command that measures there, instead of the search's.")
@click.option("--workers", type=click.IntRange(1), help="Runs at once.")
@json_option
def verify(
    target: str | None,
    store: Path | None,
    file: Path | None,
    trial: int | None,
    seeds: int | None,
    held_out: str | None,
    command: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run the winner again on held-out data.

    Several seeds, and in words how much of its result was luck and selection. The script is told by
    TUNEWRIGHT_PURPOSE=verify, the function by trial.purpose. The search stays as it is.
    """
    from tunewright.agent.cli.study_verify import HeldOut
    from tunewright.agent.cli.verify import run

    run(target, store, file, trial, HeldOut(seeds, held_out, command), workers, as_json)


@cli.command()
@study_argument
@store_option
@json_option
def replay(study: str | None, store: Path, as_json: bool) -> None:
    """Derive every decision of a study again from its file.

    No advisor is called: the recorded answers are read. Exits with 1 at the first decision that comes out otherwise.
    """
    only_reads()
    from tunewright.agent.cli.replay import run

    run(study, store, as_json)


@cli.command()
@study_argument
@store_option
@click.option("--file", type=click.Path(path_type=Path), help="The study.yaml that knows how to train a trial.")
@click.option("--model", metavar="PROVIDER:MODEL", help="A chat model that LangChain knows, e.g. openai:MODEL.")
@click.option("--thread", type=click.IntRange(1), help="Go on with this conversation, not the latest.")
@click.option("--new", "fresh", is_flag=True, help="Begin a new conversation.")
@click.option("--yes", is_flag=True, help="Change without asking.")
def chat(
    study: str | None,
    store: Path,
    file: Path | None,
    model: str | None,
    thread: int | None,
    fresh: bool,
    yes: bool,
) -> None:
    """Tune by talking.

    Reading is free; whatever changes or spends something asks first. Works with no key and no model. A study can be
    made here too, of a training script or a study file.
    """
    from tunewright.agent.cli.chat import run

    run(study, store, file, thread, fresh, yes, model)


@cli.command()
@study_argument
@store_option
@click.option(
    "--format", "form", default="csv", show_default=True,
    type=click.Choice(["csv", "json", "parquet", "wandb", "wandb-best", "best"]),
    help="best: the best trial's parameters; wandb: the space as a sweep; wandb-best: those as a run's config.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="The file to write, instead of standard output.")
@click.option("--curves", is_flag=True, help="The reported points too.")
def export(study: str | None, store: Path, form: str, output: Path | None, curves: bool) -> None:
    """Write a study's trials for other tools."""
    only_reads()
    from tunewright.agent.cli.export import run

    run(study, store, form, output, curves)


@cli.group()
def db() -> None:
    """Check a study file, or save what can be read of it."""


@db.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_STORE)
@json_option
def db_check(file: Path, as_json: bool) -> None:
    """Hold every trial against its events.

    Exits with 1 when something is wrong.
    """
    only_reads()
    from tunewright.agent.cli.db import check

    check(file, as_json)


@db.command("salvage")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@json_option
def db_salvage(file: Path, output: Path, as_json: bool) -> None:
    """Copy what can be read of a damaged file.

    FILE stays as it is; OUTPUT is a new file.
    """
    from tunewright.agent.cli.db import salvage

    salvage(file, output, as_json)


@db.command("rebuild")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@json_option
def db_rebuild(file: Path, output: Path, as_json: bool) -> None:
    """Make all trials anew from their events.

    FILE must be sound; the copy is the new file OUTPUT.
    """
    from tunewright.agent.cli.db import rebuild

    rebuild(file, output, as_json)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion of commands, options and studies.

    bash: eval "$(tunewright completion bash)" in ~/.bashrc, bash 4.4 or newer; zsh: the same in ~/.zshrc; fish:
    tunewright completion fish > ~/.config/fish/completions/tunewright.fish
    """
    from tunewright.agent.cli.completion import script

    click.echo(script(shell, cli))


@cli.command()
@json_option
def plugins(as_json: bool) -> None:
    """List the installed engines, advisors and other plugins."""
    from tunewright.agent.cli import reading

    reading.plugins(as_json)


def main() -> None:
    """Runs a command; an error of ours is one message and an exit code, anything else keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a curve must not break a pipe that knows only ASCII
    try:
        cli(prog_name="tunewright", standalone_mode=False)
    except click.exceptions.Abort:  # click's name for an interrupt
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        from tunewright.engines.errors import TunewrightError

        if isinstance(error, OSError) and error.filename is not None:  # a file that cannot be read or written
            fix = {errno.ENOENT: "check the path", errno.EACCES: "check its permissions"}.get(error.errno or 0)
            text = f"tunewright: {error.filename}: {error.strerror}" + (f". Fix: {fix}" if fix else "")
            click.echo(text, err=True)
            sys.exit(EXIT_FAILED)
        if not isinstance(error, TunewrightError):
            raise
        from tunewright.prompts.text import plain

        click.echo(f"tunewright: {plain(str(error), 4000)}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, ValueError | LookupError) else EXIT_FAILED)
