"""Advisor calls: caps hold between processes, unknown costs stay unknown, secrets stay out, texts can be found."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tunewright.agent.errors import CapReached
from tunewright.agent.records import ProposalRecord
from tunewright.agent.store import Store, calls, current_owner
from tunewright.agent.store.codec import Cleaner
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import State
from tunewright.plugins.hooks import Source

SECRET = "sk-verysecret"


def new_study(store, **config):
    objectives = [{"name": "loss", "direction": "minimize"}]
    return store.create_study("s", space={}, objectives=objectives, seed=1, config=config, environment={})


def new_trial(store, study_id, **facts):
    return store.create_trial(study_id, expected_number=0, params={}, source="engine", proposer="tpe", seed=3, **facts)


def proposal(**facts):
    return ProposalRecord(by="advisor", source=Source("openai:m"), params={}, status="open", **facts)


def dead_owner():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return replace(current_owner(), pid=ended.pid)


@pytest.fixture
def store():
    with Store.open(None) as opened:
        new_study(opened)
        yield opened


def begin(store, **changes):
    facts = {
        "number": 0, "attempt": 1, "advisor": "openai", "model": "m", "prompt": ("propose", "1", "abc", "Text."),
        "messages": [("system", "Be brief."), ("user", "What next?")],
    }  # fmt: skip
    return store.begin_call(1, **(facts | changes))


def test_a_call_is_there_before_its_answer(store):
    call = begin(store)
    opened = store.calls(1)[0]
    assert (opened.id, opened.status, opened.answer, opened.tokens_in, opened.usd) == (call, "open", None, None, None)
    assert (opened.prompt_name, opened.prompt_version, opened.prompt_hash) == ("propose", "1", "abc")
    assert store.call_messages(call) == [("system", "Be brief."), ("user", "What next?")]
    ended = store.end_call(
        call,
        status="answered",
        answer="{}",
        model="m-2",
        tokens_in=7,
        tokens_cached=2,
        tokens_out=3,
        usd=0.5,
        seconds=1.5,
    )
    assert store.calls(1, number=0) == [ended] and store.calls(1, number=1) == []
    assert (ended.status, ended.answer, ended.model, ended.tokens_cached, ended.seconds) == (
        "answered",
        "{}",
        "m-2",
        2,
        1.5,
    )
    assert store.spent(1) == (10, 0.5, 0)


def test_an_ended_call_stays_as_it_is(store):
    call = begin(store)
    first = store.end_call(call, status="failed", error="timeout")
    assert store.end_call(call, status="answered", answer="late") == first
    with pytest.raises(FixArgument):
        store.end_call(call + 1, status="failed")
    with pytest.raises(FixArgument):
        store.call_messages(call + 1)


def test_an_unknown_cost_is_not_zero(store):
    store.end_call(begin(store), status="answered", tokens_in=5, tokens_out=5)
    store.end_call(begin(store), status="failed", tokens_in=0, tokens_out=0, usd=0.0)
    assert store.spent(1) == (10, 0.0, 1)


def test_long_answers_are_cut_between_characters(store):
    ended = store.end_call(begin(store), status="answered", answer="é" * calls.MAX_ANSWER)
    assert ended.answer == "é" * (calls.MAX_ANSWER // 2)


@pytest.mark.parametrize(("cap", "step", "limit"), [("tokens", 40, 100), ("usd", 0.25, 0.6)])
def test_a_cap_counts_reservations_then_costs(store, cap, step, limit):
    def ask():
        return begin(store, **{f"reserve_{cap}": step, f"cap_{cap}": limit})

    cost = {"tokens": {"tokens_in": 0, "tokens_out": 1}, "usd": {"usd": 0.001}}[cap]
    first, second = ask(), ask()
    with pytest.raises(CapReached) as caught:
        ask()
    assert caught.value.data == {"cap": cap, "limit": limit, "used": 2 * step, "reserve": step}
    assert len(store.calls(1)) == 2
    store.end_call(first, status="answered")  # at unknown cost: the reservation stands
    with pytest.raises(CapReached):
        ask()
    store.end_call(second, status="answered", **cost)
    ask()


def test_a_cap_may_be_used_up_exactly(store):
    begin(store, reserve_tokens=100, cap_tokens=100)
    with pytest.raises(CapReached):
        begin(store, reserve_tokens=1, cap_tokens=100)


def test_a_cap_needs_a_reservation(store):
    with pytest.raises(FixArgument):
        begin(store, cap_usd=1.0)


def test_no_pair_of_connections_exceeds_a_cap(tmp_path):
    path = tmp_path / "cap.db"
    with Store.open(path) as one, Store.open(path) as two:
        new_study(one)

        def ask(store):
            try:
                return begin(store, reserve_tokens=10, cap_tokens=95) > 0
            except CapReached:
                return False

        with ThreadPoolExecutor(4) as pool:
            allowed = list(pool.map(ask, [one, two] * 10))
        assert sum(allowed) == 9


def test_equal_messages_are_stored_once(store):
    ids = [begin(store, messages=[("user", "same"), ("assistant", "same")]) for _ in range(3)]
    assert store.call_messages(ids[2]) == [("user", "same"), ("assistant", "same")]
    thread = store.create_thread(1, "talk")
    for role, content in [("user", "same"), ("assistant", "no"), ("user", "same")]:
        store.append_message(thread, role, content)
    assert store.thread(thread) == [("user", "same"), ("assistant", "no"), ("user", "same")]


def test_calls_of_dead_processes_are_abandoned(tmp_path, monkeypatch):
    path, dead = tmp_path / "dead.db", dead_owner()
    with Store.open(path) as store:
        new_study(store)
        monkeypatch.setattr(calls, "current_owner", lambda: dead)
        lost, late = begin(store), begin(store)
        monkeypatch.setattr(calls, "current_owner", lambda: replace(dead, host="elsewhere"))
        far = begin(store)
        assert [c.status for c in store.calls(1)] == ["open"] * 3
        store.requeue_dead(1)
        assert {c.id: c.status for c in store.calls(1)} == {lost: "abandoned", late: "abandoned", far: "open"}
        assert store.end_call(late, status="answered", answer="after all").status == "answered"
        monkeypatch.setattr(calls, "current_owner", lambda: dead)
        begin(store)
    with Store.open(path) as again:
        assert again.calls(1)[-1].status == "abandoned"


# ---------------------------------------------------------------------------------------------------- texts


def test_secrets_never_reach_the_file(tmp_path):
    path = tmp_path / "secret.db"
    with Store.open(path, redact=lambda text: text.replace(SECRET, "***")) as store:
        study = new_study(store, task=f"use {SECRET}", nested=[{"deep": SECRET}]).id
        store.enqueue(study, {"x": 1}, note=SECRET)
        said = proposal(rationale=SECRET, reason=SECRET, tags={"k": SECRET})
        new_trial(store, study, decision={"why": [SECRET]}, proposals=[said])
        store.update_proposals({1: ("expired", f"because {SECRET}")})
        store.finish(study, 0, State.FAILED, None, f"401 for {SECRET}", attempt=1)
        call = begin(store, messages=[("user", SECRET)])
        store.end_call(call, status="answered", answer=f"I saw {SECRET}", error=SECRET)
        store.append_message(store.create_thread(study, SECRET), "user", SECRET)
        store.update_config(study, {"task": SECRET})
        assert store.trial(study, 0).error == "401 for ***"
        assert store.calls(study)[0].answer == "I saw ***"
        assert store.study("s").config == {"task": "***"}
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()


def test_half_characters_and_zero_bytes_are_survived(store):
    new_trial(store, 1)
    failed = store.finish(1, 0, State.FAILED, None, "bad \udcff byte \0 end", attempt=1)
    assert failed.error == "bad ? byte \ufffd end"
    assert store.integrity() == []


def test_texts_are_found_where_they_stand(store):
    advised = proposal(number=4, rationale="Lower the learning rate", reason="too near trial 3")
    new_trial(store, 1, proposals=[advised])
    ids = [p.id for p in store.proposals(1)]
    store.finish(1, 0, State.FAILED, None, "CUDA out of memory", attempt=1)
    call = begin(store, number=0)
    store.end_call(call, status="failed", answer="warmup might help", error="rate limited")
    (hit,) = store.search("learning LOWER")
    assert (hit.kind, hit.study_id, hit.number, hit.ref, hit.snippet) == (
        "rationale",
        1,
        4,
        ids[0],
        "Lower the learning rate",
    )
    assert [(h.kind, h.ref) for h in store.search("near")] == [("reason", ids[0])]
    assert [(h.kind, h.ref) for h in store.search("cuda memory")] == [("error", 0)]
    assert [(h.kind, h.ref) for h in store.search("warmup")] == [("answer", call)]
    assert {h.kind for h in store.search("rate")} == {"rationale", "call_error"}
    assert len(store.search("rate", limit=1)) == 1
    assert store.search("rate", study_id=2) == []
    assert store.search("memory warmup") == []


@pytest.mark.parametrize(
    "text", ["", "   ", '"', 'a"b', "NOT", "near(", "*", "--", "col:x", "a AND", "'; DROP TABLE trials"]
)
def test_a_search_has_no_syntax(store, text):
    assert store.search(text) == []


def test_a_secret_is_taken_out_of_a_tree_wherever_it_stands():
    clean = Cleaner(lambda text: text.replace("hunter2-hunter2", "[redacted]"))
    tree = {"a": ["x", {"hunter2-hunter2": 1}], "b": ("a hunter2-hunter2 b", float("nan")), "c\0": 1.5}
    expected = {"a": ["x", {"[redacted]": 1}], "b": ["a [redacted] b", "nan"], "c\ufffd": 1.5}
    assert clean.tree(tree) == expected
    assert clean.tree({"hunter2-": "hunter2"}) == {"hunter2-": "hunter2"}
    odd = {"hunter2-hunter2": 'a "word"\n'}
    for value in (tree, {"a": "x"}, odd, {"a": ['"', 1.5, None, True]}, "hunter2-hunter2"):
        texts = clean.json([value, {"a": 1}], "tree")
        assert [json.loads(text) for text in texts] == [clean.tree(value), {"a": 1}]


def test_a_secret_that_json_spells_otherwise_is_taken_out_of_it_too():
    secret = 'pass"wörd\\8'
    clean = Cleaner(lambda text: text.replace(secret, "***"))
    assert [json.loads(text) for text in clean.json([{"a": f"say {secret}"}], "tree")] == [{"a": "say ***"}]
