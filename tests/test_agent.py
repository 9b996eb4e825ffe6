"""The public names of the loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tunewright.agent import (
    Agent,
    AlreadyObserved,
    Budget,
    BudgetSpent,
    Categorical,
    Derived,
    Float,
    Int,
    Objective,
    Space,
    SpaceExhausted,
    State,
    TrialStopped,
    Verdict,
)
from tunewright.agent.testing import FakeAdvisor

SPACE = {
    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
    "layers": Int(1, 6),
    "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0, 0.99, when={"opt": "sgd"}),
}


def objective(trial) -> float:
    off = 0.2 if trial["opt"] == "adam" else abs(trial["momentum"] - 0.9)
    return (math.log10(trial["lr"]) + 2.5) ** 2 + 0.1 * abs(trial["layers"] - 3) + off


def make(**changes) -> Agent:
    return Agent(**{"space": SPACE, "metric": "val_loss", "store": None, "advisor": None, **changes})


def test_the_design_pages_snippet(tmp_path: Path) -> None:
    agent = Agent(
        space=SPACE,
        metric="val_loss",
        direction="minimize",
        task="a small CNN on CIFAR-10; lr above 0.05 has diverged before",
        advisor="rules",
        engine="auto",
        budget=Budget(trials=50, seconds=None, gpu_hours=None, tokens=None, usd=None),
        advisor_deadline=60,
        store=tmp_path / "tunewright.db",
        study="cifar",
        seed=0,
        safety="shared",
    )
    trial = agent.suggest()
    assert trial.number == 0 and trial.source == "default" and trial["lr"] == 1e-3 == trial.params["lr"]
    assert agent.report(trial, step=1, value=0.9, metrics={"train_loss": 0.2}) is Verdict.CONTINUE
    agent.observe(trial, 0.31)
    assert (trial.state, trial.value, list(trial.curve)) == (State.COMPLETE, 0.31, [(1.0, 0.9)])
    second = agent.suggest()
    agent.fail(second, "CUDA out of memory")
    assert (second.state, second.error) == (State.FAILED, "CUDA out of memory")
    four = agent.suggest(n=4)
    assert len({agent.space.key(t.params) for t in four}) == 4
    for t in four:
        agent.observe(t, objective(t))
    agent.tune(objective, trials=8, workers=2, runner="local", timeout=None)
    assert len(agent.trials) == 14
    assert agent.best is not None and agent.best.value == min(t.value for t in agent.trials if t.value is not None)
    assert "default configuration" in str(agent.why(trial)) and "default configuration" in trial.reason
    assert sum(agent.importance().values()) == pytest.approx(1.0)
    agent.enqueue({"lr": 0.01, "layers": 2, "opt": "adam"})
    assert agent.suggest().params == {"lr": 0.01, "layers": 2, "opt": "adam"}
    assert trial.checkpoint_dir.is_dir()


def test_the_same_seed_gives_the_same_trials_and_seeds() -> None:
    """20 trials, same seed, same sequence; each trial's own seed too."""

    def run(seed: int) -> list:
        agent = make(seed=seed, engine="tpe")
        agent.tune(objective, trials=20)
        return [(t.params, t.seed) for t in agent.trials]

    first = run(3)
    assert first == run(3)
    assert first[1:] != run(4)[1:]
    assert len({seed for _, seed in first}) == 20


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_what_is_not_finite_is_a_failure_and_never_a_best(bad: float) -> None:
    agent = make(direction="maximize")
    good, worse = agent.suggest(n=2)
    agent.observe(good, 0.1)
    agent.observe(worse, bad)
    assert worse.state is State.FAILED and "val_loss was" in (worse.error or "")
    assert agent.best is not None and agent.best.number == good.number
    assert agent.report(agent.suggest(), 3, bad) is Verdict.STOP


def test_a_result_counts_once() -> None:
    agent = make()
    trial = agent.suggest()
    agent.observe(trial, 0.5)
    agent.observe(trial, 0.5)
    with pytest.raises(AlreadyObserved) as caught:
        agent.observe(trial, 0.4)
    assert caught.value.data["first"] == (0.5,)
    assert agent.trials[0].value == 0.5


