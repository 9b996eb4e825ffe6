"""Studies for tests of the digest."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from tunewright.agent import digest
from tunewright.agent.digest_text import render
from tunewright.agent.records import TrialRecord
from tunewright.engines import Categorical, Float, Int, Objective, Space, State

LOSS = Objective("val_loss")
SPACE = Space(
    {
        "lr": Float(1e-5, 0.1, log=True, default=1e-3),
        "batch": Categorical([32, 64, 128]),
        "opt": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99, when={"opt": "sgd"}),
        "layers": Int(1, 6),
    }
)
BASE = {"lr": 0.001, "batch": 64, "opt": "adam", "layers": 3}


def trial(number: int, params: dict, value: float | tuple | None = None, **over: Any) -> TrialRecord:
    values = value if value is None or isinstance(value, tuple) else (value,)
    state = State.COMPLETE if values else State.FAILED
    return TrialRecord(
        **{
            "number": number,
            "attempt": 1,
            "state": state,
            "params": params,
            "source": "engine",
            "proposer": "tpe",
            "seed": 0,
            "values": values,
        }
        | over
    )


def study(n: int, space: Space = SPACE, seed: int = 0) -> list[TrialRecord]:
    """Good near lr 1e-3 and with adam; fails above lr 0.03."""
    rng = np.random.default_rng(seed)
    out = []
    for i, c in enumerate(space.sample(rng, n) if n else []):
        lr = c.get("lr", 1e-3)
        loss = abs(math.log10(lr) + 3) + 0.5 * (c.get("opt") == "sgd") + float(rng.normal(0, 0.01))
        out.append(trial(i, c, loss) if lr < 0.03 else trial(i, c, error=f"loss is NaN at step {i}"))
    return out


def facts(trials: list[TrialRecord], space: Space = SPACE, objectives: tuple = (LOSS,), **over: Any) -> dict[str, Any]:
    out = digest.build(space, objectives, trials, **over)
    json.dumps(out, allow_nan=False).encode()
    return out


def history(trials: list[TrialRecord], space: Space = SPACE, objectives: tuple = (LOSS,), **over: Any) -> str:
    return render(facts(trials, space, objectives, **over))[1]


# ------------------------------------------------------------------------------------------------ facts
