"""A language model and TPE on one study. The model is a scripted server on 127.0.0.1, so that it needs no key.

For a real one leave the server out, set OPENAI_API_KEY (and OPENAI_BASE_URL for a server of your own) and name your
model: advisor="openai:MODEL".
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from tunewright.agent import Agent, Budget, Categorical, Float, Int, Trial
from tunewright.agent.testing import Request, ScriptedServer, answer

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
    "layers": Int(1, 6),
    "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0, 0.99, when={"opt": "sgd"}),
}
IDEAS = [
    {"lr": 3e-3, "layers": 3, "opt": "adam"},
    {"lr": 2e-2, "layers": 2, "opt": "sgd", "momentum": 0.9},
    {"lr": 4e-3, "layers": 4, "opt": "adam"},
    {"lr": 3.0, "layers": 3, "opt": "adam"},  # outside the space: it will be rejected, with the reason kept
]


def objective(trial: Trial) -> float:
    """Stands for a training run: best near lr 3e-3 with three layers."""
    off = 0.0 if trial["opt"] == "adam" else 0.1 + abs(trial["momentum"] - 0.9)
    final = 0.2 + 0.3 * abs(math.log10(trial["lr"] / 3e-3)) + 0.05 * abs(trial["layers"] - 3) + off
    for epoch in range(1, 6):
        trial.report(epoch, final + 1.0 / epoch**2)
    return final


class Model:
    """Answers each question with the next two ideas, the rationale before the values."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: Request) -> Any:
        first, self.asked = 2 * self.asked, self.asked + 1
        ideas = [IDEAS[i % len(IDEAS)] for i in (first, first + 1)]
        candidates = [{"rationale": f"A rate near {idea['lr']:g} suits this depth.", "params": idea} for idea in ideas]
        content = {"summary": "Small networks like larger steps.", "stance": "propose", "candidates": candidates}
        return answer(content, usage={"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980})


def main(store: str = "hybrid_study.db") -> None:
    with ScriptedServer(Model()) as server:
        os.environ["OPENAI_BASE_URL"] = server.base_url
        with Agent(
            SPACE,
            metric="val_loss",
            task="a small convolutional network on images",
            advisor="openai:scripted",
            engine="tpe",
            budget=Budget(trials=20, tokens=50_000),
            store=store,
            study="hybrid",
        ) as agent:
            best = agent.tune(objective)
            for trial in agent.trials:
                print(f"trial {trial.number:2}  {trial.value:.4f}  by {trial.proposer}: {trial.reason}")
            advised = [trial for trial in agent.trials if trial.source == "advisor"]
            print(f"\n{len(server.requests)} questions to the model, {len(advised)} trials from its advice")
            if best is not None:
                print(f"best: trial {best.number}, val_loss {best.value:.4f}, by {best.proposer}\n")
            print(agent.why(advised[0]))


if __name__ == "__main__":
    main(*sys.argv[1:2])
