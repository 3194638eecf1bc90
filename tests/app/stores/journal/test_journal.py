from __future__ import annotations

import errno
import logging
import shutil

import pyarrow as pa
import pytest

from app.stores.errors import JournalUnavailable
from app.stores.failpoints import FailPoints, parse_fail_points
from app.stores.journal.journal import Journal, rebirth
from app.stores.series.schema import RAW
from app.stores.storage import Storage
from tests.app.stores.journal.rows import SMALL, raw_rows, small_batch

SCHEMAS = {"small": SMALL, "raw": RAW}


def numbers_in(journal):
    found = []
    for segment in journal.pending():
        for table, batch in journal.read(segment):
            assert table == "small"
            found += [int(value) for value in batch["value"].to_pylist()]
    return found


def written(directory, batches=3, seal=True, rows=4, **kwargs):
    journal = Journal.open(directory, SCHEMAS, **kwargs)
    for number in range(batches):
        journal.append("small", small_batch(number * rows, rows))
        journal.sync()
    journal.close(seal=seal)
    return journal


def only_segment(directory):
    (path,) = directory.glob("*.wal")
    return path


def test_rows_come_back_as_they_went_in(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS)
    raw = raw_rows(100).to_batches()[0]
    journal.append("small", small_batch(0, 5))
    journal.append("raw", raw.slice(7, 50))
    segment = journal.seal()

    (first, small), (second, back) = journal.read(segment)
    assert (first, second) == ("small", "raw")
    assert small.equals(small_batch(0, 5))
    assert back.equals(raw.slice(7, 50))
    back.validate(full=True)


def test_a_crash_leaves_everything_synced(tmp_path):
    written(tmp_path, seal=False)

    journal = Journal.open(tmp_path, SCHEMAS)
    assert numbers_in(journal) == list(range(12))
    assert journal.counters.torn_bytes == 0


def test_unsynced_rows_are_not_on_disk(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS)
    journal.append("small", small_batch(0, 4))
    assert journal.unsynced_bytes > 0
    assert journal.size_bytes == journal.unsynced_bytes
    journal.close(seal=False)

    assert Journal.open(tmp_path, SCHEMAS).pending() == []


def test_segments_have_rising_numbers_also_when_all_are_gone(tmp_path):
    numbers = []
    for _ in range(3):
        journal = Journal.open(tmp_path, SCHEMAS)
        for _ in range(2):
            journal.append("small", small_batch(0, 1))
            segment = journal.seal()
            numbers.append((segment.journal_id, segment.number))
            journal.remove(segment)
        journal.close()

    assert len(set(numbers)) == 6
    assert numbers == sorted(numbers)
    assert list(tmp_path.glob("*.wal")) == []


def test_numbers_skip_what_the_tables_have_seen(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS)
    journal.skip_numbers(5000)
    journal.append("small", small_batch(0, 1))

    assert journal.seal().number == 5001


def test_sealing_an_empty_journal_makes_no_segment(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS)

    assert journal.seal() is None
    assert journal.pending() == []


def test_another_schema_is_refused(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS)
    with pytest.raises(ValueError, match="schema"):
        journal.append("raw", small_batch(0, 1))
    with pytest.raises(KeyError):
        journal.append("nothing", small_batch(0, 1))


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_torn_tail_is_passed_over_quietly(tmp_path, cut, caplog):
    written(tmp_path, seal=False)
    path = only_segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])

    journal = Journal.open(tmp_path, SCHEMAS)
    assert numbers_in(journal) == list(range(8))
    assert journal.counters.torn_bytes > 0
    assert journal.counters.damaged_bytes == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("garbage", [b"\0" * 4096, b"WdFr" * 50, bytes(range(256)), b"WdFr\xff\xff\xff\xff" * 9])
def test_garbage_after_the_rows_is_passed_over(tmp_path, garbage):
    written(tmp_path, seal=False)
    path = only_segment(tmp_path)
    path.write_bytes(path.read_bytes() + garbage)

    assert numbers_in(Journal.open(tmp_path, SCHEMAS)) == list(range(12))


def test_damage_in_the_middle_is_reported_and_the_rest_read(tmp_path, caplog):
    written(tmp_path, seal=False)
    path = only_segment(tmp_path)
    data = bytearray(path.read_bytes())
    first = data.index(b"WdFr")
    second = data.index(b"WdFr", first + 1)
    data[second + 40] ^= 0xFF
    path.write_bytes(data)

    journal = Journal.open(tmp_path, SCHEMAS)
    assert numbers_in(journal) == [*range(4), *range(8, 12)]
    assert journal.counters.damaged_segments == 1
    third = data.index(b"WdFr", second + 1)
    (kept,) = (tmp_path / "damaged").iterdir()
    assert kept.read_bytes() == data[second:third]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_damaged_length_loses_only_its_own_frame(tmp_path):
    written(tmp_path, seal=False)
    path = only_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"WdFr") + 4 : data.index(b"WdFr") + 8] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)

    assert numbers_in(Journal.open(tmp_path, SCHEMAS)) == list(range(4, 12))


def test_a_damaged_end_of_a_sealed_segment_is_an_error(tmp_path, caplog):
    written(tmp_path)
    path = only_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1  # before the end mark
    path.write_bytes(data)

    journal = Journal.open(tmp_path, SCHEMAS)
    assert numbers_in(journal) == list(range(8))
    assert journal.counters.damaged_segments == 1
    assert "ERROR" in [record.levelname for record in caplog.records]


