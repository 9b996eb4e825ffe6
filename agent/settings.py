"""What a study is told at its start: arguments checked and put into one form, before a trial is spent."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from tunewright.agent.errors import BudgetSpent
from tunewright.agent.prices import Price
from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective
from tunewright.plugins import registry
from tunewright.plugins.hooks import Advisor, Source

Safety = Literal["shared", "strict"]
ASSUMED_TRIALS = 50


@dataclass(frozen=True, slots=True)
class Budget:
    """Caps on a whole study, resumed or not; None is no cap.

    `seconds` counts the time that trials train, added up over trials and processes; `gpu_hours` the same times the
    devices that a runner gave each. At either cap no trial starts, and one that reports is stopped. `tokens` and `usd`
    count the advisor's calls, each reserved at its worst case before it is made.
    """

    trials: int | None = None
    seconds: float | None = None
    gpu_hours: float | None = None
    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None:
                continue
            whole = name in ("trials", "tokens")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not value > 0:
                raise FixArgument(
                    f"must be a {'whole ' if whole else ''}number above zero, or None",
                    field=f"budget.{name}",
                    value=value,
                )

    def to_config(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def trials_spent(self, begun: int, fresh: bool) -> BudgetSpent | None:
        """Why no new configuration may begin after `begun` of them; without `fresh` none is wanted."""
        if self.trials is not None and begun >= self.trials:
            fix, said = "raise Budget(trials=...) to go on", f"all {self.trials} trials of the budget are made"
            return BudgetSpent(said, cap="trials", limit=self.trials, fix=fix)
        return None if fresh else BudgetSpent("no new trial was wanted", cap="trials", limit=begun)

    @property
    def assumed_trials(self) -> int:
        return self.trials or ASSUMED_TRIALS


def check_plain(study: Any, seed: Any, advisor_deadline: Any, fidelity: Any) -> None:
    """Raises FixArgument for values that no study can have."""
    if not isinstance(study, str) or not study.strip():
        raise FixArgument("a study needs a name", field="study", value=study)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise FixArgument("must be a whole number from 0", field="seed", value=seed)
    seconds = isinstance(advisor_deadline, int | float) and not isinstance(advisor_deadline, bool)
    if not seconds or not advisor_deadline > 0:
        raise FixArgument("must be seconds above zero", field="advisor_deadline", value=advisor_deadline)
    if fidelity is not None and not isinstance(fidelity, Fidelity):
        raise FixArgument("not a fidelity", field="fidelity", value=fidelity, fix='Fidelity("epoch", 1, 81)')


MAX_FACTS = 20


def data_facts(data: Any) -> dict[str, Any] | None:
    """Facts about the data as they are kept: names to numbers, words, or lists and mappings of numbers."""
    if data is None:
        return None
    fix = 'data={"rows": 1797, "features": 64, "class_counts": [178, 182]}'
    if not isinstance(data, Mapping) or not all(isinstance(name, str) and name.strip() for name in data):
        raise FixArgument("must map names to facts", field="data", value=data, fix=fix)
    if len(data) > MAX_FACTS:
        raise FixArgument(f"more than {MAX_FACTS} facts", field="data", value=len(data), fix="keep what matters")
    for name, value in data.items():
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        single = isinstance(value, str | bool)
        if not single and not all(isinstance(v, int | float) and math.isfinite(v) for v in parts):
            raise FixArgument(
                "neither a number, words nor a list of numbers", field=f"data.{name}", value=value, fix=fix
            )
    return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}


def space_of(space: Any, constraints: Sequence[str] = ()) -> Space:
    """A `space=` argument, with further constraints."""
    found = _space_of(space)
    return Space(found.declared, [c.text for c in found.constraints] + list(constraints)) if constraints else found


def _space_of(space: Any) -> Space:
    if isinstance(space, Space):
        return space
    if isinstance(space, str | Path):
        path = Path(space)
        if not path.is_file():
            raise FixArgument(
                "no such file", field="space", value=str(path), fix="a .yaml or .json space file, or a mapping"
            )
        text = path.read_text(encoding="utf-8")
        return Space.from_json(text) if path.suffix == ".json" else Space.from_yaml(text)
    return Space(space)


def completed(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """A whole configuration from a part of one: what is left out takes its default. Raises FixParams."""
    filled = dict(params)
    if base := space.default({n: v for n, v in params.items() if n in space.parameters}):
        whole = {**{n: v for n, v in base.items() if n not in params}, **params}
        filled = filled if space.problems(whole) else whole
    return space.check(filled, field="enqueue")


def objectives_of(
    metric: str | None, direction: str | None, objectives: Sequence[Objective] | None
) -> tuple[Objective, ...] | None:
    """The objectives, or None where the caller named none."""
    if objectives is not None:
        if metric is not None or direction is not None:
            raise FixArgument("given beside metric or direction", field="objectives", fix="use one or the other")
        found = tuple(objectives)
        if not found or not all(isinstance(o, Objective) for o in found):
            raise FixArgument(
                "must be a list of Objective",
                field="objectives",
                value=objectives,
                fix='[Objective("acc", "maximize")]',
            )
        if len({o.name for o in found}) != len(found):
            raise FixArgument("two objectives have the same name", field="objectives", value=[o.name for o in found])
        return found
    if metric is None and direction is None:
        return None
    if metric is None:
        raise FixArgument("needs a metric to apply to", field="direction", value=direction, fix='metric="val_loss"')
    return (Objective(metric, direction or _usual_direction(metric)),)  # type: ignore[arg-type]


HIGHER_IS_BETTER = frozenset(
    {
        "acc",
        "accuracy",
        "auc",
        "auroc",
        "bleu",
        "dice",
        "f1",
        "iou",
        "map",
        "ndcg",
        "precision",
        "r2",
        "recall",
        "reward",
    }
)


def _usual_direction(metric: str) -> str:
    """Minimising is the rule where nothing is said; a study that minimises an accuracy is never what was meant."""
    if HIGHER_IS_BETTER & set(re.split(r"[^a-z0-9]+", metric.lower())):
        raise FixArgument(
            f"is not given, and higher is usually better for {metric!r}",
            field="direction",
            fix='direction="maximize", or "minimize"',
        )
    return "minimize"


def safety_of(safety: str) -> Safety:
    if safety == "shared":
        return "shared"
    if safety == "strict":
        return "strict"
    raise FixArgument("unknown mode", field="safety", value=safety, fix='"shared" or "strict"')


def advisor_of(advisor: Any) -> tuple[Advisor | None, Source | None]:
    """The advisor for an `advisor=` argument and where it came from. Raises FixArgument or FixPlugin."""
    if advisor is None:
        return None, None
    if isinstance(advisor, str):
        name, _, model = advisor.partition(":")
        made: Advisor = registry.load("advisors", name)(model or None)
        return made, registry.source("advisors", name)
    if isinstance(advisor, Advisor):
        return advisor, Source(advisor.name)
    raise FixArgument(
        "not an advisor",
        field="advisor",
        value=advisor,
        fix='None, "rules", "openai:MODEL", "langchain:PROVIDER:MODEL" or an object with complete()',
    )


def check_money(budget: Budget, advisor: Advisor | None, price: Price | None) -> None:
    """A money cap can only be kept where a call's worst case is known."""
    if budget.usd is not None and advisor is not None and price is None:
        name = label(advisor)
        raise FixArgument(
            f"the price of {name} is unknown, so a money cap cannot be kept",
            field="budget.usd",
            value=budget.usd,
            fix=f'prices={{"{name}": {{"input": 0.25, "output": 2.0}}}} in USD for a million tokens, '
            "or cap tokens instead: Budget(tokens=100_000)",
        )


def label(advisor: Advisor) -> str:
    return f"{advisor.name}:{advisor.model}" if advisor.model else advisor.name


def environment() -> dict[str, Any]:
    """Where a study was made: versions, platform and the git revision of the working directory."""
    packages = {}
    for package in ("tunewright", "numpy", "scikit-learn", "scipy", "torch", "xgboost", "lightgbm"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "git": _git_revision(),
        "program": Path(sys.argv[0]).name,
        "cwd": os.path.basename(os.getcwd()),
    }


def _git_revision() -> dict[str, Any] | None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {
            "revision": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
