"""safety="strict": the engine's trials are exactly its own sequence, whatever the advisor does.

The theorem of docs/design.md: for a deterministic objective, one worker and no engine fault, the trials that the
engine makes in a strict study are the first t - D(t) of the engine alone, D(t) being the advised trials among t.
"""

from __future__ import annotations

import math
import random

import pytest

from tunewright.agent import Agent, Budget, Categorical, Float, Int, Space
from tunewright.agent.testing import FakeAdvisor

SPACES = [
    Space({"x": Float(0, 1), "y": Float(1e-4, 1, log=True)}),
    Space({"x": Float(0, 1, default=0.3), "k": Int(1, 5), "c": Categorical(["a", "b", "c"])}),
    Space({"c": Categorical(["a", "b"], default="b"), "x": Float(0, 1, when={"c": "a"}), "y": Float(0, 1)}),
    Space({"x": Float(0, 1, step=0.25), "k": Int(1, 8)}, ["x * k <= 6"]),
]
CHEAP = ["random", "grid"]
ENGINES = ["random", "grid", "sobol", "tpe"]


def loss(params: dict) -> float:
    """Deterministic, with failures and ties."""
    total = 0.0
    for name, value in params.items():
        at = sum(map(ord, value)) % 7 / 7 if isinstance(value, str) else math.log10(float(value) + 1.1)
        total += (at - sum(map(ord, name)) % 10 / 10) ** 2
    return math.nan if total > 1.2 else round(total, 2)


def hostile(rng: random.Random, space: Space):
    """Good and bad points, repeats, borders, prose, torn JSON, faults and silence, in any order."""
    import numpy as np

    numbers = np.random.default_rng(rng.randrange(2**32))
    seen: list[dict] = []

    def answer(request):
        kind = rng.choice(["good", "good", "good", "repeat", "corner", "outside", "prose", "torn", "raise", "abstain"])
        if kind == "prose":
            return "I would simply try harder."
        if kind == "torn":
            return '{"summary": "s", "stance": "propose", "candidates": [{"ration'
        if kind == "raise":
            return ConnectionError("gone")
        if kind == "abstain":
            return {"summary": "", "stance": "abstain", "candidates": []}
        if kind == "outside":
            return [dict.fromkeys(space.names, 1e9)]
        if kind == "repeat" and seen:
            return [rng.choice(seen)]
        if kind == "corner":
            return space.decode(np.array([[float(rng.random() < 0.5) for _ in space.names] for _ in range(3)]))
        drawn = space.sample(numbers, 3)
        seen.extend(drawn)
        return drawn

    return FakeAdvisor(answer)


def run(space: Space, engine: str, seed: int, trials: int, advisor):
    agent = Agent(
        space, metric="loss", engine=engine, advisor=advisor, seed=seed, store=None, safety="strict",
        budget=Budget(trials=trials),
    )  # fmt: skip
    done = []
    while len(done) < trials:
        try:
            trial = agent.suggest()
        except Exception as error:
            assert type(error).__name__ == "SpaceExhausted", error
            break
        agent.observe(trial, loss(trial.params))
        done.append((trial.source, trial.params, trial.value))
    agent.close()
    return done


def check(seed: int, engine: str, trials: int) -> int:
    """One study against the engine alone; returns how many trials were advised."""
    rng = random.Random(seed)
    space = rng.choice(SPACES)
    alone = run(space, engine, seed, trials, None)
    mixed = run(space, engine, seed, trials, hostile(rng, space))
    own = [params for source, params, _ in mixed if source != "advisor"]
    assert own == [params for _, params, _ in alone[: len(own)]]
    best_alone, best, advised = [math.inf], math.inf, 0
    for _, _, value in alone:
        best_alone.append(min(best_alone[-1], math.inf if value is None else value))
    for t, (source, _, value) in enumerate(mixed, start=1):
        advised += source == "advisor"
        best = min(best, math.inf if value is None else value)
        assert best <= best_alone[min(t - advised, len(alone))]
    return advised


@pytest.mark.parametrize("block", range(20))
def test_a_thousand_hostile_studies(block: int) -> None:
    advised = 0
    for seed in range(block * 50, block * 50 + 50):
        engine = ENGINES[seed % 4] if seed % 10 == 0 else CHEAP[seed % 2]
        advised += check(seed, engine, trials=12)
    assert advised > 10, "the advisors must have been heard, else nothing was tested"


@pytest.mark.parametrize("engine", ENGINES)
def test_longer_studies_past_the_seeds(engine: str) -> None:
    assert sum(check(seed, engine, trials=40) for seed in range(3)) >= 3


@pytest.mark.parametrize("seed", [1, 2])
def test_a_private_engine_leaves_the_judgement_of_advice_to_one_that_knows_all_trials(seed: int) -> None:
    """A model of the engine's own trials has never seen the corner where advice has lost, and lets probes in again."""
    rng, names = random.Random(seed), ["a", "b", "c", "d"]
    corner = FakeAdvisor(lambda request: [{name: rng.uniform(0.85, 1.0) for name in names} for _ in range(3)])
    agent = Agent(
        {name: Float(0.0, 1.0) for name in names}, metric="loss", store=None, engine="random", advisor=corner,
        safety="strict", budget=Budget(trials=70), seed=seed,
    )  # fmt: skip
    for _ in range(70):
        trial = agent.suggest()
        values = [trial[name] for name in names]
        agent.observe(trial, (8.0 if min(values) > 0.8 else 0.0) - sum(values))
    assert sum(trial.source == "advisor" for trial in agent.trials) == 1  # the seed that lost
