"""A chat that is killed in the middle of an answer and of a run: both go on where they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tunewright.agent.chat.session import GrammarTalker, Session
from tunewright.agent.testing import ScriptedServer, says
from tunewright.agent.workbench import Workbench

OBJECTIVE = """import time
def objective(trial):
    time.sleep(0.25)
    return trial["lr"]
"""
STUDY = """
metric: {name: loss, goal: minimize}
objective: train.py:objective
engine: random
advisor: none
budget: {trials: 40}
parameters: {lr: {min: 0.001, max: 0.1, log: true}}
"""


def until(true: Callable[[], object]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_killed_in_an_answer_and_a_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OBJECTIVE)
    (tmp_path / "study.yaml").write_text(STUDY)
    script = [
        says("Running.", calls=[("run", {"trials": 30})]),
        says("They train."),
        says(("word" * 50 + " ") * 900, pause=0.05),
    ]
    program = "from tunewright.agent.cli import main; main()"
    words = ["chat", "--file", "study.yaml", "--store", "s.db", "--model", "openai:scripted", "--yes"]
    with ScriptedServer(script) as server:
        chat = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "scripted-key"},
        )  # fmt: skip
        assert chat.stdin is not None and chat.stdout is not None
        try:
            chat.stdin.write("run thirty\nand why?\n")
            chat.stdin.flush()
            until(lambda: len(server.requests) == 3 and server.requests[2].sent > 2_000)
            with Workbench(tmp_path / "s.db") as looking:
                until(lambda: len([t for t in looking.agent.trials if t.value is not None]) >= 2)
        finally:
            chat.send_signal(signal.SIGKILL)
            chat.wait(10)
            chat.stdin.close()
            chat.stdout.close()

    with Workbench(tmp_path / "s.db") as bench:
        (thread,) = bench.store.threads(bench.agent.study_id)
        session = Session(bench, GrammarTalker(bench), lambda question: True, thread=thread)
        assert session.unanswered() == "and why?"
        role, said = session.history()[-1]
        assert role == "assistant" and said.startswith("wordword") and said.endswith("(broken off)")
        done = sum(t.value is not None for t in bench.agent.trials)
        assert bench.rest == 30 - done
        assert "was broken off" in "".join(session.say("status"))
        assert "Training" in "".join(session.say("resume"))
        until(lambda: sum(t.value is not None for t in bench.agent.trials) > done)
        bench.pause(wait=None)
        numbers = [t.number for t in bench.agent.trials]
        assert numbers == list(range(len(numbers)))
        assert all(t.value is not None for t in bench.agent.trials)
