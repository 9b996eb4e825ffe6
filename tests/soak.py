"""The slow half of the tests of faults: every moment, many random kills, locks of real length, a real minute of points.

    python tests/soak.py moments              kill -9 at every commit, call and rename, on both journals
    python tests/soak.py kills --minutes 30   and at random, at least 200 times: one process, or two on one study
    python tests/soak.py locks                the file locked by another process for 5 and for 60 seconds
    python tests/soak.py points               1,000 trials that report once a second for 60 seconds, then kill -9

`make soak` runs all of them. A part that fails ends with the AssertionError that says what was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import faults
from sqlite_utils.utils import sqlite3

from tunewright.agent.store import Store, buffer, connection

PARTS = ("moments", "locks", "points", "kills")
KILLS = 200


def journal(mode: str) -> None:
    connection.is_local = lambda path: mode == "wal"
    connection.wal_is_sound = lambda version: True


def moments(folder: Path) -> str:
    seen: list[str] = []
    faults.train(folder / "whole.db", lambda number, value: None, faults.killer(-1, seen))
    expected = faults.configurations(folder / "whole.db")
    for mode in ("wal", "delete"):
        journal(mode)
        for at, name in enumerate(seen):
            place = folder / f"{mode}-{at}.db"
            ended, told = faults.in_child(lambda tell, p=place, k=at: faults.train(p, tell, faults.killer(k)))
            assert ended == signal.SIGKILL, name
            faults.check(place, told)
            ended, rest = faults.in_child(lambda tell, p=place: faults.train(p, tell, lambda name: None))
            assert ended == 0 and not told.keys() & rest.keys(), name
            faults.check(place, told | rest)
            assert faults.configurations(place) == expected, (mode, name)
    return f"{2 * len(seen)} kills at {len(seen)} moments on both journals"


def kills(folder: Path, minutes: float) -> str:
    faults.TRIALS = 20
    whole = folder / "expected.db"
    faults.study(whole, lambda number, value: None)
    began = time.monotonic()
    faults.in_child(lambda tell: faults.study(folder / "timed.db", tell))
    longest = time.monotonic() - began  # of a study that nobody kills: later kills would come too late
    expected, dice = faults.configurations(whole), random.Random(0)
    killed = studies = 0
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until or killed < KILLS:
        mode, several = dice.choice(("wal", "delete")), dice.random() < 0.5
        journal(mode)
        place = folder / f"random-{studies}.db"
        killed += _several(place, dice, longest) if several else _alone(place, dice, longest, expected)
        studies += 1
        shutil.rmtree(f"{place}.files", ignore_errors=True)
        print(f"kills: {killed} in {studies} studies so far", file=sys.stderr, flush=True)
    return f"{killed} random kills in {studies} studies"


def _alone(place: Path, dice: random.Random, longest: float, expected: list[object]) -> int:
    """One loop of its own, killed and begun again until it ends as though nothing had been."""
    told: dict[int, float] = {}
    for count in range(10_000):
        ended, more = _killed(lambda tell: faults.study(place, tell), dice.random() * longest)
        assert not told.keys() & more.keys(), "a result was acknowledged twice"
        told |= more
        faults.check(place, told)
        if ended == 0:
            assert faults.configurations(place) == expected
            return count
        assert ended == signal.SIGKILL, ended
    raise AssertionError("it never ends")


def _several(place: Path, dice: random.Random, longest: float) -> int:
    """Two tuners on one study; one of them, or both, is killed; then it is brought to its end."""
    told: dict[int, float] = {}
    ends: list[int] = []

    def run() -> None:
        ended, more = _killed(lambda tell: faults.tune(place, tell), dice.random() * longest)
        ends.append(ended)
        told.update(more)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ends) <= {0, signal.SIGKILL}, ends
    faults.check(place, told)
    ended, more = faults.in_child(lambda tell: faults.tune(place, tell))
    assert ended == 0
    faults.check(place, told | more)
    with Store.open(place) as store:
        states = [t.state for t in store.trials(1)]
        assert len(states) == faults.TRIALS and all(state.finished for state in states)
    return sum(ended == signal.SIGKILL for ended in ends)


def _killed(work, seconds: float) -> tuple[int, dict[int, float]]:
    """In a forked child that is killed after so many seconds."""

    def doomed(tell) -> None:
        signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        work(tell)
        signal.setitimer(signal.ITIMER_REAL, 0)

    return faults.in_child(doomed)


def locks(folder: Path) -> str:
    for mode in ("wal", "delete"):
        journal(mode)
        place = folder / f"locked-{mode}.db"
        faults.study(place, lambda number, value: None)
        with Store.open(place) as store:
            for seconds in (5, 60):
                holder = sqlite3.connect(str(place), isolation_level=None, check_same_thread=False)
                holder.execute("BEGIN IMMEDIATE")
                threading.Timer(seconds, holder.close).start()
                began = time.monotonic()
                store.enqueue(1, {"x": 0.5, "y": 0.5})
                assert time.monotonic() - began >= seconds - 1
            assert store.integrity() == []
    return "locks of 5 and 60 s were waited for on both journals"


def points(folder: Path, trials: int = 1_000, seconds: int = 60) -> str:
    """The second half of the minute is killed: what is older than a flush is there."""
    place = folder / "points.db"
    faults.study(place, lambda number, value: None)

    def work(tell) -> None:
        store = Store.open(place)
        numbers = range(faults.TRIALS, faults.TRIALS + trials)
        facts = {"params": {"x": 1.0, "y": 1.0}, "source": "engine", "proposer": "sobol", "seed": 1}
        for number in numbers:
            store.create_trial(1, expected_number=number, **facts)
        began = time.monotonic()
        for second in range(seconds):
            for number in numbers:
                store.report(1, number, second, {"loss": float(number)})
                time.sleep(max(0.0, began + second + (number - numbers[0]) / trials - time.monotonic()))
            tell(second, time.monotonic())
        tell(seconds, time.monotonic())
        os.kill(os.getpid(), signal.SIGKILL)

    ended, told = faults.in_child(work)
    assert ended == signal.SIGKILL
    safe = [second for second in range(seconds) if told[seconds] - told[second] > buffer.FLUSH_SECONDS + 1.0]
    with Store.open(place) as store, store._connection.read() as db:
        found = db.execute("SELECT count(*), sum(step <= ?) FROM metrics WHERE trial > ?", [safe[-1], faults.TRIALS])
        kept, old = found.fetchone()
    assert old == trials * len(safe), f"{trials * len(safe) - old} points older than the flush window are lost"
    waiting = trials * seconds - kept
    assert waiting <= 2 * trials
    return f"{trials * seconds} points in {told[seconds] - told[0] + 1:.0f} s; a kill at the end cost {waiting} of them"


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Not by `choices`: Python 3.11 holds the empty list against them, too.
    parser.add_argument("parts", nargs="*", type=_part, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=30.0, help="of random kills, at least 200 in any case")
    args = parser.parse_args()
    for part in args.parts:
        folder = Path(tempfile.mkdtemp(prefix="tunewright-soak-"))
        try:
            said = kills(folder, args.minutes) if part == "kills" else globals()[part](folder)
        finally:
            shutil.rmtree(folder)
        print(f"{part}: {said}", flush=True)


if __name__ == "__main__":
    main()