def test_queue_is_first_in_first_out_and_survives(tmp_path: Path) -> None:
    agent = make(store=tmp_path / "t.db")
    for layers in (5, 6, 5):
        agent.enqueue({"lr": 0.01, "layers": layers, "opt": "adam"})
    agent.close()
    again = Agent(store=tmp_path / "t.db", advisor=None)
    assert [again.suggest()["layers"] for _ in range(3)] == [5, 6, 5]
    assert again.suggest().source != "queue"


def test_enqueue_fills_in_defaults() -> None:
    agent = make()
    agent.enqueue({"opt": "adam", "layers": 2})
    assert agent.suggest().params == {"lr": 1e-3, "layers": 2, "opt": "adam"}


def test_derived_values_are_handed_out_and_never_searched() -> None:
    agent = make(space={"lr_g": Float(1e-4, 1e-2, log=True), "lr_d": Derived("4 * lr_g")}, engine="tpe")
    for trial in (agent.suggest() for _ in range(12)):
        assert trial["lr_d"] == pytest.approx(4 * trial["lr_g"])
        agent.observe(trial, trial["lr_d"])


def test_inactive_parameters_are_never_passed() -> None:
    agent = make(engine="tpe")
    agent.tune(objective, trials=30)
    for trial in agent.trials:
        assert ("momentum" in trial) == (trial["opt"] == "sgd")


@pytest.mark.parametrize("choices, total", [((3, 3, 3), 27), ((3, 3, 2), 18)])
def test_a_grid_is_tried_once_each_and_ends(choices, total: int, tmp_path: Path) -> None:
    space = {f"p{i}": Categorical([f"c{k}" for k in range(n)]) for i, n in enumerate(choices)}
    agent = Agent(space, metric="loss", engine="grid", advisor=None, store=tmp_path / "g.db")
    for _ in range(10):
        agent.observe(agent.suggest(), 0.0)
    agent.close()
    agent = Agent(store=tmp_path / "g.db", engine="grid", advisor=None)
    agent.tune(lambda trial: 0.0, trials=500)
    assert len({tuple(t.params.values()) for t in agent.trials}) == total == len(agent.trials)
    with pytest.raises(SpaceExhausted):
        agent.suggest()


def test_a_displaced_grid_point_is_tried_later() -> None:
    """Shared mode: every point once, advised or not."""
    space = Space({"a": Int(1, 5), "b": Int(1, 4)})
    advisor = FakeAdvisor(lambda request: [{"a": 1, "b": 1}, {"a": 5, "b": 4}, {"a": 4, "b": 4}])
    agent = Agent(space, metric="loss", engine="grid", advisor=advisor, store=None, budget=Budget(trials=30))
    agent.tune(lambda trial: float(trial["a"] * trial["b"]))
    assert len(agent.trials) == 20 == len({tuple(t.params.values()) for t in agent.trials})
    assert any(t.source == "advisor" for t in agent.trials)


def test_budget_of_trials_counts_the_whole_study(tmp_path: Path) -> None:
    for _ in range(2):
        agent = make(store=tmp_path / "t.db", budget=Budget(trials=5))
        agent.tune(objective)
        assert len(agent.trials) == 5
        with pytest.raises(BudgetSpent, match="all 5 trials"):
            agent.suggest()
        agent.close()


def test_nsga2_is_the_automatic_engine_of_several_objectives() -> None:
    agent = Agent(
        {"x": Float(0, 1)}, objectives=[Objective("acc", "maximize"), Objective("ms")], advisor=None, store=None
    )
    agent.tune(lambda t: {"acc": t["x"], "ms": t["x"] ** 2}, trials=24)
    assert {t.proposer for t in agent.trials[1:]} == {"nsga2"}


def test_several_objectives_have_a_front() -> None:
    agent = Agent(
        {"x": Float(0, 1)},
        objectives=[Objective("acc", "maximize"), Objective("ms")],
        advisor=None,
        store=None,
        engine="random",
    )
    agent.tune(lambda t: {"acc": t["x"], "ms": t["x"] ** 2 + (0.5 if t["x"] < 0.5 else 0)}, trials=20)
    rows = [(t.values[0], t.values[1]) for t in agent.trials]
    beaten = [any(o[0] >= r[0] and o[1] <= r[1] and o != r for o in rows) for r in rows]
    assert [t.number for t in agent.pareto] == [i for i, b in enumerate(beaten) if not b]


