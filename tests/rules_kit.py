"""What tests of the rules advisor ask it, and about what."""

from __future__ import annotations

import json
from typing import Any

from tunewright.engines.parameters import Float, Int
from tunewright.engines.space import Space
from tunewright.plugins import hooks
from tunewright.plugins.rules import RulesAdvisor
from tunewright.prompts import answer_type, parse_propose


def log(low: float, high: float) -> Float:
    return Float(low, high, log=True)


BOOSTING = Space({"eta": log(0.01, 0.5), "n_estimators": Int(50, 1000), "max_depth": Int(2, 12)})
MLP = Space(
    {
        "lr": log(1e-5, 1e-1),
        "batch_size": Int(16, 512, log=True),
        "n_layers": Int(1, 6),
        "n_units": Int(16, 1024, log=True),
        "dropout": Float(0.0, 0.8),
    }
)
SVM = Space({"C": log(0.01, 1000), "gamma": log(1e-5, 10)})


def ask(space: Space, wanted: int = 5, **facts: Any) -> dict[str, Any]:
    facts = {"wanted": wanted, **facts}
    request = hooks.AdviceRequest("propose", (), answer_type(space, wanted), space, facts)
    done = RulesAdvisor().complete(request, timeout=1.0)
    assert (done.usd, done.tokens_in, done.tokens_out) == (0.0, None, None)
    parsed = parse_propose(done.text, space, wanted)
    assert not parsed.notes and all(not c.problems for c in parsed.candidates), parsed
    return json.loads(done.text)


def trial(number: int, params: dict[str, Any], value: float | None, **more: Any) -> dict[str, Any]:
    state = "complete" if value is not None else "failed"
    row = {"number": number, "params": params, "value": value, "state": state, "error": None, "source": "engine"}
    return row | more


def params_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [c["params"] for c in answer["candidates"]]
