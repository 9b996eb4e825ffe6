"""The store beside Optuna's: reports and trials per second, the size of a file, a large study, and crowds on one file.

    python benchmarks/store.py rates            reports and trials per second, Optuna's RDB storage on SQLite beside it
    python benchmarks/store.py large --trials 100000 --points 100
    python benchmarks/store.py crowd --processes 8 --trials 500 --readers 10

Needs Optuna for `rates`: pip install "tunewright[bench]". Both write to files in --folder, synchronised as each does it
by default, so the disk under that folder is a part of every figure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPORTS = 20_000  # of ours per process; Optuna takes a fiftieth of them
SPACE = {"x": (0.0, 1.0), "y": (1e-5, 1e-1)}


def agent(path: Path, **options: Any) -> Any:
    from tunewright.agent import Agent, Float

    space = {"x": Float(*SPACE["x"]), "y": Float(*SPACE["y"], log=True)}
    return Agent(space, metric="loss", store=path, engine="random", advisor=None, **options)


def optuna_study(path: Path) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=os.getpid())
    url = f"sqlite:///{path}"
    return optuna.create_study(study_name="s", storage=url, sampler=sampler, load_if_exists=True)


def journal(mode: str) -> None:
    """Ours in a rollback journal, as on a network disk, or as it is."""
    if mode == "delete":
        from tunewright.agent.store import connection

        connection.is_local = lambda path: False


# ------------------------------------------------------------------------------------------------ rates


def our_reports(path: Path, count: int, mode: str) -> None:
    journal(mode)
    with agent(path) as made:
        trial = made.suggest()
        for step in range(count):
            made.report(trial, step, 1.0 / (step + 1))


def optunas_reports(path: Path, count: int, mode: str) -> None:
    trial = optuna_study(path).ask()
    for step in range(count):
        trial.report(1.0 / (step + 1), step)


def our_trials(path: Path, count: int, mode: str) -> None:
    journal(mode)
    with agent(path) as made:
        for _ in range(count):
            trial = made.suggest()
            made.observe(trial, trial["x"])


def optunas_trials(path: Path, count: int, mode: str) -> None:
    study = optuna_study(path)
    for _ in range(count):
        trial = study.ask()
        x = trial.suggest_float("x", *SPACE["x"])
        trial.suggest_float("y", *SPACE["y"], log=True)
        study.tell(trial, x)


Job = Callable[[Path, int, str], None]


def _timed(job: Job, path: Path, count: int, mode: str, start: Any, ready: Any, ended: Any) -> None:
    job(path, 1, mode)  # imports, the file
    ready.release()
    start.wait()
    job(path, count, mode)
    with ended:
        ended.value = max(ended.value, time.monotonic())  # the end of a process, which takes a while, is no part


def rate(job: Job, folder: Path, count: int, processes: int = 1, mode: str = "wal") -> float:
    """Of `count` times `processes`, per second of wall clock, from when all of them are ready to when the last ends."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "s.db"
    context = multiprocessing.get_context("spawn")
    start, ready, ended = context.Event(), context.Semaphore(0), context.Value("d", 0.0)
    _first(job, path, mode)
    args = (job, path, count, mode, start, ready, ended)
    workers = [context.Process(target=_timed, args=args) for _ in range(processes)]
    [worker.start() for worker in workers]
    for _ in workers:
        ready.acquire()
    began = time.monotonic()
    start.set()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, job.__name__
    took = ended.value - began
    shutil.rmtree(path.parent)
    return count * processes / took


def _first(job: Job, path: Path, mode: str) -> None:
    """The file is made before the race: Optuna's creation is not safe against another's."""
    context = multiprocessing.get_context("spawn")
    maker = context.Process(target=job, args=(path, 0, mode))
    maker.start()
    maker.join()


