"""Trials, queue and proposals: one result each, nothing lost, whatever the order of operations."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace as changed

import pytest

from tunewright.agent.errors import AlreadyObserved, StudyExists, StudyMoved, UnknownStudy, UnknownTrial
from tunewright.agent.records import Hold, ProposalRecord, TrialRecord
from tunewright.agent.store import Store, current_owner, is_dead
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import State
from tunewright.plugins.hooks import Source

ENGINE = Source("tpe", "tunewright", "0.1.0", {"gamma": 0.25})


def new_study(store: Store, name: str = "s", direction: str = "minimize", **config):
    objectives = [{"name": "loss", "direction": direction}]
    return store.create_study(name, space={"x": [0, 1]}, objectives=objectives, seed=1, config=config, environment={})


def new_trial(store: Store, study_id: int, **changes) -> TrialRecord:
    facts = {"expected_number": sum(store.count(study_id).values()), "params": {"x": 0.5}, "source": "engine"}
    return store.create_trial(study_id, **({**facts, "proposer": "tpe", "seed": 3} | changes))


def proposal(**changes) -> ProposalRecord:
    facts = {"by": "engine", "source": ENGINE, "params": {"x": 0.1}, "status": "open"}
    return ProposalRecord(**(facts | changes))


@pytest.fixture
def store():
    with Store.open(None) as opened:
        yield opened


@pytest.fixture
def study(store):
    return new_study(store).id


def test_a_study_comes_back_as_it_was_made(store):
    made = store.create_study(
        "s",
        space={"lr": {"low": 1e-5}},
        objectives=[{"name": "acc", "direction": "maximize"}, {"name": "ms", "direction": "minimize"}],
        seed=2**40,
        config={"task": "né", "budget": [1, None]},
        environment={"git": "abc"},
    )
    assert store.study("s") == made
    assert store.studies() == [made]
    assert (made.seed, made.config["task"], made.objectives[1]["name"]) == (2**40, "né", "ms")
    assert store.study("t") is None


def test_a_study_name_is_taken_once(store, study):
    with pytest.raises(StudyExists):
        new_study(store)
    assert len(store.studies()) == 1


def test_changes_of_definition_are_events(store, study):
    assert store.update_config(study, {"engine": "gp"}).config == {"engine": "gp"}
    assert store.update_space(study, {"y": 1}).space == {"y": 1}
    assert [e.kind for e in store.events(study)] == ["study_created", "config_changed", "space_changed"]
    assert store.events(study, after=store.events(study)[0].id, limit=1)[0].payload == {"config": {"engine": "gp"}}
    with pytest.raises(UnknownStudy):
        store.update_config(99, {})


def test_a_new_trial_runs_with_all_that_led_to_it(store, study):
    rejected, winner = (
        proposal(by="advisor", status="rejected", reason="too near trial 1"),
        proposal(rationale="lowest"),
    )
    trial = new_trial(
        store, study, params={"x": 0.1 + 0.2, "opt": "adam", "n": 3, "flag": True}, fidelity=9, resume_from=4,
        decision={"score": math.inf, "q": (0.5, math.nan)}, proposals=[rejected, winner], taken_proposal=1,
    )  # fmt: skip
    assert trial.state is State.RUNNING and (trial.number, trial.attempt, trial.fidelity, trial.resume_from) == (
        0,
        1,
        9,
        4,
    )
    assert trial.params == {"x": 0.1 + 0.2, "opt": "adam", "n": 3, "flag": True}
    assert store.trial(study, 0) == trial
    assert store.decision(study, 0) == {"score": "inf", "q": [0.5, "nan"]}
    first, second = store.proposals(study, 0)
    assert (first.status, first.reason, first.taken_by, first.by) == ("rejected", "too near trial 1", None, "advisor")
    assert (second.status, second.taken_by, second.source, second.rationale) == ("taken", 0, ENGINE, "lowest")


def test_a_refused_trial_leaves_nothing_behind(store, study):
    item = store.enqueue(study, {"x": 1})
    new_trial(store, study, queue_id=item)
    with pytest.raises(StudyMoved) as moved:
        new_trial(store, study, expected_number=0, proposals=[proposal()])
    assert moved.value.data["next"] == 1
    with pytest.raises(StudyMoved):
        new_trial(store, study, queue_id=item, proposals=[proposal()], decision={})
    with pytest.raises(FixArgument):
        new_trial(store, study, params={"x": math.nan}, proposals=[proposal()])
    with pytest.raises(FixArgument):
        new_trial(store, study, taken_id=12, proposals=[proposal()])
    assert sum(store.count(study).values()) == 1 and store.proposals(study) == []
    with pytest.raises(UnknownStudy):
        new_trial(store, 99, expected_number=0)


def test_stored_proposals_are_taken_changed_and_listed(store, study):
    made = [proposal(status="held", ask_index=4), proposal(), proposal(ask_index=2)]
    new_trial(store, study, proposals=made)
    ids = [p.id for p in store.proposals(study)]
    new_trial(store, study, updates={ids[1]: ("expired", "newer advice")})
    new_trial(store, study, taken_id=ids[0])
    assert [p.id for p in store.proposals(study, status="open")] == [ids[2]]
    assert [(p.status, p.reason) for p in store.proposals(study, status="expired")] == [("expired", "newer advice")]
    assert [(p.id, p.number) for p in store.proposals(study, 2)] == [(ids[0], 0)]  # made for 0, became 2
    assert store.standing(study).ask_index == 5
    store.update_proposals({ids[2]: ("rejected", "twice")})
    assert store.proposals(study, status="open") == []
    with pytest.raises(FixArgument):
        store.update_proposals({99: ("rejected", None)})


def test_the_queue_is_first_in_first_out_and_each_item_goes_once(store, study):
    assert store.next_queued(study) is None
    items = [store.enqueue(study, {"x": i}, note="mine") for i in range(3)]
    for i, item in enumerate(items):
        assert store.next_queued(study) == (item, {"x": i})
        new_trial(store, study, source="queue", queue_id=item)
    assert store.next_queued(study) is None


def test_the_first_result_stands(store, study):
    new_trial(store, study)
    done = store.finish(study, 0, State.COMPLETE, (0.25,), attempt=1)
    assert done.values == (0.25,) and done.finished is not None
    assert store.finish(study, 0, State.COMPLETE, (0.25,), attempt=1) == done
    with pytest.raises(AlreadyObserved) as caught:
        store.finish(study, 0, State.COMPLETE, (0.5,), attempt=1)
    assert (caught.value.data["first"], caught.value.data["second"]) == ((0.25,), (0.5,))
    with pytest.raises(AlreadyObserved):
        store.finish(study, 0, State.FAILED, None, "late crash", attempt=1)
    assert store.trial(study, 0) == done
    assert store.repeats(study, 0) == [(0.5,), None]
    assert store.news(study, 1, 0) == [done] and store.news(study, 1, done.event) == []


def test_a_failure_repeated_is_no_news(store, study):
    new_trial(store, study)
    failed = store.finish(study, 0, State.FAILED, None, "out of memory", attempt=1)
    assert (failed.error, failed.values) == ("out of memory", None)
    assert store.finish(study, 0, State.FAILED, None, "again", attempt=1) == failed
    assert store.repeats(study, 0) == []


def test_a_given_up_attempt_may_still_succeed_but_not_fail(store, study):
    new_trial(store, study)
    assert store.release(study, 0).attempt == 2
    assert store.finish(study, 0, State.FAILED, None, "killed", attempt=1).state is State.WAITING
    assert store.repeats(study, 0) == [None]
    running = store.next_waiting(study, Hold())
    assert running is not None and (running.number, running.attempt) == (0, 2)
    done = store.finish(study, 0, State.COMPLETE, (1.0,), attempt=1)
    assert (done.state, done.attempt) == (State.COMPLETE, 2)
    with pytest.raises(AlreadyObserved):
        store.finish(study, 0, State.COMPLETE, (2.0,), attempt=2)


@pytest.mark.parametrize(
    ("state", "values", "attempt"),
    [
        (State.COMPLETE, (math.nan,), 1),
        (State.STOPPED, (math.inf,), 1),
        (State.COMPLETE, None, 1),
        (State.COMPLETE, (), 1),
        (State.FAILED, (1.0,), 1),
        (State.RUNNING, (1.0,), 1),
        (State.COMPLETE, (1.0,), 2),
        (State.COMPLETE, (1.0,), 0),
    ],
)
def test_impossible_results_are_refused(store, study, state, values, attempt):
    new_trial(store, study)
    with pytest.raises(FixArgument):
        store.finish(study, 0, state, values, attempt=attempt)
    assert store.trial(study, 0).state is State.RUNNING


def test_unknown_trials(store, study):
    for ask in (
        lambda: store.trial(study, 0),
        lambda: store.finish(study, 0, State.COMPLETE, (1.0,), attempt=1),
        lambda: store.report(study, 0, 1, {"loss": 1}),
        lambda: store.curve(study, 0, "loss"),
        lambda: store.release(study, 0),
        lambda: store.decision(study, 0),
    ):
        with pytest.raises(UnknownTrial):
            ask()


def test_pausing_and_resuming(store, study):
    new_trial(store, study, fidelity=1)
    with pytest.raises(StudyMoved):
        store.resume(study, 0, 3, hold=Hold(), action={"kind": "resume", "number": 0, "to": 3})
    with pytest.raises(StudyMoved):
        store.pause(study, 0, 0.5, 1, attempt=2)
    paused = store.pause(study, 0, 0.5, 1, attempt=1)
    assert (paused.state, paused.values, paused.finished) == (State.PAUSED, None, None)
    for again in (lambda: store.pause(study, 0, 0.5, 1, attempt=1), lambda: store.release(study, 0)):
        with pytest.raises(StudyMoved):
            again()
    resumed = store.resume(study, 0, 3, hold=Hold(), action={"kind": "resume", "number": 0, "to": 3})
    assert (resumed.state, resumed.fidelity, resumed.attempt, resumed.resume_from) == (State.RUNNING, 3, 1, 0)
    store.finish(study, 0, State.STOPPED, (0.5,), attempt=1, step=2)
    for again in (lambda: store.pause(study, 0, 0.5, 1, attempt=1), lambda: store.release(study, 0)):
        with pytest.raises(StudyMoved):
            again()
    kinds = [(e.kind, e.payload.get("step"), e.payload.get("result")) for e in store.events(study, number=0)]
    assert kinds[1:] == [("trial_paused", 1, [0.5]), ("trial_resumed", None, None), ("trial_finished", 2, None)]
    assert store.integrity() == []


def test_waiting_trials_go_out_lowest_first(store, study):
    for _ in range(3):
        new_trial(store, study)
    for number in (2, 1):
        store.release(study, number)
    owner = current_owner()
    assert [store.next_waiting(study, Hold(owner)).number for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
    assert store.next_waiting(study, Hold(owner)) is None


def test_pages_and_order_of_ending(store, study):
    for _ in range(5):
        new_trial(store, study)
    for number in (3, 0, 4):
        store.finish(study, number, State.COMPLETE, (1.0, number), attempt=1)
    numbers = [t.number for t in store.trials(study)]
    assert numbers == [0, 1, 2, 3, 4]
    assert [t.number for t in store.trials(study, after=1, limit=2)] == [2, 3]
    assert [t.number for t in store.trials(study, after=3, limit=2, newest_first=True)] == [2, 1]
    assert [t.number for t in store.trials(study, states=[State.COMPLETE], limit=2)] == [0, 3]
    assert [t.number for t in store.running(study)] == [1, 2]
    news = store.news(study, 5, 0)
    assert [(t.number, t.values) for t in news if t.values] == [(0, (1.0, 0.0)), (3, (1.0, 3.0)), (4, (1.0, 4.0))]
    assert [t.number for t in sorted(news, key=lambda t: t.event)] == [3, 0, 4]
    assert [t.number for t in store.news(study, 5, news[1].event)] == [0, 4]
    assert [t.number for t in store.news(study, 2, news[2].event)] == [2, 3, 4]
    assert [stamp.number for stamp in store.live(study)] == [1, 2]
    assert store.count(study)[State.RUNNING] == 2 and store.count(study)[State.PAUSED] == 0


@pytest.mark.parametrize(("direction", "best"), [("minimize", (1.0, 1)), ("maximize", (3.0, 0))])
def test_summaries(direction, best):
    ticks = itertools.count(100)
    with Store.open(None, clock=lambda: float(next(ticks))) as store:
        study = new_study(store, direction=direction)
        other = new_study(store, "empty")
        for value in (3.0, 1.0, 1.0, 3.0):
            number = new_trial(store, study.id).number
            store.finish(study.id, number, State.COMPLETE, (value,), attempt=1)
        new_trial(store, study.id)
        store.finish(study.id, 4, State.STOPPED, (-9.0 if direction == "minimize" else 9.0,), attempt=1)
        found, empty = store.summaries()
        assert (found.best, found.best_number) == best
        record = store.best(study.id, maximize=direction == "maximize")
        assert record is not None and record.number == best[1]
        assert (found.counts[State.COMPLETE], found.counts[State.STOPPED]) == (4, 1)
        assert found.last_activity == store.events(study.id)[-1].created
        assert (empty.study, empty.best, empty.best_number) == (other, None, None)
        assert store.best(other.id, maximize=False) is None


# ---------------------------------------------------------------------------------------------------- owners


def dead_owner():
    """A process that has ended and been collected."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return changed(current_owner(), pid=ended.pid)


