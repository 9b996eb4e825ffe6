"""What the commands write to a terminal: tables within its width, colours unless refused, the live table."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent, Categorical, Float

STUDY = """
name: mine
objective: train.py:objective
metric: {name: loss}
advisor: none
method: random
budget: {trials: 4}
parameters:
  x: {min: 1, max: 6}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One study of long parameters, in which trial 3 failed with a message in rich's markup."""
    path = tmp_path_factory.mktemp("cli") / "runs.db"
    space = {"learning_rate_of_the_generator": Float(0, 1), "optimizer": Categorical(["adam with decoupled decay"])}

    def objective(trial: Any) -> float:
        if trial.number == 3:
            raise ValueError("[red]bad[/red]")
        trial.report(1, 0.5)
        return 0.5

    with Agent(space, metric="val_loss", advisor=None, engine="random", store=path) as agent:
        agent.tune(objective, 5)
    return path


def on_a_terminal(
    folder: Path, *words: str, act: Any = None, code: int = 0, typed: str = "", **environment: str
) -> str:
    """What `tunewright` writes to a terminal of 80 columns until it ends with `code`; `act` is given its process,
    `typed` is written at the first prompt."""
    master, slave = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "tunewright.agent.cli", *words]
    child = subprocess.Popen(
        command, cwd=folder, stdin=slave, stdout=slave, stderr=slave,
        env={**clean, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **environment},
    )  # fmt: skip
    os.close(slave)
    if act is not None:
        act(child)
    seen = b""
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 65_536)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not part:
            break
        seen += part
        if typed and seen.endswith(b"\n> "):
            os.write(master, typed.encode())
            typed = ""
    os.close(master)
    assert child.wait() == code, seen.decode()
    return seen.decode()


def test_a_terminal_gets_tables_within_its_width_and_colours_unless_refused(store: Path) -> None:
    coloured = on_a_terminal(store.parent, "show", "--store", str(store))
    assert "\x1b[31m" in coloured and "─────" in coloured
    bare = on_a_terminal(store.parent, "show", "--store", str(store), NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", bare)
    assert "[red]bad[/red]" in bare.replace("\r\n", " ").replace("  ", "")
    table = [line for line in re.sub(r"\x1b\[[\d;]*m", "", bare).splitlines() if "tunewright why" not in line]
    assert max(map(len, table)) <= 80


def test_a_narrow_terminal_does_without_what_can_be_done_without(store: Path) -> None:
    wide = on_a_terminal(store.parent, "show", "--store", str(store), NO_COLOR="1", COLUMNS="120")
    narrow = on_a_terminal(store.parent, "show", "--store", str(store), NO_COLOR="1", COLUMNS="48")
    assert "curve" in wide and "time" in wide
    table = [line for line in re.sub(r"\x1b\[[\d;]*m", "", narrow).splitlines() if "tunewright why" not in line]
    assert "curve" not in narrow and max(map(len, table)) <= 48
    assert "learning_rate_of_the_ge" in narrow, "a name is not folded into a column of a few letters"


def test_a_dumb_terminal_gets_plain_lines(store: Path) -> None:
    shown = on_a_terminal(store.parent, "show", "--store", str(store), TERM="dumb")
    assert "\x1b" not in shown and "─" not in shown


def test_the_live_table(tmp_path: Path) -> None:
    source = (
        "def objective(trial):\n    for step in range(3):\n        trial.report(step, 3.0 - step)\n"
        "    return float(trial['x'])\n"
    )
    (tmp_path / "train.py").write_text(source)
    (tmp_path / "study.yaml").write_text(STUDY)
    seen = on_a_terminal(tmp_path, "tune", "study.yaml")
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen)
    assert "mine: 4 of 4 trials" in text and "best " in text and "█▅▁" in text
    assert "[1/4]" not in text


def test_ctrl_c_is_answered_inside_the_live_table(tmp_path: Path) -> None:
    """A line written beside the table would be drawn over at its next turn, and leave its first lines behind."""
    source = (
        "import time\ndef objective(trial):\n    time.sleep(1)\n    open('drawn', 'w').close()\n    time.sleep(2)\n"
        "    return 0.5\n"
    )
    (tmp_path / "train.py").write_text(source)
    (tmp_path / "study.yaml").write_text(STUDY)

    def interrupt(child: subprocess.Popen[bytes]) -> None:
        while not (tmp_path / "drawn").exists():
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)

    seen = on_a_terminal(tmp_path, "tune", "study.yaml", act=interrupt, code=130)
    screen = displayed(seen)
    assert sum(line.startswith("mine: ") for line in screen) == 1, screen
    assert "Parking: the trial that runs ends first. Ctrl-C again stops at once." in screen
    assert screen[-1] == "Interrupted. Nothing is lost: the same command goes on from here."


def displayed(written: str) -> list[str]:
    """The lines that a terminal shows in the end, for the few controls that a live table uses."""
    lines, at = [""], 0
    for part in re.findall(r"\x1b\[[\d;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            at -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part[0] not in "\x1b\r":
            lines[at] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_an_interrupted_demo_says_where_its_trials_are(tmp_path: Path) -> None:
    """scikit-learn itself swallows the interrupt; the demo must end all the same."""
    command = [sys.executable, "-u", "-m", "tunewright.agent.cli", "demo", "--trials", "10000"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("[1/"):
            break
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines() == [
        "Parking: the trial that runs ends first. Ctrl-C again stops at once.",
        "Interrupted. What was tried is kept: tunewright show demo --store tunewright-demo.db",
    ]


def test_a_chat_prompts_before_its_model_is_there(tmp_path: Path) -> None:
    """Whoever types before it is ready waits; that it cannot be had is told, and ends the chat."""
    seen = on_a_terminal(tmp_path, "chat", "--model", "openai:x", typed="hello\n", code=2)
    assert seen.index("> ") < seen.index("OPENAI_API_KEY: is not set")
