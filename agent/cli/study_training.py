"""The keys of a study file that say how far a trial is trained: fidelity, scheduler and W&B's early_terminate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers.protocol import whole
from tunewright.engines.types import Fidelity

ITERATIONS = "iteration"  # what W&B counts


def training(data: Mapping[str, Any]) -> dict[str, Any]:
    """Agent's `fidelity` and `scheduler`, as far as the file has them; a scheduler of null or none trains each trial to
    the end. Raises FixArgument."""
    found: dict[str, Any] = {}
    if (entry := data.get("fidelity")) is not None:
        found["fidelity"] = _fidelity(entry)
    if "scheduler" in data:
        found["scheduler"] = _scheduler(data["scheduler"])
    if (early := data.get("early_terminate")) is not None:
        if "scheduler" in found:
            raise FixArgument("stands beside scheduler", field="early_terminate", value=early, fix="keep one")
        found |= _early(early, found.get("fidelity"))
    return found


def _fidelity(entry: Any) -> Fidelity:
    known = isinstance(entry, Mapping) and set(entry) <= {"name", "min", "max"} and "max" in entry
    if not known:
        fix = "fidelity: {name: epoch, min: 1, max: 27}"
        raise FixArgument("needs a name and a max", field="fidelity", value=entry, fix=fix)
    return Fidelity(str(entry.get("name", "epoch")), entry.get("min", 1), entry["max"])


def _scheduler(entry: Any) -> Any:
    """A name, or one name with its options: {asha: {eta: 3}}. None where the file says that there is none."""
    if entry in (None, "none"):
        return None
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
        if isinstance(options, Mapping):
            return (str(name), dict(options))
    if isinstance(entry, str):
        return entry
    raise FixArgument("must be a name, or one name with options", field="scheduler", value=entry, fix="asha: {eta: 3}")


def _early(entry: Any, fidelity: Fidelity | None) -> dict[str, Any]:
    """W&B's `hyperband`, whose brackets stop runs at growing numbers of iterations: ASHA with the same first rung."""
    where = "early_terminate"
    fix = "{type: hyperband, min_iter: 3, max_iter: 27, eta: 3}"
    if not isinstance(entry, Mapping) or entry.get("type") != "hyperband":
        raise FixArgument("only type hyperband is known", field=where, value=entry, fix=fix)
    if unknown := set(entry) - {"type", "min_iter", "max_iter", "s", "eta", "strict"}:
        raise FixArgument(f"unknown key {min(unknown)!r}", field=where, value=dict(entry), fix=fix)
    highest = entry.get("max_iter") or (fidelity.high if fidelity else None)
    if highest is None:
        raise FixArgument("needs max_iter, or fidelity in this file", field=where, value=dict(entry), fix=fix)
    highest = whole(f"{where}.max_iter", highest, 1)
    eta, s = whole(f"{where}.eta", entry.get("eta", 3), 2), whole(f"{where}.s", entry.get("s", 3), 0)
    lowest = whole(f"{where}.min_iter", entry.get("min_iter") or max(1, highest // eta**s), 1, highest)
    return {
        "scheduler": ("asha", {"grace": lowest, "eta": eta}),
        "fidelity": fidelity or Fidelity(ITERATIONS, 1, highest),
    }
