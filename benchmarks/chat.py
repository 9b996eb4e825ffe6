"""What the chat adds to a model's own time to its first word, and what its requests are made of.

    python benchmarks/chat.py --processes 9 --turns 12

Each process makes a session about a small study with a model that a scripted server on loopback plays, which answers
at once; so all that passes between a question and the answer's first word is the chat's own. "first" is the first
question of a fresh process, asked once the session is ready; "at once" one that did not wait for that, as no person
who has to type it could.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def measure(turns: int, at_once: bool) -> dict[str, Any]:
    """One process: milliseconds to the first word of each turn, seconds until the session could be asked, and the
    characters of the first request."""
    from tunewright.agent import Agent, Budget, Float, Int
    from tunewright.agent.chat.session import Session
    from tunewright.agent.testing import ScriptedServer, says
    from tunewright.agent.workbench import Workbench
    from tunewright.plugins import registry

    sent: list[Any] = []

    def answered(request: Any) -> Any:
        sent.append(request.body)
        return says("Yes, it is so.")

    with tempfile.TemporaryDirectory() as folder, ScriptedServer(answered) as server:
        path = Path(folder) / "s.db"
        space = {"lr": Float(1e-5, 1e-1, log=True), "width": Int(8, 64)}
        budget = Budget(trials=200)
        with Agent(space, metric="loss", engine="random", advisor=None, store=path, study="s", budget=budget) as agent:
            agent.tune(lambda trial: trial["lr"], 20)
        os.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none"}
        with Workbench(path, objective=lambda trial: trial["lr"]) as bench:
            began = time.perf_counter()
            talker = registry.load("talkers", "langchain")("openai:scripted", bench)
            session = Session(bench, talker, lambda question: True)
            if not at_once:
                talker.ready()
            made = time.perf_counter() - began
            times = []
            for i in range(turns):
                began = time.perf_counter()
                answer = session.say(f"Question {i}?")
                next(answer)
                times.append(1e3 * (time.perf_counter() - began))
                list(answer)
    return {"ms": times, "made": made, "request": _parts(sent[0])}


def _parts(body: Any) -> dict[str, int]:
    """Characters of a request, by what they are for."""
    spoken = body["messages"]
    messages = {role: sum(len(m["content"]) for m in spoken if m["role"] == role) for role in ("system", "user")}
    return {"whole": len(json.dumps(body)), "tools": len(json.dumps(body["tools"])), **messages}


def _in_a_process(args: argparse.Namespace, *more: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--alone", "--turns", str(args.turns), *more]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def _spread(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times)), "lowest": round(min(times)), "highest": round(max(times))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=9)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--alone", action="store_true", help="be one of the processes")
    parser.add_argument("--at-once", action="store_true", help="... and ask before the session is ready")
    args = parser.parse_args()
    if args.alone:
        return print(json.dumps(measure(args.turns, args.at_once)))
    ready = [_in_a_process(args) for _ in range(args.processes)]
    hasty = [_in_a_process(args, "--at-once") for _ in range(args.processes)]
    found = {
        "ms to the first word": {
            "first": _spread([one["ms"][0] for one in ready]),
            "later": _spread([ms for one in ready for ms in one["ms"][1:]]),
            "at once": _spread([one["ms"][0] for one in hasty]),
        },
        "seconds until ready": round(statistics.median(one["made"] for one in ready), 2),
        "characters of the first request": ready[0]["request"],
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
