"""What a trial's processes take is watched, kept and shown; what went wrong beside a trial is told in its record."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tunewright.agent import Agent, Budget, Float
from tunewright.agent import export as exports
from tunewright.agent.cli import reading
from tunewright.agent.commands import Command, CommandObjective
from tunewright.agent.commands.process import Sink
from tunewright.agent.records import Resources
from tunewright.agent.runners import meter as meters
from tunewright.agent.runners.meter import Meter

SPACE = {"x": Float(0, 1)}
MB = 2**20


def study(path, trials=1):
    return Agent(SPACE, metric="loss", store=path, engine="random", advisor=None, budget=Budget(trials=trials))


def test_a_workers_trial_is_kept_with_what_its_processes_took(tmp_path, capsys):
    def objective(trial):
        for at in range(0, len(held := bytearray(80 * MB)), 4096):
            held[at] = 1
        end = time.process_time() + 0.5
        while time.process_time() < end:
            pass
        time.sleep(0.5)  # for one more look
        return trial["x"]

    path = tmp_path / "s.db"
    agent = study(path)
    agent.tune(objective, runner=("local", {"processes": True}))
    taken = agent._store.resources(1, [0])[0]
    assert taken.seconds >= 1.0 and taken.memory > 80 * MB and 0.2 < taken.cpu < 30
    assert (taken.gpu, taken.gpu_memory) == (None, None)
    assert "s of processor time" in str(agent.why(0)) and "MB of memory" in str(agent.why(0))
    assert agent.why(0).to_dict()["resources"]["memory"] == taken.memory
    (row,) = exports.rows(agent._view)
    assert (row["memory_bytes"], row["gpu_use"]) == (taken.memory, None)
    out = io.StringIO()
    exports.write_csv(out, exports.columns(agent._view), exports.rows(agent._view))
    assert next(csv.DictReader(io.StringIO(out.getvalue())))["cpu_seconds"] == str(taken.cpu)
    agent.close()
    reading.show(path, None, 20, "number", True)
    assert json.loads(capsys.readouterr().out)["trials"][0]["resources"]["memory"] == taken.memory
    reading.show(path, None, 20, "number", False)
    assert "memory" in capsys.readouterr().out


def test_a_command_is_watched_with_its_children(tmp_path):
    child = "held = b'x' * (60 * 2**20); import time; time.sleep(1.2)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('{{\"loss\": 1}}')"
    agent = study(tmp_path / "s.db")
    agent.tune(CommandObjective(Command([sys.executable, "-c", script], None, list(SPACE)), ["loss"], tmp_path))
    assert agent._store.resources(1, [0])[0].memory > 60 * MB


def test_a_process_that_is_gone_leaves_no_figures():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    meter = Meter(ended.pid)
    meter.look()
    assert meter.taken() is None


def test_runs_of_one_trial_are_added_up(tmp_path):
    agent = study(tmp_path / "s.db")
    agent.suggest()
    for taken in (Resources(10.0, 5.0, 7 * MB, 0.5, MB), Resources(30.0, 6.0, 3 * MB, 0.1, 2 * MB), Resources(9.0)):
        agent._store.add_resources(1, 0, 1, taken)
    assert agent._store.resources(1, [0])[0] == Resources(49.0, 11.0, 7 * MB, pytest.approx(0.2), 2 * MB)
    assert str(agent._store.resources(1, [0])[0]) == (
        "11 s of processor time in 49 s, 7 MB of memory, 20% of its GPUs' time, 2 MB of their memory"
    )


# ---------------------------------------------------------------------------------------------------- GPUs


class Library:
    """Two devices as NVIDIA's library shows them: device 0 runs this process, device 1 one of another container."""

    class NVMLError(Exception):
        pass

    nvmlDeviceGetCount = staticmethod(lambda: 2)
    nvmlDeviceGetHandleByIndex = staticmethod(int)
    nvmlDeviceGetUUID = staticmethod("GPU-{}".format)
    nvmlDeviceGetUtilizationRates = staticmethod(lambda i: SimpleNamespace(gpu=(50, 80)[i]))
    nvmlDeviceGetMemoryInfo = staticmethod(lambda i: SimpleNamespace(used=(900 * MB, 700 * MB)[i]))

    @staticmethod
    def nvmlDeviceGetComputeRunningProcesses(i):
        return [SimpleNamespace(pid=(os.getpid(), 7)[i], usedGpuMemory=(300 * MB, None)[i])]


@pytest.mark.parametrize(
    ("devices", "gpu", "memory"),
    [((), 0.5, 300), (("0",), 0.5, 300), (("GPU-1",), 0.65, 1000), (("0", "1"), 0.65, 1000)],
)
def test_the_devices_that_a_trial_uses_or_owns_are_its_own(monkeypatch, devices, gpu, memory):
    monkeypatch.setattr(meters, "_library", lambda: Library)
    monkeypatch.setattr(meters, "OFTEN", 0.0)
    meter = Meter(os.getpid(), devices)
    for _ in range(2):
        time.sleep(0.01)
        meter._due = 0.0
        meter.look()
    taken = meter.taken()
    assert (taken.gpu, taken.gpu_memory) == (pytest.approx(gpu), memory * MB)


def test_a_device_that_cannot_be_asked_is_unknown(monkeypatch):
    def lost(index):
        raise Library.NVMLError("the GPU has fallen off the bus")

    monkeypatch.setattr(Library, "nvmlDeviceGetHandleByIndex", staticmethod(lost))
    monkeypatch.setattr(meters, "_library", lambda: Library)
    meter = Meter(os.getpid(), ("0",))
    meter.look()
    assert meter.taken().memory > 0 and meter.taken().gpu is None


# ---------------------------------------------------------------------------------------------------- lost output


def test_output_that_a_full_disk_took_is_mentioned_in_its_trial(tmp_path, monkeypatch):
    def full(self, text):
        self.broken = f"{self._path.name}: {os.strerror(errno.ENOSPC)}"

    monkeypatch.setattr(Sink, "_append", full)
    agent = study(tmp_path / "s.db")
    agent.tune(CommandObjective(Command([sys.executable, "-c", "print('{\"loss\": 1}')"], None, list(SPACE)),
                                ["loss"], tmp_path))  # fmt: skip
    assert agent.trials[0].value == 1.0
    note = "a part of what it printed was lost (stdout.txt: No space left on device)"
    assert f"Note: {note}" in str(agent.why(0))
    assert agent.why(0).to_dict()["notes"] == [note]
    assert agent._store.integrity() == []


def test_a_worker_tells_of_output_that_it_could_not_write(tmp_path):
    def objective(trial):
        sys.stdout.reconfigure(line_buffering=False, write_through=False)
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        print("lost", end="")
        return trial["x"]

    agent = study(tmp_path / "s.db")
    agent.tune(objective, runner=("local", {"processes": True}))
    assert agent.trials[0].error is None
    assert "Note: a part of what it printed was lost ([Errno 28] No space left on device)" in str(agent.why(0))
