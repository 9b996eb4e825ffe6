"""The arbiter as the pure function it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.agent.arbiter import Advice, Candidate, Measured, Policy, Record, Scores, decide, turn
from tunewright.engines import Proposal

STARTUP = Proposal({"x": 0.1}, tags={"phase": "startup"})
MODEL = Proposal({"x": 0.1})
POLICY = Policy(budget=50)
GOOD = Measured(None, 0.3, 0.0, 2.0)


def one(measured: Measured | None = GOOD, problems: tuple[str, ...] = (), reference: tuple[float, ...] = (0.0, 1.0)):
    return Advice((Candidate({"x": 0.5}, "because", problems, 7),)), Scores((measured,), reference)


def gate_record(**changes):
    return Record(**{"number": 20, "seeds": 5, **changes})


def test_a_seed_takes_the_place_of_a_random_draw() -> None:
    decision = decide(*_swap(one()), Record(1), POLICY)
    assert (decision.source, decision.phase, decision.chosen) == ("advisor", "seed", 0)
    assert decision.verdicts[0].status == "taken"
    assert decision.verdicts[0].proposal_id == 7


def _swap(pair, proposal=STARTUP):
    advice, scores = pair
    return advice, [proposal], scores


@pytest.mark.parametrize("budget, seeds", [(50, 5), (200, 5), (20, 2), (15, 1), (9, 0)])
def test_seeds_are_at_most_five_and_a_tenth_of_the_budget(budget: int, seeds: int) -> None:
    assert Policy(budget=budget).seeds == seeds


def test_seeds_never_displace_a_model() -> None:
    phase, _ = turn(MODEL, Record(2), POLICY)
    assert phase != "seed"


def test_seeds_end_with_their_number_and_their_window() -> None:
    assert turn(STARTUP, Record(4, seeds=4), POLICY)[0] == "seed"
    assert turn(STARTUP, Record(5, seeds=5), POLICY)[0] != "seed"
    assert turn(STARTUP, Record(10, seeds=4), POLICY)[0] != "seed"


def test_after_points_that_were_given_there_is_room_for_seeds() -> None:
    decision = decide(*_swap(one(), MODEL), Record(5, given=5), POLICY)
    assert (decision.source, decision.phase) == ("advisor", "seed") and "after the 5 points given" in decision.reason
    assert turn(MODEL, Record(9, given=5), POLICY)[0] == "seed", "for as many turns as points"
    assert turn(MODEL, Record(10, given=5), POLICY)[0] != "seed"
    assert turn(MODEL, Record(6, seeds=2, unjudged=2, given=5), POLICY)[0] is None, "two wait to be judged"
    assert turn(MODEL, Record(7, seeds=5, given=5), POLICY)[0] != "seed"


@pytest.mark.parametrize(
    "measured, problems, failed",
    [
        (None, ("lr: 3.0 is outside [0, 1]",), "schema"),
        (Measured(3, 0.0, 0.0, 2.0), (), "repeat"),
        (Measured(None, 0.001, 0.0, 2.0), (), "distance"),
        (Measured(None, 0.3, 0.9, 2.0), (), "failure region"),
        (Measured(None, 0.3, 0.0, 0.1), (), "gate"),
        (Measured(None, 0.3, 0.0, None), (), "gate"),
        (Measured(None, 0.3, 0.0, float("nan")), (), "gate"),
    ],
)
def test_each_check_turns_a_candidate_away_and_says_so(measured, problems, failed) -> None:
    decision = decide(*_swap(one(measured, problems), MODEL), gate_record(), POLICY)
    assert decision.source == "engine"
    verdict = decision.verdicts[0]
    assert verdict.status == "rejected"
    assert verdict.checks[-1].name == failed and not verdict.checks[-1].passed
    assert all(check.passed for check in verdict.checks[:-1])
    assert failed in verdict.reason and verdict.reason in decision.reason


def test_the_gate_rises_and_its_numbers_are_kept() -> None:
    reference = tuple(float(i) for i in range(101))
    early = decide(*_swap(one(Measured(None, 0.3, 0.0, 65.0), (), reference), MODEL), gate_record(number=10), POLICY)
    late = decide(*_swap(one(Measured(None, 0.3, 0.0, 65.0), (), reference), MODEL), gate_record(number=49), POLICY)
    assert early.source == "advisor" and late.source == "engine"
    assert early.numbers["gate_quantile"] == pytest.approx(0.58)
    assert early.numbers["gate_threshold"] == pytest.approx(58.0)
    assert Policy(budget=50).gate(0) == 0.5 and Policy(budget=50).gate(50) == 0.9 == Policy(budget=50).gate(500)


def test_the_best_scored_of_several_passes() -> None:
    candidates = tuple(Candidate({"x": float(i)}) for i in range(3))
    scores = Scores(tuple(Measured(None, 0.3, 0.0, s) for s in (1.0, 3.0, 2.0)), (0.0, 0.5))
    decision = decide(Advice(candidates), [MODEL], scores, gate_record(), POLICY)
    assert decision.chosen == 1
    assert [v.status for v in decision.verdicts] == ["displaced", "taken", "displaced"]


def test_further_seeds_wait_open() -> None:
    candidates = tuple(Candidate({"x": float(i)}) for i in range(2))
    decision = decide(Advice(candidates), [STARTUP], Scores((GOOD, GOOD)), Record(1), POLICY)
    assert [v.status for v in decision.verdicts] == ["taken", "open"]


def test_silence_is_the_reason() -> None:
    decision = decide(Advice(silence="no answer within 60 s"), [STARTUP], Scores(), Record(1), POLICY)
    assert decision.source == "engine" and decision.silence == "no answer within 60 s"
    assert decision.reason == "the engine's point covers the space before there is a model; no answer within 60 s"


def test_a_call_that_brought_nothing_is_not_repeated_at_once() -> None:
    assert turn(MODEL, gate_record(number=21, last_asked=20), POLICY)[0] is None
    assert turn(MODEL, gate_record(number=26, last_asked=20), POLICY)[0] == "gate"


@given(budget=st.integers(5, 300), always=st.booleans())
def test_the_share_cap_holds_whatever_the_advice(budget: int, always: bool) -> None:
    """Past the seeds at most a quarter of the trials are advised, at every point of a study."""
    policy = Policy(budget=budget)
    seeds = advised = 0
    last: int | None = None
    for number in range(budget):
        proposal = STARTUP if number < 10 else MODEL
        record = Record(number, seeds, advised, last)
        phase, _ = turn(proposal, record, policy)
        decision = decide(*_swap(one(), proposal), record, policy)
        if phase:
            last = number
        if decision.source == "advisor":
            seeds, advised = (seeds + 1, advised) if decision.phase == "seed" else (seeds, advised + 1)
        assert seeds <= policy.seeds
        assert advised <= 0.25 * (number - seeds + 1)
    assert advised > 0 or budget < 20
