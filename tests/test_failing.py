"""Failure regions as people, advisors and the arbiter meet them."""

from __future__ import annotations

import numpy as np
import pytest
from digest_kit import history, trial

from tunewright.agent import Agent, Budget, Categorical, Float, Int, Space
from tunewright.agent.cli import reading
from tunewright.agent.failing import failing, kind
from tunewright.agent.testing import FakeAdvisor

SPACE = {"lr": Float(1e-4, 1.0, log=True), "batch": Int(8, 512, log=True), "opt": Categorical(["sgd", "adam"])}


@pytest.mark.parametrize(("error", "verb"), [
    ("loss was nan at step 3", "diverges"),
    ("OverflowError: math range error", "diverges"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "runs out of memory"),
    ("TimeoutError: no result after 60 s", "takes too long"),
    ("KeyError: 'weights'", "crashes"),
    ("FileNotFoundError: info.json", "crashes"),
    (None, "crashes"),
])  # fmt: skip
def test_what_a_trial_died_of(error, verb):
    assert kind(error) == verb


def dying(n, seed=0):
    """Diverges at high rates, runs out of memory with large batches of adam."""
    out = []
    for i, c in enumerate(Space(SPACE).sample(np.random.default_rng(seed), n)):
        if c["lr"] > 0.1:
            out.append(trial(i, c, error=f"loss was nan at step {i}"))
        elif c["batch"] > 128 and c["opt"] == "adam":
            out.append(trial(i, c, error="CUDA out of memory"))
        else:
            out.append(trial(i, c, 1.0 + i))
    return out


def test_divergence_and_memory_are_told_apart():
    words = {one.verb: str(one) for one in failing(Space(SPACE), dying(120))}
    assert words["diverges"].startswith("lr > ") and "batch" not in words["diverges"]
    assert "batch >= 1" in words["runs out of memory"] and "opt is 'adam'" in words["runs out of memory"]


def test_failures_of_many_kinds_in_one_place_are_taken_together():
    errors = iter(["loss was nan", "out of memory", "TimeoutError", "KeyError: 'x'"] * 9)
    trials = [
        trial(i, c, error=next(errors)) if c["batch"] < 20 else trial(i, c, 1.0)
        for i, c in enumerate(Space(SPACE).sample(np.random.default_rng(1), 36))
    ]
    (found,) = failing(Space(SPACE), trials)
    assert found.verb == "fails" and str(found).startswith("batch <= ")


def test_failures_by_luck_of_any_kind_have_no_region():
    wrong = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        errors = [None, None, None, "loss was nan", "out of memory"]
        drawn = [errors[int(k)] for k in rng.integers(5, size=40)]
        configs = Space(SPACE).sample(rng, 40)
        trials = [trial(i, c, None if e else 1.0, error=e) for i, (c, e) in enumerate(zip(configs, drawn, strict=True))]
        wrong += bool(failing(Space(SPACE), trials))
    assert wrong <= 5


def test_the_digest_says_where():
    words = history(dying(120), Space(SPACE), failing=[str(one) for one in failing(Space(SPACE), dying(120))])
    assert "Where trials fail far more often than elsewhere" in words
    assert "- lr > 0." in words and " diverges: " in words


def objective(params):
    return float("nan") if params["lr"] > 0.1 else abs(np.log10(params["lr"]) + 2) + params["batch"] / 512


def study(store, trials=45, advisor=None):
    agent = Agent(SPACE, metric="loss", engine="random", advisor=advisor, budget=Budget(trials=100), store=store)
    for _ in range(trials):
        found = agent.suggest()
        agent.observe(found, objective(found.params))
    return agent


def test_show_and_why_say_where(tmp_path, capsys):
    path = tmp_path / "s.db"
    with study(path) as agent:
        failed = next(t for t in agent.trials if t.error)
        good = next(t for t in agent.trials if not t.error)
        assert "It lies where trials fail: lr > 0." in str(agent.why(failed))
        assert agent.why(good).failing is None
    reading.show(path, None, 5, "number", False)
    assert "lr > 0." in capsys.readouterr().out


class Free(FakeAdvisor):
    free_of_charge = True


def test_the_gate_turns_down_what_lies_in_one_and_says_so():
    """The candidate is far from every trial that failed."""
    asked = []

    def answer(request):
        asked.append(request)
        bold = request.facts["n_trials"] > 20
        return [
            {"lr": 0.999, "batch": 8, "opt": "adam"} if bold else {"lr": 0.01, "batch": 8 + len(asked), "opt": "sgd"}
        ]

    agent = study(None, 60, Free(answer))
    rejected = [p.reason for p in agent._store.proposals(agent.study_id, status="rejected") if p.by == "advisor"]
    assert any(reason.startswith("failure region: lr > 0.") and reason.endswith(" trials") for reason in rejected)
    told = asked[-1].messages[-1].content
    assert "failure region: lr" in told and "Where trials fail" in told