def test_an_exception_fails_its_trial_and_the_study_goes_on() -> None:
    def broken(trial) -> float:
        if trial.number % 2:
            raise RuntimeError("CUDA out of memory")
        return 1.0

    agent = make()
    agent.tune(broken, trials=6)
    assert [t.state for t in agent.trials] == [State.COMPLETE, State.FAILED] * 3
    assert "RuntimeError: CUDA out of memory" in (agent.trials[1].error or "")


def test_a_run_that_turns_nan_ends_there() -> None:
    steps = []

    def diverges(trial) -> float:
        for step in range(1, 10):
            steps.append(step)
            trial.report(step, math.nan if step == 3 else 1.0)
        return 1.0

    agent = make()
    agent.tune(diverges, trials=1)
    assert steps == [1, 2, 3]
    assert agent.trials[0].state is State.FAILED and "step 3" in (agent.trials[0].error or "")


def test_trial_stopped_reaches_the_objective() -> None:
    caught = []

    def watches(trial) -> float:
        try:
            trial.report(1, math.inf)
        except TrialStopped as stop:
            caught.append(stop)
            raise
        return 0.0

    make().tune(watches, trials=1)
    assert len(caught) == 1


def test_interrupt_hands_the_trial_back(tmp_path: Path) -> None:
    def interrupted(trial) -> float:
        if trial.number == 2:
            raise KeyboardInterrupt
        return 1.0

    agent = make(store=tmp_path / "t.db")
    with pytest.raises(KeyboardInterrupt):
        agent.tune(interrupted, trials=5)
    again = agent.suggest()
    assert (again.number, again.attempt) == (2, 2)


def test_an_error_in_one_worker_starts_no_further_trials() -> None:
    agent = make()
    with pytest.raises(ValueError, match="no more"):
        agent.tune(objective, trials=60, workers=2, callbacks=[_stops_at_three])
    assert len(agent.trials) < 20


def _stops_at_three(agent, trial) -> None:
    if trial.number == 3:
        raise ValueError("no more")


def test_an_objective_may_end_its_trial_itself() -> None:
    agent = make()

    def ends_it(trial):
        agent.observe(trial.number, 0.5)
        if trial.number:
            raise RuntimeError("after the fact")

    agent.tune(ends_it, trials=2)
    assert [(t.state, t.value) for t in agent.trials] == [(State.COMPLETE, 0.5)] * 2


def test_a_batch_is_as_long_as_the_budget_allows() -> None:
    agent = make(budget=Budget(trials=3))
    assert len(agent.suggest(n=5)) == 3
    with pytest.raises(BudgetSpent):
        agent.suggest(n=2)


def test_scores_that_are_not_finite_pass_no_gate_and_can_be_told() -> None:
    from tunewright.engines.gp import GP

    space = Space(SPACE)
    nowhere = {"score": lambda self, configs, fidelity=None: np.linspace(0, np.inf, len(configs))}
    engine = type("Infinite", (GP,), nowhere)(space, [Objective("val_loss")], 0)
    advisor = FakeAdvisor(lambda request: space.sample(np.random.default_rng(len(advisor.requests)), 3))
    agent = Agent(space, metric="val_loss", engine=engine, advisor=advisor, store=None, budget=Budget(trials=20))
    agent.tune(objective)
    assert all(str(agent.why(n)) for n in range(20))


def test_engine_faults_fall_back_and_say_so() -> None:
    class Rubbish:
        from tunewright.engines import Capabilities

        capabilities = Capabilities()

        def __init__(self, *args, **options):
            self.asked = 0

        def ask(self, n=1, pending=(), *, index, fidelity=None):
            from tunewright.engines import Proposal

            self.asked += 1
            if self.asked == 3:
                return [Proposal({"lr": 7.0})]
            return [Proposal({"lr": 0.01 / self.asked, "layers": 2, "opt": "adam"})]

        def tell(self, observations):
            pass

    agent = make(engine=[Rubbish(), "random"])
    agent.tune(objective, trials=6)
    assert [t.proposer for t in agent.trials[1:]] == ["Rubbish", "Rubbish", "random", "random", "random"]
    assert "Rubbish proposed what the space does not allow" in str(agent.why(3))
    assert "lr: 7.0 is outside" in str(agent.why(3))


