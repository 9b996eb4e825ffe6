"""`tunewright demo`: a small network on scikit-learn's handwritten digits, with the rules advisor; needs no network."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunewright.agent.agent import Agent
from tunewright.agent.cli import reading, render
from tunewright.agent.cli.live import Progress
from tunewright.agent.cli.main import EXIT_FAILED, EXIT_INTERRUPTED
from tunewright.agent.cli.render import Column
from tunewright.agent.settings import Budget
from tunewright.agent.store import Store
from tunewright.agent.trial import Trial
from tunewright.engines.parameters import Categorical, Float, Int

TASK = "an MLPClassifier of scikit-learn on 8 by 8 pixel images of handwritten digits, 898 of them to train on"
EPOCHS = 40
CLASSES = range(10)
# The defaults are scikit-learn's own.
SPACE = {
    "learning_rate_init": Float(1e-4, 1e-1, log=True, default=1e-3),
    "alpha": Float(1e-6, 1e-1, log=True, default=1e-4),
    "hidden_width": Int(16, 256, log=True, default=100),
    "hidden_layers": Int(1, 3, default=1),
    "batch_size": Int(16, 256, log=True, default=200),
    "solver": Categorical(["adam", "sgd"], default="adam"),
    "momentum": Float(0.0, 0.99, default=0.9, when={"solver": "sgd"}),
}
METRIC = "val_error"


class Digits:
    """The task: images in three parts, of which the third is held out until the end."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        rest, self._test, rest_labels, self._test_labels = train_test_split(
            images / 16, labels, test_size=0.25, stratify=labels, random_state=0
        )
        self._train, self._val, self._train_labels, self._val_labels = train_test_split(
            rest, rest_labels, test_size=1 / 3, stratify=rest_labels, random_state=0
        )

    def objective(self, trial: Trial) -> float:
        """The share of validation images that are read wrongly after the last epoch."""
        model, error = self.model(trial.params, trial.seed), 1.0
        with fitting():
            for epoch in range(1, EPOCHS + 1):
                error = self.epoch(model)
                trial.report(epoch, error)
        return error

    def epoch(self, model: Any) -> float:
        """Trains for one epoch more. The validation error after it."""
        model.partial_fit(self._train, self._train_labels, classes=CLASSES)
        return 1.0 - float(model.score(self._val, self._val_labels))

    def test_accuracy(self, trial: Trial) -> float:
        """Of the same training run, repeated from its seed, on images that no trial has seen."""
        model = self.model(trial.params, trial.seed)
        with fitting():
            for _ in range(EPOCHS):
                self.epoch(model)
        return float(model.score(self._test, self._test_labels))

    @staticmethod
    def model(params: Mapping[str, Any], seed: int) -> Any:
        from sklearn.neural_network import MLPClassifier

        rest = {k: v for k, v in params.items() if not k.startswith("hidden_")}
        layers = (params["hidden_width"],) * params["hidden_layers"]
        return MLPClassifier(hidden_layer_sizes=layers, random_state=seed, **rest)


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """One thread, since more cost such a small network more time than they save; Ctrl-C works."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a run that diverges overflows; it is reported as failed
        warnings.filterwarnings("error", "Training interrupted")  # scikit-learn makes a warning of an interrupt
        try:
            yield
        except UserWarning:
            raise KeyboardInterrupt from None


def run(trials: int, store: Path, as_json: bool) -> None:
    began = time.monotonic()
    out = sys.stderr if as_json else sys.stdout
    render.line("Tuning a small neural network on handwritten digits.", "bold", out)
    render.facts(
        [
            ("task", "scikit-learn's MLPClassifier, 898 images to train, 449 to validate, 450 held out"),
            ("space", f"{render.count(len(SPACE), 'parameter')}, momentum only when solver is sgd"),
            ("advice", "built-in rules, checked against a classical engine; no key, no network"),
            ("start", "trial 0 is scikit-learn's default configuration"),
        ],
        out,
    )
    render.line(stream=out)
    task = Digits()
    budget = Budget(trials=trials)
    with Agent(SPACE, metric=METRIC, direction="minimize", task=TASK, advisor="rules", budget=budget, store=store,
               study=_fresh_name(store)) as agent:  # fmt: skip
        try:
            with Progress(agent, trials, to_stderr=as_json) as progress:
                agent.tune(task.objective, **progress.hooks)
        except KeyboardInterrupt:
            seen = reading.command(f"tunewright show {agent.study}", store)
            render.line(f"Interrupted. What was tried is kept: {seen}", stream=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        best, default = agent.best, agent.trial(0)
        if best is None:
            render.line("No trial was completed.", "red", sys.stderr)
            sys.exit(EXIT_FAILED)
        test = {trial.number: task.test_accuracy(trial) for trial in (default, best)}
        if as_json:
            _document(agent, store, default, best, test, time.monotonic() - began)
        else:
            _tell(agent, store, default, best, test, time.monotonic() - began)


def _fresh_name(store: Path) -> str:
    if not store.exists():
        return "demo"
    with Store.open(store, read_only=True) as file:
        taken = {study.name for study in file.studies()}
    return next(name for n in range(1, len(taken) + 2) if (name := f"demo-{n}" if n > 1 else "demo") not in taken)


def _document(agent: Agent, store: Path, default: Trial, best: Trial, test: Mapping[int, float], took: float) -> None:
    def entry(trial: Trial) -> dict[str, Any]:
        accuracy = {"validation_accuracy": _accuracy(trial), "test_accuracy": test[trial.number]}
        return {**reading.trial_data(trial._record, agent.objectives), **accuracy}

    found = {"default": entry(default), "best": entry(best), "why": agent.why(best).to_dict()}
    render.document({"study": agent.study, "store": str(store), "trials": len(agent.trials), "seconds": took, **found})


def _accuracy(trial: Trial) -> float | None:
    return None if trial.value is None else 1.0 - trial.value


def _tell(agent: Agent, store: Path, default: Trial, best: Trial, test: Mapping[int, float], took: float) -> None:
    render.line()
    render.line(f"Done: {render.count(len(agent.trials), 'trial')} in {render.seconds(took)}.", "bold")
    render.line()
    render.table(
        [
            Column(""),
            Column(f"default (trial {default.number})", right=True),
            Column(f"best (trial {best.number})", right=True),
        ],
        [
            ["validation accuracy", _percent(_accuracy(default)), (_percent(_accuracy(best)), "bold green")],
            ["test accuracy, held out", _percent(test[default.number]), (_percent(test[best.number]), "bold green")],
            *([name, _value(default, name), _value(best, name)] for name in SPACE),
        ],
    )
    render.line()
    render.line(f"Why trial {best.number} was tried:")
    for line in _reasons(agent, best):
        render.line(f"  {line}")
    render.line()
    words = (f"tunewright why {best.number}", f"tunewright show {agent.study} --sort value", "tunewright ls")
    render.commands([reading.command(text, store) for text in words])


def _reasons(agent: Agent, trial: Trial) -> list[str]:
    """Who chose it and why, in the advisor's own words where it was advised, and what it changed."""
    found = agent.why(trial)
    lines = [found.chosen]
    chosen = found.decision.get("chosen")
    if chosen is not None:
        verdict = found.decision["verdicts"][chosen]
        lines.append(f"The advisor said: {verdict['rationale']}")
        lines.append("It passed these checks: " + ", ".join(check["name"] for check in verdict["checks"]))
    earlier = [t for t in agent.trials[: trial.number] if t.value is not None]
    if earlier:
        before = min(earlier, key=lambda t: t.value or 0.0)
        changes = [f"{n} {_value(before, n)} -> {_value(trial, n)}" for n in SPACE if before.get(n) != trial.get(n)]
        lines.append(
            f"Against the best before it (trial {before.number}, {METRIC} {before.value:.4g}): {', '.join(changes)}"
        )
    return lines


def _percent(share: float | None) -> str:
    return "failed" if share is None else f"{share:.1%}"


def _value(trial: Trial, name: str) -> str:
    value = trial.get(name)
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
