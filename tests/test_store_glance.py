"""What readers look at of a large study, beside all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.agent import Agent, Float
from tunewright.agent.records import REPEAT
from tunewright.agent.standing import Look, plateau, standing
from tunewright.agent.store import LATEST, Store
from tunewright.engines.types import State

SPACE = {"x": Float(0, 1), "y": Float(0, 1)}
TRIALS = st.lists(
    st.tuples(
        st.sampled_from(["complete", "stopped", "failed", "running"]),
        st.integers(0, 4),  # of so many configurations
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        st.sampled_from(["random", "random", "random", REPEAT]),
    ),
    max_size=14,
)


def filled(store, trials, direction="minimize"):
    """Trials of (state, configuration, value, proposer); they end in the opposite order."""
    made = store.create_study(
        "s", space={}, objectives=[{"name": "loss", "direction": direction}], seed=0, config={}, environment={}
    )
    for number, (_, which, _, proposer) in enumerate(trials):
        store.create_trial(
            made.id, expected_number=number, params={"x": which}, source="engine", proposer=proposer, seed=number
        )
    for number, (state, _, value, _) in reversed(list(enumerate(trials))):
        if state != "running":
            store.finish(made.id, number, State(state), None if state == "failed" else [value], attempt=1)
    return made.id


@given(TRIALS, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_a_part_holds_the_best_the_latest_and_all_runs_of_their_configurations(trials, latest, best, maximize):
    sign = -1 if maximize else 1
    with Store.open(None) as store:
        study = filled(store, trials, "maximize" if maximize else "minimize")
        complete = store.trials(study, states=(State.COMPLETE,))
        assert store.foremost(study, maximize=maximize, latest=len(trials) + 1, best=1) == complete
        ranked = sorted(complete, key=lambda t: (sign * t.values[0], t.number))
        looked_at = [*complete[-latest:], *ranked[:best], *(t for t in complete if t.proposer == REPEAT)]
        seen = {t.params["x"] for t in looked_at}
        found = store.foremost(study, maximize=maximize, latest=latest, best=best)
        assert found == [t for t in complete if t.params["x"] in seen]
        for first in range(len(complete)):
            values = [sign * t.values[0] for t in complete[:first]]
            before = store.best_before(study, first, maximize=maximize)
            assert before == (sign * min(values) if values else None)
        mark, records = float("inf"), []
        for trial in sorted(complete, key=lambda t: t.event):
            if sign * trial.values[0] < mark:
                mark = sign * trial.values[0]
                records.append((trial.number, trial.values[0]))
        assert store.records(study, maximize=maximize) == records


def whole(view):
    complete = view.store.trials(view.record.id, states=(State.COMPLETE,))
    return Look(complete, view.leaders(), view.verifications())


@pytest.fixture(scope="module")
def large():
    """More trials than are looked at; the latest are poor."""
    agent = Agent(SPACE, metric="loss", store=None, engine="random", advisor=None)
    for number in range(LATEST + 100):
        trial = agent.suggest()
        agent.observe(trial, trial["x"] + trial["y"] * 0.01 + (number >= 100))
    return agent


def test_of_a_large_study_the_same_is_told_as_of_all_its_trials(large):
    view = large._view
    look, everything = Look.at(view), whole(view)
    assert len(look.complete) == len(everything.complete) == view.large  # the first hundred are the best
    assert look.leaders == everything.leaders and look.leaders[0].number < 100
    assert standing(view, look) == standing(view, everything)
    assert plateau(view, look.complete) == plateau(view, everything.complete)
    assert plateau(view, look.complete).trials == (LATEST + 100) // 2


def test_what_is_bounded_still_counts_every_trial(large, monkeypatch):
    view = large._view
    told = str(standing(view)), str(plateau(view, view.foremost()))
    small = view.store.foremost(large.study_id, maximize=False, latest=1_000, best=50)
    assert len(small) == 1_050
    monkeypatch.setattr(view, "_foremost", lambda: small)
    assert (str(standing(view)), str(plateau(view, view.foremost()))) == told
