"""`tunewright believe`: what a person knows of the parameters, told, listed and taken back."""

from __future__ import annotations

from pathlib import Path

from tunewright.agent.cli import reading, render
from tunewright.agent.view import StudyView
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import FixArgument


def run(words: str | None, study: str | None, store: Path, withdraw: int | None, model: bool, as_json: bool) -> None:
    """Tells `words`, or withdraws a belief, and lists all. `model`: whether the study's language model reads them."""
    if words is not None and withdraw is not None:
        raise FixArgument("is given beside words", field="--withdraw", value=withdraw, fix="one of the two at a time")
    with reading.opened(store) as file:
        name = reading.chosen(file, study).name
    said: list[str] = []
    if words is not None or withdraw is not None:
        bench = Workbench(store, name)
        try:
            if withdraw is not None:
                bench.agent.withdraw(withdraw)
            elif words is not None:
                found = bench.agent.believe(words, model=model)
                said = str(found).splitlines()
        finally:
            bench.close()
    with reading.opened(store) as file:
        beliefs = StudyView(file, reading.chosen(file, name)).beliefs()
    if as_json:
        return render.document({"study": name, "read": said, "beliefs": [found.to_dict() for found in beliefs]})
    for line in said:
        render.line(line)
    if said and beliefs:
        render.line("")
    for belief in beliefs:
        render.line(str(belief), "" if belief.status == "in force" else "dim")
    if not beliefs:
        render.line('Nothing was said yet. Try: tunewright believe "lr above 0.05 diverges"')
