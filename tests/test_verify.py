"""Verifying: the winner run again with other seeds, apart from the search, and what its result was worth."""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

from tunewright.agent import Agent, Fidelity, Float, Objective, TunewrightError
from tunewright.agent.cli.main import main
from tunewright.agent.records import VerifyingRun
from tunewright.agent.verification import Evidence, Verification

SPACE = {"x": Float(0, 1)}


def noisy(spread, shift=0.0):
    """A metric of one parameter, its luck from the trial's seed; `shift`: how much harder the held-out data is."""

    def objective(trial):
        luck = np.random.default_rng(trial.seed).normal(0, spread) if spread else 0.0
        return trial["x"] + luck + (shift if trial.purpose == "verify" else 0.0)

    return objective


def study(objective, trials=20, **options):
    given = {"metric": "val_loss", "advisor": None, "engine": "random", "store": None, **options}
    agent = Agent(SPACE, **given)
    agent.tune(objective, trials)
    return agent


def test_mean_and_spread_over_other_seeds_beside_what_the_search_saw():
    agent = study(noisy(0.1))
    seeds = []

    def measured(trial):
        seeds.append(trial.seed)
        return noisy(0.1)(trial)

    found = agent.verify(measured, seeds=8, data="test split")
    assert len(set(seeds)) == 8
    assert agent.best.seed not in seeds
    values = [agent.best["x"] + np.random.default_rng(seed).normal(0, 0.1) for seed in seeds]
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.sd == pytest.approx(statistics.stdev(values))
    assert found.gap == pytest.approx(found.mean - agent.best.value)
    assert found.compared == 20
    assert "over 8 runs on test split" in str(found)
    assert f"The search saw {agent.best.value:.6g}" in str(found)
    again = agent.verify(noisy(0.1), seeds=8, data="test split")
    assert again.mean == found.mean, "the seeds are the same for the same trial"


def test_the_purpose_is_told_and_a_harder_split_shows_as_a_gap():
    agent = study(noisy(0.01))
    found = agent.verify(noisy(0.01, shift=5.0))
    assert found.gap > 4.9 > found.luck
    assert "more than seeds alone explain" in str(found)
    assert [t.purpose for t in agent.trials] == ["search"] * 20


def test_a_gap_of_a_maximised_metric_is_a_loss_too():
    found = study(lambda t: 0.9, direction="maximize", metric="accuracy", trials=3).verify(noisy_accuracy)
    assert found.gap == pytest.approx(0.9 - found.mean)
    assert found.gap > 0
    assert "better, more than" in str(found)


def noisy_accuracy(trial):
    return 0.8 + 1e-3 * (trial.seed % 10)


def test_the_search_stays_as_it_is(tmp_path):
    """The same suggestions come after it, and no reader of trials sees the runs."""

    def following(verifies):
        agent = study(noisy(0.1), trials=12, engine="tpe", store=tmp_path / f"{verifies}.db")
        if verifies:
            agent.verify(noisy(0.1), seeds=4)
        with agent:
            before = [(t.number, t.params, t.values, t.state) for t in agent.trials]
            return before, dict(agent.config), agent.suggest().params

    assert following(False) == following(True)


def test_what_luck_alone_makes_of_the_best_of_many():
    """Forty equal configurations: the gap is on average the optimism that is told."""
    rng, gaps, told = np.random.default_rng(0), [], []
    for _ in range(500):
        runs = tuple(VerifyingRun(0, 1, seed, (value,)) for seed, value in enumerate(rng.normal(0, 1, 8)))
        verification = Verification(0, 1, None, (Objective("loss"),), runs)
        found = Evidence(verification, (rng.normal(0, 1, 40).min(),), 40)
        gaps.append(found.gap)
        told.append(found.optimism)
    assert statistics.mean(gaps) == pytest.approx(2.16, abs=0.1), "the mean of the largest of forty normals"
    assert statistics.mean(told) == pytest.approx(statistics.mean(gaps), rel=0.06)


