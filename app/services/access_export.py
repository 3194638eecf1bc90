"""The access log as CSV, in pieces."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator

from app.domain.access_chain import Entry, Look

_ROWS_A_PIECE = 500
# Spreadsheets take a text that begins so for a formula, and run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
HEADER = ("number", *Look._fields, "previous", "sha256")


def csv_pieces(entries: Iterable[Entry]) -> Iterator[bytes]:
    """RFC 4180 in UTF-8, the header first; a text that a spreadsheet would run gets a ' before it."""
    yield _lines([HEADER])
    rows = iter(entries)
    while piece := list(itertools.islice(rows, _ROWS_A_PIECE)):
        yield _lines([(one.number, *map(_cell, one.look), one.previous.hex(), one.sha256.hex()) for one in piece])


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _lines(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