@pytest.mark.parametrize("method", ["tell", "score", "candidates"])
def test_an_engine_that_breaks_anywhere_costs_itself_and_not_the_study(method: str) -> None:
    from tunewright.engines.gp import GP

    def breaks(self, *args, **options):
        if method == "tell" and args[0][-1].number < 3:
            return GP.tell(self, *args)
        raise RuntimeError(f"{method} broke")

    space = Space(SPACE)
    engine = type("Fragile", (GP,), {method: breaks})(space, [Objective("val_loss")], 0)

    def good(request):
        drawn = space.sample(np.random.default_rng(len(advisor.requests)), 60)
        return sorted(drawn, key=objective)[:3]

    advisor = FakeAdvisor(good)  # bad advice would lose its trust before the engine is asked to judge it
    agent = Agent(space, metric="val_loss", engine=engine, advisor=advisor, store=None, budget=Budget(trials=30))
    agent.tune(objective)
    assert len(agent.trials) == 30
    assert any(f"{method} broke" in str(agent.why(n)) for n in range(30))


def test_space_edit_remaps_old_trials() -> None:
    agent = make(engine="tpe")
    agent.tune(objective, trials=12)
    wider = {**SPACE, "lr": Float(1e-5, 1.0, log=True, default=1e-3), "dropout": Float(0, 0.9, default=0.0)}
    lines = agent.edit_space(wider)
    assert any("dropout added" in line for line in lines) and any(line.startswith("lr:") for line in lines)
    agent.tune(lambda t: objective(t) + t["dropout"], trials=12)
    assert all("dropout" in t for t in agent.trials[12:])
    assert all("dropout" not in t for t in agent.trials[:12])
    assert agent.edit_space(wider) == []


def test_what_waits_does_not_outlive_the_space_it_was_made_for() -> None:
    advisor = FakeAdvisor(lambda request: [{"x": 0.9}, {"x": 0.8}, {"x": 0.7}])
    agent = Agent({"x": Float(0, 1)}, metric="loss", advisor=advisor, engine="random", store=None, safety="strict")
    agent.observe(agent.suggest(), 0.5)  # advised: the engine's proposal is held, two seeds wait
    agent.edit_space({"x": Float(0, 0.01)})
    advisor._function = lambda request: "nothing"
    for _ in range(4):
        trial = agent.suggest()
        assert 0 <= trial["x"] <= 0.01
        agent.observe(trial, trial["x"])


def test_environment_is_recorded(tmp_path: Path) -> None:
    from tunewright.agent.store import Store

    make(store=tmp_path / "t.db", seed=5).close()
    with Store.open(tmp_path / "t.db") as store:
        study = store.study("study")
    assert study is not None and study.seed == 5
    assert study.environment["packages"]["tunewright"] and study.environment["python"]
    assert "git" in study.environment


@pytest.mark.parametrize("engine", ["gp", "tpe", "forest"])
def test_advice_that_takes_the_first_trial_does_not_cost_the_engines_own_first_point(engine: str) -> None:
    """It is the middle of the space, no random draw that advice may replace."""
    space = {"x": Float(0.0, 1.0), "y": Float(1e-4, 1.0, log=True)}
    advisor = FakeAdvisor([[{"x": 0.9, "y": 0.9}, {"x": 0.1, "y": 0.9}, {"x": 0.1, "y": 2e-4}]])
    agent = Agent(space, metric="loss", engine=engine, advisor=advisor, store=None, budget=Budget(trials=50))
    for _ in range(6):
        agent.observe(trial := agent.suggest(), trial["x"])
    assert agent.trials[0].source == "advisor"
    (middle,) = [t for t in agent.trials if t.params == pytest.approx({"x": 0.5, "y": 1e-2})]
    assert middle.source == "engine" and middle.number <= 2 and "held" in str(agent.why(0))
