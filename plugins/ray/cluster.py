"""The cluster that a run uses: joined, or started here for the run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tunewright.agent.redact import secret_variables
from tunewright.engines.errors import FixArgument

STORAGE = ("AWS_", "AZURE_", "GOOGLE_")  # variables by which workers reach a checkpoint store


def ray_module() -> Any:
    """Raises FixArgument where Ray is not installed."""
    try:
        import ray
    except ImportError as error:
        fix = "pip install 'tunewright[ray]'"
        raise FixArgument(f"needs the library ray: {error}", field="runner", value="ray", fix=fix) from None
    return ray


def withheld(storage: bool) -> tuple[str, ...]:
    """The environment variables that workers do without: those that hold secrets, but for storage's where there is
    a checkpoint store."""
    return tuple(name for name in secret_variables() if not (storage and name.startswith(STORAGE)))


@contextmanager
def connected(address: str | None, runtime_env: Mapping[str, Any] | None, secrets: tuple[str, ...]) -> Iterator[Any]:
    """The ray module, connected: to what the caller connected to before, else to `address`, RAY_ADDRESS or a cluster
    on this machine, else to one that is started here and ended with the block. Raises FixArgument."""
    ray = ray_module()
    if ray.is_initialized():
        for name, value in (("address", address), ("runtime_env", runtime_env)):
            if value is not None:
                fix = f"ray.init({name}=...) there, or leave it to the runner"
                raise FixArgument("Ray is connected already", field=name, value=value, fix=fix)
        yield ray
        return
    main = threading.current_thread() is threading.main_thread()
    sigterm = signal.getsignal(signal.SIGTERM) if main else None
    kept = {name: os.environ.pop(name) for name in secrets}  # a cluster that starts here would inherit them
    try:
        ray.init(
            address, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            runtime_env=dict(runtime_env) if runtime_env else None,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError) as error:
        fix = "leave address out to start a cluster on this machine"
        raise FixArgument(f"cannot connect: {error}", field="address", value=address, fix=fix) from error
    finally:
        os.environ.update(kept)
    try:
        yield ray
    finally:
        ray.shutdown()
        if main:
            signal.signal(signal.SIGTERM, sigterm)  # which Ray had set to its own


def demands(resources: Mapping[str, float] | None) -> dict[str, Any]:
    """What one worker asks the cluster for, as `ray.remote` takes it. Raises FixArgument."""
    example = 'resources={"cpu": 1, "gpu": 0.5}'
    if resources is not None and not isinstance(resources, Mapping):
        raise FixArgument("must map names to amounts", field="resources", value=resources, fix=example)
    found: dict[str, float] = {"cpu": 1.0}
    for name, amount in (resources or {}).items():
        lower = str(name).lower()
        key = lower if lower in ("cpu", "gpu") else str(name)
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < float("inf"):
            raise FixArgument("must be an amount from 0", field=f"resources[{name!r}]", value=amount, fix=example)
        if amount > 1 and amount != int(amount):
            fix = f"{int(amount)} or {int(amount) + 1}"
            raise FixArgument("can be a fraction only below 1", field=f"resources[{name!r}]", value=amount, fix=fix)
        found[key] = amount
    rest = {name: amount for name, amount in found.items() if name not in ("cpu", "gpu") and amount}
    return {"num_cpus": found["cpu"], "num_gpus": found.get("gpu", 0), "resources": rest}


def in_words(demand: Mapping[str, Any]) -> str:
    named = {"CPU": demand["num_cpus"], "GPU": demand["num_gpus"], **demand["resources"]}
    return ", ".join(f"{amount:g} {name}" for name, amount in named.items() if amount) or "nothing"
