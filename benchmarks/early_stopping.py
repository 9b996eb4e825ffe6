"""What early stopping saves on the demo's network: the epochs that each way of training spent, and what it found.

    python benchmarks/early_stopping.py                      # all arms, seeds 0 to 4: the table of docs/benchmarks.md
    python benchmarks/early_stopping.py --arms full asha-3 --seeds 0 3

Each arm is a study of the demo's task with the rules advisor and the engine `auto`; its error is that of `agent.best`.
Epochs are counted where they are trained. A trial that comes back goes on with the network that it left.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from tunewright.agent import Agent, Budget, Fidelity, Trial
from tunewright.agent.cli.demo import EPOCHS, METRIC, SPACE, TASK, Digits, fitting


class Arm(NamedTuple):
    scheduler: Any
    trials: int


ARMS = {
    "full": Arm(None, 20),
    "asha-3": Arm(("asha", {"grace": 3}), 30),
    "asha-2": Arm(("asha", {"grace": 2}), 40),
    "asha": Arm("asha", 64),
    "hyperband": Arm("hyperband", 40),
    "freeze-thaw": Arm("freeze-thaw", 40),
    "auto": Arm("auto", 30),  # what a study with a fidelity and nothing else named gets
}


class Counted(Digits):
    """The demo's task, trained to where the scheduler says, every epoch counted."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs = 0
        self.models: dict[int, Any] = {}

    def objective(self, trial: Trial) -> float:
        model = self.models.setdefault(trial.number, self.model(trial.params, trial.seed))
        begun, error = len(trial.curve), 1.0
        with fitting():
            for epoch in range(begun + 1, (trial.fidelity or EPOCHS) + 1):
                error = self.epoch(model)
                self.epochs += 1
                trial.report(epoch, error)
        return error


def study(arm: Arm, seed: int) -> tuple[int, float]:
    """(epochs, the best trial's error)."""
    task = Counted()
    given: dict[str, Any] = {
        "scheduler": arm.scheduler,
        "budget": Budget(trials=arm.trials),
        "fidelity": Fidelity("epoch", 1, EPOCHS),
    }
    with Agent(SPACE, metric=METRIC, direction="minimize", task=TASK, store=None, seed=seed, **given) as agent:
        agent.tune(task.objective)
        best = agent.best
    assert best is not None and best.value is not None, "no trial was completed"
    return task.epochs, best.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 5), metavar=("FIRST", "AFTER_LAST"))
    args = parser.parse_args()
    print("| arm | trials | epochs, mean | best error per seed | mean |", "|---|---|---|---|---|", sep="\n")
    for name in args.arms:
        found = [study(ARMS[name], seed) for seed in range(*args.seeds)]
        errors = [error for _, error in found]
        epochs = sum(epochs for epochs, _ in found) / len(found)
        shown = " ".join(f"{error:.4f}".lstrip("0") for error in errors)
        mean = f"{sum(errors) / len(errors):.4f}".lstrip("0")
        print(f"| {name} | {ARMS[name].trials} | {epochs:.0f} | {shown} | {mean} |", flush=True)


if __name__ == "__main__":
    main()
