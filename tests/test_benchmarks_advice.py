"""The advice benchmark: which studies it runs, where it goes on after an interruption, what its ratios say."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_kit import Param, script

SVM = [Param("C", "float", 1e-2, 1e3, log=True), Param("gamma", "float", 1e-4, 10, log=True)]
NESTED = [
    Param("kernel", "cat", choices=("rbf", "linear")),
    Param("gamma", "float", 0.1, 1, parent="kernel", when=("rbf",)),
]


@pytest.fixture(scope="module")
def advice() -> Iterator[ModuleType]:
    yield from script("advice")


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    yield from script("advice_summary")


@dataclass(frozen=True)
class Task:
    """As the benchmark describes one, and every configuration it was asked for."""

    name: str
    params: list[Param]
    asked: list[dict[str, Any]]
    init_configs: Callable[[int], list[dict[str, Any]]] | None = None

    def evaluate(self, config: dict[str, Any]) -> float:
        self.asked.append(config)
        return float(np.log10(config["C"]) ** 2 + np.log10(config["gamma"]) ** 2)


# ------------------------------------------------------------------------------------------------ studies


def test_the_advised_arms_are_the_engine_and_each_adversary_with_valid_answers(advice: ModuleType) -> None:
    task = Task("llambo-iris-SVM", SVM, [])
    arms = dict(advice.safety_arms(task, 0, 12, "random"))
    kinds = {"worst point", "repeats", "borders", "flattering, then hostile", "gullible"}
    assert set(arms) == {"random", *(f"random~{kind}" for kind in kinds)}
    alone, advised = arms["random"](), arms["random~borders"]()
    assert [row["eval"] for row in alone] == list(range(1, 13))
    assert {row["source"] for row in alone} == {"engine"}
    assert "advisor" in {row["source"] for row in advised}


def test_the_default_first_arm_begins_where_the_rules_do(advice: ModuleType) -> None:
    task = Task("llambo-iris-SVM", SVM, [])
    first = {}
    for arm, run in advice.gain_arms(task, 0, 10, "random"):
        begun = len(task.asked)
        rows = run()
        first[arm] = (task.asked[begun], {row["source"] for row in rows})
    assert first["random~default"][0] == first["random~rules"][0]
    assert first["random~default"][1] == {"queue", "engine"}, "and has no advice"
    assert "advisor" in first["random~rules"][1]
    assert first["random~rules, blinded"] == first["random"], "names that say nothing bring no advice"


def test_studies_from_given_points_begin_with_them_alone_and_with_the_rules(advice: ModuleType) -> None:
    given = [{"C": 3.0 * k, "gamma": 0.02 * k} for k in range(1, 6)]
    task = Task("llambo-iris-SVM", SVM, [], lambda seed: given)
    for arm, run in advice.llambo_arms(task, 0, 12, "random"):
        begun = len(task.asked)
        sources = [row["source"] for row in run()]
        assert task.asked[begun : begun + 5] == given and sources[:5] == ["queue"] * 5
        assert ("advisor" in sources[5:]) == arm.endswith("~rules")


def test_blinding_renames_conditions_too_and_can_be_undone(advice: ModuleType) -> None:
    hidden, names = advice.blinded(NESTED)
    assert [p.name for p in hidden] == ["x1", "x2"] and hidden[1].parent == "x1" and hidden[0].parent is None
    assert names == {"x1": "kernel", "x2": "gamma"}


def test_words_name_the_model_and_no_data_set(advice: ModuleType) -> None:
    assert advice.words_for("llambo-iris-SVM") == "a support vector machine of scikit-learn"
    assert advice.words_for("rbv2_xgboost-12") == "xgboost on tabular data"
    assert advice.words_for("synthetic-levy8") is None


def test_an_interrupted_run_goes_on_with_what_it_has_not(
    advice: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(advice, "benchmark_folder", lambda: tmp_path)
    monkeypatch.setitem(sys.modules, "tasks", SimpleNamespace(make_task=lambda name: Task(name, SVM, [])))

    def run(seeds: int) -> list[str]:
        given = ["gain", "--engines", "random", "--tasks", "llambo-iris-SVM", "--budget", "3"]
        monkeypatch.setattr(sys, "argv", ["advice.py", *given, "--seeds", "0", str(seeds), "--out", str(tmp_path)])
        advice.main()
        return capsys.readouterr().out.splitlines()

    assert [len(run(1)), len(run(2)), len(run(2))] == [4, 4, 0]
    rows = list(csv.DictReader((tmp_path / "random~rules.csv").open()))
    assert [(row["seed"], row["eval"]) for row in rows] == [(s, e) for s in "01" for e in "123"]


# ------------------------------------------------------------------------------------------------ tables


def test_a_ratio_is_of_means_over_tasks_with_a_bound_on_each_side(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    pairs = [(task, seed) for task in "ab" for seed in range(40)]
    base = {pair: np.array([1.0 + (pair[0] == "b") + 0.2 * rng.random()]) for pair in pairs}
    same = {pair: 1.1 * value for pair, value in base.items()}
    found = tables.ratio([same], base, pairs, 1)
    assert tuple(found) == pytest.approx((1.1, 1.1, 1.1)), "pairs are drawn together: what they share cancels"
    noisy = {pair: value + rng.normal(0, 0.3) for pair, value in base.items()}
    one, both = tables.ratio([noisy], base, pairs, 1), tables.ratio([noisy, base], base, pairs, 1)
    assert one.low < one.value < one.high
    assert both.value - 1 == pytest.approx((one.value - 1) / 2), "advisors are pooled by their mean"


def test_one_seed_has_no_bounds_and_no_regret_no_ratio(tables: ModuleType) -> None:
    base, arm = {("t", 0): np.array([0.5, 0.0])}, {("t", 0): np.array([0.6, 0.1])}
    assert str(tables.ratio([arm], base, list(base), 1)) == "1.20"
    assert str(tables.ratio([arm], base, list(base), 2)) == "-"


def test_the_bound_covers_as_often_as_it_says(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESAMPLES", 400)
    rng, pairs, above = np.random.default_rng(1), [("a", seed) for seed in range(30)], 0
    for _ in range(200):
        base = {pair: np.array([rng.gamma(4.0)]) for pair in pairs}
        arm = {pair: value * rng.lognormal(0.0, 0.2) for pair, value in base.items()}
        above += tables.ratio([arm], base, pairs, 1).high >= np.exp(0.02)  # the mean of that lognormal
    assert 0.88 <= above / 200 <= 0.99


def test_the_safety_table_pools_and_lists_on_common_pairs(tables: ModuleType, tmp_path: Path) -> None:
    def write(arm: str, losses: dict[int, list[float]], advised: int) -> None:
        lines = ["task,seed,eval,loss,source"]
        lines += [
            f"t,{seed},{i + 1},{loss},{'advisor' if i < advised else 'engine'}"
            for seed, values in losses.items()
            for i, loss in enumerate(values)
        ]
        (tmp_path / f"{arm}.csv").write_text("\n".join(lines) + "\n")

    write("tpe", {0: [4.0, 2.0], 1: [4.0, 2.0], 2: [1.0, 1.0]}, 0)
    write("tpe~borders", {0: [9.0, 2.0], 1: [9.0, 4.0]}, 1)
    write("tpe~repeats", {0: [4.0, 2.0], 1: [4.0, 2.0]}, 0)
    write("gp", {0: [1.0, 1.0]}, 0)
    lines = tables.safety_table(tmp_path, tables.load([str(tmp_path)]), {"t": (0.0, 10.0)}, 2).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[:5] for row in cells] == [
        ["tpe", "**all of them**", "2", ".200", ".250"],
        ["tpe", "borders", "2", ".200", ".300"],
        ["tpe", "repeats", "2", ".200", ".200"],
    ]
    assert [row[5].split()[0] for row in cells] == ["1.25", "1.50", "1.00"]
    assert [row[6] for row in cells] == ["0.5", "1.0", "0.0"]


def test_the_gain_table_holds_rules_against_both(tables: ModuleType) -> None:
    values = {"gp": 0.8, "gp~default": 0.5, "gp~rules": 0.4, "gp~rules, blinded": 0.88}
    runs = {arm: {("t", seed): np.array([value]) for seed in range(3)} for arm, value in values.items()}
    row = tables.gain_table("t", runs, ["t"], [1]).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:7] == ["gp", "1", "3", ".800", ".500", ".400", ".880"]
    assert [cell.split()[0] for cell in cells[7:]] == ["0.50", "0.80", "1.10"]
    assert tables.gain_table("t", runs, ["other"], [1]) == ""


def test_published_means_are_losses_beside_which_our_runs_stand(tables: ModuleType, tmp_path: Path) -> None:
    header = "dataset,model,seeds,metric,score@2,std@2"
    rows = ["iris,SVM,5,accuracy (higher is better),0.9,0.1", "diabetes,SVM,5,MSE (lower is better),0.6,0.1"]
    (tmp_path / "published.csv").write_text("\n".join([header, *rows]))
    losses = tables.published(tmp_path / "published.csv")
    assert losses["llambo-iris-SVM"][2] == pytest.approx(0.1) and losses["llambo-diabetes-SVM"][2] == 0.6
    runs = {
        "gp": {("a", 0): np.array([0.9, 0.4]), ("a", 1): np.array([0.9, 0.2]), ("b", 0): np.array([0.9, 0.1])},
        "short": {("a", 0): np.array([0.5, 0.5]), ("b", 0): np.array([0.1])},
    }
    table = tables.llambo_table(runs, {"a": {2: 0.25}, "b": {2: 0.0}}, [2], True).splitlines()
    assert table[2:4] == ["| all | 2 | .250 | .300 | .500 |", "| a | 2 | .250 | .300 | .500 |"], "b is not had by all"
    assert table[-1] == "Seeds: LLAMBO 5, gp 2, short 1."


def test_lost_trials_are_the_last_ones_of_runs_that_are_long_enough(tables: ModuleType) -> None:
    runs = {"gp": {("t", 0): np.array([0.9, 0.6, 0.3, 0.2]), ("t", 1): np.array([0.9, 0.6])}}
    assert tables.lost_table(runs, ["gp"], 4, [1, 2]).splitlines()[-1] == "| gp | 1 | 1.50 | 3.00 |"


# ------------------------------------------------------------------------------------------------ words and curves


def test_what_a_person_says_is_read_as_meant(advice: ModuleType) -> None:
    from tunewright.agent.said import read

    space = advice.space_of([*SVM, Param("kernel", "cat", choices=("rbf", "linear"))])
    best = {"C": 30.0, "gamma": 0.01, "kernel": "rbf"}
    for seed in range(6):
        right, wrong = (read(advice.said(space, best, seed, kind), space) for kind in (True, False))
        assert len(right.priors) == len(wrong.priors) == 2 and not right.left_over and not wrong.left_over
        assert {p.strength for p in (*right.priors, *wrong.priors)} == {"strong"}
        for good, bad in zip(right.priors, wrong.priors, strict=True):
            assert good.belief.startswith("prefer") and bad.belief.startswith("avoid")
            if good.parameter != "kernel":
                assert good.low < best[good.parameter] < good.high


@dataclass(frozen=True)
class CurveTask(Task):
    max_epoch: int = 9

    def curve(self, config: dict[str, Any], epochs: int) -> list[float]:
        end = self.evaluate(config)
        return [end + 1 / step for step in range(1, epochs + 1)]


def test_a_study_of_curves_has_a_row_for_each_full_training(advice: ModuleType) -> None:
    task = CurveTask("curves", SVM, [])
    arms = dict(advice.curve_arms(task, 0, 6, "random+hyperband"))
    assert len(arms) == 6 and "random+hyperband~borders" in arms
    rows = arms["random+hyperband"]()
    losses = [float(row["loss"]) for row in rows]
    assert [row["eval"] for row in rows] == list(range(1, 7)) and losses[-1] <= losses[0]
    assert len(task.asked) > 6  # more configurations than full trainings: the weak ones were cut
