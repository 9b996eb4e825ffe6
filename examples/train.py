"""A training script as people have them: arguments in, JSON lines out, a checkpoint to go on from.

It knows nothing of Tunewright but three environment variables. `tunewright tune examples/command.yaml` drives it, and
`tunewright init examples/train.py` writes such a file from its arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=27)
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    train, val, train_labels, val_labels = train_test_split(
        images / 16, labels, test_size=0.3, stratify=labels, random_state=0
    )
    checkpoint = Path(os.environ.get("TUNEWRIGHT_CHECKPOINT_DIR", ".")) / "model.pickle"
    epoch, model = 0, None
    if checkpoint.is_file():
        epoch, model = pickle.loads(checkpoint.read_bytes())
    if model is None:
        model = MLPClassifier(
            (args.hidden,), learning_rate_init=args.lr, alpha=args.weight_decay, batch_size=args.batch_size,
            random_state=int(os.environ.get("TUNEWRIGHT_SEED", "0")),
        )  # fmt: skip
    while epoch < args.epochs:
        model.partial_fit(train, train_labels, classes=np.unique(labels))
        epoch += 1
        part = checkpoint.with_suffix(".part")
        part.write_bytes(pickle.dumps((epoch, model)))
        os.replace(part, checkpoint)  # before the report: a verdict may end this run there
        print(json.dumps({"step": epoch, "val_error": 1 - float(model.score(val, val_labels))}), flush=True)


if __name__ == "__main__":
    main()
