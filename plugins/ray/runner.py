"""The runner `ray`: trials in actors of a Ray cluster, the study in the driver's file as always."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any

from tunewright.agent.checkpoints import Checkpoints
from tunewright.agent.runners.limits import memory_of
from tunewright.agent.runners.local import Interrupts, pickled, side_by_side
from tunewright.agent.runners.process import Orders
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import Work
from tunewright.plugins.ray.actor import Setting, TrialActor
from tunewright.plugins.ray.checkpoint_store import CheckpointStore
from tunewright.plugins.ray.cluster import connected, demands, in_words, ray_module, withheld
from tunewright.plugins.ray.handle import Place, Refused, RemoteWorker

if TYPE_CHECKING:
    from tunewright.agent.agent import Agent

PATIENCE = 15.0  # seconds without a worker after which the run says what it waits for
CALLS = 500  # of workers that a driver takes each second, at most: reports are gathered that long


def gathered_for(workers: int) -> float:
    """Seconds that each of them gathers reports before its driver takes them."""
    return max(0.25, workers / CALLS)


class RayRunner:
    """Each worker is an actor, reused between trials; one that dies is replaced and its trial begun once more.

    resources: what each worker asks the cluster for, {"cpu": 1, "gpu": 0.5} or a custom resource by its name; one CPU
    where it is not given. checkpoint_store: an fsspec URL ("s3://BUCKET/FOLDER"), or (URL, {options of its file
    system}), where checkpoints are kept; needed unless the workers share the driver's disk. timeout: seconds that one
    trial may run. memory: what its processes may hold, in bytes or "2GB". address: the cluster; without one RAY_ADDRESS
    or a running one on this machine is joined, else one is started here for the run. runtime_env: Ray's, for a cluster
    that the runner connects to.

    The driver's file is the truth: trials that ended are never run again, those that ran when the driver was killed
    are, from their checkpoints. Ctrl-C as in LocalRunner.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        resources: Mapping[str, float] | None = None,
        checkpoint_store: str | tuple[str, Mapping[str, Any]] | None = None,
        timeout: float | None = None,
        memory: int | str | None = None,
        address: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ):
        if timeout is not None and (isinstance(timeout, bool) or not timeout > 0):
            raise FixArgument("must be seconds above zero", field="timeout", value=timeout)
        ray_module()
        self.workers, self._timeout, self._memory = workers, timeout, memory_of(memory)
        self._demands, self._store = demands(resources), _store_of(checkpoint_store)
        self._address, self._runtime_env = address, runtime_env
        self._orders = Orders()
        self._over = False
        self._home: Home | None = None
        self._lock = threading.Lock()

    def run(self, work: Work) -> None:
        objective = pickled(work.objective)
        secrets = withheld(storage=self._store is not None)
        if self._store is not None:
            CheckpointStore(*self._store).check()
        try:
            with (
                connected(self._address, self._runtime_env, secrets) as ray,
                Interrupts(work, self._orders, self.workers),
            ):
                self._put_to_work(work, self._crew(ray, ray.put(objective), secrets))
        except Refused as refused:
            raise refused.error from None
        finally:
            if self._home is not None:
                self._home.close(at_once=self._orders.abort)
        if self._orders.parked:
            raise KeyboardInterrupt

    def _crew(self, ray: Any, objective: Any, secrets: tuple[str, ...]) -> list[RemoteWorker]:
        paths = tuple(os.path.abspath(path) for path in sys.path)
        setting = Setting(
            secrets, paths, self._memory, self._demands["num_gpus"], self._store, gathered_for(self.workers)
        )
        kind = ray.remote(TrialActor).options(max_restarts=0, **self._demands)
        return [
            RemoteWorker(lambda: kind.remote(objective, setting), ray.kill, self._orders, self._timeout)
            for _ in range(self.workers)
        ]

    def _put_to_work(self, work: Work, crew: list[RemoteWorker]) -> None:
        def look_for_room(futures: Sequence[Future[None]]) -> None:
            wait(futures, PATIENCE, return_when=FIRST_EXCEPTION)
            if not self._over and not any(worker.began for worker in crew):
                asked = in_words(self._demands)
                work.notice(f"No worker has started yet; the cluster must have room for one: {asked}.")

        drains = [partial(self._drain, work, worker) for worker in crew]
        side_by_side(work, self._orders, drains, look_for_room)

    def _drain(self, work: Work, worker: RemoteWorker) -> None:
        try:
            devices = self._demands["num_gpus"]
            while not self._orders.stop and worker.ready(self._unneeded) and (trial := work.next(devices)) is not None:
                home = self._home_of(trial)
                work.run(trial, lambda trial, home=home: home.train(trial, worker))  # type: ignore[misc]
        finally:
            self._over = True
            worker.close()

    def _unneeded(self) -> bool:
        """Whether a worker that has not begun need not begin any more."""
        return self._over or self._orders.stop

    def _home_of(self, trial: Trial) -> Home:
        with self._lock:
            if self._home is None:
                self._home = Home(trial._agent, self._store)
            return self._home


class Home:
    """Where a study's trials are kept: beside the driver's file, and in the checkpoint store."""

    def __init__(self, agent: Agent, store: tuple[str, Mapping[str, Any]] | None):
        record = agent._view.record
        # Studies of two files may have the same name and number, but were not made in the same millisecond.
        study = f"{agent.files.name}-{int(record.created * 1000):x}"
        agent.files.mkdir(parents=True, exist_ok=True)
        self.place = Place(study, agent.files / f".driver-{uuid.uuid4().hex}")
        self.place.token.touch()
        self._agent, self._store = agent, None if store is None else CheckpointStore(*store, study)
        # Population based training copies the checkpoint of a trial that rests, here.
        self._copies = agent.config.get("scheduler") is not None and agent.config["scheduler"][0] == "pbt"

    def train(self, trial: Trial, worker: RemoteWorker) -> Any:
        checkpoints = Checkpoints(trial.folder)
        if self._store is not None and checkpoints.step is not None and self._store.newest(trial.number) is None:
            self._store.keep(trial.number, checkpoints)  # a clone's, or of a run without this store
        try:
            return worker.train(trial, self.place)
        finally:
            if self._copies:
                self._bring(trial)

    def close(self, at_once: bool) -> None:
        """The checkpoints of the best trials are brought here, unless the run was to end `at_once`."""
        self.place.token.unlink(missing_ok=True)
        if self._store is not None and not at_once:
            best = [self._agent.best] if len(self._agent.objectives) == 1 else self._agent.pareto
            for trial in best:
                if trial is not None:
                    self._bring(trial)

    def _bring(self, trial: Trial) -> None:
        if self._store is not None:
            self._store.restore(trial.number, Checkpoints(trial.folder))


def _store_of(given: Any) -> tuple[str, Mapping[str, Any]] | None:
    if given is None:
        return None
    url, options = given if isinstance(given, list | tuple) and len(given) == 2 else (given, {})
    if not isinstance(url, str | os.PathLike) or not isinstance(options, Mapping):
        fix = '"s3://BUCKET/FOLDER", or (URL, {options of its file system})'
        raise FixArgument("must be a URL", field="checkpoint_store", value=given, fix=fix)
    text = os.fspath(url)
    return text if "://" in text else os.path.abspath(text), dict(options)