def test_only_a_provably_dead_owner_is_dead():
    here = current_owner()
    assert here.pid == os.getpid() and not is_dead(here)
    assert not is_dead(changed(here, host="elsewhere", pid=2**22 + 1))
    assert is_dead(dead_owner())


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_reboots_reused_pids_and_zombies():
    here = current_owner()
    assert is_dead(changed(here, boot="another"))
    assert is_dead(changed(here, started=here.started + 1))
    child = subprocess.Popen(["sleep", "60"])
    alive = changed(here, pid=child.pid, started=_started(child.pid))
    assert not is_dead(alive)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not collected: a zombie
    assert is_dead(alive)
    child.wait()


def _started(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")


def test_trials_of_dead_processes_wait_for_their_next_attempt(store, study):
    dead = dead_owner()
    for owner in (dead, current_owner(), None, changed(dead, host="elsewhere"), dead):
        new_trial(store, study, hold=Hold(owner))
    store.finish(study, 4, State.COMPLETE, (1.0,), attempt=1)
    assert store.requeue_dead(study) == [0]
    assert store.requeue_dead(study) == []
    assert (store.trial(study, 0).state, store.trial(study, 0).attempt) == (State.WAITING, 2)
    store.next_waiting(study, Hold(current_owner()))
    assert store.requeue_dead(study) == []


# ---------------------------------------------------------------------------------------------------- threads


def test_threads_share_a_store(tmp_path):
    with Store.open(tmp_path / "t.db") as store:
        study = new_study(store).id
        made: list[int] = []

        def work() -> None:
            while len(made) < 40:
                try:
                    number = new_trial(store, study).number
                except StudyMoved:
                    continue
                made.append(number)
                store.report(study, number, 0, {"loss": number})
                store.finish(study, number, State.COMPLETE, (float(number),), attempt=1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == list(range(len(made)))
        assert [t.values for t in store.trials(study)] == [(float(n),) for n in range(len(made))]
        assert all(store.curve(study, n, "loss").values == (float(n),) for n in made)
        assert store.integrity() == []
