"""The tutorial does what it says: every file, every command, and with a model where it says "with a key"."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from transcripts import Command, act, differences, in_this_process, steps

from tunewright.agent.store import Store
from tunewright.agent.testing import Request, ScriptedServer, answer

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
IDEA = {"learning_rate_init": 0.01, "batch_size": 32, "hidden_layer_sizes": 64, "alpha": 1e-4}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "train", raising=False)  # other tests have scripts of this name
    yield tmp_path
    sys.modules.pop("train", None)


def test_every_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = steps(PAGE)
    assert sum(isinstance(step, Command) for step in session) >= 9
    for step in session:
        act(step, folder, monkeypatch)
    with Store.open(folder / "tunewright.db", read_only=True) as store:
        results = {}
        for name in ("loop", "talked", "hybrid"):
            record = store.study(name)
            assert record is not None
            default, best = store.trial(record.id, 0), store.best(record.id, maximize=False)
            assert default.values is not None and best is not None and best.values is not None
            assert best.values[0] < 0.3 * default.values[0], name
            results[name] = store.verifying_runs(record.id)
    means = [
        sum(r.values[0] for r in results["hybrid"] if r.values and (r.number == 0) == of) / 5 for of in (True, False)
    ]
    assert means[1] < means[0], "what the page says of the test split"


def test_with_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that the page says to change, and what it says that changes."""

    def model(request: Request) -> Any:
        candidates = [{"rationale": "Small batches, larger steps.", "params": IDEA}]
        return answer({"summary": "-", "stance": "propose", "candidates": candidates})

    for step in steps(PAGE):
        if not isinstance(step, Command):
            (folder / step[0]).write_text(
                step[1].replace('"rules"', '"openai:scripted"').replace("trials=20", "trials=10")
            )
    with ScriptedServer(model) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        in_this_process(("python", "hybrid.py"), monkeypatch)
        told = in_this_process(("tunewright", "why", "1"), monkeypatch)
    assert "Chosen by advisor (openai:scripted)" in told and "said: Small batches, larger steps." in told
    assert "MLPClassifier" in str(server.requests[0].body)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1.5 b\n", "a 2e-3 b", True),
        ("a\n...\nz\n", "a\nb\nc\nz", True),
        ("a\n...\nz\n", "b\na\nz", False),
        ("one line\nthat wraps\n", "one line that wraps", True),
        ("a\n", "a\nand more", False),
        ("trial 3 failed\n", "trial 3 is complete", False),
    ],
)
def test_a_page_that_shows_something_else_is_found(shown: str, printed: str, same: bool) -> None:
    assert (differences(shown, printed) == "") is same
