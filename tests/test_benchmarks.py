"""The benchmark scripts' own arithmetic: narrower ranges, batches told at once, runs paired, differences counted."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_kit import FOLDER, Param, script

from tunewright.agent.lineup import choices
from tunewright.engines import Objective

PARAMS = [Param("rate", "float", 1e-4, 1.0, log=True), Param("x", "float", -10, 10), Param("n", "int", 1, 9)]


@pytest.fixture(scope="module")
def engines() -> Iterator[ModuleType]:
    yield from script("engines")


@pytest.fixture(scope="module")
def summary() -> Iterator[ModuleType]:
    yield from script("summary")


@pytest.mark.parametrize("name", ["engines", "summary"])
@pytest.mark.parametrize("folder", [None, "/nowhere"])
def test_without_the_data_a_script_names_the_variable(name: str, folder: str | None) -> None:
    given = {"engines": ["--optimizer", "tunewright-gp"], "summary": ["results", "--arms", "tunewright-gp"]}[name]
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *given],
        env={} if folder is None else {"TUNEWRIGHT_BENCH_DATA": folder},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Set TUNEWRIGHT_BENCH_DATA to the folder of the benchmark")


# ------------------------------------------------------------------------------------------------ running


def test_floats_lose_a_twentieth_at_each_end_on_their_own_scale(engines: ModuleType) -> None:
    rate, x, n = engines.narrowed(PARAMS)
    assert (x.low, x.high) == (-9.0, 9.0)
    assert (math.log10(rate.low), math.log10(rate.high)) == pytest.approx((-3.8, -0.2))
    assert n == PARAMS[2], "whole numbers keep their range"


@pytest.mark.parametrize("engine", ["gp", "random"])
def test_a_batch_is_made_of_different_points_and_told_when_it_is_complete(engines: ModuleType, engine: str) -> None:
    arm = engines.arm(engine, batch=4)(engines.narrowed(PARAMS), 0, 8)
    told: list[int] = []
    tell = arm._inside.tell
    arm._inside.tell = lambda observations: (told.append(len(observations)), tell(observations))
    configs = []
    for _ in range(8):
        configs.append(arm.ask())
        arm.tell(configs[-1], configs[-1]["x"] ** 2)
    assert told == [4, 4]
    assert len({config["x"] for config in configs}) == 8
    assert all(-9 <= config["x"] <= 9 for config in configs)


def test_auto_is_what_a_study_runs(engines: ModuleType) -> None:
    first = choices("auto", [Objective("loss")], engines.space_of(PARAMS))[0].source.name
    found = []
    for engine in ("auto", first):
        arm = engines.arm(engine)(PARAMS, 3, 6)
        found.append([])
        for _ in range(6):
            config = arm.ask()
            found[-1].append(config)
            arm.tell(config, config["x"])
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------ comparing


def write(path: Path, runs: dict[tuple[str, int], list[float]]) -> None:
    lines = ["task,seed,eval,loss,ms"]
    lines += [f"{t},{s},{k + 1},{loss},1" for (t, s), losses in runs.items() for k, loss in enumerate(losses)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_the_longer_of_two_runs_counts_and_a_label_names_a_folder(summary: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "a" / "arm.csv", {("t", 0): [3.0, 2.0, 1.0], ("t", 1): [5.0]})
    write(tmp_path / "b" / "arm.csv", {("t", 0): [9.0], ("t", 1): [8.0, 7.0]})
    runs = summary.load([str(tmp_path / "a"), str(tmp_path / "b"), f"four={tmp_path / 'b'}"])
    assert {pair: list(losses) for pair, losses in runs["arm"].items()} == {("t", 0): [3, 2, 1], ("t", 1): [8, 7]}
    assert list(runs["four:arm"]["t", 0]) == [9.0]


def test_regret_is_of_the_best_so_far_between_the_best_known_and_an_ordinary_one(summary: ModuleType) -> None:
    runs = {"arm": {("t", 0): np.array([3.0, 5.0, 0.5])}, "random": {("free", 0): np.array([4.0, 2.0, 6.0])}}
    found = summary.regrets(runs, {"t": (1.0, 5.0)})
    assert list(found["arm"]["t", 0]) == [0.5, 0.5, 0.0], "below the best known is 0"
    assert list(found["random"]["free", 0]) == [1.0, 0.0, 0.0], "best seen, and the median of random"
    assert list(summary.regrets(runs, {"t": (1.0, 4.5)}, seen=True)["arm"]["t", 0]) == [0.625, 0.625, 0.0]


def regret_of(*values: float) -> dict[tuple[str, int], np.ndarray]:
    """Two tasks: the first with one seed, the second with the others; one evaluation."""
    return {("a" if k == 0 else "b", k): np.array([value]) for k, value in enumerate(values)}


def test_only_pairs_that_all_arms_have_at_that_length_are_compared(summary: ModuleType) -> None:
    long = {("a", 0): np.zeros(10), ("a", 1): np.zeros(10), ("c", 0): np.zeros(10)}
    short = {("a", 0): np.zeros(10), ("a", 1): np.zeros(5), ("b", 0): np.zeros(10)}
    runs = {"long": long, "short": short}
    assert summary.shared(runs, ["long", "short"], ["a", "b", "c"], 5) == [("a", 0), ("a", 1)]
    assert summary.shared(runs, ["long", "short"], ["a", "b", "c"], 10) == [("a", 0)]
    assert summary.table("g", runs, ["long", "short"], "long", ["b"], [5]) == ""


def test_a_task_counts_once_however_many_seeds_it_has(summary: ModuleType) -> None:
    arm = regret_of(1.0, 0.0, 0.25, 0.5)
    assert summary.mean_regret(arm, list(arm), 1) == pytest.approx((1.0 + 0.25) / 2)


def test_the_difference_is_over_pairs_with_its_error_and_both_counts(summary: ModuleType) -> None:
    base, other = regret_of(0.1, 0.2, 0.3, 0.4, 0.5), regret_of(0.2, 0.4, 0.6, 0.4, 0.4)
    found = summary.difference(other, base, list(base), 1)
    d = [0.1, 0.2, 0.3, 0.0, -0.1]
    assert found.mean == pytest.approx(0.1) and found.error == pytest.approx(np.std(d, ddof=1) / math.sqrt(5))
    assert (found.wins, found.losses) == (3, 1)
    assert 0 < found.p < 1
    assert summary.difference(base, base, list(base), 1).p == 1.0


def test_the_table_gives_the_base_alone_and_the_others_with_their_difference(summary: ModuleType) -> None:
    runs = {"ours": regret_of(0.1, 0.3), "theirs": regret_of(0.2, 0.6)}
    lines = summary.table("core", runs, ["ours", "theirs"], "ours", ["a", "b"], [1, 10]).splitlines()
    assert lines[2:5] == ["| arm | at 1 (2 pairs) |", "|---|---|", "| ours | .200 |"]
    assert lines[5].startswith("| theirs | .400 (+.200 ± .100; 2:0; p ")


def test_the_cost_of_a_target_is_when_the_mean_gets_there(summary: ModuleType) -> None:
    runs = {
        "quick": {("a", 0): np.array([0.9, 0.2, 0.2, 0.2]), ("b", 0): np.array([0.5, 0.4, 0.4, 0.4])},
        "random": {("a", 0): np.array([0.9, 0.8, 0.5, 0.4]), ("b", 0): np.array([0.9, 0.6, 0.5, 0.4])},
        "never": {("a", 0): np.array([0.9, 0.9]), ("b", 0): np.array([0.9, 0.9])},
    }
    lines = summary.reach_table("g", runs, ["quick", "random", "never"], ["a", "b"], "random", 4).splitlines()
    assert lines[0] == "### g: to .400, the regret of random at 4 (2 pairs)"
    assert lines[-3:] == ["| quick | 2 | 2.0 |", "| random | 4 | 1.0 |", "| never | more than 2 | |"]
    assert summary.reach_table("g", runs, ["never"], ["c"], "random", 4) == ""