def test_an_unselected_result_is_within_luck_in_95_of_100_cases():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(1000):
        runs = tuple(VerifyingRun(0, 1, seed, (value,)) for seed, value in enumerate(rng.normal(0, 1, 4)))
        found = Evidence(Verification(0, 1, None, (Objective("loss"),), runs), (rng.normal(0, 1),), 1)
        inside += abs(found.gap) <= found.luck
    assert 930 <= inside <= 970


def test_a_runner_up_inside_the_noise_and_one_beyond():
    agent = study(noisy(0.0))
    close = agent.verify(noisy(10.0))
    assert close.runner_up_in_noise
    assert f"--trial {close.runner_up.number}" in str(close)
    far = agent.verify(noisy(1e-9))
    assert far.runner_up_in_noise is False
    assert "more than noise" in str(far)


def test_two_that_were_verified_are_compared_by_their_runs():
    agent = study(noisy(0.0))
    runner_up = agent.verify(noisy(1e-6), data="test").runner_up.number
    other = agent.verify(lambda t: noisy(1e-6)(t) - 3, trial=runner_up, data="test")
    assert not other.won
    found = agent.verify(noisy(1e-6), data="test")
    assert found.rival.number == runner_up
    assert f"so trial {runner_up} is the better one" in str(found)
    assert agent.verify(noisy(1e-6), data="other data").rival is None


def test_no_noise_is_said():
    assert "does not use the seed that it is given" in str(study(noisy(0.0)).verify(noisy(0.0)))


def test_failed_runs_are_told_and_cost_no_other():
    agent = study(noisy(0.0))
    calls = []

    def fragile(trial):
        calls.append(trial.seed)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return math.nan if len(calls) == 3 else 0.5

    found = agent.verify(fragile, seeds=5)
    assert found.verification.values() == [0.5] * 3
    assert "2 of 5 runs failed, the first with: RuntimeError: out of memory" in str(found)
    assert agent.verify(lambda t: math.inf).mean is None


def test_several_objectives_need_a_trial():
    goals = [Objective("loss"), Objective("seconds")]
    agent = Agent(SPACE, objectives=goals, advisor=None, engine="random", store=None)
    agent.tune(lambda t: {"loss": t["x"], "seconds": 1 - t["x"]}, trials=5)
    with pytest.raises(TunewrightError, match="no one winner"):
        agent.verify(lambda t: {"loss": 0.5, "seconds": 2.0})
    found = agent.verify(lambda t: {"loss": 0.5, "seconds": 2.0}, trial=agent.pareto[0])
    assert "loss 0.5 ± 0, seconds 2 ± 0" in str(found)


def test_a_checkpoint_of_the_search_is_not_seen_and_reports_judge_nothing():
    def trains(trial):
        assert list(trial.checkpoint_dir.iterdir()) == []
        with trial.checkpoint(step=1) as folder:
            (folder / "weights").write_text("x")
        trial.report(1, math.nan, {"val_accuracy": 0.5})
        trial.report(2, 0.25)
        return trial.curve[-1][1]

    agent = study(lambda t: trains(t) if t.purpose == "verify" else 0.5, trials=3)
    assert agent.verify(trains).mean == 0.25


def test_those_that_a_scheduler_ended_early_were_compared_too():
    def trains(trial):
        for step in range(1, trial.fidelity + 1):
            trial.report(step, trial["x"] + 1 / step)
        return trial["x"] + 1 / step

    agent = study(trains, trials=9, scheduler="asha", fidelity=Fidelity("epoch", 1, 9))
    asked = []

    def measured(trial):
        asked.append((trial.fidelity, trial.resume_from))
        return trains(trial)

    found = agent.verify(measured, seeds=2)
    assert found.compared == 9 > len([t for t in agent.trials if t.state == "complete"])
    assert asked == [(9, None)] * 2, "each trains to the end, from the start"
    assert found.gap == 0


def test_runs_in_worker_processes(tmp_path):
    with study(noisy(0.1), trials=4, store=tmp_path / "s.db") as agent:
        found = agent.verify(noisy(0.1, shift=1.0), seeds=3, workers=2)
        assert found.mean > 0.5
        assert found.mean == pytest.approx(agent.verify(noisy(0.1, shift=1.0), seeds=3).mean)


