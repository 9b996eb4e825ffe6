"""Pages as programs: files are saved, commands run, and what a page shows is held against what they print.

A page's blocks are one session in one folder. A block that begins with `# name.ext` is a file. In a `console` block a
line after `$ ` is a command and what follows is its output, in which a line `...` stands for anything. Numbers, curves,
and where lines break are not compared: they differ between machines.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import io
import os
import pty
import re
import runpy
import select
import shlex
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunewright.agent.cli import main

COLUMNS = 120
PROMPTS = (b"\n> ", b"[y/N]: ")  # what a chat waits for


@dataclass(frozen=True, slots=True)
class Command:
    words: tuple[str, ...]
    shown: str  # what the page says that it prints

    @property
    def typed(self) -> list[str]:
        """What a person types after it was started."""
        return re.findall(r"^(?:> |.*\[y/N\]: )(.*)$", self.shown, re.M)


def steps(page: Path) -> list[tuple[str, str] | Command]:
    """(name, text) of each file and the commands, in order."""
    found: list[tuple[str, str] | Command] = []
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        if named := re.match(r"# ([\w.-]+\.\w+)\n", text):
            found.append((named[1], text))
        elif kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
                line, _, shown = part.partition("\n")
                found.append(Command(tuple(shlex.split(line)), shown))
    return found


def act(step: tuple[str, str] | Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the file, or runs the command and compares."""
    if not isinstance(step, Command):
        (folder / step[0]).write_text(step[1], encoding="utf-8")
        return
    printed = on_a_terminal(step) if step.typed else in_this_process(step.words, monkeypatch)
    assert not (wrong := differences(step.shown, printed)), f"$ {shlex.join(step.words)}\n{wrong}"


def in_this_process(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> str:
    """`tunewright ...` or `python file.py`; what it prints, errors too."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with monkeypatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        patch.setattr(sys, "argv", list(words))
        try:
            if words[0] == "tunewright":
                main()
            else:
                runpy.run_path(words[1], run_name="__main__")
        except SystemExit as end:
            if end.code:
                out.write(f"(exit code {end.code})")
    out.seek(0)
    return out.read()


def on_a_terminal(command: Command) -> str:
    """What it writes while the page's lines are typed, each when it is waited for."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "tunewright.agent.cli", *command.words[1:]], stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(slave)
    written, left, asked = b"", list(command.typed), 0
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 65_536)
        except OSError:  # Linux's word for the end of a terminal
            break
        written += part
        if left and written[asked:].endswith(PROMPTS):
            asked = len(written)
            os.write(master, f"{left.pop(0)}\n".encode())
    os.close(master)
    assert child.wait(10) == 0, written.decode()
    lines = re.sub(r"[^\n]*\r\x1b\[K", "", written.decode())  # what was written over is not seen
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", lines)
    # The notice of a run's end comes when it comes, before or after the next answer.
    return re.sub(r"\s*\[the run is over: [^\]]*\]\s*", "\n", text)


def differences(shown: str, printed: str) -> str:
    """Nothing where the output is what the page shows; else both, for a person."""
    pieces = [r"\s+".join(map(re.escape, _plain(part).split())) for part in re.split(r"^\.\.\.$", shown, flags=re.M)]
    pattern = r"\s*" + r"\s*.*?\s*".join(pieces) + r"\s*"
    if re.fullmatch(pattern, _plain(printed), re.S):
        return ""
    return "\n".join(difflib.unified_diff(shown.splitlines(), printed.splitlines(), "the page", "printed", lineterm=""))


def _plain(text: str) -> str:
    text = re.sub(r"[▁▂▃▄▅▆▇█]+", "~", text)
    text = re.sub(r"just now|\d+ (?:minute|hour)s? ago", "lately", text)
    return re.sub(r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "N", text)
