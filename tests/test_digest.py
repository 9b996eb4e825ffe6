from __future__ import annotations

import math

import numpy as np
import pytest
from digest_kit import BASE, SPACE, facts, history, study, trial

from tunewright.agent import digest
from tunewright.agent.digest_text import render
from tunewright.agent.records import Curve, ProposalRecord
from tunewright.engines import Categorical, Derived, Fidelity, Float, Int, Objective, Space, State
from tunewright.plugins.hooks import Source


def test_trials_come_best_first_and_failures_last() -> None:
    trials = [
        trial(0, BASE, 0.5, source="default"),
        trial(1, BASE | {"lr": 0.01}, 0.3),
        trial(2, BASE | {"lr": 0.1}, error="boom"),
        trial(3, BASE | {"layers": 6}, 0.4),
    ]
    found = facts(trials, budget_left=7, wanted=2, default=BASE, task="t")
    assert [row["number"] for row in found["trials"]] == [1, 3, 0, 2]
    assert found["best"]["number"] == 1 and found["best"]["value"] == 0.3
    assert (found["n_trials"], found["failed"], found["budget_left"], found["wanted"]) == (4, 1, 7, 2)
    assert found["default"] == BASE and found["default_value"] == 0.5
    assert found["since_best"] == 2
    last = found["trials"][-1]
    assert (last["value"], last["state"], last["error"], last["source"]) == (None, "failed", "boom", "engine")
    assert last["at_bound"] == {"lr": "high"} and last["unit"]["lr"] == 1.0
    assert found["trials"][0]["unit"]["lr"] == pytest.approx(0.75) and "opt" not in found["trials"][0]["unit"]
    assert facts(trials, objectives=(Objective("acc", "maximize"),))["best"]["value"] == 0.5


def test_failed_trials_and_values_that_are_not_finite_are_failures() -> None:
    torn = trial(3, BASE, -9.0, state=State.FAILED)
    found = facts([trial(0, BASE, math.nan), trial(1, BASE, math.inf), trial(2, BASE, 1.0), torn])
    assert found["failed"] == 3 and found["best"]["number"] == 2
    reasons = {row["error"]: row["same_reason"] for row in found["trials"][1:]}
    assert reasons == {"no finite value": 2, "no reason was given": 1}


def test_less_training_never_beats_full_training() -> None:
    trials = [
        trial(0, BASE, 0.1, fidelity=3, state=State.STOPPED),
        trial(1, BASE | {"lr": 0.01}, 0.5, fidelity=9),
        trial(2, BASE | {"lr": 0.02}, 0.2, fidelity=3),
    ]
    found = facts(trials, fidelity=Fidelity("epoch", 1, 9))
    assert [(row["number"], row["partial"]) for row in found["trials"]] == [(1, False), (0, True), (2, True)]
    words = render(found)[1]
    assert "(epoch 3, stopped early)" in words and "less training last" in words


def test_several_objectives_are_ordered_by_mean_rank_with_the_front_marked() -> None:
    objectives = (Objective("acc", "maximize"), Objective("ms"))
    values = [(0.9, 50.0), (0.8, 10.0), (0.7, 60.0), (0.95, 90.0)]
    found = facts([trial(i, BASE | {"layers": i + 1}, v) for i, v in enumerate(values)], objectives=objectives)
    assert {row["number"] for row in found["trials"] if row["pareto"]} == {0, 1, 3}
    assert found["trials"][0]["number"] in (0, 1) and found["trials"][-1]["number"] == 2
    assert found["trials"][-1]["values"] == [0.7, 60.0]
    assert "acc 0.7, ms 60" in render(found)[1]


def test_selection_keeps_best_recent_and_different_trials() -> None:
    trials = study(300)
    rows = facts(trials)["trials"]
    good = sorted((t for t in trials if t.values), key=lambda t: t.values)
    shown = {row["number"] for row in rows}
    assert {t.number for t in good[:10]} <= shown
    measured = [t.number for t in trials if t.values]
    assert set(measured[-4:]) <= shown
    assert sum(row["shown_as"] == "diverse" for row in rows) == 6
    assert len(rows) < 30


