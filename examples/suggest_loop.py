"""A loop of one's own: suggest, train, report, observe. Run it twice and the study goes on."""

from __future__ import annotations

import sys

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from tunewright.agent import Agent, Float, Int, Trial

ROWS, LABELS = load_breast_cancer(return_X_y=True)
TRAIN, VAL, TRAIN_LABELS, VAL_LABELS = train_test_split(ROWS, LABELS, test_size=0.3, stratify=LABELS, random_state=0)
TREES = 40


def train(agent: Agent, trial: Trial) -> float:
    """Grows the forest ten trees at a time and reports the validation loss after each step."""
    model = GradientBoostingClassifier(random_state=trial.seed, warm_start=True, **trial.params)
    loss = float("inf")
    for trees in range(10, TREES + 1, 10):
        model.set_params(n_estimators=trees).fit(TRAIN, TRAIN_LABELS)
        loss = log_loss(VAL_LABELS, model.predict_proba(VAL))
        agent.report(trial, step=trees, value=loss)
    return loss


def main(store: str = "suggest_loop.db", trials: int = 12) -> None:
    space = {
        "learning_rate": Float(0.01, 1.0, log=True, default=0.1),
        "max_depth": Int(1, 5, default=3),
        "subsample": Float(0.3, 1.0, default=1.0),
        "min_samples_leaf": Int(1, 20, default=1),
    }
    task = "GradientBoostingClassifier of scikit-learn, 40 trees, on the breast cancer table"
    with Agent(space, metric="val_loss", task=task, advisor="rules", store=store, study="boosting") as agent:
        for _ in range(trials):
            trial = agent.suggest()
            try:
                agent.observe(trial, train(agent, trial))
            except ValueError as error:  # what this training raises when a configuration does not work
                agent.fail(trial, str(error))
            curve = " ".join(f"{value:.3f}" for _, value in trial.curve)
            print(f"trial {trial.number:2}  {trial.state}  by {trial.proposer}  curve {curve}")
        best = agent.best
        if best is not None:
            print(f"best: trial {best.number}, val_loss {best.value:.4f}, {best.params}")
            print(agent.why(best))


if __name__ == "__main__":
    main(*sys.argv[1:2])
