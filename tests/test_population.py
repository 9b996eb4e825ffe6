"""Population based training in a study: copied checkpoints, lineage, schedules, the trained model at the end."""

from __future__ import annotations

import json

import pytest

from tunewright.agent import Agent, Fidelity, Float, State
from tunewright.engines.schedulers import params_at

HIGH = 20
SPACE = {"h0": Float(0.0, 1.0), "h1": Float(0.0, 1.0)}


def step_of(theta, params):
    """The toy of the paper's section 4.1.2 (figure 2): gradient ascent on a surrogate that the h's weigh."""
    rate = 0.05
    return [t - 2 * rate * h * t for t, h in zip(theta, (params["h0"], params["h1"]), strict=True)]


def score(theta):
    return 1.2 - sum(t * t for t in theta)


def population(store):
    given = {"population": 6, "interval": 4}
    return Agent(
        SPACE, metric="q", direction="maximize", fidelity=Fidelity("step", 1, HIGH), engine=("pbt", given),
        advisor=None, store=store,
    )  # fmt: skip


class Toy:
    """The toy as a training that keeps its weights in a checkpoint; `began` is what each run found there."""

    def __init__(self):
        self.began = []

    def __call__(self, trial):
        start, theta = trial.checkpoint_step or 0, [0.9, 0.9]
        if start:
            text = (trial.checkpoint_dir / "theta.json").read_text()
            theta = json.loads(text)
            self.began.append((trial.number, trial.resume_from, start, text))
        for step in range(start + 1, HIGH + 1):
            theta = step_of(theta, trial.params)
            with trial.checkpoint(step) as folder:
                (folder / "theta.json").write_text(json.dumps(theta))
            trial.report(step, score(theta))
        return score(theta)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    agent, toy = population(tmp_path_factory.mktemp("pbt") / "s.db"), Toy()
    agent.tune(toy)
    return agent, toy


def test_bad_members_go_on_from_copies_of_good_ones(trained):
    agent, toy = trained
    clones = [t for t in agent.trials if "goes on from trial" in t.reason]
    assert clones
    for clone in clones:
        _, parent, start, text = next(b for b in toy.began if b[0] == clone.number)
        curve = dict(agent.curve(parent))
        assert score(json.loads(text)) == pytest.approx(curve[start])
        assert agent.trial(parent).params != clone.params
    assert any(t.state is State.STOPPED for t in agent.trials)
    assert len([t for t in agent.trials if t.state is State.COMPLETE]) == 6


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_copied_checkpoint_is_byte_equal(tmp_path):
    agent, seen = population(tmp_path / "s.db"), []

    def objective(trial):
        start = trial.checkpoint_step or 0
        if trial.resume_from not in (None, trial.number):
            parent = agent.trial(trial.resume_from)
            assert parent.checkpoint_step == start
            seen.append((files(trial.checkpoint_dir), files(parent.checkpoint_dir)))
        for step in range(start + 1, HIGH + 1):
            with trial.checkpoint(step) as folder:
                (folder / "weights").mkdir()
                (folder / "weights" / "a.bin").write_bytes(bytes([step, trial.number]) * 1000)
                (folder / "optimizer.bin").write_bytes(bytes(range(256)))
            trial.report(step, trial["h0"] - (trial["h0"] - 0.5) ** 2 + step / 100)
        return trial["h0"]

    agent.tune(objective)
    assert seen
    for own, parents in seen:
        assert len(own) == 2
        assert own == parents


def test_a_schedule_replayed_gives_the_same_weights(trained):
    agent, _ = trained
    best = agent.best
    schedule = agent.schedule(best)
    assert schedule[0][0] == 0
    assert [step for step, _ in schedule] == sorted({step for step, _ in schedule})
    theta = [0.9, 0.9]
    for step in range(1, HIGH + 1):
        theta = step_of(theta, params_at(schedule, step))
    assert score(theta) == best.value
    assert max(len(agent.schedule(t)) for t in agent.trials) > 1


def test_the_best_trials_checkpoint_is_the_trained_model(trained):
    agent, _ = trained
    best = agent.best
    assert best.checkpoint_step == HIGH
    assert score(json.loads((best.checkpoint_dir / "theta.json").read_text())) == best.value


def test_lineage_is_told_by_why(trained):
    agent, _ = trained
    clone = next(t for t in agent.trials if "goes on from trial" in t.reason)
    assert (
        f"goes on from trial {clone.resume_from} after step" in str(agent.why(clone))
        or clone.resume_from == clone.number
    )
    assert "Training: began" in str(agent.why(clone))