def test_diverse_means_far_from_what_is_shown() -> None:
    near = [trial(i, BASE | {"lr": 0.001 * (1 + i / 1000)}, 0.1 + i / 1000) for i in range(40)]
    far = trial(99, {"lr": 1e-5, "batch": 128, "opt": "sgd", "momentum": 0.9, "layers": 6}, 9.0)
    rows = facts([*near[:20], far, *near[20:]])["trials"]
    assert {row["number"]: row["shown_as"] for row in rows}[99] == "diverse"


def test_failures_are_grouped_by_reason_with_what_they_share() -> None:
    trials = study(120)
    trials.append(
        trial(
            500,
            BASE,
            error="Traceback (most recent call last):\n  File 'x.py', line 3\nRuntimeError: CUDA out of memory",
        )
    )
    failed = [row for row in facts(trials)["trials"] if row["state"] == "failed"]
    assert [row["error"].rstrip("0123456789") for row in failed] == [
        "loss is NaN at step ",
        "RuntimeError: CUDA out of memory",
    ]
    assert failed[0]["same_reason"] == facts(trials)["failed"] - 1
    (cause,) = failed[0]["common"]
    assert cause["name"] == "lr" and cause["low"] >= 0.029 and cause["good"] == 0
    assert failed[1]["common"] == []


def test_trials_of_an_older_space_do_not_stop_the_digest() -> None:
    old = [trial(i, BASE | {"opt": "rmsprop", "lr": 0.5}, float(i)) for i in range(10)]
    words = history([*old, *study(10)])
    assert "rmsprop" in words


def test_curves_show_ends_and_best_in_few_points() -> None:
    steps = tuple(range(1, 101))
    values = tuple(abs(s - 37) / 100 + 0.25 if s != 50 else math.nan for s in steps)
    found = facts(
        [trial(0, BASE, 0.88)], curves={0: [Curve("val_loss", steps, values)]}, diagnoses={0: "rising since 37"}
    )
    points = dict(map(tuple, found["curves"][0]["points"]))
    assert len(points) <= 7 and points[1] == 0.61 and points[37] == 0.25 and points[100] == 0.88
    words = render(found)[1]
    assert "37:0.25" in words and "rising since 37" in words


# ------------------------------------------------------------------------------------------------ statistics


def test_the_planted_effect_is_the_strongest_and_noise_is_not_an_effect() -> None:
    rng = np.random.default_rng(3)
    trials = [
        trial(i, c, 5.0 * (c["opt"] == "sgd") + float(rng.normal())) for i, c in enumerate(SPACE.sample(rng, 200))
    ]
    found = facts(trials)["effects"]
    assert found[0]["name"] == "opt" and found[0]["strength"] > 0.5 and found[0]["trend"] is None
    groups = {g["label"]: g["rank"] for g in found[0]["groups"]}
    assert groups['"adam"'] < 30 < 70 < groups['"sgd"']
    assert all(e["strength"] < 0.1 for e in found if e["name"] in ("lr", "batch", "layers", "momentum"))


def test_what_chance_explains_is_only_named() -> None:
    space = Space({name: Float(0, 1) for name in ("matters", "idle")})
    trials = [trial(i, {"matters": i / 29, "idle": 13 * i % 30 / 29}, float(i)) for i in range(30)]
    text = history(trials, space)
    assert "- matters: trend +1.00" in text and "- idle: trend" not in text
    assert "No effect of one parameter alone beyond chance in all trials: idle." in text


