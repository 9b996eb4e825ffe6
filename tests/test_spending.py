"""Advice that does not pay is asked for less, advice that does is asked again, and each says so."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.agent import Agent, Budget, Float, Objective
from tunewright.agent.replay import replay
from tunewright.agent.spending import PATIENCE, Spending, gains, spending
from tunewright.agent.testing import FakeAdvisor
from tunewright.agent.trust import Result

SPACE = {"x": Float(0, 1), "y": Float(0, 1)}
PRICES = {"fake:m": {"input": 1.0, "output": 4.0}}


def outcomes(losses, advised=()):
    return [Result(i, "a" if i in advised else None, loss) for i, loss in enumerate(losses)]


def after(results, questions, **over):
    return spending(results, questions, "a", **{"noise": 0.0, "running": None, "budget": 100} | over)


def test_a_gain_is_a_best_of_its_time_by_more_than_the_noise():
    found = gains(outcomes([3.0, 2.0, 2.5, 1.9, math.inf, 1.0]), 0.2)
    assert {r.number: gain for r, gain in found.items()} == {1: pytest.approx(1.0), 5: pytest.approx(0.9)}


def test_only_results_of_one_fidelity_are_compared():
    rows = [Result(0, None, 3.0, 9), Result(1, "a", 1.0, 1), Result(2, None, 2.0, 9)]
    assert [r.number for r in gains(rows, 0.0)] == [2]


def test_three_questions_without_a_gain_make_it_rest_and_each_further_one_twice_as_long():
    worse = outcomes([1.0] * 80, advised={2, 6, 10, 20, 40})
    assert after(worse, [2, 6]).next == 0
    assert after(worse, [2, 6, 10]).next == 20
    assert after(worse, [2, 6, 10, 20]).next == 40
    assert after(worse, [2, 6, 10, 20, 40]).next == 80
    assert after(worse, [2, 6, 10]).silence(19) == (
        "3 questions in a row brought no better trial than was known, so the next is put at trial 20"
    )
    assert after(worse, [2, 6, 10]).silence(20) is None


def test_a_gain_ends_the_rest_and_one_inside_the_noise_does_not():
    better = outcomes([1.0] * 10 + [0.5] + [1.0] * 10, advised={10})
    assert after(better, [2, 6, 10]).unpaid == 0
    assert after(better, [2, 6, 10, 14]).unpaid == 1
    assert after(better, [2, 6, 10], noise=0.6).next == 20


def test_what_another_advisor_gained_does_not_count():
    rows = [Result(0, None, 2.0), Result(1, "b", 1.0)]
    assert after(rows, [0, 1, 2]).unpaid == 3


def test_a_question_whose_trial_still_runs_is_not_judged():
    assert after(outcomes([1.0] * 9), [2, 5, 9], running=9).unpaid == 2


def test_in_the_last_tenth_nothing_is_asked():
    found = after(outcomes([1.0] * 88), [40, 60, 85])
    assert found.next == 100
    assert found.silence(97).endswith("none is put in this budget")


@given(st.lists(st.integers(0, 60), max_size=12), st.lists(st.floats(-5, 5), max_size=60), st.sets(st.integers(0, 60)))
def test_more_questions_never_bring_the_next_one_nearer(questions, losses, advised):
    fewer, more = (after(outcomes(losses, advised), q) for q in (questions, [*questions, 61]))
    assert fewer.unpaid <= more.unpaid
    assert fewer.next <= max(more.next, fewer.next if more.unpaid < PATIENCE else more.next)
    assert more.next == 0 or more.next > 61


# ------------------------------------------------------------------------------------------------ in a study


def loss(trial):
    return (trial["x"] - 0.3) ** 2 + (trial["y"] - 0.6) ** 2


def run(advisor, trials=60, budget=60, engine="random", **over):
    agent = Agent(SPACE, **{
        "metric": "loss", "engine": engine, "advisor": advisor, "store": None, "budget": Budget(trials=budget),
        "prices": PRICES,
    } | over)  # fmt: skip
    for _ in range(trials):
        trial = agent.suggest()
        agent.observe(trial, loss(trial))
    return agent


def mediocre(request):
    """Not bad enough to lose trust, never the best."""
    n = request.facts["n_trials"]
    rng = np.random.default_rng(n)
    if not n:
        return [{"x": 0.34, "y": 0.6}]
    return [{"x": 0.45 + 0.05 * rng.random(), "y": 0.6 + 0.1 * rng.random()} for _ in range(3)]


def asked(agent):
    return sorted({call.number for call in agent._store.calls(agent.study_id)})


def test_a_priced_advisor_that_brings_nothing_is_asked_less_and_it_is_said(caplog):
    with caplog.at_level(logging.WARNING, "tunewright"):
        agent = run(FakeAdvisor(mediocre, model="m"))
    free = run(FreeAdvisor(mediocre, model="m"))
    assert len(asked(agent)) <= len(asked(free))
    resting = [t for t in agent.trials if "questions in a row brought no better trial" in t.reason]
    assert resting
    why = agent.why(resting[0])
    assert why.decision["numbers"]["unpaid_questions"] >= PATIENCE
    assert why.decision["numbers"]["next_question"] > resting[0].number
    assert "no better trial than was known" in str(why)
    assert sum("questions in a row" in record.message for record in caplog.records) == 1


class FreeAdvisor(FakeAdvisor):
    free_of_charge = True


def test_of_a_free_advisor_the_trials_count_and_not_the_questions():
    """What it takes from the engine is a price, too; an answer of which no trial came took nothing."""

    def decent(request):
        rng = np.random.default_rng(n := request.facts["n_trials"])
        return [{"x": 0.3 + 0.2 * rng.random() * (n > 0), "y": 0.6 + 0.2 * rng.random() * (n > 0)} for _ in range(9)]

    agent = run(FreeAdvisor(decent, model="m"), trials=100, budget=100)
    resting = [t for t in agent.trials if "advised trials in a row were no better than what was known" in t.reason]
    assert resting
    numbers = agent.why(resting[0]).decision["numbers"]
    assert numbers["unpaid_trials"] == PATIENCE and numbers["next_trial"] > resting[0].number
    assert not any("questions in a row" in t.reason for t in agent.trials)
    near = run(FreeAdvisor(lambda request: [request.facts["trials"][0]["params"]] if request.facts["trials"] else []))
    assert not any("in a row" in t.reason for t in near.trials), "repeats are asked for again and again"


def test_a_free_advisor_rests_too_where_another_process_ends_the_last_trial_while_it_thinks(tmp_path):
    held = []

    def decent(request):
        if held:
            other.observe(held.pop(), 1.0)
            other.enqueue({"x": 0.9, "y": 0.1})
            other.observe(other.suggest(), 5.0)
        return [{"x": x, "y": y} for x, y in np.random.default_rng(request.facts["n_trials"]).uniform(0.3, 0.6, (9, 2))]

    given = {
        "metric": "loss",
        "engine": "random",
        "store": tmp_path / "s.db",
        "study": "s",
        "budget": Budget(trials=90),
    }
    agent, other = (Agent(SPACE, advisor=FreeAdvisor(decent, model="m"), **given) for _ in range(2))
    for number in range(60):
        trial = agent.suggest()
        if number < 20 or trial.source != "advisor" or held:
            agent.observe(trial, 0.0 if number == 0 else loss(trial) + 1.0)
        else:
            held.append(other.trials[trial.number])
    numbers = {t.number: agent.why(t).decision["numbers"] for t in agent.trials if t.source == "advisor"}
    assert all(found.get("next_trial", 0) <= number for number, found in numbers.items()), numbers
    assert any("advised trials in a row" in t.reason for t in agent.trials)


def test_a_free_advisor_that_pays_goes_on():
    def closer(request):
        n = request.facts["n_trials"]
        return [{"x": 0.3 + 0.3 * 0.9**n, "y": 0.6}]

    assert not any("in a row" in t.reason for t in run(FreeAdvisor(closer, model="m")).trials)


def test_it_is_asked_again_as_before_when_it_pays():
    """It holds back what it knows until it rests."""
    given = []

    def answer(request):
        given.append(request.facts["n_trials"])
        if given[-1] < 35:
            return mediocre(request)
        return [{"x": 0.3 + 0.02 * math.cos(a), "y": 0.6 + 0.02 * math.sin(a)} for a in (len(given), len(given) + 2)]

    agent = run(FakeAdvisor(answer, model="m"), trials=60, budget=200)
    rests = [t.number for t in agent.trials if "questions in a row" in t.reason]
    gained = next(t.number for t in agent.trials if t.source == "advisor" and t.number > 35)
    assert min(rests) < gained
    numbers = asked(agent)
    later = [n for n in numbers if n > gained]
    assert later and later[0] - gained <= 5  # as often as its share allows


def test_with_several_objectives_nobody_is_judged():
    agent = Agent(
        SPACE, objectives=[Objective("a"), Objective("b")], engine="random", advisor=FakeAdvisor(mediocre, model="m"),
        store=None, budget=Budget(trials=60), prices=PRICES,
    )  # fmt: skip
    for _ in range(60):
        trial = agent.suggest()
        agent.observe(trial, {"a": trial["x"], "b": trial["y"]})
    assert not any("questions in a row" in t.reason for t in agent.trials)


@pytest.mark.parametrize("model", ["m", "unlisted"])
def test_every_decision_comes_out_again(tmp_path, model):
    """With a price and with an unknown one."""
    agent = run(FakeAdvisor(mediocre, model=model), trials=40, store=tmp_path / "s.db")
    assert any("questions in a row" in t.reason for t in agent.trials)
    found = replay(agent._store, agent._view.record)
    assert found.difference is None and found.decisions == 40


def test_the_theorem_of_strict_mode_stands():
    """Its engine makes the same trials, whatever is asked."""
    alone = [dict(t.params) for t in run(None, trials=40, engine="tpe", safety="strict").trials]
    agent = run(FakeAdvisor(mediocre, model="m"), trials=40, engine="tpe", safety="strict")
    own = [dict(t.params) for t in agent.trials if t.source == "engine"]
    assert any("questions in a row" in t.reason for t in agent.trials)
    assert own == alone[: len(own)]


def test_a_long_study_that_nothing_paid_in_has_a_number_for_its_next_question():
    long = Spending(20_000, 90_000, 100_000, free=True)
    assert json.dumps(long.numbers) and f"{long.next:.3g}" and long.silence(95_000).endswith("no more in this budget")
    assert Spending(3, 200, 50, free=True).silence(205).endswith("the next comes at trial 210 or later")


def test_numbers_are_plain_data():
    assert json.loads(json.dumps(dict(Spending(4, 20, 50).numbers))) == {"unpaid_questions": 4, "next_question": 40}
