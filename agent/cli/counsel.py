"""`tunewright why N --diagnose` and `tunewright show --summary`: what went wrong with a trial, what was learned."""

from __future__ import annotations

from pathlib import Path

from tunewright.agent.cli import reading, render
from tunewright.agent.workbench import Workbench


def run(store: Path, study: str | None, number: int | None, model: bool, as_json: bool) -> None:
    """Of trial `number`, or of the whole study. `model`: whether the study's language model is asked, where it has
    one."""
    with reading.opened(store) as file:
        name = reading.chosen(file, study).name
    bench = Workbench(store, name)
    try:
        counsel = bench.agent.counsel(model=model)
        opinion = counsel.summarize() if number is None else counsel.diagnose(number)
    finally:
        bench.close()
    if as_json:
        subject = {} if number is None else {"number": number}
        return render.document({"study": name, **subject, **opinion.to_dict()})
    for i, line in enumerate(str(opinion).splitlines()):
        render.line(line, "bold" if i == 0 else "")
