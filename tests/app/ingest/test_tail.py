"""The tail has what the store may not have yet, from memory or from disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pytest

from app.ingest import tail as tail_module
from app.ingest.tail import Tail
from app.stores.errors import StoreUnavailable
from app.stores.journal.journal import Segment


def batch(*values):
    return pa.record_batch({"n": list(values)})


def segment(number):
    return Segment(Path(f"{number}.wal"), "journal", number, 100, complete=True)


def numbers(tail):
    return [n for found in tail.batches("raw") for n in found.column("n").to_pylist()]


class Disk:
    """Segments' rows by number; what is not there has been removed."""

    def __init__(self, rows=None):
        self.rows = rows or {}
        self.errno = errno.ENOENT

    def read(self, wanted):
        if wanted.number not in self.rows:
            raise StoreUnavailable(wanted.path, OSError(self.errno, "x"))
        yield "raw", self.rows[wanted.number]


def test_open_then_sealed_then_archived():
    tail = Tail(Disk().read)
    tail.add({"raw": batch(1), "aux": batch(9)})
    tail.seal([segment(1)])
    tail.add({"raw": batch(2)})

    assert numbers(tail) == [1, 2]
    tail.archived(segment(1))
    assert numbers(tail) == [2]


@pytest.mark.parametrize(("segments", "whole"), [([1, 2], True), ([2], False)])
def test_where_it_is_not_known_which_rows_a_segment_has_the_disk_is_asked(segments, whole):
    tail = Tail(Disk({1: batch(1), 2: batch(2, 3)}).read)
    tail.add({"raw": batch(1)})
    tail.seal([segment(number) for number in segments], whole=whole)

    assert [row for _name, rows in tail.rows_of(segment(2)) for row in rows.column("n").to_pylist()] == [2, 3]
    tail.archived(segment(segments[0]))
    assert numbers(tail) == ([2, 3] if len(segments) == 2 else [])


def test_older_segments_leave_memory_when_the_store_stalls(monkeypatch):
    monkeypatch.setattr(tail_module, "MOST_SEALED_ROWS", 3)
    disk = Disk({1: batch(1, 1), 2: batch(2, 2), 3: batch(3)})
    tail = Tail(disk.read)
    for number in (1, 2, 3):
        tail.add({"raw": disk.rows[number]})
        tail.seal([segment(number)])

    assert numbers(tail) == [1, 1, 2, 2, 3, 3][:5]
    disk.rows = {}
    assert numbers(tail) == [2, 2, 3], "the first is archived and removed: its rows are in the store"


def test_a_segment_that_can_not_be_read_is_no_empty_segment():
    disk = Disk()
    disk.errno = errno.EIO
    tail = Tail(disk.read)
    tail.add_segment(segment(1))

    with pytest.raises(StoreUnavailable):
        tail.batches("raw")
