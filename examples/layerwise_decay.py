"""Fine-tuning with a learning rate that decays from layer to layer, tuned together with the rate itself.

A small network is trained on the digits 0 to 4 and then fine-tuned to 5 to 9, of which only twenty images are there.
`layerwise_rates` is what a BERT would be given as parameter groups of its optimizer:

    rates = layerwise_rates(trial["lr"], trial["decay"], layers=12)   # embeddings, 12 layers, head
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in zip(parts, rates)]
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

from tunewright.agent import Agent, Float, Trial, layerwise_rates

LAYERS, WIDTH = 3, 48  # between the first weights ("embeddings") and the head
FEW = 20  # images to fine-tune on


def network(rng: np.random.Generator) -> list[np.ndarray]:
    sizes = [64, *[WIDTH] * (LAYERS + 1), 5]
    return [rng.normal(0, (2 / a) ** 0.5, (a, b)) for a, b in pairwise(sizes)]


def forward(weights: list[np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    outs = [images]
    for w in weights[:-1]:
        outs.append(np.maximum(outs[-1] @ w, 0))
    return [*outs, outs[-1] @ weights[-1]]


def train(weights: list[np.ndarray], images: np.ndarray, labels: np.ndarray, rates: list[float], epochs: int) -> None:
    """Gradient descent on the cross-entropy, each weight matrix at a rate of its own."""
    for _ in range(epochs):
        *outs, logits = forward(weights, images)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope = shares / shares.sum(axis=1, keepdims=True) - np.eye(5)[labels]
        for i in reversed(range(len(weights))):
            step = outs[i].T @ slope / len(images)
            slope = slope @ weights[i].T * (outs[i] > 0)
            weights[i] = weights[i] - rates[i] * step


images, labels = load_digits(return_X_y=True)
images = images / 16
low = labels < 5
PRETRAINED = network(np.random.default_rng(0))
train(PRETRAINED, images[low], labels[low], [0.2] * (LAYERS + 2), 200)
NEW, NEW_LABELS = images[~low], labels[~low] - 5


def objective(trial: Trial) -> float:
    """The share of images that are read wrongly after fine-tuning on FEW of them."""
    weights = [*PRETRAINED[:-1], network(np.random.default_rng(trial.seed))[-1]]  # a new head
    rates = layerwise_rates(trial["lr"], trial["decay"], LAYERS)
    train(weights, NEW[:FEW], NEW_LABELS[:FEW], rates, 100)
    return float(np.mean(forward(weights, NEW[FEW:])[-1].argmax(axis=1) != NEW_LABELS[FEW:]))


agent = Agent(
    {"lr": Float(0.01, 1.0, log=True, default=0.1), "decay": Float(0.3, 1.0, default=1.0)},
    metric="error",
    task="fine-tuning a small pretrained network; decay multiplies the learning rate from layer to layer downwards",
    store="layerwise_decay.db",
    study="layerwise",
)
agent.tune(objective, trials=15)
best = agent.best
assert best is not None
print(f"trial 0: error {agent.trial(0).value:.3f} with one rate for all layers")
print(f"best: trial {best.number}, error {best.value:.3f}, lr {best['lr']:.3g}, decay {best['decay']:.2f}")
print("its rates:", ", ".join(f"{rate:.2g}" for rate in layerwise_rates(best["lr"], best["decay"], LAYERS)))
agent.close()
