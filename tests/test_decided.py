"""A decision in plain words, beside the arbiter's own."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.agent.arbiter import Advice, Candidate, Measured, Policy, Record, Scores, decide
from tunewright.agent.decided import decided
from tunewright.agent.trust import Trust
from tunewright.engines.types import BY_CHANCE, Proposal

POLICY = Policy(budget=50)
STARTUP = Proposal({"x": 0.5}, tags={"phase": "startup"})
MODEL = Proposal({"x": 0.5})
MODELS = "it is where the engine's model expects most"


def said(advice: Advice, record: Record, proposal: Proposal = MODEL, scores: Scores | None = None) -> str:
    made = decide(advice, [proposal], scores or Scores(), record, POLICY)
    return decided(made.to_dict(), made.reason)


@pytest.mark.parametrize(
    "record, proposal, words",
    [
        (Record(2, unjudged=2), STARTUP, "since 2 of its trials wait to be compared with the engine's"),
        (Record(1, 1, unjudged=1), STARTUP, "since one of its trials waits to be compared with the engine's"),
        (Record(47, trust=Trust(1.0, 9.0, 8)), MODEL, "its trials lost to the engine's and the budget nears its end"),
        (
            Record(10, advised=4),
            MODEL,
            "since one more would be above its share: it had 4 of 11 turns and may have 22%",
        ),
        (Record(10, last_asked=9), MODEL, "since it was at trial 9 and is at most once in "),
    ],
)
def test_who_was_not_asked_and_why(record: Record, proposal: Proposal, words: str) -> None:
    told = said(Advice(), record, proposal)
    assert "the advisor was not asked, " in told and words in told
    assert "the engine's point" not in told and "capped" not in told


def test_trust_that_was_lost() -> None:
    told = said(Advice(), Record(10, last_asked=9, trust=Trust(1.0, 9.0, 8)))
    assert told.startswith(MODELS) and "since its trials lost to the engine's; it may try one in 20" in told


def test_advice_that_was_refused_says_what_was_wrong_with_it() -> None:
    advice = Advice((Candidate({"x": 0.1}), Candidate({"x": 9}, problems=("x lies outside",))))
    scores = Scores((Measured(None, 0.5, 0.0, -1.0), None), tuple(np.linspace(0, 1, 256)))
    told = said(advice, Record(10), scores=scores)
    assert told == (
        f"{MODELS}; the advisor was asked, and none of its proposals was taken: "
        "the engine's model expects more of its own candidates; it does not fit the space"
    )


def test_advice_that_was_taken() -> None:
    advice = Advice((Candidate({"x": 0.1}),))
    scores = Scores((Measured(None, 0.5, 0.0, 2.0),), tuple(np.linspace(0, 1, 256)))
    assert "by the engine's own model among the best 42% of what" in said(advice, Record(10), scores=scores)
    assert "one of at most 5 early trials of the advisor's" in said(advice, Record(1), STARTUP, scores)


def test_what_has_no_plainer_words_stays() -> None:
    assert decided({}, "the default configuration: x by the user") == "the default configuration: x by the user"


def test_seeds_after_given_points_and_draws_by_chance_have_plain_words():
    given = "advised seed 2 of 5, after the 5 points given"
    assert decided({}, given) == "one of at most 5 early trials of the advisor's, after the 5 that were given"
    chance = Proposal({"x": 0.5}, tags=dict(BY_CHANCE))
    drawn = decide(Advice(silence="the study has no advisor"), [chance], Scores(), Record(9), POLICY)
    assert decided({}, drawn.reason).startswith("it is a random draw of the engine's, so that no belief of its model")