@pytest.mark.parametrize(
    "data", [b"garbage", b"\0" * 100 + b"x", b"WDJRNL01" + b"\xff" * 50, b"WDJRNL01\x08\0\0\0\0\0\0\0{}      "]
)
def test_a_file_that_is_no_segment_is_set_aside(tmp_path, data, caplog):
    written(tmp_path)
    (tmp_path / "00000000000000009999.wal").write_bytes(data)

    journal = Journal.open(tmp_path, SCHEMAS)
    assert numbers_in(journal) == list(range(12))
    assert (tmp_path / "damaged" / "00000000000000009999.wal").read_bytes() == data
    assert "set aside" in caplog.text
    journal.append("small", small_batch(0, 1))
    assert journal.seal().number > 9999


def test_a_damaged_header_never_raises(tmp_path):
    written(tmp_path)
    path = only_segment(tmp_path)
    data = path.read_bytes()
    for position in range(0, data.index(b"WdFr"), 37):
        changed = bytearray(data)
        changed[position] ^= 0x55
        path.write_bytes(changed)
        journal = Journal.open(tmp_path, SCHEMAS)
        assert numbers_in(journal) in ([], list(range(12)))
        path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_file_of_nothing_is_what_a_power_cut_leaves(tmp_path, caplog, size):
    (tmp_path / "00000000000000000007.wal").write_bytes(bytes(size))

    assert Journal.open(tmp_path, SCHEMAS).pending() == []
    assert caplog.records == []


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b'{"journal": 3}', b"\xff\xfe", b'{"journal":"a","reserved_until":-1,"inode":1}']
)
def test_a_lost_identity_makes_a_new_id_and_keeps_segments(tmp_path, garbage):
    old = written(tmp_path).journal_id
    (tmp_path / "journal.json").write_bytes(garbage)

    journal = Journal.open(tmp_path, SCHEMAS)
    assert journal.journal_id != old
    assert [segment.journal_id for segment in journal.pending()] == [old]
    journal.append("small", small_batch(12, 4))
    journal.seal()
    assert numbers_in(journal) == list(range(16))


def test_the_id_lives_as_long_as_the_directory(tmp_path):
    assert written(tmp_path).journal_id == written(tmp_path).journal_id


def test_a_copied_directory_gets_a_new_id(tmp_path):
    old = written(tmp_path / "a").journal_id
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    copy = Journal.open(tmp_path / "b", SCHEMAS)
    assert copy.journal_id != old
    assert [segment.journal_id for segment in copy.pending()] == [old]


def test_rebirth_changes_the_id(tmp_path):
    old = written(tmp_path).journal_id
    new = rebirth(tmp_path)

    assert new != old
    assert Journal.open(tmp_path, SCHEMAS).journal_id == new


@pytest.mark.parametrize("point", ["journal_write", "journal_written", "journal_sync"])
@pytest.mark.parametrize("times", ["@1", "@2", "@2-4"])
def test_a_failed_sync_loses_and_doubles_nothing(tmp_path, point, times):
    failpoints = FailPoints(parse_fail_points(f"{point}:error=ENOSPC{times}"))
    journal = Journal.open(tmp_path, SCHEMAS, failpoints)
    failures = []
    for number in range(6):
        journal.append("small", small_batch(number * 4, 4))
        try:
            journal.sync()
        except JournalUnavailable as problem:
            failures.append((problem.errno, journal.unsynced_bytes > 0))
    journal.close(seal=False)

    again = Journal.open(tmp_path, SCHEMAS)
    assert failures == [(errno.ENOSPC, True)] * {"@1": 1, "@2": 1, "@2-4": 3}[times]
    assert numbers_in(again) == list(range(24))
    assert again.counters.damaged_bytes == 0


class UnwritableTail(Storage):
    """After a failed sync nothing can be cut off either, as on a disk gone read-only."""

    def truncate(self, descriptor, length):
        raise OSError(errno.EROFS, "read-only")


def test_what_a_failed_sync_left_behind_does_not_count(tmp_path):
    """The abandoned tail holds the same rows as the next segment; a restart must not read both."""
    failpoints = FailPoints(parse_fail_points("journal_sync:error=EIO@2"))
    journal = Journal.open(tmp_path, SCHEMAS, failpoints, UnwritableTail())
    for number in range(3):
        journal.append("small", small_batch(number * 4, 4))
        if number == 1:
            with pytest.raises(JournalUnavailable):
                journal.sync()
        journal.sync()
    journal.close()
    assert numbers_in(journal) == list(range(12))

    assert numbers_in(Journal.open(tmp_path, SCHEMAS)) == list(range(12))


def test_segment_stays_pending_when_it_can_not_be_deleted(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS, FailPoints(parse_fail_points("segment_delete:error=EIO")))
    journal.append("small", small_batch(0, 4))
    segment = journal.seal()
    with pytest.raises(JournalUnavailable):
        journal.remove(segment)
    assert journal.pending() == [segment]
    journal.remove(segment)

    assert journal.pending() == []


def test_a_directory_that_can_not_be_made_is_the_disk_s_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable):
        Journal.open(tmp_path / "file" / "journal", SCHEMAS)


def test_sizes(tmp_path):
    journal = Journal.open(tmp_path, SCHEMAS)
    journal.append("small", small_batch(0, 4))
    journal.seal()
    journal.append("small", small_batch(4, 4))
    journal.sync()

    assert journal.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.wal"))
    assert 0 < journal.open_bytes < journal.size_bytes
    assert journal.counters.rows == 8


def test_a_changed_schema_still_reads_old_segments(tmp_path):
    written(tmp_path)
    wider = pa.schema([*SMALL, pa.field("more", pa.int8())])

    journal = Journal.open(tmp_path, {"other": RAW, "small": wider})
    assert numbers_in(journal) == list(range(12))
