"""What an advisor is told of its own candidates and of the engine."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from digest_kit import BASE, LOSS, SPACE, facts, history, study, trial

from tunewright.agent import Agent, Budget, digest
from tunewright.agent.records import ProposalRecord
from tunewright.agent.testing import FakeAdvisor
from tunewright.engines import Float, Int, Objective, Space, State
from tunewright.plugins.hooks import Source


def test_the_record_of_earlier_advice_is_told() -> None:
    sources = ["engine", "advisor", "advisor", "engine", "advisor"]
    trials = [
        trial(i, BASE | {"layers": 1 + i}, v, source=s)
        for i, (v, s) in enumerate(zip([5.0, 4.0, 4.5, 3.0, 2.0], sources, strict=True))
    ]
    trials.append(trial(9, BASE | {"lr": 0.1}, error="boom", source="advisor"))
    best = " (the best until then)"
    assert f"Your candidates that were tried: #1 4{best}, #2 4.5, #4 2{best}, #9 failed." in history(trials)
    assert facts(trials[:1])["advised"] is None
    opened = [trial(0, BASE, 5.0, source="advisor"), *trials[1:3]]  # the first of all had none to beat
    assert f"Your candidates that were tried: #0 5, #1 4{best}, #2 4.5." in history(opened)
    many = [trial(i, BASE | {"lr": 0.01 / (i + 1)}, 1.0 + i, source="advisor") for i in range(9)]
    assert "tried (the latest of 9): #3 4, #4 5, #5 6, #6 7, #7 8, #8 9." in history(many)


def test_what_came_since_the_last_question_is_shown_even_where_it_is_bad() -> None:
    rng = np.random.default_rng(0)
    trials = [trial(i, c, 1.0 + i / 100) for i, c in enumerate(SPACE.sample(rng, 40))]
    asked = [trial(40 + i, c, 30.0 + i, source="advisor" if i == 0 else "engine") for i, c in
             enumerate(SPACE.sample(rng, 6))]  # fmt: skip
    later = [trial(46 + i, c, 2.0 + i / 100) for i, c in enumerate(SPACE.sample(rng, 5))]
    told = history([*trials, *asked, *later], since=45)
    assert all(f"\n#{n} " in told for n in range(45, 51))
    assert "of 50: the best, yours, the latest" in told and "\n#40 val_loss 30 (yours)" in told
    unasked = history([*trials, *asked, *later])
    assert [n for n in range(45, 51) if f"\n#{n} " in unasked] == [47, 48, 49, 50]


def test_what_the_engine_expects_stands_beside_the_best() -> None:
    trials = study(20)
    best = facts(trials)["best"]["value"]
    words = history(trials, engine=digest.EngineView("gp", BASE, mean=7.0, std=1.0))
    assert (
        f"It expects val_loss 7 there (± 1, one standard deviation); the best trial has {best:.5g}: it explores"
        in words
    )
    words = history(trials, engine=digest.EngineView("gp", BASE, mean=best - 0.1, std=1.0))
    assert f"; the best trial has {best:.5g}." in words and "it explores" not in words


def test_a_candidates_outcome_says_where_it_does_not_compare() -> None:
    full = [trial(i, BASE | {"layers": 1 + i}, 0.4 + i / 10, fidelity=27) for i in range(3)]
    short = trial(3, BASE | {"lr": 0.01}, 0.2, fidelity=3, state=State.STOPPED, source="advisor")
    assert "Your candidates that were tried: #3 0.2 after less training." in history([*full, short])
    goals = (LOSS, Objective("size"))
    both = trial(0, BASE, (0.5, 3.0), source="advisor")
    assert "tried: #0 0.5 and 3." in history([both, trial(1, BASE | {"layers": 2}, (0.4, 4.0))], SPACE, goals)


def test_what_the_model_expects_of_a_candidate_that_got_no_trial() -> None:
    trials = study(20)
    best = facts(trials)["best"]["value"]
    lost = [
        ProposalRecord("advisor", Source("x"), BASE | {"lr": lr}, "expired", reason="no place") for lr in (0.5, 0.4)
    ]
    told = history(trials, rejected=lost, expected=[(best + 0.01, 0.02), None])
    assert f"no place (now the model expects {best + 0.01:.5g} of it, ± 0.02); it may come again\n" in told
    assert told.count("now the model expects") == 1 and told.count("it may come again") == 2
    assert "now the model expects" not in history(trials, rejected=lost)
    told = history(trials, rejected=lost, expected=[(best + 0.1, 0.02), None])
    assert (
        f"{best + 0.1:.5g} of it, ± 0.02, clearly worse than the best)\n" in told
        and told.count("it may come again") == 1
    )


def test_a_product_of_the_engines_first_point_is_explained() -> None:
    space = Space({"lr": Float(1e-4, 1e-1, log=True), "batch_size": Int(16, 512)})
    first = history([], space, engine=digest.EngineView("gp", {"lr": 0.001, "batch_size": 64}, startup=True))
    assert "effective_lr below is lr/batch_size." in first and "effective_lr = " in first


def test_the_engines_model_is_asked_about_candidates_that_got_no_trial() -> None:
    asked: list[str] = []

    def answer(request: Any) -> list[dict[str, float]]:
        asked.append(request.messages[1].content)
        return [{"x": 0.1 + 0.2 * k, "y": 0.5, "z": 0.5} for k in range(3)] + [{"x": 5.0, "y": 0.5, "z": 0.5}]

    space = Space({name: Float(0, 1) for name in "xyz"})
    agent = Agent(space, metric="loss", engine="gp", advisor=FakeAdvisor(answer), store=None, budget=Budget(trials=40))
    for _ in range(12):
        made = agent.suggest()
        agent.observe(made, sum((made[name] - 0.3) ** 2 for name in "xyz"))
    agent.ideas(4)
    agent.ideas(4)
    agent.close()
    last = asked[-1].split("these were not tried")[1].split("would try next")[0]
    assert re.search(r"now the model expects \d", last)
    assert all("now the model" not in line for line in last.splitlines() if "schema:" in line)


def test_candidates_that_find_no_room_are_counted() -> None:
    space = Space({f"a_parameter_with_a_long_name_{k}": Float(0, 1) for k in range(14)})
    rng = np.random.default_rng(0)
    trials = [trial(i, c, 1.0 + i) for i, c in enumerate(space.sample(rng, 6))]
    lost = [ProposalRecord("advisor", Source("x"), c, "expired", reason="no place") for c in space.sample(rng, 3)]
    told = history(trials, space, rejected=lost)
    shown = told.count("no place; it may come again")
    assert 0 < shown < 3 and f"\n- {3 - shown} more\n" in told
