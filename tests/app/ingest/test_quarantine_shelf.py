"""The quarantine's file beside ingest that writes to it: lists, removals, files of the first version, bad disks."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from app.domain.errors import EnvironmentFault
from app.domain.listing import Listing, parse_listing
from app.ingest.quarantine import Quarantine, newest_refused
from app.ingest.quarantine_shelf import COLUMNS, QuarantineShelf

EVERY = Listing()
FAR = 2**53


@pytest.fixture
def quarantine(tmp_path):
    return Quarantine(tmp_path / "q.sqlite", 100_000)


@pytest.fixture
def shelf(quarantine):
    return QuarantineShelf(quarantine)


def refuse(quarantine, *messages):
    for number, (module, reason, payload) in enumerate(messages):
        quarantine.put(1000 + number, module, "tele", reason, "why", payload)
        if not quarantine.room:
            quarantine.store(quarantine.take_pending())
    quarantine.store(quarantine.take_pending())


def asked(*filters, **more):
    return parse_listing(COLUMNS, **{"offset": 0, "limit": 100, "sort": "", "filters": filters} | more)


def numbers(found):
    return [facts.id for facts in found.rows]


def test_nothing_refused_is_an_empty_list(shelf):
    assert shelf.listed(EVERY).total == 0
    assert shelf.counts() == {}
    assert shelf.message(1) is None
    assert shelf.remove([1, 2]) == 0


def test_lists_counts_and_one_message(quarantine, shelf):
    refuse(
        quarantine,
        ("A", "syntax", b"{"),
        ("B", "unknown_module", b"\xff" * 5000),
        ("B", "syntax", b"\xff" * 4096),
    )

    assert numbers(shelf.listed(EVERY)) == [3, 2, 1], "the newest first"
    assert numbers(shelf.listed(asked("module:eq:B", sort="arrival_us"))) == [2, 3]
    assert numbers(shelf.listed(asked("cut:eq:true"))) == [2]
    assert numbers(shelf.listed(asked("cut:eq:false", limit=1, offset=1))) == [1]
    assert numbers(shelf.listed(asked("module:eq:\0"))) == []
    assert shelf.counts() == {"syntax": 2, "unknown_module": 1}
    found = shelf.message(2)
    assert (found.facts.size, found.facts.cut, len(found.payload)) == (5000, True, 4096)
    assert not shelf.message(3).facts.cut


def test_removing_and_changing(quarantine, shelf):
    refuse(quarantine, *[("A", "syntax" if number % 2 else "range", b"x") for number in range(1200)])
    shelf.change(1, "type", "new", b"yz", 2)

    assert shelf.message(1).facts.reason == "type"
    assert shelf.count(asked("reason:eq:range"), up_to=1000) == 499
    assert shelf.remove_matching(asked("reason:eq:range"), up_to=1000) == 499
    assert shelf.counts() == {"syntax": 600, "range": 100, "type": 1}
    assert [one.facts.id for one in shelf.matching(EVERY, after=3, up_to=FAR, most=2)] == [4, 6]
    assert shelf.remove([1, 2, 3, FAR]) == 2


def test_a_number_is_never_given_twice(quarantine, shelf):
    refuse(quarantine, ("A", "syntax", b"1"), ("A", "syntax", b"2"))
    shelf.remove([1, 2])
    refuse(quarantine, ("A", "syntax", b"3"))

    assert numbers(shelf.listed(EVERY)) == [3]


def test_what_is_dropped_is_not_in_the_file_any_more(quarantine, shelf):
    refuse(quarantine, ("A", "syntax", b"somebody's reading"), ("A", "syntax", b"another"))
    assert b"somebody's reading" in quarantine.path.read_bytes()
    shelf.remove([1])

    assert b"somebody's reading" not in quarantine.path.read_bytes()


def test_a_file_of_the_first_version_is_taken_over(quarantine, shelf):
    with sqlite3.connect(quarantine.path) as old:
        old.execute(
            "CREATE TABLE refused (id INTEGER PRIMARY KEY, arrival_us INTEGER NOT NULL, module TEXT NOT NULL, "
            "kind TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL)"
        )
        old.executemany(
            "INSERT INTO refused VALUES (?, 5, 'A', 'tele', 'syntax', '', ?)", [(7, b"short"), (8, b"x" * 4096)]
        )
    old.close()

    assert [(one.id, one.size, one.cut) for one in shelf.listed(EVERY).rows] == [(8, 4097, True), (7, 5, False)]
    shelf.remove([8])
    refuse(quarantine, ("A", "syntax", b"new"))
    assert numbers(shelf.listed(EVERY)) == [9, 7]
    assert [one.payload for one in newest_refused(quarantine.path, 5)] == [b"new", b"short"]


def test_ingest_writes_while_operators_read_and_drop(quarantine, shelf):
    refuse(quarantine, *[("A", "old", b"x" * 1000) for _ in range(500)])
    failed = []

    def ingest():
        for number in range(60):
            refuse(quarantine, *[("B", "new", b"%d" % number) for _ in range(20)])

    def read():
        try:
            while writer.is_alive():
                found = numbers(shelf.listed(asked(limit=50)))
                assert found == sorted(found, reverse=True)
                shelf.counts()
        except Exception as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    writer = threading.Thread(target=ingest)
    reader = threading.Thread(target=read)
    writer.start()
    reader.start()
    dropped = shelf.remove_matching(asked("reason:eq:old"), up_to=FAR)
    writer.join()
    reader.join()

    assert failed == []
    assert dropped == 500
    assert shelf.counts() == {"new": 1200}, "nothing of ingest was lost"


def test_a_file_that_can_not_be_used_is_a_fault_of_the_environment(tmp_path):
    shelf = QuarantineShelf(Quarantine(tmp_path / "gone" / "q.sqlite", 10))
    with pytest.raises(EnvironmentFault, match="quarantine"):
        shelf.listed(EVERY)

    (tmp_path / "bad.sqlite").write_bytes(b"no database " * 1000)
    shelf = QuarantineShelf(Quarantine(tmp_path / "bad.sqlite", 10))
    with pytest.raises(EnvironmentFault, match="quarantine"):
        shelf.remove([1])
