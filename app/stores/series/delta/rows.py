"""Order and uniqueness of rows: sorting by (key, time), one reading per (key, time)."""

from __future__ import annotations

import pyarrow as pa


def sorted_by_key_and_time(rows: pa.Table) -> pa.Table:
    """Sorted by (key, time), stable, in one chunk."""
    raise NotImplementedError


def one_per_key_and_time(rows: pa.Table) -> pa.Table:
    """Of rows with equal (key, time) keeps the one with the lowest `origin`, of those the last given; sorted by both.

    Without a column `origin` the last given wins. Give older rows first, as `SeriesTable.scan` does.
    """
    raise NotImplementedError
