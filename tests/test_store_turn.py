"""What a turn reads of a study: little, and as much of a large one."""

from __future__ import annotations

import pytest

from tunewright.agent import Agent, Budget, Float
from tunewright.agent.records import Hold, ProposalRecord
from tunewright.agent.store import Store, current_owner
from tunewright.agent.testing import FakeAdvisor
from tunewright.engines.types import State
from tunewright.plugins.hooks import Source


@pytest.fixture
def store():
    with Store.open(None) as opened:
        yield opened


@pytest.fixture
def study(store):
    goal = [{"name": "loss", "direction": "minimize"}]
    return store.create_study("s", space={"x": [0, 1]}, objectives=goal, seed=1, config={}, environment={}).id


def new_trial(store: Store, study_id: int, **changes):
    facts = {"expected_number": sum(store.count(study_id).values()), "params": {"x": 0.5}, "source": "engine"}
    return store.create_trial(study_id, **({**facts, "proposer": "tpe", "seed": 3} | changes))


def test_what_a_turn_begins_with_is_told_in_one_look(store, study):
    before = store.standing(study)
    assert (before.ask_index, before.queued) == (0, False)
    item = store.enqueue(study, {"x": 0.5})
    queued = store.standing(study)
    assert queued.queued and queued.said > before.said
    new_trial(
        store,
        study,
        queue_id=item,
        proposals=[ProposalRecord("engine", Source("tpe"), {"x": 0.1}, "open", ask_index=0)],
    )
    taken = store.standing(study)
    assert (taken.ask_index, taken.queued, taken.said) == (1, False, queued.said)  # a trial's event is of a trial
    store.believe(study, [{"parameter": "x", "belief": "rising"}], by="rules")
    assert store.standing(study).said > taken.said


def test_the_stamp_of_a_live_trial_changes_with_its_record(store, study):
    new_trial(store, study)
    stamps = store.live(study)
    store.report(study, 0, 1, {"loss": 0.5})
    assert store.live(study) == stamps  # its curve is no part of the record
    store.release(study, 0)
    (waiting,) = store.live(study)
    assert (waiting.number, waiting.state) == (0, "waiting") and waiting != stamps[0]
    store.next_waiting(study, Hold(current_owner()))
    (again,) = store.live(study)
    assert again.state == "running" and again not in (stamps[0], waiting)
    store.finish(study, 0, State.COMPLETE, (1.0,), attempt=again.attempt)
    assert store.live(study) == []


def test_no_statement_of_a_turn_walks_the_study(tmp_path):
    """A trial costs the same in a study of a hundred thousand."""
    agent = Agent({"x": Float(0, 1)}, metric="loss", store=tmp_path / "s.db", engine="random", advisor=None)
    for _ in range(3):
        agent.observe(agent.suggest(), 0.5)
    database, said = agent._store._connection._live().conn, []
    database.set_trace_callback(said.append)
    trial = agent.suggest()
    agent.report(trial, 1, 0.5)
    agent.observe(trial, 0.5)
    database.set_trace_callback(None)
    read = [sql for sql in said if sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE"))]
    assert len(read) >= 5
    for sql in read:
        for *_, step in database.execute(f"EXPLAIN QUERY PLAN {sql}"):
            assert not step.startswith("SCAN") or step == "SCAN CONSTANT ROW", (step, sql)
            assert not step.endswith("(study=?)") or "max(" in sql, (
                step,
                sql,
            )  # the last entry of an index is one step
    agent.close()


def test_a_look_that_is_interrupted_forgets_no_running_trial(tmp_path, monkeypatch):
    advisor = FakeAdvisor(lambda request: [{"x": 0.5}])
    given = {
        "metric": "loss",
        "store": tmp_path / "s.db",
        "study": "s",
        "engine": "random",
        "budget": Budget(trials=20),
    }
    maker, agent = (Agent({"x": Float(0, 1)}, advisor=advisor, **given) for _ in range(2))
    made = maker.suggest()
    assert made.source == "advisor"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(agent._store, "decision", interrupted)
        with pytest.raises(KeyboardInterrupt):
            agent.suggest()
    maker.release(made)
    assert agent.suggest().number == made.number, "it waits to be handed out"


@pytest.mark.parametrize("where", ["_history.sync", "_store.standing"])
def test_another_process_that_comes_in_between_takes_another_draw(tmp_path, where):
    space = {"x": Float(0, 1)}
    given = {"metric": "loss", "store": tmp_path / "s.db", "study": "s", "engine": "random", "advisor": None}
    first, second = Agent(space, **given), Agent(space, **given)
    first.suggest()
    holder, name = where.split(".")
    place = getattr(first._suggester, holder)
    known, came = getattr(place, name), []

    def read(*args):
        found = known(*args)
        if not came:
            came.append(second.suggest())
        return found

    setattr(place, name, read)
    first.suggest()
    made = first._store.proposals(first.study_id)
    assert came and sorted(p.ask_index for p in made) == [0, 1, 2] and sorted(p.taken_by for p in made) == [0, 1, 2]
    second.close()
    first.close()
