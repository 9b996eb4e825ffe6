"""Output for people: tables on a terminal, aligned plain lines anywhere else.

What a cell holds may come from a user, a model or a log: it is cut to one printable line and never read as markup.
"""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

import click

from tunewright.prompts.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CELL = 500
READABLE = 24  # characters that a flexible column needs
SPARKS = "▁▂▃▄▅▆▇█"
STYLES = {"complete": "green", "failed": "red", "running": "cyan", "waiting": "yellow", "paused": "yellow",
          "stopped": "yellow", "broken": "red"}  # fmt: skip

Cell: TypeAlias = str | tuple[str, str]
"""Text, or text and its style."""


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False
    flexible: Literal["", "wrap", "cut"] = ""  # what a terminal does with a text longer than the room that is left
    optional: bool = False  # whether a narrow terminal does without it; the last of these goes first


def terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> Console:
    """Rich's console, which leaves colours out where NO_COLOR is set."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int) -> Table:
    """`room`: the terminal's width in characters."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    shown = _that_fit(columns, rows, room)
    columns = [columns[i] for i in shown]
    texts = [[Text(plain(text, CELL), style) for text, style in (_styled(row[i]) for i in shown)] for row in rows]
    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    made.expand = any(column.flexible for column in columns)
    for i, column in enumerate(columns):
        # Rich would squeeze every column for the sake of a long one.
        needed = max(map(cell_len, [column.title, *(row[i].plain for row in texts)]))
        made.add_column(
            column.title,
            justify="right" if column.right else "left",
            min_width=None if column.flexible else needed,
            ratio=1 if column.flexible else None,
            no_wrap=column.flexible != "wrap",
            overflow="fold" if column.flexible == "wrap" else "ellipsis",
        )
    for row in texts:
        made.add_row(*row)
    return made


def _that_fit(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int) -> list[int]:
    """The columns that a terminal of this width has room for."""
    from rich.cells import cell_len

    def needed(i: int) -> int:
        if columns[i].flexible:
            return READABLE
        return max(cell_len(plain(text, CELL)) for text in (columns[i].title, *(_styled(row[i])[0] for row in rows)))

    shown = list(range(len(columns)))
    while sum(needed(i) + 2 for i in shown) - 2 > room and (less := [i for i in shown if columns[i].optional]):
        shown.remove(less[-1])
    return shown


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    if terminal(sys.stdout):
        out = console(sys.stdout)
        out.print(rich_table(columns, rows, out.width))
        return
    texts = [[c.title for c in columns], *([plain(_styled(cell)[0], CELL) for cell in row] for row in rows)]
    for line in aligned(texts, [c.right for c in columns]):
        click.echo(line)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Columns two spaces apart; nothing is cut, so that a pipe gets everything."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(right))]
    lines = []
    for row in rows:
        cells = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True))
        lines.append("  ".join(cells).rstrip())
    return lines


def line(text: str = "", style: str = "", stream: TextIO | None = None) -> None:
    """One line of ours or of somebody else's. On a terminal it wraps at words, under its own indentation."""
    stream = stream or sys.stdout
    lead = " " * (len(text) - len(text.lstrip(" ")))
    clean = lead + plain(text, 8 * CELL)
    if not terminal(stream):
        click.echo(clean, file=stream)
        return
    from rich.text import Text

    out = console(stream)
    for part in textwrap.wrap(clean, max(out.width, 20), subsequent_indent=lead + "  ", break_on_hyphens=False) or [""]:
        out.print(Text(part, style))


def commands(words: Sequence[str]) -> None:
    """Commands to type next, never wrapped: a copied one must be whole."""
    click.echo("Next:")
    for text in words:
        click.echo(f"  {plain(text, 8 * CELL)}")


def facts(pairs: Sequence[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Labelled lines, the labels in one column."""
    width = max(len(label) for label, _ in pairs)
    stream = stream or sys.stdout
    if not terminal(stream):
        for label, text in pairs:
            click.echo(f"{label.ljust(width)}  {plain(text, 8 * CELL)}".rstrip(), file=stream)
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in pairs:
        grid.add_row(Text(label, "dim"), Text(plain(text, 8 * CELL)))
    console(stream).print(grid)


def document(data: Any) -> None:
    """One JSON document. A number that JSON does not know (NaN, infinity) becomes null."""
    click.echo(json.dumps(_jsonable(data), indent=2, ensure_ascii=False, allow_nan=False))


def _jsonable(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _jsonable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_jsonable(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data if isinstance(data, str | int | float | bool | None) else str(data)


def _styled(cell: Cell) -> tuple[str, str]:
    return (cell, "") if isinstance(cell, str) else cell


# ------------------------------------------------------------------------------------------------ words


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h" if minutes >= 60 else f"{minutes}:{rest:02} min"


def count(n: float, noun: str) -> str:
    return f"{n:,.0f} {noun}{'' if n == 1 else 's'}"


def ago(passed: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if passed >= size:
            return f"{count(passed // size, unit)} ago"
    return "just now"


def sparkline(values: Sequence[float], width: int = 10) -> str:
    """A curve in at most `width` characters on its own scale, last value last; what is not finite shows as "x"."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    finite = [v for v in values if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = high - low or 1.0
    return "".join(SPARKS[round((v - low) / span * (len(SPARKS) - 1))] if math.isfinite(v) else "x" for v in values)
