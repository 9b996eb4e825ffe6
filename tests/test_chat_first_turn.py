"""What happens around a chat's first question and its waiting: the rehearsal, tools before a study, signs of life."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent, Budget, Float
from tunewright.agent.chat.session import Session
from tunewright.agent.cli import chat, waiting
from tunewright.agent.testing import ScriptedServer, says
from tunewright.agent.tools import BY_NAME
from tunewright.agent.workbench import Workbench
from tunewright.plugins import registry
from tunewright.plugins.chat import rehearsal

SPACE = {"lr": Float(1e-5, 1e-1, log=True)}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with Agent(SPACE, metric="loss", engine="random", advisor=None, store=tmp_path / "s.db", study="s",
               budget=Budget(trials=50)) as agent:  # fmt: skip
        agent.tune(lambda trial: trial["lr"], 3)
    with Workbench(tmp_path / "s.db", objective=lambda trial: trial["lr"]) as made:
        yield made


def talker(server: ScriptedServer, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setattr(rehearsal, "_rehearsed", False)
    return registry.load("talkers", "langchain")("openai:scripted", bench)


def test_the_rehearsal_reaches_nobody_and_leaves_nothing(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[Any] = []
    play = rehearsal._play

    async def listened(reader: Any, writer: Any) -> None:
        await play(reader, writer)
        played.append(writer)

    monkeypatch.setattr(rehearsal, "_play", listened)
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setenv("NO_PROXY", "")
    with ScriptedServer([says("Yes.")]) as server:
        model = talker(server, bench, monkeypatch)
        model.ready()
        assert len(played) == 1 and server.requests == []
        assert bench.store.calls(bench.agent.study_id) == [] and bench.store.threads(None) == []


def test_a_rehearsal_that_fails_costs_nothing_but_itself(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any, **__: Any) -> Any:
        raise OSError("no sockets here")

    monkeypatch.setattr(asyncio, "start_server", refused)
    with ScriptedServer([says("Yes.")]) as server:
        session = Session(bench, talker(server, bench, monkeypatch), lambda question: True)
        assert "".join(session.say("so?")) == "Yes."


def test_tools_of_a_study_are_described_once_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=0.1)\n"
    )
    script = [says(calls=[("create_study", {"file": "train.py"})]), says("Made.")]
    with ScriptedServer(script) as server, Workbench(tmp_path / "s.db") as empty:
        session = Session(empty, talker(server, empty, monkeypatch), lambda question: True)
        assert "".join(session.say("tune train.py")) == "Made."
        offered = [{tool["function"]["name"] for tool in request.body["tools"]} for request in server.requests]
        sizes = [len(json.dumps(request.body["tools"])) for request in server.requests]
    assert offered[0] == {"files", "draft", "create_study"} and offered[1] == set(BY_NAME)
    assert sizes[1] < 12_000  # what every request carries


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_waiting_shows_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    going = threading.Event()

    def objective(trial: Any) -> float:
        trial.report(1, 0.25)
        if trial.number == 1:
            going.wait(20)
        return 0.25

    monkeypatch.setattr("tunewright.agent.workbench.LOOK", 0.02)
    monkeypatch.setattr(waiting, "EVERY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with Agent(SPACE, metric="loss", engine="random", advisor=None, store=tmp_path / "w.db", study="w") as agent:
        assert agent.study == "w"
    with Workbench(tmp_path / "w.db", objective=objective) as bench:
        out = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        show = waiting.Waiting(bench)

        def told(run: Any, over: bool) -> None:
            show(run, over)
            if run.ended and "1 of 2 trials ended" in out.getvalue():
                going.set()

        bench.on_wait = told
        bench.start(2)
        assert bench.wait(20)
    text = out.getvalue()
    assert "1 of 2 trials ended" in text and "best so far: trial 0, 0.25" in text
    assert ("\r\x1b[K" in text) is terminal and ("\x1b" in text) is terminal
    assert not terminal or text.endswith("\r\x1b[K")  # the line is gone when the answer comes


def test_a_notice_waits_for_the_end_of_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    with Workbench(tmp_path / "n.db") as bench:
        talk = chat._Chat(bench, None, True, None)

        def say(text: str) -> None:
            talk._screen.write("The run ")
            talk._notice("[the run is over: 2 of 2 trials ended]")  # as the training thread does
            talk._screen.write("is over.")
            talk._screen.line_break()

        talk._answer = say  # type: ignore[method-assign]
        lines = iter(["wait"])

        def line() -> str:
            for text in lines:
                return text
            raise EOFError

        talk._line = line  # type: ignore[method-assign]
        talk.converse()
    text = out.getvalue()
    assert text.index("The run is over.") < text.index("[the run is over: 2 of 2 trials ended]")
