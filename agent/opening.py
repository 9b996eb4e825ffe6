"""A study is created, or taken up again by its name."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.agent import settings
from tunewright.agent.errors import StudyExists
from tunewright.agent.lineup import Choice, choices
from tunewright.agent.records import StudyRecord
from tunewright.agent.scheduling import AUTO, SchedulerChoice, scheduler_of, usual_scheduler
from tunewright.agent.space_words import difference
from tunewright.agent.store import Store
from tunewright.engines.errors import FixArgument, FixSpace
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective
from tunewright.plugins import registry

SEED = re.compile(r"(^|[._])((random|rng)_?)?seed$|(^|[._])random_state$", re.IGNORECASE)


def open_study(
    store: Store,
    name: str,
    space: Space | None,
    objectives: tuple[Objective, ...] | None,
    seed: int | None,
    config: Mapping[str, Any],
) -> StudyRecord:
    """The stored study of this name, checked against the arguments, or a new one. Raises FixArgument, FixSpace."""
    known = store.study(name)
    if known is not None:
        return _resume(store, known, space, objectives, seed, config)
    if space is None:
        raise FixArgument(
            f"the study {name!r} is new and needs one", field="space", fix='space={"lr": Float(1e-5, 1e-1, log=True)}'
        )
    if objectives is None:
        raise FixArgument(f"the study {name!r} is new and needs one", field="metric", fix='metric="val_loss"')
    if clash := {o.name for o in objectives} & set(space.declared):
        raise FixArgument("is the name of a parameter too", field="metric", value=min(clash), fix="rename one of them")
    if seeds := [n for n in space.names if SEED.search(n)]:
        raise FixSpace(
            "is a random seed: its best value is luck that does not carry over",
            field=f"space[{seeds[0]!r}]",
            fix="take it out of the space and give trial.seed to your training",
        )
    try:
        return store.create_study(
            name,
            space=space.to_dict(),
            objectives=[{"name": o.name, "direction": o.direction} for o in objectives],
            seed=seed or 0,
            config=config,
            environment=settings.environment(),
        )
    except StudyExists:  # another process made it a moment ago
        return open_study(store, name, space, objectives, seed, config)


def _resume(
    store: Store,
    known: StudyRecord,
    space: Space | None,
    objectives: tuple[Objective, ...] | None,
    seed: int | None,
    config: Mapping[str, Any],
) -> StudyRecord:
    if space is not None and (lines := difference(Space.from_dict(known.space), space)):
        raise FixSpace(
            f"the study {known.name!r} was made with another space: {'; '.join(lines)}",
            field="space",
            fix="leave space out to resume it, call edit_space() to change it, or pick a new study name",
        )
    stored = [(o["name"], o["direction"]) for o in known.objectives]
    if objectives is not None and (given := [(o.name, o.direction) for o in objectives]) != stored:
        raise FixArgument(
            f"the study {known.name!r} was made with {stored}",
            field="metric",
            value=given,
            fix="leave metric and direction out to resume it, or pick a new study name",
        )
    if seed is not None and seed != known.seed:
        raise FixArgument(
            f"the study {known.name!r} was made with seed {known.seed}",
            field="seed",
            value=seed,
            fix="leave seed out to resume it",
        )
    training = {name: config[name] or known.config.get(name) for name in ("scheduler", "fidelity")}
    for name, now in training.items():
        before = known.config.get(name)
        if before is not None and now != before:
            message, fix = f"the study {known.name!r} was made with {before}", f"leave {name} out to resume it"
            raise FixArgument(message, field=name, value=now, fix=fix)
    kept = {name: known.config[name] for name in ("fell_to_strict", "notes") if name in known.config}
    told = {name: config[name] or known.config.get(name) for name in ("task", "data")}
    config = {**config, **training, **kept, **told}
    return known if config == known.config else store.update_config(known.id, config)


def study_files(store: Path | None, record: StudyRecord) -> Path:
    """Where a study's trials keep checkpoints and output, a folder each: beside its file, else in a temporary place
    that lasts as long as this process."""
    folder = f"{record.id}-{re.sub(r'[^A-Za-z0-9_-]', '_', record.name)}"
    if store is None:
        scratch = Path(tempfile.gettempdir()) / f"tunewright-{uuid.uuid4().hex[:12]}"
        _scratch.append((scratch, os.getpid()))
        return scratch / folder
    return store.with_name(f"{store.name}.files") / folder


_scratch: list[tuple[Path, int]] = []  # with the process that made it


@atexit.register
def _discard() -> None:
    """At the end of the process; a fork has its parent's list, too."""
    for folder, owner in _scratch:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


class MadeUp(NamedTuple):
    """Of what a study runs: its engines in fallback order, how the file names them, and its scheduler."""

    order: tuple[Choice, ...]
    named: Any
    scheduler: SchedulerChoice | None


def make_up(
    known: StudyRecord | None,
    engine: Any,
    scheduler: SchedulerChoice | None,
    left_open: bool,
    space: Space | None,
    objectives: Sequence[Objective],
    fidelity: Fidelity | None,
) -> MadeUp:
    """For a study that exists, or a new one. `left_open`: no scheduler was named, nor none."""
    named = plain(engine)
    if known is not None:
        engine, named = as_made(known, engine)
        scheduler = stored_scheduler(known, scheduler, left_open)
        space, objectives = Space.from_dict(known.space), [Objective(**o) for o in known.objectives]  # type: ignore[arg-type]
    elif left_open:
        scheduler = scheduler_of(usual_scheduler(engine, fidelity, objectives))
    return MadeUp(choices(engine, objectives, space, scheduler.name if scheduler else None), named, scheduler)


def as_made(record: StudyRecord, engine: Any) -> tuple[Any, Any]:
    """An `engine=` argument for a study that exists, and how the file keeps it; "auto" is what the study was made with,
    whatever "auto" would choose today. Raises FixArgument for an object that is not given again."""
    if engine != AUTO:
        return engine, plain(engine)
    order = record.config.get("engines", [record.config.get("engine", AUTO)])
    known = registry.names("engines")
    if objects := [one for one in order if isinstance(one, str) and one not in (*known, AUTO)]:
        message = f"the study {record.name!r} was made with an engine object"
        raise FixArgument(message, field="engine", fix=f"pass a {objects[0]} again, or name another engine")
    return order, record.config.get("engine", AUTO)


def stored_scheduler(record: StudyRecord, given: SchedulerChoice | None, left_open: bool) -> SchedulerChoice | None:
    """A study's scheduler, as given now or, `left_open`, when it was made. Raises FixArgument for one that was an
    object and is not given again, and where none is asked for although trials may rest for it."""
    stored = record.config.get("scheduler")
    if given is not None or stored is None:
        return given
    name, options = stored
    if not left_open:
        message, fix = f"the study {record.name!r} was made with {name}", "leave scheduler out to resume it"
        raise FixArgument(message, field="scheduler", value=None, fix=fix)
    if name not in registry.names("schedulers"):
        message = f"the study {record.name!r} was made with a scheduler object"
        raise FixArgument(message, field="scheduler", fix=f"pass a {name} again")
    return SchedulerChoice(name, options)


def plain(engine: Any) -> Any:
    """An `engine=` argument as the file keeps it."""
    if isinstance(engine, list | tuple):
        return [plain(one) for one in engine]
    return engine if isinstance(engine, str | Mapping) else type(engine).__name__
