"""The objective of study.yaml: an SGD-trained linear classifier on scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from tunewright.agent import Trial

IMAGES, LABELS = load_digits(return_X_y=True)
TRAIN, VAL, TRAIN_LABELS, VAL_LABELS = train_test_split(
    IMAGES / 16, LABELS, test_size=0.3, stratify=LABELS, random_state=0
)


def objective(trial: Trial) -> float:
    """Validation error after the last epoch; every epoch is reported, so that the study keeps the curve."""
    model = SGDClassifier(
        loss=trial["loss"],
        penalty=trial["penalty"],
        alpha=trial["alpha"],
        l1_ratio=trial.get("l1_ratio", 0.15),
        learning_rate=trial["learning_rate"],
        eta0=trial.get("eta0", 0.01),
        random_state=trial.seed,
    )
    error = 1.0
    for epoch in range(1, 11):
        model.partial_fit(TRAIN, TRAIN_LABELS, classes=np.unique(LABELS))
        error = 1.0 - float(model.score(VAL, VAL_LABELS))
        trial.report(epoch, error)
    return error
