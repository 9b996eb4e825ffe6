"""Curves: buffered, complete, and honest about what is not a number."""

from __future__ import annotations

import math
import threading

import pytest

from tunewright.agent.errors import FixDatabasePath
from tunewright.agent.store import Store
from tunewright.agent.store import buffer as buffering
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import State


def new_study(store):
    objectives = [{"name": "loss", "direction": "minimize"}]
    return store.create_study("s", space={}, objectives=objectives, seed=1, config={}, environment={})


def new_trial(store, study_id):
    return store.create_trial(study_id, expected_number=0, params={}, source="engine", proposer="tpe", seed=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "curves.db"


@pytest.fixture
def store(path):
    with Store.open(path) as opened:
        new_trial(opened, new_study(opened).id)
        yield opened


@pytest.fixture
def stalled(monkeypatch):
    """No flush by time: what is on the disk is there by another cause."""
    monkeypatch.setattr(buffering, "FLUSH_SECONDS", 3600.0)


def on_disk(path, metric="loss"):
    with Store.open(path, read_only=True) as other:
        return other.curve(1, 0, metric)


def test_points_come_back_in_order_with_their_metric(store):
    for step in (2, 0.5, 1):
        store.report(1, 0, step, {"loss": step * 10, "acc": -step})
    assert store.curve(1, 0, "loss").steps == (0.5, 1.0, 2.0)
    assert store.curve(1, 0, "acc").values == (-0.5, -1.0, -2.0)
    assert store.metric_names(1, 0) == ["acc", "loss"]
    assert store.curve(1, 0, "none").steps == ()


def test_a_report_after_closing_is_an_error_and_not_lost_in_silence(path):
    store = Store.open(path)
    new_trial(store, new_study(store).id)
    store.report(1, 0, 1, {"loss": 0.5})
    store.close()
    with pytest.raises(FixDatabasePath, match="closed"):
        store.report(1, 0, 2, {"loss": 0.6})


def test_a_name_that_cannot_be_written_is_refused_and_spoils_nothing(store):
    with pytest.raises(FixArgument, match="metrics"):
        store.report(1, 0, 1, {"x\udc80": 1.0})
    store.report(1, 0, 1, {"loss": 0.5})
    assert store.curve(1, 0, "loss").values == (0.5,)


def test_values_that_are_not_finite_come_back_as_they_were(store, path):
    for step, value in enumerate([math.nan, math.inf, -math.inf, 1.5]):
        store.report(1, 0, step, {"loss": value})
    store.flush()
    assert [repr(v) for v in on_disk(path).values] == ["nan", "inf", "-inf", "1.5"]


@pytest.mark.parametrize("step", [math.nan, math.inf, -math.inf])
def test_a_step_is_finite(store, step):
    with pytest.raises(FixArgument):
        store.report(1, 0, step, {"loss": 1.0})


@pytest.mark.parametrize("flushed", [True, False])
def test_the_last_report_of_a_step_wins(store, flushed):
    for value in (1.0, math.nan, 3.0):
        store.report(1, 0, 7, {"loss": value})
        if flushed:
            store.flush()
    assert store.curve(1, 0, "loss").values == (3.0,)


def test_a_later_attempt_overwrites_the_steps_it_reports(store):
    for step in range(3):
        store.report(1, 0, step, {"loss": 1.0})
    store.release(1, 0)
    store.report(1, 0, 0, {"loss": 2.0})
    assert store.curve(1, 0, "loss").values == (2.0, 1.0, 1.0)


def test_points_wait_for_company(store, path, stalled):
    for step in range(buffering.FLUSH_POINTS - 1):
        store.report(1, 0, step, {"loss": 0.0})
    assert on_disk(path).steps == ()
    store.report(1, 0, buffering.FLUSH_POINTS, {"loss": 0.0})
    assert len(on_disk(path).steps) == buffering.FLUSH_POINTS


def test_points_do_not_wait_for_ever(store, path, monkeypatch):
    monkeypatch.setattr(buffering, "FLUSH_SECONDS", 0.01)
    written = threading.Event()
    whole = buffering.PointBuffer.forget

    def forget(self, points):
        whole(self, points)
        written.set()

    monkeypatch.setattr(buffering.PointBuffer, "forget", forget)
    for step in range(2):  # the second wait shows that the timer goes on
        store.report(1, 0, step, {"loss": 0.5})
        assert written.wait(30)
        written.clear()
    assert on_disk(path).steps == (0.0, 1.0)


def test_the_end_of_a_trial_writes_its_points(store, path, stalled):
    store.report(1, 0, 1, {"loss": 0.5})
    store.finish(1, 0, State.COMPLETE, (0.5,), attempt=1)
    assert on_disk(path).values == (0.5,)


def test_a_report_during_a_write_is_not_forgotten(path, stalled):
    news = []

    def clock():  # read inside the transaction that ends the trial, after its points are written
        while news:
            store.report(1, 0, 1, {"loss": news.pop()})
        return 0.0

    with Store.open(path, clock=clock) as store:
        new_trial(store, new_study(store).id)
        store.report(1, 0, 1, {"loss": 0.5})
        news.append(0.25)
        store.finish(1, 0, State.COMPLETE, (0.5,), attempt=1)
        assert store.curve(1, 0, "loss").values == (0.25,)


def test_closing_writes_what_waits(path, stalled):
    with Store.open(path) as store:
        new_trial(store, new_study(store).id)
        store.report(1, 0, 1, {"loss": 0.5})
    store.close()
    assert on_disk(path).values == (0.5,)
    with pytest.raises(FixDatabasePath):
        store.count(1)


def test_a_forgotten_store_writes_what_waits(path, stalled):
    store = Store.open(path)
    new_trial(store, new_study(store).id)
    store.report(1, 0, 1, {"loss": 0.5})
    del store
    assert on_disk(path).values == (0.5,)


def test_points_survive_a_flush_that_fails(store, path, stalled):
    store.report(1, 0, 1, {"loss": 0.5})
    away = path.with_name("away.db")
    path.rename(away)
    with pytest.raises(FixDatabasePath):
        store.flush()
    away.rename(path)
    assert store.curve(1, 0, "loss").values == (0.5,)


def test_ten_thousand_points(store):
    for step in range(10_000):
        store.report(1, 0, step, {"loss": step / 2})
    curve = store.curve(1, 0, "loss")
    assert curve.steps == tuple(map(float, range(10_000))) and curve.values[-1] == 9999 / 2


def test_a_thousand_trials_at_one_point_a_second_for_a_minute(path):
    """In as many seconds as it takes: `make stress` lets it take the minute."""
    trials, seconds, writers = 1_000, 60, 8
    with Store.open(path) as store:
        new_study(store)
        with store._connection.write() as db:  # as create_trial makes them, in one transaction
            row = {"study": 1, "attempt": 1, "state": "running", "params": "{}", "source": "engine", "proposer": "tpe",
                   "seed": 3, "created": 0.0, "started": 0.0}  # fmt: skip
            for number in range(trials):
                store._insert(db, "trials", {**row, "number": number})

        def work(which):
            for second in range(seconds):
                for number in range(which, trials, writers):
                    store.report(1, number, second, {"loss": number + second / 100})

        threads = [threading.Thread(target=work, args=[which]) for which in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Store.open(path, read_only=True) as store:
        with store._connection.read() as db:
            assert db.execute("SELECT count(*) FROM metrics").fetchone()[0] == trials * seconds
        for number in range(0, trials, 97):
            assert store.curve(1, number, "loss").values == tuple(number + s / 100 for s in range(seconds))