def rates(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for processes in (1, 4):
        ours, theirs = [], []
        for _ in range(args.repeats):  # in turns, so that a busy moment strikes both
            ours.append(rate(our_reports, args.folder, REPORTS, processes))
            theirs.append(rate(optunas_reports, args.folder, REPORTS // 50 // processes, processes))
        found[f"reports/s, {processes} process{'es' * (processes > 1)}"] = _pair(ours, theirs)
    ours, theirs, rollback = [], [], []
    for _ in range(args.repeats):
        ours.append(rate(our_trials, args.folder, args.trials))
        theirs.append(rate(optunas_trials, args.folder, max(args.trials // 10, 10)))
        rollback.append(rate(our_trials, args.folder, args.trials, mode="delete"))
    found["trials/s, write-ahead log"] = _pair(ours, theirs)
    found["trials/s, rollback journal"] = _pair(rollback, theirs)
    found["bytes per million points"] = bytes_per_million(args.folder)
    return found


def _pair(ours: list[float], theirs: list[float]) -> dict[str, float]:
    mine, its = statistics.median(ours), statistics.median(theirs)
    return {"tunewright": round(mine, 1), "optuna": round(its, 1), "times": round(mine / its, 1)}


def bytes_per_million(folder: Path) -> int:
    path = Path(tempfile.mkdtemp(dir=folder)) / "s.db"
    with agent(path) as made:
        before = path.stat().st_size
        for _ in range(100):
            trial = made.suggest()
            for step in range(1_000):
                made.report(trial, step, 1.0 / (step + 1.5))
            made.observe(trial, trial["x"])
    size = path.stat().st_size - before
    shutil.rmtree(path.parent)
    return size * 10


# ------------------------------------------------------------------------------------------------ a large study


def fill(path: Path, trials: int, points: int) -> None:
    """Rows as the product writes them, in a few large transactions; `Store.integrity` agrees with them."""
    with agent(path) as made:
        trial = made.suggest()
        made.observe(trial, trial["x"])
        store, study = made._store, made.study_id
        pattern = json.loads(_column(store, "SELECT payload FROM events WHERE kind = 'trial_created'"))
        finish = json.loads(_column(store, "SELECT payload FROM events WHERE kind = 'trial_finished'"))
        decision = _column(store, "SELECT body FROM decisions")
        source, tags = (_column(store, f"SELECT {name} FROM proposals") for name in ("source", "tags"))
        space = made.space
        for low in range(1, trials, 1_000):
            _fill_page(store, study, range(low, min(low + 1_000, trials)), points, space, pattern, finish, decision,
                       source, tags)  # fmt: skip


def _column(store: Any, sql: str) -> Any:
    with store._connection.read() as db:
        return db.execute(sql).fetchone()[0]


def _fill_page(
    store: Any, study: int, numbers: range, points: int, space: Any, pattern: dict[str, Any], finish: dict[str, Any],
    decision: str, source: str, tags: str,
) -> None:  # fmt: skip
    import numpy as np

    drawn = space.sample(np.random.default_rng(numbers.start), len(numbers))
    with store._connection.write() as db:
        one = db.execute
        for number, params in zip(numbers, drawn, strict=True):
            text, now = json.dumps(params), 1.7e9 + number
            proposal = one(
                "INSERT INTO proposals (study, number, made_by, source, params, status, ask_index, tags, created)"
                " VALUES (?, ?, 'engine', ?, ?, 'taken', ?, ?, ?)",
                [study, number, source, text, number, tags, now],
            ).lastrowid
            created = {**pattern, "params": params, "seed": number, "created": now, "proposal": proposal}
            event = "INSERT INTO events (study, number, kind, payload, created) VALUES (?, ?, ?, ?, ?)"
            one(event, [study, number, "trial_created", json.dumps(created), now])
            facts = {**finish, "values": [params["x"]], "finished": now + 60, "trained": 60.0, "step": None}
            end = one(event, [study, number, "trial_finished", json.dumps(facts), now + 60]).lastrowid
            trial = one(
                "INSERT INTO trials (study, number, attempt, state, params, source, proposer, seed, created, started,"
                " finished, event, trained) VALUES (?, ?, 1, 'complete', ?, 'engine', 'random', ?, ?, ?, ?, ?, 60.0)",
                [study, number, text, number, now, now, now + 60, end],
            ).lastrowid
            one("UPDATE proposals SET taken_by = ? WHERE id = ?", [number, proposal])
            one("INSERT INTO decisions VALUES (?, ?, ?)", [trial, decision, now])
            one('INSERT INTO "values" VALUES (?, 0, ?)', [trial, params["x"]])
            db.executemany(
                "INSERT INTO metrics VALUES (?, 'loss', ?, ?, NULL)",
                [(trial, step, params["x"] + 1 / (step + 1)) for step in range(points)],
            )


def seconds(job: Callable[[], Any], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        job()
        times.append(time.perf_counter() - began)
    return round(min(times), 4)


def large(args: argparse.Namespace) -> dict[str, Any]:
    """Reading is timed in this process: what a command adds is the start of Python."""
    from tunewright.agent.cli import reading
    from tunewright.agent.store import Store

    path = args.file or Path(tempfile.mkdtemp(dir=args.folder)) / "s.db"
    if not path.exists():
        fill(path, args.trials, args.points)
    size, found = args.trials, {"trials": args.trials, "points": args.trials * args.points}
    found["file, bytes"] = path.stat().st_size

    def quietly(job: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        def run() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                job(*arguments)

        return run

    found["open for reading, s"] = seconds(lambda: Store.open(path, read_only=True).close())
    found["open a study, s"] = seconds(lambda: agent(path).close())
    found["ls, s"] = seconds(quietly(reading.list_studies, path, False))
    found["show, s"] = seconds(quietly(reading.show, path, None, 20, "number", False))
    found["show --sort value, s"] = seconds(quietly(reading.show, path, None, 20, "value", False))
    found["why, s"] = seconds(quietly(reading.why, path, None, size // 2, False))
    with agent(path) as made:

        def turn() -> None:
            trial = made.suggest()
            made.observe(trial, trial["x"])

        found["open to first suggestion, s"] = seconds(turn, 1)
        found["suggest and observe, s"] = seconds(turn, 20)
    with agent(args.folder / f"small-{os.getpid()}.db") as made:
        turn()
        found["the same in a new study, s"] = seconds(turn, 20)
    return found


# ------------------------------------------------------------------------------------------------ crowds


def _tuner(path: Path, trials: int, mode: str, start: Any, ready: Any, said: Any) -> None:
    journal(mode)
    with agent(path) as made:
        ready.release()
        start.wait()
        numbers, slowest, error = [], [], None
        try:
            for _ in range(trials):
                began = time.perf_counter()
                trial = made.suggest()
                asked = time.perf_counter()
                made.observe(trial, trial["x"])
                slowest.append((asked - began, time.perf_counter() - asked))
                numbers.append(trial.number)
        except Exception as failure:
            error = repr(failure)
        said.put((numbers, slowest, error))


def _reader(path: Path, mode: str, over: Any, said: Any) -> None:
    from tunewright.agent.store import Store

    journal(mode)
    looks = 0
    with Store.open(path, read_only=True) as store:
        while not over.wait(0.01):
            store.summaries()
            store.trials(1, newest_first=True, limit=20)
            looks += 1
    said.put(looks)


def crowd(args: argparse.Namespace) -> dict[str, Any]:
    return {mode: _crowd(args, mode) for mode in ("wal", "delete")}


def _crowd(args: argparse.Namespace, mode: str) -> dict[str, Any]:
    from tunewright.agent.store import Store

    path = Path(tempfile.mkdtemp(dir=args.folder)) / "s.db"
    context = multiprocessing.get_context("spawn")
    start, over, ready = context.Event(), context.Event(), context.Semaphore(0)
    said, looks = context.Queue(), context.Queue()
    journal(mode)
    agent(path).close()
    tuners = [context.Process(target=_tuner, args=(path, args.trials, mode, start, ready, said))
              for _ in range(args.processes)]  # fmt: skip
    readers = [context.Process(target=_reader, args=(path, mode, over, looks)) for _ in range(args.readers)]
    for process in (*tuners, *readers):
        process.start()
    for _ in tuners:
        ready.acquire()
    began = time.perf_counter()
    start.set()
    results = [said.get() for _ in tuners]
    took = time.perf_counter() - began
    over.set()
    seen = sum(looks.get() for _ in readers)
    [process.join() for process in (*tuners, *readers)]
    numbers = sorted(n for found, _, _ in results for n in found)
    observed = sorted(t for _, times, _ in results for _, t in times)
    with Store.open(path) as store:
        problems = store.integrity()
        stored = [t.number for t in store.trials(1) if t.state == "complete"]
    total = args.processes * args.trials
    found = {
        "trials": total, "each number once": numbers == list(range(total)) == stored, "integrity": problems or "ok",
        "errors": [error for _, _, error in results if error], "trials/s": round(total / took, 1),
        "looks of readers": seen, "observe, ms": {f"p{q}": _share(observed, q) for q in (50, 99, 100)},
        **({"alone": writer_waits(path, mode)} if args.readers else {}),
    }  # fmt: skip
    shutil.rmtree(path.parent)
    return found


def _share(times: list[float], percent: int) -> float:
    return round(1e3 * times[min(len(times) * percent // 100, len(times) - 1)], 1) if times else 0.0


def writer_waits(path: Path, mode: str, commits: int = 300, readers: int = 10) -> dict[str, float]:
    """Milliseconds of one writer's commits beside reading threads, when no other writer is waited for."""
    from tunewright.agent.store import Store

    over, times = threading.Event(), []

    def look() -> None:
        with Store.open(path, read_only=True) as store:
            while not over.wait(0.002):
                store.trials(1, newest_first=True, limit=20)

    threads = [threading.Thread(target=look) for _ in range(readers)]
    with Store.open(path) as store:
        for thread in threads:
            thread.start()
        for _ in range(commits):
            began = time.perf_counter()
            store.enqueue(1, {"x": 0.5, "y": 0.01})
            times.append(time.perf_counter() - began)
        over.set()
        for thread in threads:
            thread.join()
    times.sort()
    return {f"p{q}": _share(times, q) for q in (50, 99, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("rates", "large", "crowd"))
    parser.add_argument("--trials", type=int, help="default: 500 of rates and crowd, 100000 of large")
    parser.add_argument("--points", type=int, default=100, help="of each trial's curve in the large study")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--readers", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    parser.add_argument("--file", type=Path, help="the large study: made there, or there already")
    args = parser.parse_args()
    args.trials = args.trials or (100_000 if args.part == "large" else 500)
    found = {"rates": rates, "large": large, "crowd": crowd}[args.part](args)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
