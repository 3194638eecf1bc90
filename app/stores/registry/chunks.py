"""Long lists of names in pieces that fit into one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# SQLite allows 32,766 values in a statement, PostgreSQL 65,535; a fleet has more modules than that.
NAMES_PER_STATEMENT = 10_000


def chunks(names: Sequence[T]) -> Iterator[Sequence[T]]:
    """The names in order, at most `NAMES_PER_STATEMENT` at a time; nothing for no names."""
    for start in range(0, len(names), NAMES_PER_STATEMENT):
        yield names[start : start + NAMES_PER_STATEMENT]
