"""How a bench shows its figures: a table for people, one JSON object as the last line for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import msgspec

from app.domain.errors import EnvironmentFault

Value = str | int | float | bool | None


class CanNotRun(EnvironmentFault):
    """This machine or installation can not run the bench; the text says what to set or install."""


def table(rows: Sequence[Mapping[str, Value]]) -> str:
    """Rows side by side as columns, names down the left; a name missing in a row is left empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row.get(name, "")) for row in rows] for name in names]
    label_width = max(map(len, names), default=0)
    widths = [max(len(line[column]) for line in cells) for column in range(len(rows))]
    return "\n".join(
        f"{name:<{label_width}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        for name, line in zip(names, cells, strict=True)
    )


def show(rows: Sequence[Mapping[str, Value]], *, as_json: bool, summary: Mapping[str, object] | None = None) -> None:
    """Print the table, then (with `--json`) the summary, or the only row, as one line of JSON."""
    print(table(rows))
    if as_json:
        print(msgspec.json.encode(summary if summary is not None else rows[0]).decode())
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell the person what goes on; not part of the result."""
    print(text, file=sys.stderr, flush=True)


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return value