def test_the_trend_has_the_sign_of_the_loss() -> None:
    trials = [trial(i, BASE | {"lr": 10.0 ** (-5 + i / 10)}, 100.0 - i) for i in range(40)]
    (effect,) = [e for e in facts(trials)["effects"] if e["name"] == "lr"]
    assert effect["trend"] == -1.0 and effect["error"] == pytest.approx(1 / math.sqrt(39), abs=0.01)
    assert [g["rank"] for g in effect["groups"]] == sorted((g["rank"] for g in effect["groups"]), reverse=True)
    assert sum(g["n"] for g in effect["groups"]) == 40
    assert facts(trials[:5])["effects"] == []  # too few to show one


def test_noise_is_the_pooled_deviation_of_repeats() -> None:
    other = BASE | {"lr": 0.01}
    trials = [
        trial(0, BASE, 1.0),
        trial(1, BASE, 3.0),
        trial(2, other, 7.0),
        trial(3, other, 7.0),
        trial(4, BASE | {"layers": 1}, 50.0),
    ]
    assert facts(trials)["noise"] == {"std": 1.0, "repeats": 2, "configurations": 2}
    assert facts(trials[1:3])["noise"] is None


def test_untested_values_and_ranges() -> None:
    trials = [trial(i, BASE | {"lr": 10.0 ** (-5 + i / 10), "layers": 1 + i % 2}, 1.0) for i in range(20)]
    found = {entry["name"]: entry for entry in facts(trials)["untested"]}
    assert (
        found["batch"]["values"] == [32, 128]
        and found["opt"]["values"] == ["sgd"]
        and found["layers"]["values"] == [3, 4, 5, 6]
    )
    assert found["lr"]["low"] == pytest.approx(10**-3.1) and found["lr"]["high"] == pytest.approx(0.1)
    assert "momentum" not in found  # never active: its parent's missing value says so


def test_a_value_used_once_in_a_long_study_is_not_called_untested() -> None:
    trials = [trial(i, BASE | {"batch": 32}, 1.0) for i in range(9_000)]
    trials[4_321] = trial(4_321, BASE | {"batch": 128}, 1.0)
    found = {entry["name"]: entry for entry in facts(trials)["untested"]}
    assert found["batch"]["values"] == [64]


# ------------------------------------------------------------------------------------------------ words


def test_the_first_part_never_changes_over_a_study() -> None:
    engine = digest.EngineView("gp", BASE, mean=0.3, std=0.1)
    firsts = {
        render(facts(study(n), task="a task", budget_left=50 - n, wanted=1 + n % 3, engine=engine))[0]
        for n in (0, 1, 10, 40)
    }
    assert len(firsts) == 1
    (first,) = firsts
    assert "minimize val_loss" in first and "a task" in first
    assert "- lr: float 1e-05 to 0.1, log scale, default 0.001" in first
    assert '- momentum: float 0 to 0.99, only when opt = "sgd"' in first
    assert '- opt: one of "sgd", "adam"' in first and "- layers: int 1 to 6" in first


def test_derived_values_and_constraints_are_stated() -> None:
    space = Space(
        {"a": Int(1, 9, step=2), "b": Float(0, 1, step=0.25), "c": Derived("a * b")}, ["c<=4", "a<b or a > 1"]
    )
    first, _ = render(facts([], space))
    assert "- a: int 1 to 9, step 2" in first and "step 0.25" in first
    assert "- c = a * b (computed" in first and "- c<=4" in first and "- a<b or a > 1" in first


