"""A study opened again is the study that was made: its engines and its scheduler, whatever "auto" means by then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.agent import Agent, Fidelity, Float
from tunewright.agent import lineup as engines_of_today
from tunewright.agent.replay import replay
from tunewright.agent.store import Store
from tunewright.engines import Objective, Proposal, Space
from tunewright.engines.errors import FixArgument
from tunewright.engines.random import Random

SPACE = {"x": Float(0, 1), "y": Float(0, 1)}


def loss(trial) -> float:
    return (trial["x"] - 0.3) ** 2 + (trial["y"] - 0.6) ** 2


def proposers(path: Path, trials: int, **given) -> set[str]:
    with Agent(store=path, advisor=None, **given) as agent:
        agent.tune(loss, trials)
        return {trial.proposer for trial in agent.trials[-trials:]}


def test_the_engine_goes_on_without_being_named_again(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    assert proposers(path, 3, space=SPACE, metric="loss", engine=("tpe", {"n_startup": 2})) <= {"tpe", "default"}
    assert proposers(path, 2) == {"tpe"}
    assert proposers(path, 2, engine="sobol") == {"sobol"}, "another engine may take over"
    assert proposers(path, 2) == {"sobol"}


def test_what_auto_stood_for_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.db"
    proposers(path, 6, space=SPACE, metric="loss")
    monkeypatch.setattr(engines_of_today, "_automatic", lambda *_: ("sobol",))
    assert proposers(path, 2) == {"portfolio"}
    with Store.open(path, read_only=True) as store:
        study = store.study("study")
        assert study is not None and study.config["engine"] == "auto"
        found = replay(store, study)
    assert (found.decisions, found.difference) == (8, None)


def test_a_scheduler_cannot_be_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Agent(SPACE, metric="loss", fidelity=Fidelity("epoch", 1, 9), scheduler="asha", store=path).close()
    with Agent(store=path) as agent:
        assert agent.config["scheduler"][0] == "asha"
    with pytest.raises(FixArgument, match="made with asha"):
        Agent(store=path, scheduler=None)


class Mine(Random):
    """An engine that no entry point names."""

    def ask(self, n: int = 1, pending=(), *, index: int, fidelity=None) -> list[Proposal]:
        return super().ask(n, pending, index=index, fidelity=fidelity)


def test_an_engine_object_has_to_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    def mine() -> Mine:
        return Mine(Space(SPACE), [Objective("loss")], 0)

    assert proposers(path, 2, space=SPACE, metric="loss", engine=mine()) <= {"Mine", "default"}
    with pytest.raises(FixArgument, match="pass a Mine again, or name another engine"):
        Agent(store=path, advisor=None)
    assert proposers(path, 1, engine=mine()) == {"Mine"}
    assert proposers(path, 1, engine="tpe") == {"tpe"}
