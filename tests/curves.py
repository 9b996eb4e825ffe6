"""Surrogate training curves for tests: losses that fall like a power of the step, at rates that differ and cross."""

from __future__ import annotations

import math

from tunewright.engines import Categorical, Fidelity, Float, Observation, Space, State, Verdict
from tunewright.engines.schedulers import Resume, TrialView, Wait

SPACE = Space(
    {
        "lr": Float(1e-5, 1.0, log=True),
        "drop": Float(0.0, 0.8),
        "decay": Float(1e-7, 1e-1, log=True),
        "opt": Categorical(["sgd", "adam", "rmsprop"]),
    }
)
EPOCHS = Fidelity("epoch", 1, 27)


def loss(config, step):
    """Where it ends is a bowl with its lowest point at lr 1e-2; a high rate falls fast at first."""
    rate = math.log10(config["lr"])
    end = 0.1 + 0.5 * (1 - math.exp(-((rate + 2) ** 2) / 2 - 3 * (config["drop"] - 0.3) ** 2))
    end += (
        0.02 * (math.log10(config["decay"]) + 4) ** 2 / 4 + {"sgd": 0.0, "adam": 0.04, "rmsprop": 0.08}[config["opt"]]
    )
    return end + (0.9 - end) * (1 + step * 10 ** (0.4 * (rate + 1))) ** -1.2


def best_after(engine, scheduler, steps, loss=loss):
    """The end of the configuration with the lowest loss seen once `steps` steps were trained, by one worker."""
    params, reached, spent, lowest, end = {}, {}, 0, math.inf, math.inf
    while spent < steps:
        action = scheduler.next([])
        assert not isinstance(action, Wait)
        if isinstance(action, Resume):
            number, target = action.number, action.to
        else:
            number, target = len(params), action.fidelity
            params[number] = engine.ask(1, (), index=number, fidelity=target)[0].params
        scheduler.started(number, action)
        spent += target - reached.get(number, 0)
        reached[number] = target
        curve = [(step, loss(params[number], step)) for step in range(1, target + 1)]
        verdict = scheduler.judge(TrialView(number, target, params[number]), curve)
        state = State.PAUSED if verdict is Verdict.PAUSE else State.COMPLETE
        told = Observation(number, params[number], (curve[-1][1],), state, target)
        scheduler.tell(told)
        engine.tell([told])
        if curve[-1][1] < lowest:
            lowest, end = curve[-1][1], loss(params[number], EPOCHS.high)
    return end
