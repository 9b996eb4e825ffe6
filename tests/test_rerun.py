"""The best of a noisy run are run again before one is called a winner; where there is no noise, nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.agent import Agent, Budget, Categorical, Float, Objective
from tunewright.agent.replay import replay
from tunewright.agent.standing import Standing, plateau, standing
from tunewright.engines import Space
from tunewright.engines.noise import noise_floor
from tunewright.engines.rerun import Runs, rerun

SPACE = {"x": Float(0, 1), "y": Float(0, 1)}


def runs(losses, again=(), pending=()):
    return [
        Runs(i, (loss, loss + 0.2) if i in again else (loss,), i in pending) for i, loss in enumerate(losses)
    ]  # fmt: skip


NOISY = [0.1, 0.15, 0.2, *np.linspace(0.5, 2, 20).tolist()]


def chosen(found, number=47, until=50, noise=0.3, **over):
    return rerun(found, number, until, lambda: noise, **over)


def test_the_best_three_are_run_again_in_their_order_in_the_last_trials():
    assert chosen(runs(NOISY), 46) is None
    assert chosen(runs(NOISY), 47).of == 0
    assert chosen(runs(NOISY, again={0}), 48).of == 1
    assert chosen(runs(NOISY, again={0, 1}), 49).of == 2
    assert chosen(runs(NOISY, again={0, 1, 2}), 49) is None


def test_at_most_a_tenth_of_the_run():
    assert chosen(runs(NOISY), 28, 30).of == 0 and chosen(runs(NOISY), 26, 30) is None
    assert chosen(runs(NOISY), 18, 20).of == 0 and chosen(runs(NOISY), 17, 20) is None
    assert chosen(runs(NOISY), 8, 9) is None


def test_only_where_the_noise_matters():
    assert chosen(runs(NOISY), noise=0.04) is None  # less than the lead
    assert chosen(runs(NOISY), noise=0.2) is None  # a small part of the spread
    assert chosen(runs(NOISY), noise=None) is None
    assert chosen(runs(NOISY[:14])) is None  # too little is known


def test_what_began_goes_on_whatever_one_repeat_says_of_the_noise():
    assert chosen(runs(NOISY, again={0}), 48, noise=0.01).of == 1
    assert chosen(runs(NOISY, pending={0}), 48, noise=0.01).of == 1


def test_a_repeat_that_came_out_the_same_ends_it():
    same = [Runs(0, (0.1, 0.1)), *runs(NOISY)[1:]]
    assert chosen(same, 48) is None


def test_strict_mode_wants_noise_that_was_seen():
    assert chosen(runs(NOISY), strict=True) is None
    assert chosen(runs(NOISY, again={7}), strict=True).of == 0


# ------------------------------------------------------------------------------------------------ in a study


def tuned(noise, trials=30, engine="random", store=None, space=None, **over):
    def objective(trial):
        luck = np.random.default_rng(trial.seed).normal(0, noise) if noise else 0.0
        return sum((v - 0.4) ** 2 for v in trial.params.values() if isinstance(v, float)) + luck

    agent = Agent(
        space or SPACE, metric="loss", engine=engine, advisor=None, store=store, budget=Budget(trials=trials), **over
    )
    agent.tune(objective)
    return agent


def repeated(agent):
    return [t.number for t in agent.trials if t._record.proposer == "repeat"]


def test_a_noisy_run_ends_with_repeats_and_the_best_has_the_best_mean():
    agent = tuned(0.5)
    assert repeated(agent) == [27, 28, 29]
    first = sorted((t for t in agent.trials if t.number < 27), key=lambda t: t.value)[:3]
    again = [next(t for t in agent.trials[27:] if t.params == one.params) for one in first]
    means = [(a.value + b.value) / 2 for a, b in zip(first, again, strict=True)]
    assert agent.best.number == first[int(np.argmin(means))].number
    assert agent.trials[27].seed != first[0].seed
    assert "run again before a winner is called" in agent.trials[27].reason
    why = agent.why(27)
    assert why.decision["numbers"]["noise"] > 0 and "Chosen by queue (repeat)" in str(why)


def test_without_noise_no_trial_is_spent_on_it():
    assert repeated(tuned(0.0)) == []


@pytest.mark.parametrize("how", ["suggest", "strict", "grid", "small", "objectives"])
def test_where_nothing_is_run_again(how):
    """A hand-written loop; strict mode before noise was seen; every point wanted; a space that fits in the budget."""
    if how == "suggest":
        agent = Agent(SPACE, metric="loss", engine="random", advisor=None, store=None, budget=Budget(trials=30))
        for _ in range(30):
            trial = agent.suggest()
            agent.observe(trial, float(np.random.default_rng(trial.number).normal()))
    elif how == "objectives":
        agent = Agent(SPACE, objectives=[Objective("a"), Objective("b")], engine="random", advisor=None, store=None,
                      budget=Budget(trials=30))  # fmt: skip
        agent.tune(lambda t: dict(zip("ab", np.random.default_rng(t.seed).normal(size=2).tolist(), strict=True)))
    else:
        more = {
            "strict": {"safety": "strict"}, "grid": {"engine": "grid"},
            "small": {"space": {"a": Categorical(list(range(25)))}},
        }[how]  # fmt: skip
        agent = tuned(0.5, **more)
    assert repeated(agent) == []


def test_what_comes_later_counts_with_its_value_and_what_was_passed_over_does_not():
    agent = tuned(0.5)
    passed = min(
        (t for t in agent.trials[:27] if all(t.params != u.params for u in agent.trials[27:])), key=lambda t: t.value
    )
    assert agent.best.number != passed.number
    agent.budget = Budget(trials=31)
    agent.enqueue({"x": 0.1, "y": 0.1})
    agent._suggester._budget = agent.budget
    late = agent.suggest()
    agent.observe(late, -99.0)
    assert agent.best.number == late.number


def test_every_decision_comes_out_again(tmp_path):
    agent = tuned(0.5, store=tmp_path / "s.db")
    assert len(repeated(agent)) == 3
    found = replay(agent._store, agent._view.record)
    assert found.difference is None and found.decisions == 30


# ------------------------------------------------------------------------------------------------ in words


def test_a_winner_needs_evidence():
    once = Standing(3, 1, 0.5, next=4, lead=0.9, noise=0.1, margin=0.28)
    assert not once.winner and "0.9 ahead of trial 4: more than the noise" in str(once)
    twice = Standing(3, 2, 0.5, next=4, lead=0.05, noise=0.1, margin=0.2)
    assert not twice.winner and "not better than the noise" in twice.told
    assert Standing(3, 2, 0.5, next=4, lead=0.3, noise=0.1, margin=0.2).told.startswith("A winner: 2 runs, mean 0.5")
    assert Standing(3, 1, 0.5, next=4, lead=0.05, noise=0.1, margin=0.2, verified=True).winner
    assert Standing(3, 2, 0.5, next=4, noise=0.0).winner
    assert not Standing(3, 1, 0.5, next=4).winner


def test_the_standing_of_a_study():
    agent = tuned(0.5)
    found = standing(agent._view)
    assert (found.number, found.runs) == (agent.best.number, 2)
    assert found.lead >= 0 and found.margin > 0 and found.next in {t.number for t in agent.trials}
    assert f"The best so far. {found.told}" in str(agent.why(agent.best))
    agent.verify(lambda trial: 1.0, seeds=2)
    assert standing(agent._view).winner


def test_a_plateau_says_what_else_the_money_buys():
    agent = tuned(0.0, trials=40)
    flat = [t._record for t in agent.trials]
    best = min(flat, key=lambda t: t.values)
    found = plateau(agent._view, [best, *(t for t in flat if t is not best)], ["lr"])
    assert found.gain == 0 and found.trials == 20
    assert "a wider range of lr" in found.advice and found.advice.endswith("or be saved")
    assert plateau(agent._view, [*(t for t in flat if t is not best), best]) is None


def test_few_repeats_are_pooled_with_the_model():
    """One pair of runs may lie close together by luck, which is no word on the noise of the rest."""
    space, rng = Space(SPACE), np.random.default_rng(1)
    configs = space.sample(rng, 60)
    losses = np.array([c["x"] + c["y"] for c in configs]) + 0.2 * rng.normal(size=60)
    lucky = noise_floor(space, [*configs, configs[0]], np.append(losses, losses[0] + 1e-3))
    assert 0.1 < lucky < 0.3
    assert noise_floor(space, [*configs, configs[0]], np.append(losses, losses[0])) == 0.0
