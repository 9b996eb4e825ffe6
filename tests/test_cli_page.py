"""docs/cli.md: it knows every command, and what it shows is what they print; completion answers what a shell asks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from transcripts import act, in_this_process, steps

from tunewright.agent import Agent, Float
from tunewright.agent.cli.main import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"


def commands(group: click.Group = cli, before: str = "tunewright") -> list[tuple[str, click.Command]]:
    """Every command that runs something, by what is typed."""
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            found += commands(command, f"{before} {name}")
        else:
            found.append((f"{before} {name}", command))
    return found


def test_every_transcript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for step in steps(PAGE):
        act(step, tmp_path, monkeypatch)


def test_every_command_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert not [typed for typed, _ in commands() if not re.search(rf"(`|\$ ){typed}\b", page)]


def test_every_command_that_tells_something_has_json() -> None:
    without = {typed for typed, command in commands() if not any("--json" in p.opts for p in command.params)}
    # A conversation, a protocol, a shell's script, and what writes data in the format that is asked for.
    assert without == {f"tunewright {name}" for name in ("chat", "mcp", "completion", "export")}


def test_every_command_says_in_one_line_what_it_does() -> None:
    for typed, command in commands():
        line = command.get_short_help_str(limit=200)
        assert 10 < len(line) <= 62 and line.endswith("."), f"{typed}: {line}"


def offered(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash would be told at the end of the line."""
    words = line.split(" ")
    with monkeypatch.context() as patch:
        patch.setenv("COMP_WORDS", line)
        patch.setenv("COMP_CWORD", str(len(words) - 1))
        patch.setenv("_TUNEWRIGHT_COMPLETE", "bash_complete")
        return [answer.partition(",")[2] for answer in in_this_process(("tunewright",), monkeypatch).split()]


def test_completion_knows_commands_options_studies_and_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for store, name in (("tunewright.db", "digits"), ("other.db", "words")):
        Agent({"x": Float(0, 1)}, metric="loss", advisor=None, store=store, study=name).__exit__(None, None, None)
    (tmp_path / "study.yaml").write_text("")
    assert offered("tunewright sh", monkeypatch) == ["show"]
    assert offered("tunewright db s", monkeypatch) == ["salvage"]
    assert offered("tunewright show --su", monkeypatch) == ["--summary"]
    assert offered("tunewright show ", monkeypatch) == ["digits"]
    assert offered("tunewright why 3 --study d", monkeypatch) == ["digits"]
    assert offered("tunewright show --store other.db ", monkeypatch) == ["words"]
    assert offered("tunewright doctor ", monkeypatch) == ["digits", "study.yaml"]
    assert offered("tunewright tune study.yaml --engine f", monkeypatch) == ["forest", "freeze-thaw"]
    (tmp_path / "tunewright.db").write_text("no database")
    assert offered("tunewright show ", monkeypatch) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = in_this_process(("tunewright", "completion", shell), monkeypatch)
    assert f"_TUNEWRIGHT_COMPLETE={shell}_complete" in told
    if shell == "bash":  # the one that is always there
        asked = f"{told}\ncomplete -p tunewright"
        done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True)
        assert done.returncode == 0 and "_tunewright_completion" in done.stdout, done.stderr


def test_a_command_that_reads_loads_no_pandas(tmp_path: Path) -> None:
    """It stands in for pandas, which a test's environment may lack."""
    (tmp_path / "pandas.py").write_text("raise SystemExit('pandas was imported')")
    code = "import sys; sys.argv = ['tunewright', 'ls']; from tunewright.agent.cli import main; main()"
    Agent({"x": Float(0, 1)}, metric="loss", advisor=None, store=tmp_path / "tunewright.db").__exit__(None, None, None)
    done: Any = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("study"), done.stderr