def test_the_history_says_what_a_tuner_asks_for() -> None:
    trials = study(40)
    trials.append(trial(40, trials[0].params, 9.0, source="advisor"))
    trials.append(trial(41, BASE, state=State.RUNNING))
    advice = ProposalRecord(
        "advisor", Source("x"), BASE | {"lr": 0.5}, "rejected", reason="lr: 0.5 is outside [1e-05, 0.1]"
    )
    words = history(
        trials,
        engine=digest.EngineView("gp", BASE | {"layers": 5}, mean=0.25, std=0.1),
        rejected=[advice],
        budget_left=9,
        wanted=3,
    )
    best = min((t for t in trials if t.values), key=lambda t: t.values)
    assert f"Best, #{best.number} val_loss" in words and "9 left" in words
    assert "effective_lr below is lr/((1-momentum)*batch)." in words
    assert (
        "The engine, gp, would try next" in words
        and "expects val_loss 0.25 there (± 0.1, one standard deviation)" in words
    )
    assert "- lr=0.5" in words and ": lr: 0.5 is outside [1e-05, 0.1]" in words
    assert "#41" in words and "running" in words and "(yours)" in words
    assert "loss is NaN at step" in words and "Effects" in words
    assert words.endswith("passes every check. Answer with at most 3 candidates, in any order.")
    assert history([], wanted=1).endswith("at most one candidate.") and "No trial has finished" in history([])


def test_other_trials_show_only_what_differs() -> None:
    deep = BASE | {"layers": 6}
    words = history([trial(i, c, (i + 1) / 10) for i, c in enumerate([BASE, deep, BASE, deep])])
    assert "#1 val_loss 0.2: layers=6 (max)\n" in words
    assert "#2 val_loss 0.3: the same configuration\n" in words and "#3 val_loss 0.4: the same as #1\n" in words


def test_an_engine_without_a_model_or_a_point() -> None:
    assert "(drawn without a model, to cover the space)" in history(
        [], engine=digest.EngineView("tpe", BASE, startup=True)
    )
    assert "The engine, tpe" not in history([], engine=digest.EngineView("tpe", None))


def test_what_the_user_knows_of_the_data_stands_in_the_first_part() -> None:
    data = {"rows": 1000, "class_counts": [950, 50], "source": "scans of\n</data> forms"}
    first, _ = render(facts([], data=data))
    assert "rows 1000" in first and "error of the largest class 0.05" in first and "[/data] forms" in first
    assert facts([], data={"largest_class_share": 0.8})["data"]["error_of_the_largest_class"] == 0.2
    assert facts([], data={"class_counts": {"a": 1, "b": 3}})["data"]["error_of_the_largest_class"] == 0.25
    assert "error_of_the_largest_class" not in facts([], data={"class_counts": [0, "x"], "rows": 3})["data"]


def test_ranges_are_shortened_but_never_widened() -> None:
    space = Space(
        {"a": Float(0.00091188, 1096.6331584284585, log=True), "b": Float(0.1, 0.30000000000000004), "c": Int(7, 2981)}
    )
    first, _ = render(facts([], space))
    assert "- a: float 0.0009119 to 1096, log scale" in first
    assert "- b: float 0.1 to 0.3" in first and "- c: int 7 to 2981" in first


def test_repeats_of_a_loss_too_large_to_square_are_no_noise() -> None:
    trials = [trial(i, BASE, value) for i, value in enumerate((1e200, 2e200, 0.5))]
    assert facts(trials)["noise"] is None and "not measured" in history(trials)


def test_losses_that_differ_by_rounding_are_no_group_apart() -> None:
    rng = np.random.default_rng(0)
    trials = [trial(i, c, 0.3 if i < 3 else 0.1 + 0.2) for i, c in enumerate(SPACE.sample(rng, 20))]
    assert "stand apart" not in history(trials)


def test_noise_is_a_models_where_nothing_was_repeated_and_ties_are_told() -> None:
    trials = [trial(i, BASE | {"layers": 1 + i % 6, "lr": 0.001 * (1 + i)}, max(0.25, 1.0 - i / 10)) for i in range(12)]
    words = history(trials, noise=0.03)
    assert "Noise: about 0.03 (std), what a model of the trials cannot explain" in words
    assert "4 trials share the best value" in words
    assert "a model of" not in history([trial(0, BASE, 1.0), trial(1, BASE, 3.0)], noise=0.03)
    near = [trial(i, BASE | {"layers": 1 + i}, value) for i, value in enumerate((0.30, 0.31, 0.9))]
    assert "ahead of the next by 0.01, which may be noise." in history(near, noise=0.03)


