"""The doctor: one planted fault each, found by its code; a healthy study has none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tunewright.agent import Agent, Budget, Categorical, Float, Int, Objective, Space
from tunewright.agent.cli import doctor as command
from tunewright.agent.doctor import BY_HAND, examine_plan, examine_study
from tunewright.agent.store import Store

LOSS = [Objective("val_loss")]
GOOD = {"lr": Float(1e-5, 1e-1, log=True, default=1e-3), "width": Int(8, 512, log=True), "drop": Float(0.0, 0.6)}


def codes(findings):
    return [f.code for f in findings]


def study(space, objective, trials=30, engine="random", path=None, **options):
    given = {"metric": "val_loss", "advisor": None, "budget": Budget(trials=trials), **options}
    agent = Agent(space, engine=engine, store=path, study="s", **given)
    agent.tune(objective)
    return agent


def found(agent):
    return examine_study(agent._view, agent.budget)


def smooth(trial):
    return (np.log10(trial["lr"]) + 3) ** 2 + (np.log2(trial["width"]) - 6) ** 2 / 4 + (trial["drop"] - 0.2) ** 2


def test_a_sound_plan_and_a_healthy_study_have_no_findings():
    assert examine_plan(Space(GOOD), LOSS, Budget(trials=50)) == []
    assert codes(found(study(GOOD, smooth, trials=60, engine="tpe"))) in (
        [],
        ["plateau"],
        ["dead"],
        ["dead", "plateau"],
    )


def test_a_grid_that_the_budget_cannot_walk():
    space = Space({f"x{i}": Categorical([1, 2, 3, 4, 5]) for i in range(10)})
    finding = examine_plan(space, LOSS, Budget(trials=100), "grid")[0]
    assert finding.code == "space-too-big"
    assert finding.severity == "error"
    assert "9,765,625" in finding.message


def test_a_linear_scale_where_log_belongs():
    findings = examine_plan(Space({"lr": Float(1e-5, 1e-1), "x": Float(0, 1)}), LOSS, Budget(trials=50))
    assert codes(findings) == ["linear-scale"]
    assert findings[0].space["lr"].log
    assert codes(examine_plan(Space({"alpha": Float(0, 10)}), LOSS, Budget(trials=50))) == ["linear-scale"]
    assert examine_plan(Space({"x": Float(1, 50)}), LOSS, Budget(trials=50)) == []


def test_from_zero_a_log_scale_begins_where_the_default_still_lies():
    from_zero = examine_plan(Space({"weight_decay": Float(0, 0.1, default=0.01)}), LOSS, Budget(trials=50))[0]
    assert from_zero.space["weight_decay"].low == pytest.approx(1e-5)
    assert from_zero.space["weight_decay"].log
    assert not examine_plan(Space({"l2": Float(0, 0.1, default=0.0)}), LOSS, Budget(trials=50))[0].can_apply


def test_a_seed_that_is_tuned():
    assert codes(examine_plan(Space({"random_state": Int(0, 9)}), LOSS, Budget(trials=50))) == ["seed-tuned"]


def test_a_budget_that_is_too_small():
    space = Space({f"x{i}": Float(0, 1) for i in range(8)})
    finding = examine_plan(space, LOSS, Budget(trials=12))[0]
    assert finding.code == "budget-small"
    assert "trials=40" in finding.fix


@pytest.mark.parametrize(
    "name, direction, wrong",
    [("val_loss", "maximize", True), ("accuracy", "minimize", True), ("val_loss", "minimize", False),
     ("score", "minimize", False), ("accuracy_loss", "minimize", False)],
)  # fmt: skip
def test_a_wrong_direction(name, direction, wrong):
    findings = examine_plan(Space({"x": Float(0, 1)}), [Objective(name, direction)], Budget(trials=50))
    assert codes(findings) == (["direction"] if wrong else [])


def test_a_metric_of_the_training_data():
    metric = [Objective("train_loss")]
    assert codes(examine_plan(Space({"x": Float(0, 1)}), metric, Budget(trials=50))) == ["training-metric"]


def test_defaults_that_break_a_constraint():
    space = Space({"a": Int(1, 9, default=8), "b": Int(1, 9, default=8)}, ["a + b <= 10"])
    finding = examine_plan(space, LOSS, Budget(trials=50))[0]
    assert finding.code == "default-invalid"
    assert "a + b <= 10" in finding.message


def test_a_default_that_does_not_train():
    def fails(trial):
        if trial.number == 0:
            raise RuntimeError("shape mismatch")
        return smooth(trial)

    finding = found(study(GOOD, fails, trials=12))[0]
    assert finding.code == "default-fails"
    assert "shape mismatch" in finding.message
    assert finding.space["lr"].default != GOOD["lr"].default
    assert "drop" not in finding.space, "it had no default"


def test_a_training_that_never_works():
    def broken(trial):
        raise ImportError("no module named torhc")

    agent = study(GOOD, broken, trials=4)
    finding = next(f for f in found(agent) if f.code == "nothing-trains")
    assert finding.severity == "error"
    assert "none of 4 trials" in finding.message
    assert "torhc" in finding.message
    assert "nothing-trains" not in codes(found(study(GOOD, lambda t: smooth(t) if t.number else np.nan, trials=4)))


def test_a_metric_that_nothing_changes():
    finding = next(f for f in found(study(GOOD, lambda t: 0.1, trials=8)) if f.code == "constant-metric")
    assert finding.severity == "error"
    assert "0.1 in all 8 trials" in finding.message


def test_a_direction_that_the_curves_contradict():
    def improving(trial):
        for step in range(1, 6):
            trial.report(step, smooth(trial) + step)
        return smooth(trial) + 5

    agent = study(GOOD, improving, trials=8, metric="score")
    finding = next(f for f in found(agent) if f.code == "uphill")
    assert "worse from its first to its last step in 8 of 8" in finding.message
    assert 'direction="maximize"' in finding.fix
    agent = study(GOOD, improving, trials=8, metric="score", direction="maximize")
    assert "uphill" not in codes(found(agent))


def test_a_range_that_never_trained_and_its_fix():
    def diverges(trial):
        return float("nan") if trial["lr"] > 0.01 else smooth(trial)

    agent = study(GOOD, diverges, trials=40)
    finding = next(f for f in found(agent) if f.code == "range-fails")
    assert re.fullmatch(r"lr > 0\.\d+ diverges: \d+ of \d+ trials", finding.message)
    assert 0.001 < finding.space["lr"].high <= 0.01


def test_border_hits_and_a_wider_range():
    def outside(trial):
        return (np.log10(trial["lr"]) - 1) ** 2 + 0.01 * trial["drop"]

    agent = study(GOOD, outside, trials=40, engine="gp")
    finding = next(f for f in found(agent) if f.code == "border" and "lr" in f.space)
    assert "high bound" in finding.message
    assert finding.space["lr"].high > 0.1


def test_a_noisy_metric_and_repeats_of_the_best():
    rng = np.random.default_rng(0)
    agent = study({"x": Float(0, 1), "y": Float(0, 1)}, lambda t: 0.05 * t["x"] + rng.normal(), trials=60)
    finding = next(f for f in found(agent) if f.code == "noisy")
    assert len(finding.enqueue) == 2
    assert finding.enqueue[0] == agent.best.params


def test_a_dead_knob_and_its_freezing():
    space = {**GOOD, "log_every": Int(1, 100)}
    agent = study(space, smooth, trials=80)
    dead = [f for f in found(agent) if f.code == "dead"]
    assert "log_every" in [n for f in dead for n in f.space]
    frozen = next(f for f in dead if "log_every" in f.space).space["log_every"]
    assert frozen.choices == (agent.best["log_every"],) and frozen.covers == (1, 100)
    agent.edit_space({**agent.space.declared, "log_every": frozen})
    assert agent.importance().get("log_every", 0.0) == 0.0, "all its trials still count, as if at one value"


def test_duplicates():
    agent = study({"a": Int(1, 3), "b": Categorical(["x", "y"])}, lambda t: t["a"], trials=20)
    assert "duplicates" in codes(found(agent))


def test_a_plateau_says_what_else_to_buy():
    agent = study({"x": Float(0, 1)}, lambda t: 1.0 if t.number else 0.5, trials=40)
    finding = next(f for f in found(agent) if f.code == "plateau")
    assert "more data" in finding.fix


# ------------------------------------------------------------------------------------------------ the command


def doctor(capsys, target, path, *flags):
    """(exit code, standard output) of the command, in this process: a new one costs a second."""
    code = 0
    try:
        command.run(str(target), path, "--apply" in flags, "--json" in flags)
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().out


def test_the_command_tells_applies_and_exits(tmp_path, capsys):
    path = tmp_path / "s.db"

    def outside(trial):
        return (np.log10(trial["lr"]) - 1) ** 2 + 0.01 * trial["drop"]

    with Agent(GOOD, metric="val_loss", engine="random", store=path, study="s", budget=Budget(trials=20)) as agent:
        for i in range(6):
            agent.enqueue({"lr": 0.1, "drop": i / 10})
        agent.tune(outside)
    code, told = doctor(capsys, "s", path)
    assert code == 1
    assert "warning:" in told
    assert "[border]" in told
    assert "--apply carries out" in told
    listed = json.loads(doctor(capsys, "s", path, "--json")[1])["findings"]
    assert "border" in [f["code"] for f in listed]
    code, told = doctor(capsys, "s", path, "--apply")
    assert code == 0
    assert "applied: lr:" in told
    with Store.open(path, read_only=True) as file:
        config = file.study("s").config
    assert config["advisor"] == "rules", "an edit of the space is all that was asked for"
    assert config["budget"]["trials"] == 20
    with Agent(store=path, study="s", advisor=None) as agent:
        assert agent.space.parameters["lr"].high > 0.1
        assert len(agent.trials) == 20


def test_the_command_reads_study_files(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(
        "objective: train.py:objective\nmetric: {name: val_loss, goal: minimize}\nmethod: grid\nbudget: {trials: 9}\n"
        "parameters:\n  a: {values: [1, 2, 3, 4]}\n  b: {values: [1, 2, 3, 4]}\n  lr: {min: 0.00001, max: 0.1}\n"
    )
    code, told = doctor(capsys, file, tmp_path / "none.db")
    assert code == 3
    assert "80 combinations" in told
    assert "[linear-scale]" in told


def test_every_finding_has_a_fix_that_can_be_carried_out_or_says_why_not():
    page = (Path(__file__).resolve().parent.parent / "docs" / "doctor.md").read_text()
    plan, trials = page.split("## The plan")[1].split("## The study file")[0], page.split("## The trials")[1]
    codes = re.findall(r"^\| `([\w-]+)` \|.*\| (.*?) ?\|$", plan + trials, re.M)
    assert len(codes) == 17
    assert not [code for code, apply in codes if not apply and code not in BY_HAND]
    told = {f.code: f.to_dict()["by_hand"] for f in found(study(GOOD, smooth, trials=2, metric="train_loss"))}
    assert told == {code: BY_HAND[code] for code in ("budget-small", "training-metric")}
