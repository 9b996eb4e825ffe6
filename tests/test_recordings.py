"""Recorded exchanges of real studies, answered again over HTTP and read by today's code.

Each file holds a study of fifteen or fifty trials and what a language model answered to each prompt along the way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunewright.agent import Agent
from tunewright.agent.replay import replay
from tunewright.agent.store import Store
from tunewright.agent.testing import ScriptedServer
from tunewright.agent.testing import answer as answered
from tunewright.engines import Objective, Space
from tunewright.prompts import load

FOLDER = Path(__file__).parent / "recordings"
FILES = sorted(FOLDER.glob("*.json"))
USAGE = {"prompt_tokens": 1000, "completion_tokens": 200}


def recording(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def relive(path: Path, store: Path, advisor: str) -> list[dict[str, Any]]:
    """The study again, each question asked where it was asked; what was read of each answer."""
    told, read = recording(path), []
    agent = Agent(
        Space.from_dict(told["space"]),
        objectives=[Objective(told["metric"], "minimize")],
        task=told["task"],
        data=told["data"],
        advisor=advisor,
        engine="random",
        store=store,
        study="s",
    )
    asked = [e for e in told["exchanges"] if e["prompt"] == "propose"]
    for number, trial in enumerate(told["trials"]):
        for exchange in (e for e in asked if e["number"] == number):
            read.append([dict(c.params) for c in agent.ideas(exchange["wanted"]).candidates if not c.problems])
        agent.enqueue(trial["params"])
        agent.observe(agent.suggest(), trial["value"])
    for exchange in (e for e in told["exchanges"] if e["prompt"] != "propose"):
        counsel = agent.counsel()
        opinion: Any
        if exchange["prompt"] == "diagnose":
            opinion = counsel.diagnose(exchange["number"])
        elif exchange["prompt"] == "summarize":
            opinion = counsel.summarize()
        else:
            opinion = counsel.priors(exchange["words"])
        read.append(opinion.to_dict())
    if advisor.startswith("replay:"):
        assert agent._desk is not None and agent._desk.advisor.changed == []
    agent.close()
    return read


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recorded_answers_are_read_and_replayed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges = recording(path)["exchanges"]
    monkeypatch.setenv("OPENAI_API_KEY", "recorded-key-0123")
    with ScriptedServer([answered(e["answer"], USAGE) for e in exchanges]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        first = relive(path, tmp_path / "a.db", "openai:recorded")
        assert len(server.requests) == len(exchanges)
    for exchange, found in zip(exchanges, first, strict=True):
        said = exchange["answer"]
        if exchange["prompt"] == "propose":
            given = [{n: v for n, v in c["params"].items() if v is not None} for c in said["candidates"]]
            assert found == given
        else:
            assert found["by"] == "openai:recorded" and found["trouble"] is None and found["notes"] == ()
            kept = {"diagnose": "remedies", "summarize": "findings", "priors": "priors"}[exchange["prompt"]]
            assert len(found[kept]) == len(said[kept])

    # The calls are stored with the prompt that was asked, and every decision follows from the file without them.
    with Store.open(tmp_path / "a.db", read_only=True) as store:
        study = store.study("s")
        calls = store.calls(study.id)
        assert [c.prompt_name for c in calls] == [e["prompt"] for e in exchanges]
        for call in calls:
            prompt = load(call.prompt_name)
            assert (call.prompt_version, call.prompt_hash, call.status) == (prompt.version, prompt.hash, "answered")
        assert replay(store, study).difference is None
    # The same questions again, from the file instead of the server: the same words are asked and the same is read.
    again = relive(path, tmp_path / "b.db", f"replay:{tmp_path / 'a.db'}")
    assert [_anybodys(one) for one in again] == [_anybodys(one) for one in first]


def _anybodys(read: Any) -> Any:
    """What was read, whoever said it."""
    return {**read, "by": ""} if isinstance(read, dict) else read


def test_the_recordings_hold_every_prompt_and_no_secret() -> None:
    assert len(FILES) >= 6
    asked = {e["prompt"] for path in FILES for e in recording(path)["exchanges"]}
    assert asked == {"propose", "diagnose", "summarize", "priors"}
    for path in FILES:
        text = path.read_text()
        assert len(text) < 40_000 and not any(word in text for word in ("http", "/home", "/tmp", "sk-", "Bearer"))