@pytest.mark.parametrize(
    "options, message",
    [({"seeds": 1}, "from 2"), ({"trial": 99}, "no such trial"), ({"trial": 0}, "trial 0 is failed"),
     ({"data": " "}, "must be words"), ({"runner": "ray"}, "this machine only")],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_runs(options, message):
    def never(trial):
        raise AssertionError("it ran")

    agent = study(lambda t: t["x"] if t.number else math.nan, trials=3)
    with pytest.raises(TunewrightError, match=message):
        agent.verify(never, **options)
    with pytest.raises(TunewrightError, match="no trial was completed"):
        Agent(SPACE, metric="m", advisor=None, store=None).verify(never)


# ------------------------------------------------------------------------------------------------ the command

SCRIPT = """
import json, os, sys
held_out = os.environ["TUNEWRIGHT_PURPOSE"] == "verify" or "--test" in sys.argv
luck = int(os.environ["TUNEWRIGHT_SEED"]) % 100 / 1000
print(json.dumps({"val_loss": float(sys.argv[1]) + luck + 7 * held_out + 30 * ("--test" in sys.argv)}))
"""


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "study.yaml").write_text(
        f"study: s\nmetric: {{name: val_loss, goal: minimize}}\ncommand: {sys.executable} train.py {{x}}\n"
        "advisor: none\nengine: random\nbudget: {trials: 2}\nparameters:\n  x: {min: 0.0, max: 1.0}\n"
    )
    assert call("tune", "study.yaml") == 0
    return tmp_path / "study.yaml"


def call(*words: str) -> int:
    """In this process: a new one costs a second."""
    before, sys.argv = sys.argv, ["tunewright", *words]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def test_the_command_line_runs_the_file_and_show_shows_it(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("verify", "s", "--seeds", "2", "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert 7 <= found["objectives"]["val_loss"]["mean"] < 8.2
    assert len(found["runs"]) == 2
    assert "run 2 of 2" in err
    assert call("show", "s") == 0
    assert "over 2 runs" in capsys.readouterr().out
    assert call("show", "s", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["counts"] == {"complete": 2}
    assert shown["verified"][0]["objectives"] == found["objectives"]
    assert call("db", "check", "tunewright.db") == 0


def test_a_file_names_its_held_out_command(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tuned.read_text()
    tuned.write_text(
        f"{text}verify: {{seeds: 3, data: the test split, command: '{sys.executable} train.py {{x}} --test'}}\n"
    )
    capsys.readouterr()
    assert call("verify", "study.yaml") == 0
    out = capsys.readouterr().out
    assert "over 3 runs on the test split" in out
    assert "val_loss 37" in out or "val_loss 38" in out
    assert call("verify", "s", "--seeds", "2", "--command", f"{sys.executable} train.py 100") == 0
    assert "val_loss 107." in capsys.readouterr().out


@pytest.mark.parametrize(
    "entry, message",
    [("{seed: 3}", "unknown key 'seed'"), ("{seeds: 1}", "from 2"), ("test", "must be a mapping"),
     ("{command: 'python t.py {y}'}", "{y}"), ("{objective: 't.py:f', command: t}", "stands beside command")],
)  # fmt: skip
def test_a_wrong_key_is_named(tuned: Path, capsys: pytest.CaptureFixture[str], entry: str, message: str) -> None:
    tuned.write_text(f"{tuned.read_text()}verify: {entry}\n")
    assert call("verify", "study.yaml") == 2
    told = capsys.readouterr().err
    assert "verify" in told
    assert message in told


def test_without_a_way_to_train_the_fix_is_told(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned.unlink()
    assert call("verify", "s") == 2
    assert "--command" in capsys.readouterr().err


def test_every_run_failed_is_an_exit_code(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", "s", "--seeds", "2", "--command", f"{sys.executable} -c exit(3)") == 1
    assert "2 of 2 runs failed" in capsys.readouterr().out


def test_an_interrupt_keeps_the_runs_that_ended():
    agent = study(noisy(0.0), trials=3)
    calls = []

    def interrupted(trial):
        calls.append(trial.seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        agent.verify(interrupted)
    (kept,) = agent._view.verifications()
    assert kept.values() == [1.0, 1.0]
