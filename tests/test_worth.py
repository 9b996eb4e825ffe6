"""What advice cost and brought, per advisor, model and prompt version, in the words that people read."""

from __future__ import annotations

import json

import pytest

from tunewright import prompts
from tunewright.agent import Agent, Budget, Float
from tunewright.agent.cli import reading
from tunewright.agent.testing import FakeAdvisor
from tunewright.agent.worth import Worth, worth
from tunewright.plugins.hooks import Completion

SPACE = {"x": Float(0, 1), "y": Float(0, 1)}
PROMPT = f"propose {prompts.load('propose').version}"
PRICES = {"fake:m": {"input": 1.0, "output": 4.0}}  # USD for a million tokens


def answer(params, model):
    candidate = {"rationale": "scripted", "params": params}
    text = json.dumps({"stance": "propose", "summary": "scripted", "candidates": [candidate]})
    return Completion(text, tokens_in=1_000, tokens_out=250, model=model)


def loss(trial):
    return (trial["x"] - 0.3) ** 2 + (trial["y"] - 0.6) ** 2


def run(store, model="m", trials=12):
    """The first advised trial is the best there is, later ones are not."""
    given = []

    def give(request):
        given.append(request)
        if not request.facts["n_trials"]:
            return answer({"x": 0.55, "y": 0.6}, model)
        far = 0.0 if len(given) == 2 else 0.1 + 0.02 * len(given)
        return answer({"x": 0.3 + far, "y": 0.6}, model)

    agent = Agent(
        SPACE, metric="loss", engine="random", advisor=FakeAdvisor(give, model=model), store=store, prices=PRICES,
        budget=Budget(trials=50),
    )  # fmt: skip
    for _ in range(trials):
        trial = agent.suggest()
        agent.observe(trial, loss(trial))
    return agent


def test_tokens_money_and_seconds_for_each_improvement():
    agent = run(None)
    (found,) = worth(agent._view)
    calls = agent._store.calls(agent.study_id)
    assert found.advisor == f"fake:m, {PROMPT}" and found.calls == len(calls)
    assert found.tokens == 1_250 * len(calls)
    assert found.usd == pytest.approx(len(calls) * (1_000 * 1.0 + 250 * 4.0) / 1e6)
    assert found.improvements == 1 and found.gain > 0
    each = f"{found.tokens:,} tokens, {found.usd:.4f} USD, {found.seconds:.1f} s for each"
    assert str(found).endswith(each) and "1 of them a new best" in str(found)


def test_what_brought_nothing_says_so_and_an_unknown_price_is_unknown():
    words = str(Worth("a:m, propose v2", 3, 1, 900, None, 1.5, 2, 0, 0.0))
    assert words == (
        "a:m, propose v2: 3 calls (1 failed), 900 tokens, cost unknown, 1.5 s; 2 trials, none of them a new best"
        " beyond the noise"
    )


def test_two_models_of_one_study_are_told_apart(tmp_path):
    run(tmp_path / "s.db").close()
    agent = run(tmp_path / "s.db", model="other")
    found = worth(agent._view)
    assert [one.advisor for one in found] == [f"fake:m, {PROMPT}", f"fake:other, {PROMPT}"]
    assert sum(one.calls for one in found) == len(agent._store.calls(agent.study_id))
    assert sum(one.trials for one in found) == sum(t.source == "advisor" for t in agent.trials)


def test_show_and_why_tell_it(tmp_path, capsys):
    path = tmp_path / "s.db"
    agent = run(path, trials=4)
    advised = next(t for t in agent.trials if t.source == "advisor" and t.number)
    assert f"Worth so far: fake:m, {PROMPT}: " in str(agent.why(advised))
    agent.close()
    reading.show(path, None, 5, "number", False)
    assert f"fake:m, {PROMPT}: " in " ".join(capsys.readouterr().out.split())
    reading.show(path, None, 5, "number", True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["advice"][0]["improvements"] == 1 and shown["advice_rests"] is None


def test_show_tells_that_it_rests(tmp_path, capsys):
    path = tmp_path / "s.db"
    agent = run(path)
    assert "questions in a row" in agent.trials[11].reason
    agent.close()
    reading.show(path, None, 5, "number", False)
    assert "It is asked less: " in " ".join(capsys.readouterr().out.split())
