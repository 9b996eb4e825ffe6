"""Exports: every trial, readable by others, and nothing that a spreadsheet or a parser would trip over."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys

import pytest
import yaml

from tunewright.agent import Agent, Budget, Categorical, Fidelity, Float, Int, Objective
from tunewright.agent import export as exports
from tunewright.agent.cli import study_file

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
    "layers": Int(1, 6),
    "width": Int(16, 256, log=True),
    "opt": Categorical(["sgd", "adam", "=cmd()", 'é,"\n']),
    "momentum": Float(0, 0.99, when={"opt": "sgd"}),
}


@pytest.fixture
def agent(tmp_path):
    agent = Agent(SPACE, metric="loss", engine="random", advisor=None, store=tmp_path / "s.db", study="s",
                  budget=Budget(trials=15))  # fmt: skip

    def objective(trial):
        for step in range(1, 4):
            trial.report(step, trial["lr"] / step, {"odd": math.inf if step == 2 else 1.0})
        if trial.number == 3:
            raise ValueError("-1 is bad")
        return trial["lr"]

    agent.tune(objective)
    return agent


def text(agent, write, *arguments):
    out = io.StringIO()
    write(out, *arguments)
    return out.getvalue()


def test_csv_reads_back_row_by_row(agent):
    view = agent._view
    names = exports.columns(view)
    rows = list(csv.DictReader(io.StringIO(text(agent, exports.write_csv, names, exports.rows(view)))))
    assert len(rows) == 15
    for row, trial in zip(rows, agent.trials, strict=True):
        assert int(row["number"]) == trial.number
        assert row["state"] == str(trial.state)
        assert row["loss"] == ("" if trial.value is None else repr(trial.value))
        assert float(row["params.lr"]) == trial["lr"]
        assert row["params.opt"].removeprefix("'") == trial["opt"]
        assert (row["params.momentum"] == "") == ("momentum" not in trial)
    assert rows[3]["error"].startswith("ValueError: -1 is bad")


def test_no_cell_is_a_formula(agent):
    view = agent._view
    out = text(agent, exports.write_csv, exports.columns(view), exports.rows(view))
    for row in csv.reader(io.StringIO(out)):
        for cell in row:
            number = cell.replace(".", "").replace("e", "").replace("-", "").isdigit()
            assert number or not cell.startswith(("=", "+", "-", "@"))


def test_json_holds_all_and_no_nan(agent):
    document = json.loads(text(agent, exports.write_json, agent._view, True), parse_constant=pytest.fail)
    assert [t["number"] for t in document["trials"]] == list(range(15))
    odd = [p["value"] for p in document["curves"] if p["trial"] == 0 and p["metric"] == "odd"]
    assert odd == [1.0, None, 1.0]


def test_parquet(agent, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "trials.parquet"
    exports.write_parquet(str(path), exports.columns(agent._view), exports.rows(agent._view))
    table = parquet.read_table(path).to_pylist()
    assert [row["params.lr"] for row in table] == [t["lr"] for t in agent.trials]


def test_a_sweep_that_our_own_reader_takes(agent, tmp_path):
    found, lost = exports.sweep(agent._view)
    assert any("momentum" in line for line in lost)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**found, "objective": "train.py:f"}))
    space = study_file.read(path).arguments["space"]
    assert space.parameters["lr"].log
    assert space.parameters["width"] == SPACE["width"]
    assert (space.parameters["layers"].low, space.parameters["layers"].high) == (1, 6)


def test_best_of_one_and_of_several_objectives(agent):
    (leader,) = exports.best(agent._view)
    assert leader["params"] == agent.best.params
    several = Agent({"x": Float(0, 1)}, objectives=[Objective("a"), Objective("b", "maximize")], store=None,
                    advisor=None, engine="random", budget=Budget(trials=8))  # fmt: skip
    several.tune(lambda t: {"a": t["x"], "b": t["x"]})
    assert len(exports.best(several._view)) == len(several.pareto) == 8


def test_a_trial_that_rests_is_exported_with_what_it_reached():
    agent = Agent({"x": Float(0, 1)}, metric="loss", engine="random", advisor=None, store=None, scheduler="asha",
                  fidelity=Fidelity("epoch", 1, 9), budget=Budget(trials=3))  # fmt: skip
    agent.tune(lambda trial: trial["x"] + 1 / trial.fidelity)
    rows = list(csv.DictReader(io.StringIO(text(agent, exports.write_csv, exports.columns(agent._view),
                                                exports.rows(agent._view)))))  # fmt: skip
    assert {row["state"] for row in rows} == {"paused", "complete"}
    for row in rows:
        assert float(row["loss"]) == pytest.approx(float(row["params.x"]) + 1 / int(row["fidelity"]))


def test_the_best_of_several_objectives_are_documents_of_their_own(tmp_path):
    objectives = [Objective("a"), Objective("b", "maximize")]
    agent = Agent({"x": Float(0, 1)}, objectives=objectives, store=tmp_path / "s.db", study="s", advisor=None,
                  engine="random", budget=Budget(trials=4))  # fmt: skip
    agent.tune(lambda t: {"a": t["x"], "b": t["x"]})
    expected = sorted(t["x"] for t in agent.trials)
    assert sorted(one["x"] for one in yaml.safe_load_all(run(agent, "--format", "best").stdout)) == expected
    found = yaml.safe_load_all(run(agent, "--format", "wandb-best").stdout)
    assert sorted(one["x"]["value"] for one in found) == expected


def run(agent, *words):
    agent.close()
    command = [sys.executable, "-m", "tunewright.agent.cli", "export", "s", "--store", agent._store.path, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)


def test_the_command(agent, tmp_path):
    out = run(agent, "--format", "csv", "--curves", "--output", tmp_path / "t.csv")
    assert out.returncode == 0, out.stderr
    assert (tmp_path / "t.csv").read_text().startswith("number,state,loss,params.lr")
    assert (tmp_path / "t-curves.csv").read_text().startswith("trial,metric,step,value\n0,")
    assert yaml.safe_load(run(agent, "--format", "best").stdout)["lr"]
    assert yaml.safe_load(run(agent, "--format", "wandb").stdout)["method"] == "bayes"
    assert yaml.safe_load(run(agent, "--format", "wandb-best").stdout)["lr"].keys() == {"value"}
    assert json.loads(run(agent, "--format", "json").stdout)["study"] == "s"
    nowhere = run(agent, "--output", tmp_path / "no" / "t.csv")
    assert (nowhere.returncode, nowhere.stderr) == (
        1,
        f"tunewright: {tmp_path / 'no' / 't.csv'}: No such file or directory. Fix: check the path\n",
    )
    assert "--output" in run(agent, "--format", "parquet").stderr