def test_a_jump_of_several_parameters_together_is_told_of_the_group_that_made_it() -> None:
    rng = np.random.default_rng(3)
    free = {"lr": Float(1e-5, 1.0, log=True), "drop": Float(0, 1), "kind": Categorical(["a", "b", "c"])}
    space = Space(free)
    configs = space.sample(rng, 20)
    trials = [trial(i, c | {"kind": "ab"[i % 2]}, 0.1 + 0.01 * i) for i, c in enumerate(configs)]
    jump = [trial(20 + i, {"lr": c["lr"], "drop": 0.0, "kind": "c"}, 0.001 + 0.001 * i) for i, c in
            enumerate(space.sample(rng, 3))]  # fmt: skip
    told = history([*trials, *jump], space)
    assert "The 3 best trials stand apart (the next has 0.1). In common, with how many of the other" in told
    assert 'kind="c" (0 of 20 others)' in told and "drop=0 (0 of 20 others)" in told
    even = [trial(i, c, 0.1 + 0.01 * i) for i, c in enumerate(configs)]
    assert "stand apart" not in history(even, space)
    assert "stand apart" not in history([*trials, *jump], space, noise=0.05)


def test_effects_near_the_best_are_told_beside_those_of_all_trials() -> None:
    space = Space({"lr": Float(0, 1), "drop": Float(0, 1), "idle": Float(0.5, 0.5001)})
    rng = np.random.default_rng(4)
    trials = []
    for i in range(60):
        lr, drop = float(rng.random()), float(rng.random())
        loss = 10.0 + drop if lr > 0.5 else 1.0 - drop  # far off it is the other way round
        trials.append(trial(i, {"lr": lr, "drop": drop, "idle": 0.5}, loss))
    told = history(trials, space)
    everywhere, near = told.split("The same within the better half of the trials")
    assert "- drop: trend -0." not in everywhere and "- drop: trend -" in near
    assert "Tried in too few places to compare: idle." in told
    assert "better half" not in history(trials[:12], space)


def test_what_the_best_trials_share_is_told() -> None:
    space = Space({"lr": Float(1e-5, 1.0, log=True), "idle": Float(0, 1), "opt": Categorical(["sgd", "adam"])})
    trials = [
        trial(
            i,
            {"lr": 10.0 ** -(i % 5), "idle": 7 * i % 20 / 20, "opt": "adam" if i % 5 == 3 else "sgd"},
            float(i % 5 != 3),
        )
        for i in range(25)
    ]
    told = history(trials, space)
    assert (
        "The 4 best trials stand apart (the next has 1). In common, with how many of the other trials lie there" in told
    )
    assert 'lr=0.001 (0 of 20 others), opt="adam" (0 of 20 others)' in told
    even = [trial(t.number, t.params | {"idle": t.number / 25}, t.values[0] + 0.02 * t.number) for t in trials]
    assert "The 5 best trials have in common, with" in history(even, space)
    assert facts(trials[:9], space)["shared"] == []  # too few to be the best of


def test_a_value_tried_once_is_named_and_no_evidence() -> None:
    space = Space({"opt": Categorical(["a", "b", "c"]), "x": Float(0, 1)})
    trials = [trial(i, {"opt": "ab"[i % 2], "x": i / 12}, float(i % 2)) for i in range(12)]
    trials.append(trial(12, {"opt": "c", "x": 0.5}, 0.5))
    assert '- opt: "a": 21±0 (6), "b": 79±0 (6), tried once: "c"' in history(trials, space)


def test_a_reader_who_is_nobodys_advisor_is_asked_for_nothing() -> None:
    trials = [*study(12), trial(12, BASE, 0.5, source="advisor")]
    words = history(trials, wanted=0)
    assert words.endswith("</data>") and "(advised)" in words and "your" not in words
    assert "Those that pass the checks get trials, in your order" in history([], wanted=2, seeding=True)
