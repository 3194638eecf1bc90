"""What the quarantine holds of modules, and how it forgets them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.domain.errors import EnvironmentFault

# Ingest writes to the file meanwhile; it waits for a second at most, so the turns here are short.
_LONGEST_WAIT_S = 5.0
# serial, from, to (UTC microseconds of arrival)
Span = tuple[str, int, int]


def refused_in(path: Path, spans: Sequence[Span]) -> tuple[int, int]:
    """How many refused messages are kept of modules within spans, and their bytes."""
    with _opened(path) as database:
        if database is None:
            return 0, 0
        rows = [
            database.execute(
                "SELECT count(*), coalesce(sum(length(payload)), 0) FROM refused"
                " WHERE module = ? AND arrival_us >= ? AND arrival_us < ?",
                span,
            ).fetchone()
            for span in spans
        ]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def forget_refused(path: Path, spans: Sequence[Span]) -> int:
    """Remove them, their bytes overwritten; how many."""
    with _opened(path) as database:
        if database is None:
            return 0
        database.execute("PRAGMA secure_delete = ON")
        count = 0
        for span in spans:
            count += database.execute(
                "DELETE FROM refused WHERE module = ? AND arrival_us >= ? AND arrival_us < ?", span
            ).rowcount
        database.commit()
        return count


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection | None]:
    """None where no file is, or none with a table yet."""
    if not path.exists():
        yield None
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_LONGEST_WAIT_S)) as database:
            there = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'refused'").fetchone()[0]
            yield database if there else None
    except sqlite3.Error as error:
        raise EnvironmentFault(f"the quarantine {path} can not be used: {error}") from error
