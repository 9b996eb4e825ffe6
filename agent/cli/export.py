"""`tunewright export`: a study to a file or to standard output."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tunewright.agent import export
from tunewright.agent.cli import reading, render
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument

CURVE_COLUMNS = ("trial", "metric", "step", "value")


def run(study: str | None, store: Path, form: str, output: Path | None, curves: bool) -> None:
    if form == "parquet" and output is None:
        raise FixArgument("Parquet is no text", field="--output", fix="--output trials.parquet")
    if curves and output is None and form != "json":
        raise FixArgument("curves are a second table", field="--curves", fix="--output trials.csv")
    with reading.opened(store) as file:
        view = StudyView(file, reading.chosen(file, study))
        write(view, form, output, curves)
    if output is not None:
        render.line(f"{output} is written.", "green", sys.stderr)


def write(view: StudyView, form: str, output: Path | None, curves: bool) -> None:
    """To a file, or to standard output where `output` is None."""
    second = output.with_name(f"{output.stem}-curves{output.suffix}") if output is not None and curves else None
    if form == "parquet":
        export.write_parquet(str(output), export.columns(view), export.rows(view))
        if second is not None:
            export.write_parquet(str(second), CURVE_COLUMNS, export.points(view))
        return
    with _opened(output) as out:
        if form == "csv":
            export.write_csv(out, export.columns(view), export.rows(view))
        elif form == "json":
            export.write_json(out, view, curves)
        else:
            _write_yaml(out, view, form)
    if form == "csv" and second is not None:
        with _opened(second) as out:
            export.write_csv(out, CURVE_COLUMNS, export.points(view))


def _write_yaml(out: TextIO, view: StudyView, form: str) -> None:
    import yaml

    if form == "wandb":
        found, lost = export.sweep(view)
        out.writelines(f"# {line}\n" for line in lost)
        yaml.safe_dump(found, out, sort_keys=False)
        return
    leaders = export.best(view)
    if not leaders:
        raise FixArgument("no trial is complete yet", field="study", value=view.record.name, fix="tunewright show")
    for leader in leaders:
        values = ", ".join(f"{name} {value:.6g}" for name, value in leader["values"].items())
        params = leader["params"]
        if form == "wandb-best":
            params = {name: {"value": value} for name, value in params.items()}
        # One document for each: two mappings in one would be one, of whose keys the last wins.
        out.write(("---\n" if leader is not leaders[0] else "") + f"# trial {leader['trial']}: {values}\n")
        yaml.safe_dump(params, out, sort_keys=False)


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with output.open("w", encoding="utf-8", newline="") as file:
        yield file
