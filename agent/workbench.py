"""A study open on the bench: read while it trains in the background.

A bench may also lie empty, before the first study of a folder is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.agent import settings
from tunewright.agent.agent import Agent
from tunewright.agent.cli import study_file
from tunewright.agent.cli.study_verify import HeldOut
from tunewright.agent.commands import CommandObjective
from tunewright.agent.errors import BudgetSpent, UnknownStudy
from tunewright.agent.loop import StudyWork, carry_out, make_runner
from tunewright.agent.redact import redact
from tunewright.agent.settings import Budget
from tunewright.agent.space_words import difference
from tunewright.agent.store import Store
from tunewright.agent.trial import Trial
from tunewright.agent.verification import Evidence
from tunewright.agent.verify import SEEDS
from tunewright.engines.errors import FixArgument, TunewrightError
from tunewright.engines.space import Space
from tunewright.engines.types import State

WRITE_SPACE = "`export wandb` writes today's space as a file"
LOOK = 1.0  # seconds between two looks of somebody who waits for a run
MAX_FILES = 50  # of a folder that are looked at


@dataclass(slots=True)
class Run:
    """Trials that train in the background, or did: `trials` were wanted, those in `seen` came to rest or to an end.

    Trials below `first` are older ones that a scheduler lets go on besides, but for those in `waiting`.
    """

    trials: int
    work: StudyWork
    first: int
    waiting: frozenset[int]
    seen: set[int] = field(default_factory=set)
    paused: bool = False
    trouble: str | None = None
    notices: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> int:
        return sum(number >= self.first or number in self.waiting for number in self.seen.copy())


class Workbench:
    """One study, open for tools; `start` trains in the background while others read.

    `objective`, or the study file `file`, is what training needs; without either, a study file beside the store that
    names the study is taken. Advisor and engine are those that the study was last worked on with, unless others are
    given. `on_end` is called in the training thread when a run is over; `on_wait`, by whoever waits for one, each
    second until the waiting is over.
    """

    def __init__(
        self,
        store: str | Path,
        study: str | None = None,
        *,
        file: str | Path | None = None,
        objective: Callable[[Trial], Any] | None = None,
        advisor: Any = None,
        engine: Any = None,
        runner: Any = "local",
    ):
        asked = None if file is None else study_file.read(Path(file))
        if asked is not None:
            study, store = study or asked.arguments["study"], asked.arguments.get("store", store)
        self.path = Path(store)
        self.folder = self.path.expanduser().resolve().parent
        self._objective, self._runner, self._file = objective, runner, asked
        self._agent: Agent | None = None
        self._threads: Store | None = None  # where conversations are kept while there is no study
        self._run: Run | None = None
        self.rest: int | None = None  # what a run that was paused or broken off had still to do
        self.undo: list[tuple[str, Callable[[], Any]]] = []  # what was changed last, and how to take it back
        self._notices: list[str] = []
        self._told: set[str] = set()
        self.on_end: Callable[[Run], None] = lambda run: None
        self.on_wait: Callable[[Run, bool], None] = lambda run, over: None
        name = self._known(study, asked is not None)
        if name is not None:
            self._open(name, advisor, engine)
            if asked is not None and (lines := difference(asked.arguments["space"], self.agent.space)):
                self._notices.append(
                    f"{asked.path.name} has another space than the study, whose own is searched ({'; '.join(lines)});"
                    f" {WRITE_SPACE}"
                )
        elif asked is not None:
            self.make(asked.arguments, asked)

    def _known(self, study: str | None, may_be_new: bool) -> str | None:
        """The study to open, None where there is none yet. Raises UnknownStudy for a name that is not there."""
        names: list[str] = []
        if self.path.exists():
            with Store.open(self.path, read_only=True) as file:
                names = [s.study.name for s in sorted(file.summaries(), key=lambda s: s.last_activity)]
        if study is None or study in names:
            return study or (names[-1] if names else None)
        if may_be_new:
            return None
        fix = f"one of {', '.join(names)}" if names else "make one: tunewright tune study.yaml"
        raise UnknownStudy("there is no such study", field="study", value=study, fix=fix)

    def _open(self, name: str, advisor: Any = None, engine: Any = None) -> None:
        with Store.open(self.path, read_only=True) as file:
            record = file.study(name)
        assert record is not None, "its name was just listed"
        config = record.config
        given: dict[str, Any] = {
            "advisor": advisor or config.get("advisor"),
            "engine": engine or "auto",  # what it was made with
            "budget": Budget(**config.get("budget", {})),
            "safety": config.get("safety", "shared"),
            "advisor_deadline": config.get("advisor_deadline", 60.0),
        }
        kept = None
        try:
            settings.advisor_of(given["advisor"])
        except TunewrightError as error:  # its key may be missing here, which must not keep anybody from reading
            kept, given["advisor"] = given["advisor"], "rules"
            self._notices.append(f"the advisor {kept} cannot be asked here ({error.message}); the rules advise instead")
        self._reopen({**given, "store": self.path, "study": name})
        if kept is not None:
            self.agent._reconfigure(advisor=kept)

    def _reopen(self, given: dict[str, Any]) -> None:
        """Another Agent on the bench; the one before stays there when the new one cannot be made."""
        made = Agent(**given)
        if self._agent is not None:
            self._agent.close()
        self._agent, self._given = made, given

    # ------------------------------------------------------------------------------------------ what lies there

    @property
    def notice(self) -> str | None:
        """What the person should know about how the study was opened."""
        return "; ".join(self._notices) or None

    @property
    def has_study(self) -> bool:
        return self._agent is not None

    @property
    def agent(self) -> Agent:
        """Raises FixArgument while the bench is empty."""
        if self._agent is None:
            raise FixArgument("there is no study yet", field="study", fix='make one of a script: "tune train.py"')
        return self._agent

    @property
    def store(self) -> Store:
        """The file of the study, or the one that the first study will be in."""
        if self._agent is not None:
            return self._agent._store
        if self._threads is None:
            self._threads = Store.open(self.path, redact=redact)
        return self._threads

    def make(self, arguments: dict[str, Any] | Any, file: study_file.StudyFile | None = None) -> None:
        """A new study on the bench. Raises FixArgument where the name is taken, and what Agent raises."""
        if self.running:
            raise FixArgument("trials are being trained", field="create_study", fix="pause first")
        name = arguments["study"]
        if self.path.exists() and self.store.study(name) is not None:
            raise FixArgument("there is a study of this name", field="name", value=name, fix="another name")
        self._reopen({"advisor": "rules", **arguments, "store": self.path})
        self._file, self._run, self.rest = file, None, None
        self.undo.clear()

    def inside(self, name: str) -> Path:
        """A file of the study's folder. Raises FixArgument for a path that leads anywhere else."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise FixArgument(
                "lies outside the study's folder", field="file", value=name, fix="a file beside the study"
            )
        return path

    # ------------------------------------------------------------------------------------------ training

    @property
    def running(self) -> bool:
        return self._run is not None and not self._run.over.is_set()

    @property
    def run(self) -> Run | None:
        """The run that goes on, or the last one."""
        return self._run

    def training_file(self) -> study_file.StudyFile | None:
        """The study file that says how a trial is trained; None where a function does it, or nothing."""
        if self._file is None and self._objective is None and self._agent is not None:
            for path in sorted(self.folder.glob("*.y*ml"))[:MAX_FILES]:
                try:
                    found = study_file.read(path)
                except TunewrightError:
                    continue  # some other tool's file
                place = Path(found.arguments.get("store", self.path)).resolve()
                if found.arguments["study"] == self.agent.study and place == self.path.resolve():
                    self._file = found
                    break
        return self._file

    def how_trained(self) -> str:
        """How a trial is trained, in words. Raises FixArgument where nothing here knows."""
        if self._objective is not None:
            return "with the function given"
        file = self.training_file()
        if file is None:
            fix = "name its study file: tunewright chat --file study.yaml; or train by hand: suggest, observe"
            raise FixArgument("nothing here knows how to train a trial", field="run", fix=fix)
        return f"with {trainer_words(file, self.agent.space)} ({file.path.name})"

    def left(self) -> int | None:
        """Trials that the budget still allows, those that wait to be run again included; None without a cap."""
        agent = self.agent
        if agent.budget.trials is None:
            return None
        counts = agent._store.count(agent.study_id)
        made = sum(counts.values()) - (agent._scheduler.clones if agent._scheduler is not None else 0)
        return max(agent.budget.trials - made, 0) + counts[State.WAITING]

    def wanted(self, trials: int | None) -> int:
        """How many trials a run would train: `trials`, else what is left of the last run or of the budget. Raises
        FixArgument and BudgetSpent where that is not possible."""
        self.how_trained()
        if self.running:
            raise FixArgument("trials are being trained already", field="run", fix="pause first")
        left = self.left()
        wanted = trials or self.rest or left
        if wanted is None:
            raise FixArgument("nothing limits this run", field="run: trials", fix="say how many")
        if left is not None and wanted > left:
            cap = self.agent.budget.trials or 0
            fix = f"raise the budget to {cap - left + wanted} trials" + (f", or run {left}" if left else "")
            raise BudgetSpent(f"the budget of {cap} trials leaves {left}", cap="trials", limit=cap, fix=fix)
        return wanted

    def start(self, trials: int | None = None) -> int:
        """Trains in the background and returns how many trials that will be; see `wanted`."""
        wanted = self.wanted(trials)
        objective, runner, workers = self._trainer(self.training_file())
        work = StudyWork(self.agent, objective, wanted, None, ((), (self._ended,)), self._noticed)
        store, study_id = self.agent._store, self.agent.study_id
        waiting = frozenset(r.number for r in store.trials(study_id, states=(State.WAITING,)))
        self._run = Run(wanted, work, sum(store.count(study_id).values()), waiting)
        self.rest = None
        arguments = (self._run, make_runner(runner, workers))
        threading.Thread(target=self._train, args=arguments, name="tunewright-bench", daemon=True).start()
        return wanted

    def verify(self, trial: int | None = None, seeds: int | None = None) -> Evidence:
        """The best trial, or another one, trained again with other seeds, here and now; see `Agent.verify`. Raises
        FixArgument while trials train."""
        self.how_trained()
        if self.running:
            raise FixArgument("trials are being trained", field="verify", fix="pause first")
        file = self.training_file()
        held = file.held_out if file is not None else HeldOut()
        objective, runner, workers = self._trainer(None if file is None else file.verifying.run_by("local"))
        seeds = seeds or held.seeds or SEEDS
        return self.agent.verify(objective, seeds, trial=trial, data=held.data, workers=workers, runner=runner)

    def _trainer(self, file: study_file.StudyFile | None) -> tuple[Callable[[Trial], Any], Any, int]:
        """What trains a trial, the runner and its workers."""
        if self._objective is not None or file is None:
            assert self._objective is not None, "how_trained was asked first"
            return self._objective, self._runner, 1
        objective = study_file.load_objective(file)
        name, options = file.runner
        if not isinstance(objective, CommandObjective):
            options = {**options, "processes": True}  # what it prints, and a crash, stay out of the conversation
        return objective, (name, options), file.workers

    def _train(self, run: Run, runner: Any) -> None:
        try:
            carry_out(self.agent, run.work, runner)
        except TunewrightError as error:
            run.trouble = str(error)
        except BaseException as error:  # the thread has nobody else to tell
            run.trouble = f"{type(error).__name__}: {error}"
        finally:
            if run.paused or run.trouble:
                self.rest = max(run.trials - run.ended, 0) or None
            run.over.set()
            self.on_end(run)

    def _noticed(self, text: str) -> None:
        """Once on a bench: what was told of one run is not told of the next."""
        if self._run is not None and text not in self._told:
            self._told.add(text)
            self._run.notices.append(text)

    def _ended(self, agent: Agent, trial: Trial) -> None:
        if self._run is not None:
            self._run.seen.add(trial.number)

    def pause(self, wait: float | None = 0) -> bool:
        """No further trial starts; those that train end by themselves. `wait`: at most so many seconds for them, None
        as long as it takes. Whether anything was training."""
        run = self._run
        if run is None or run.over.is_set():
            return False
        run.paused = True
        run.work.stop()
        run.over.wait(wait)
        return True

    def wait(self, seconds: float) -> bool:
        """Until the run is over, at most so long. Whether it is over."""
        if (run := self._run) is None:
            return True
        until, over = time.monotonic() + seconds, run.over.is_set()
        try:
            while not over and (left := until - time.monotonic()) > 0:
                self.on_wait(run, False)
                over = run.over.wait(min(LOOK, left))
        finally:
            self.on_wait(run, True)
        return over

    # ------------------------------------------------------------------------------------------ the rest

    def set_budget(self, **caps: float | None) -> None:
        """The study under other caps; those not named stay. Raises FixArgument while trials train."""
        if self.running:
            raise FixArgument("trials are being trained", field="budget", fix="pause first")
        budget = Budget(**{**self.agent.budget.to_config(), **caps})
        self._reopen({**self._given, "budget": budget})

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Trials that train end first."""
        self.pause(wait=None)
        for open_one in (self._agent, self._threads):
            if open_one is not None:
                open_one.close()


def trainer_words(file: study_file.StudyFile, space: Space) -> str:
    """What a study file trains a trial with: its command line, with names for values, or a function's name."""
    if file.command is None:
        return str(file.objective)
    objective = study_file.load_objective(file)
    assert isinstance(objective, CommandObjective), "it has a command"
    return f"`{objective.shown({name: f'{{{name}}}' for name in space.declared})}`"
