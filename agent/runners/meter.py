"""What a trial's processes take: processor time, memory, and GPUs where NVIDIA's library (nvidia-ml-py) is there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from tunewright.agent.errors import TrialFailed
from tunewright.agent.records import Resources, size_text

OFTEN, RARELY = 0.2, 5.0  # seconds between two looks, as a run begins and when it has lasted for long


class Meter:
    """Watches a process and all that came from it. Its driver calls `look` whenever it has a moment; most calls cost
    nothing, because the looks become rarer as a run goes on.

    pid: of the process. devices: the ids of the GPUs that nobody else uses meanwhile.
    """

    def __init__(self, pid: int, devices: Collection[str] = ()):
        self._pid, self._devices = pid, frozenset(devices)
        self._began = self._looked = self._due = time.monotonic()
        self._cpu_before: float | None = None  # a worker had other trials before this one
        self._cpu = 0.0
        self._memory = 0
        self._gpu: float | None = None  # seconds of use, averaged over devices
        self._gpu_seconds = 0.0
        self._gpu_memory: int | None = None

    def look(self, cap: int | None = None) -> None:
        """Raises TrialFailed when the processes hold more than `cap` resident bytes."""
        now = time.monotonic()
        if now < self._due:
            return
        rare = min(max(OFTEN, (now - self._began) / 10), RARELY)
        self._due = now + (rare if cap is None else OFTEN)
        pids, cpu, memory = _tree(self._pid)
        if not pids:
            return
        self._cpu_before = cpu if self._cpu_before is None else self._cpu_before
        self._cpu, self._memory = max(self._cpu, cpu), max(self._memory, memory)
        self._look_at_gpus(pids, now - self._looked)
        self._looked = now
        if cap is not None and memory > cap:
            raise TrialFailed(f"used {size_text(memory)} of memory, the cap is {size_text(cap)}")

    def taken(self) -> Resources | None:
        """Until now; None where the process was never seen."""
        if self._cpu_before is None:
            return None
        gpu = None if self._gpu is None else self._gpu / self._gpu_seconds if self._gpu_seconds else 0.0
        seconds, cpu = time.monotonic() - self._began, self._cpu - self._cpu_before
        return Resources(seconds, cpu, self._memory, gpu, self._gpu_memory)

    def _look_at_gpus(self, pids: Collection[int], seconds: float) -> None:
        used = [u for u in _gpus() if u[0] in self._devices or u[1] in self._devices or u[4].keys() & set(pids)]
        if not used:
            return
        self._gpu = (self._gpu or 0.0) + seconds * sum(use for _, _, use, _, _ in used) / len(used)
        self._gpu_seconds += seconds
        memory = 0
        for index, name, _, held, by_process in used:
            ours = [by_process[pid] for pid in by_process.keys() & set(pids)]
            # In a container the library names processes by numbers of another world; a device of our own tells all.
            memory += sum(ours) if ours else held if {index, name} & self._devices else 0
        self._gpu_memory = max(self._gpu_memory or 0, memory)


def _tree(pid: int) -> tuple[set[int], float, int]:
    """(pids, processor seconds, resident bytes) of a process and all below it; no pids where it has ended. A child that
    ended counts with whoever waited for it."""
    import psutil

    pids: set[int] = set()
    cpu, memory = 0.0, 0
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(pid)
        for process in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.Error), process.oneshot():
                cpu += sum(process.cpu_times()[:4])  # user, system, and the same of children
                memory += process.memory_info().rss
                pids.add(process.pid)
    return pids, cpu, memory


def _gpus() -> Iterator[tuple[str, str, float, int, dict[int, int]]]:
    """(index, name, share of its time in use, bytes in use, bytes by process) of each device."""
    if (nvml := _library()) is None:
        return
    with contextlib.suppress(nvml.NVMLError):
        for index in range(nvml.nvmlDeviceGetCount()):
            with contextlib.suppress(nvml.NVMLError):
                device = nvml.nvmlDeviceGetHandleByIndex(index)
                running = nvml.nvmlDeviceGetComputeRunningProcesses(device)
                held = {process.pid: int(process.usedGpuMemory or 0) for process in running}
                use = nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
                used = int(nvml.nvmlDeviceGetMemoryInfo(device).used)
                yield str(index), str(nvml.nvmlDeviceGetUUID(device)), use, used, held


@cache
def _library() -> Any:
    """None without nvidia-ml-py or a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
