"""A key in the environment is found nowhere: not in the file, a log, an export, or a traceback."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tunewright.agent import Agent, Budget, Float
from tunewright.agent import testing as scripts
from tunewright.agent.commands import Command, CommandObjective
from tunewright.agent.redact import Redactor, redact
from tunewright.agent.testing import FakeAdvisor, ScriptedServer

CANARY = "sk-canary-9f8e7d6c5b4a39281706f5e4"


def everywhere(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [401, 400, 500])
def test_an_endpoint_that_echoes_the_key(status, tmp_path, monkeypatch, caplog, capsys) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with ScriptedServer(lambda request: scripts.status(status, message=f"bad key {CANARY}")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        agent = Agent(
            {"x": Float(0, 1)}, metric="loss", advisor="openai:any", store=tmp_path / "t.db", budget=Budget(trials=6)
        )
        agent.tune(lambda trial: trial["x"])
        text = "".join(str(agent.why(n)) for n in range(6))
        agent.close()
    out = capsys.readouterr()
    assert CANARY not in text + caplog.text + out.out + out.err
    assert CANARY.encode() not in everywhere(tmp_path)


def test_a_model_and_a_training_that_print_the_key(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", CANARY)

    def fails(trial) -> float:
        raise RuntimeError(f"login with {CANARY} failed")

    answer = {"summary": CANARY, "stance": "propose", "candidates": [{"rationale": CANARY, "params": {"x": 0.5}}]}
    agent = Agent(
        {"x": Float(0, 1)},
        metric="loss",
        advisor=FakeAdvisor(lambda r: answer),
        store=tmp_path / "t.db",
        task=f"use {CANARY}",
    )
    agent.tune(fails, trials=3)
    assert "[redacted]" in (agent.trials[0].error or "")
    agent.close()
    assert CANARY.encode() not in everywhere(tmp_path)


@pytest.mark.parametrize(
    "key",
    [f"{start}a1b2c3d4e5f6g7h8i9" for start in
     ("sk-", "pk-", "rk-", "xai-", "sk_", "hf_", "gsk_", "ghp_", "AKIA", "AIza", "Bearer ")],
)  # fmt: skip
def test_whatever_has_the_form_of_a_key_is_taken_out(key: str) -> None:
    said = redact(f"at {key} it ended")
    assert key.removeprefix("Bearer ") not in said and "[redacted]" in said


@pytest.mark.parametrize("piece", [1, 3, 7, 16, 40, 10_000])
def test_a_key_in_pieces(piece: int, monkeypatch) -> None:
    """A key is found wherever a stream is cut, also one that only looks like a key, or holds a space."""
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    monkeypatch.setenv("DB_PASSWORD", "pass word with spaces")
    keys = f"{CANARY}, Bearer abcdefgh12345678, hf_abcdefgh12345678abcd"
    text = f"at {keys}\n{'=' * 4500}{CANARY} pass word with spaces."
    redactor = Redactor()
    said = "".join(redactor.feed(text[at : at + piece]) for at in range(0, len(text), piece)) + redactor.end()
    assert said == redact(text) and said.count("[redacted]") == 5
    redactor = Redactor()
    assert redactor.feed("loss 0.25 \n") == "loss 0.25 \n", "nothing is kept back without a reason"


def test_a_command_that_prints_a_key_in_pieces(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    code = (
        f"import sys, time\nfor part in ({CANARY[:9]!r}, {CANARY[9:]!r} + chr(10)):\n"
        "    for out in (sys.stdout, sys.stderr):\n        out.write(part); out.flush()\n"
        "    time.sleep(0.2)\nsys.exit(3)"
    )
    agent = Agent({"x": Float(0, 1)}, metric="loss", advisor=None, engine="random", store=tmp_path / "t.db")
    agent.tune(CommandObjective(Command([sys.executable, "-c", code], None, ["x"]), ["loss"], tmp_path), trials=1)
    assert "[redacted]" in (agent.trials[0].error or "")
    agent.close()
    assert b"[redacted]" in everywhere(tmp_path) and CANARY.encode() not in everywhere(tmp_path)


def test_an_objective_that_brings_a_key_along(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    brought = CANARY

    def prints(trial) -> float:
        print("login with", brought, flush=True)
        return trial["x"]

    agent = Agent({"x": Float(0, 1)}, metric="loss", advisor=None, engine="random", store=tmp_path / "t.db")
    agent.tune(prints, trials=1, runner=("local", {"processes": True}))
    agent.close()
    assert b"login with [redacted]" in everywhere(tmp_path) and CANARY.encode() not in everywhere(tmp_path)


def test_tracebacks_of_a_wrong_setup(monkeypatch) -> None:
    from tunewright.agent import TunewrightError

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OTHER_KEY", CANARY)
    try:
        Agent({"x": Float(0, 1)}, metric="loss", advisor="openai:any", store=None)
    except TunewrightError as error:
        assert "OPENAI_API_KEY" in str(error)
        assert CANARY not in traceback.format_exc()
    else:
        raise AssertionError("a missing key must be said at once")


def test_importing_the_agent_is_light() -> None:
    code = (
        "import sys, tunewright.agent; from tunewright.agent import Agent\n"
        "print([m for m in ('langchain', 'openai', 'scipy', 'sklearn', 'yaml', 'rich') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
