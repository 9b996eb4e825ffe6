"""Makes schema_v2.db beside this file: run once, before schema 2 was released. The database never changes again.

schema_v1.db was made by the same lines, but for those on holds, resources and notes, which schema 1 had no place for.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from tunewright.agent.records import Hold, Owner, ProposalRecord, Resources
from tunewright.agent.store import Store
from tunewright.engines.types import State
from tunewright.plugins.hooks import Source

OWNER = Owner("a-host-of-the-past", "boot", 4242, 1.5)


def main(path: Path) -> None:
    ticks = count(1_700_000_000)
    with Store.open(path, clock=lambda: float(next(ticks))) as store:
        seconds = count()
        store._monotonic = lambda: float(next(seconds))
        study = store.create_study(
            "frozen",
            space={"lr": {"type": "float", "low": 1e-5, "high": 0.1}},
            objectives=[{"name": "loss", "direction": "minimize"}],
            seed=7,
            config={"engine": "tpe", "task": "a study kept in amber"},
            environment={"python": "3.11"},
        )
        for number, value in enumerate([0.5, 0.25, None]):
            params = {"lr": 0.1 / (number + 1)}
            store.create_trial(
                study.id, expected_number=number, params=params, source="engine", proposer="tpe", seed=number,
                hold=Hold(OWNER, leased=True, devices=2), decision={"source": "engine", "number": number},
                taken_proposal=0,
                proposals=[
                    ProposalRecord(by="engine", source=Source("tpe", "tunewright", "0.1.0"), params=params,
                                   status="taken", number=number, ask_index=number, rationale="the model's best"),
                ],
            )  # fmt: skip
            store.add_resources(study.id, number, 1, Resources(2.0, 1.5, 2**20, 0.25, 2**21))
            for step, loss in enumerate([1.0, float("nan"), float("inf")]):
                store.report(study.id, number, step, {"loss": loss})
            if value is None:
                store.finish(study.id, number, State.FAILED, None, "CUDA out of memory", attempt=1)
            else:
                store.finish(study.id, number, State.COMPLETE, (value,), attempt=1)
        store.create_trial(
            study.id,
            expected_number=3,
            params={"lr": 0.01},
            source="default",
            proposer="user",
            seed=3,
            hold=Hold(OWNER, leased=True),
        )
        store.died(study.id, 3, 1, "its process was killed by SIGKILL (out of memory?)")
        store.next_waiting(study.id, Hold(OWNER, leased=True))
        store.add_note(study.id, 3, "a part of what it printed was lost")
        store.enqueue(study.id, {"lr": 0.02}, "try this")
        call = store.begin_call(
            study.id, number=3, attempt=1, advisor="openai", model="m", prompt=("propose", "1", "ab", "Text."),
            messages=[("system", "Be brief."), ("user", "What next?")], reserve_tokens=100, reserve_usd=0.1,
        )  # fmt: skip
        store.end_call(call, status="answered", answer="lower the rate", tokens_in=50, tokens_out=9, seconds=0.5)
        thread = store.create_thread(study.id, "first talk")
        store.append_message(thread, "user", "hello")


if __name__ == "__main__":
    main(Path(__file__).with_name("schema_v2.db"))
