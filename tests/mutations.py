"""Answers of a model, mutated, through a whole study: what reaches the store as a configuration is valid.

    python tests/mutations.py 100000

makes as many as the number says (`make mutations`); the tests take a few hundred.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tunewright.agent import Agent, Budget, Categorical, Float, Int
from tunewright.agent.testing import INJECTIONS, FakeAdvisor
from tunewright.engines.space import Space

SPACE = Space(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "layers": Int(1, 6),
        "batch": Int(16, 256, log=True),
        "drop": Float(0, 0.5, step=0.125),
        "opt.kind": Categorical(["sgd", "adam", None]),
        "flag": Categorical([True, False]),
        "momentum": Float(0, 0.99, when={"opt.kind": "sgd"}),
    },
    ["layers * batch <= 1024"],
)
STATUSES = ("open", "rejected")
PIECES = (
    *('"', "{", "}", "[", "]", ",", ":", "null", "NaN", "Infinity", "1e999", "true", "-", "0", "\\", "\\ud800", "\x00"),
    *("'", "9" * 330, "```json\n", '{"stance": "propose"}', '"candidates"', "1.0", "6.0000000001", "\u202e", "\n\n"),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 0.5, 1e-5, 0.1, 0.1000001, 1e308, -0.0, 2**63, "", "sgd", "SGD", "1e-3", "NaN"),
    *([], [1], {}, {"value": 1}, float("nan"), float("inf"), *INJECTIONS),
)


def answer(rng: random.Random) -> dict[str, Any]:
    points = SPACE.sample(np.random.default_rng(rng.getrandbits(32)), 3)
    candidates = [{"rationale": "because", "params": point} for point in points]
    return {"summary": "s", "stance": "propose", "candidates": candidates}


def mutated(rng: random.Random) -> str:
    """One answer with one to four changes in its data, its text or both."""
    data = answer(rng)
    for _ in range(rng.randint(0, 4)):
        data = _changed(rng, data)
    text = json.dumps(data)
    for _ in range(rng.randint(0, 2)):
        at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        text = text[:at] + rng.choice(PIECES) + text[rng.choice((at, min(at + 1, len(text)), end)) :] + " "
    return text


def _changed(rng: random.Random, data: Any) -> Any:
    data = copy.deepcopy(data)
    place, depth = data, rng.randint(0, 4)
    for _ in range(depth):
        inner = [v for v in (place.values() if isinstance(place, dict) else place) if isinstance(v, dict | list) and v]
        if not inner:
            break
        place = rng.choice(inner)
    keys = list(place) if isinstance(place, dict) else range(len(place))
    if not keys:
        return data
    key, kind = rng.choice(list(keys)), rng.randrange(5)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[rng.choice((*SPACE.parameters, "extra", *INJECTIONS))] = place.pop(key)
    elif kind == 2 and isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    elif kind == 3 and isinstance(place[key], int | float):
        place[key] = place[key] * rng.choice((-1, 1.0000001, 10, 1e6)) + rng.choice((0, 1e-9, 1))
    else:
        place[key] = rng.choice(ODD)
    return data


def through_a_study(answers: Iterator[str]) -> Counter[str]:
    """How many candidates were kept as what, over one study's questions: all that a consultation does but making its
    words, which are the same each time. Raises AssertionError at the first configuration that is not valid."""
    advisor = FakeAdvisor(answers)
    agent = Agent(SPACE, metric="loss", engine="random", advisor=advisor, store=None, budget=Budget(trials=10_000))
    desk, put = agent._desk, agent._suggester.question(3)
    assert desk is not None
    while "no answer left" not in (desk.answer(put).silence or ""):
        began = agent._store.begin_consult(agent.study_id, 0, as_of=0, wanted=3, patience=1.0)
        assert began is not None
        put = replace(put, id=began)
    counts: Counter[str] = Counter()
    for proposal in agent._store.proposals(agent.study_id):
        assert proposal.by == "advisor" and proposal.status in STATUSES
        counts[proposal.status] += 1
        if proposal.status == "rejected":
            assert proposal.reason
            continue
        assert not SPACE.problems(proposal.params), proposal.params
        assert SPACE.check(proposal.params) == proposal.params
        assert list(map(type, proposal.params.values())) == list(map(type, SPACE.coerce(proposal.params).values()))
    counts["answers"] = len(advisor.requests) - 1
    agent.close()
    return counts


def main() -> None:
    number, rng, began = int(sys.argv[1]), random.Random(7), time.monotonic()
    counts: Counter[str] = Counter()
    while counts["answers"] < number:
        size = min(500, number - counts["answers"])
        counts += through_a_study(mutated(rng) for _ in range(size))
        if counts["answers"] % 5_000 == 0:
            print(f"{counts['answers']:,} so far, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{counts['answers']:,} mutated answers in {time.monotonic() - began:.0f} s: {counts['open']:,} candidates")
    print(
        f"reached the store as configurations, all valid; {counts['rejected']:,} were kept as rejected, with a reason"
    )


if __name__ == "__main__":
    main()
