"""The store of events: what was noted can be read, across restarts and bad disks."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sqlite3
import subprocess
import threading

import pytest

from app.domain.errors import OperatorInputError
from app.domain.events import Event, EventKind
from app.stores.events import schema
from app.stores.events.reader import EventReader, Wanted
from app.stores.events.store import EventStore
from app.stores.events.writing import Writing

DAY_US = 86_400_000_000
# 2026-11-25 12:00 UTC
NOON_US = 1_795_608_000_000_000


class Clock:
    def __init__(self, now_us=NOON_US):
        self.now_us = now_us

    def __call__(self):
        return self.now_us


@pytest.fixture
def opened(tmp_path):
    """A function that opens the store of a folder; whatever was opened is closed."""
    stores = []

    def open_store(path=tmp_path / "events.sqlite", *, days=90, clock=None, **options):
        store = EventStore.open(path, days=lambda: days, zone="Europe/Paris", now_us=clock or Clock(), **options)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def event(number=0, kind=EventKind.CONNECTED, module="WD1", **details):
    return Event(module, NOON_US + number * 1_000_000, kind, details)


def times(page):
    return [(one.time_us - NOON_US) // 1_000_000 for one in page.events]


def recovered(store):
    """Wait until the store writes again, and has written all."""
    later = threading.Event()
    while store.failing and not later.wait(0.02):
        pass
    assert store.flush()


def all_pages(reader, **wanted):
    pages = [reader.page(Wanted(**wanted))]
    while pages[-1].cursor is not None:
        pages.append(reader.page(Wanted(**wanted, cursor=pages[-1].cursor)))
    return pages


def test_what_was_noted_is_read_newest_first_after_a_restart(opened):
    store = opened()
    for number in range(5):
        store.note(event(number, address="10.0.0.1"))
    store.note(event(9, module="WD2"))
    store.close()
    again = opened()
    again.note(event(20, EventKind.DISCONNECTED, cause="lost"))
    assert again.flush()

    page = again.reader.page(Wanted("WD1"))

    assert times(page) == [20, 4, 3, 2, 1, 0]
    assert page.events[0].details == {"cause": "lost"}
    assert page.events[1].details == {"address": "10.0.0.1"}
    assert times(again.reader.page(Wanted())) == [20, 9, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, list(range(29, -1, -1))),
        ({"module": "WD1"}, list(range(28, -1, -2))),
        ({"kinds": (EventKind.CONNECTED,)}, list(range(27, -1, -3))),
        (
            {"kinds": (EventKind.CONNECTED, EventKind.BORN)},
            [number for number in range(29, -1, -1) if number % 3 in {0, 1}],
        ),
        ({"module": "WD2", "kinds": (EventKind.BORN,)}, [25, 19, 13, 7, 1]),
        ({"from_us": NOON_US + 5_000_000, "to_us": NOON_US + 8_000_000}, [7, 6, 5]),
        ({"module": "WD1", "from_us": NOON_US + 5_000_000, "to_us": NOON_US + 8_000_000}, [6]),
        ({"module": "WD3"}, []),
        ({"kinds": (EventKind.PAIRED,)}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_together_are_the_whole(opened, wanted, expected, limit):
    store = opened()
    kinds = (EventKind.CONNECTED, EventKind.BORN, EventKind.DISCONNECTED)
    for number in range(30):
        store.note(event(number, kinds[number % 3], f"WD{1 + number % 2}"))
    assert store.flush()

    pages = all_pages(store.reader, limit=limit, **wanted)

    assert [number for page in pages for number in times(page)] == expected
    assert all(len(page.events) <= limit for page in pages)


def test_events_of_one_instant_are_all_on_some_page(opened):
    store = opened()
    for number in range(7):
        store.note(Event("WD1", NOON_US, EventKind.CONNECTED, {"n": number}))
    assert store.flush()

    pages = all_pages(store.reader, limit=2)

    assert [one.details["n"] for page in pages for one in page.events] == [6, 5, 4, 3, 2, 1, 0]


def test_equal_log_lines_of_one_second_are_one(opened):
    store = opened()
    for number in range(7):
        store.note(Event("WD1", NOON_US + number, EventKind.LOG, {"text": "bad frame"}))
    store.note(Event("WD1", NOON_US + 3, EventKind.LOG, {"text": "other"}))
    store.note(Event("WD2", NOON_US + 4, EventKind.LOG, {"text": "bad frame"}))
    store.note(Event("WD1", NOON_US + 1_000_000, EventKind.LOG, {"text": "bad frame"}))
    # Not a log line: two connections are two.
    store.note(Event("WD1", NOON_US, EventKind.CONNECTED))
    store.note(Event("WD1", NOON_US, EventKind.CONNECTED))
    assert store.flush()

    found = [(one.module, one.details.get("text"), one.count) for one in store.reader.page(Wanted()).events]

    assert found == [
        ("WD1", "bad frame", 1),
        ("WD1", "bad frame", 7),
        ("WD2", "bad frame", 1),
        ("WD1", "other", 1),
        ("WD1", None, 1),
        ("WD1", None, 1),
    ]


def test_a_flood_of_equal_lines_ends_a_page_and_loses_none(opened):
    store = opened()
    for number in range(50):
        for line in range(10):
            store.note(Event("WD1", NOON_US + number * 1_000_000 + line, EventKind.LOG, {"text": "x"}))
    assert store.flush()

    pages = all_pages(store.reader, limit=7)

    assert sum(one.count for page in pages for one in page.events) == 500
    assert sum(len(page.events) for page in pages) == 50


@pytest.mark.parametrize("cursor", ["x", "1", "-", "1-", "1-2-3", "99999999999999999999-1", "1-1; drop table event"])
def test_what_is_no_cursor_is_refused(opened, cursor):
    store = opened()
    store.note(event())
    assert store.flush()

    with pytest.raises(OperatorInputError):
        store.reader.page(Wanted(cursor=cursor))


def test_days_count_events_and_modules_in_the_zone(opened):
    store = opened()
    # 23:30 UTC is half past midnight of the next day in Paris.
    late_us = NOON_US + 41_400_000_000
    for module in ("WD1", "WD1", "WD2"):
        store.note(Event(module, NOON_US, EventKind.CONNECTED))
    store.note(Event("WD1", late_us, EventKind.CONNECTED))
    store.note(Event("WD1", NOON_US, EventKind.BORN))
    assert store.flush()

    found = store.reader.days(dt.date(2026, 11, 25), dt.date(2026, 11, 26))

    assert [tuple(one) for one in found] == [
        (dt.date(2026, 11, 25), "born", 1, 1),
        (dt.date(2026, 11, 25), "connected", 3, 2),
        (dt.date(2026, 11, 26), "connected", 1, 1),
    ]
    assert store.reader.days(dt.date(2026, 11, 27), dt.date(2026, 12, 26)) == []


def test_what_is_old_is_deleted_in_steps(opened, monkeypatch):
    monkeypatch.setattr("app.stores.events.store._DELETE_AT_ONCE", 10)
    clock = Clock(NOON_US - 100 * DAY_US)
    store = opened(clock=clock)
    for number in range(95):
        store.note(Event(f"WD{number}", NOON_US - 91 * DAY_US + number, EventKind.CONNECTED))
    store.note(Event("WD1", NOON_US - 89 * DAY_US, EventKind.CONNECTED))
    assert store.flush()
    assert len(store.reader.page(Wanted(limit=1000)).events) == 96
    store.close()

    clock = Clock()
    store = opened(clock=clock)
    done = threading.Event()
    while store.counters.deleted < 95 and not done.wait(0.01):
        pass
    assert store.flush()

    assert [one.module for one in store.reader.page(Wanted()).events] == ["WD1"]
    first = dt.date(2026, 8, 1)
    while sum(one.events for one in store.reader.days(first, dt.date(2026, 11, 25))) > 1:
        done.wait(0.01)
    # What a module said at its birth is no event of a time.
    assert store.counters.deleted == 95


def test_the_newest_birth_is_remembered_for_ever(opened, tmp_path):
    store = opened()
    store.note(Event("WD1", NOON_US - 200 * DAY_US, EventKind.BORN, {"firmware": "1"}))
    store.note(Event("WD1", NOON_US - 199 * DAY_US, EventKind.BORN, {"firmware": "2"}))
    store.note(Event("WD1", NOON_US - 201 * DAY_US, EventKind.BORN, {"firmware": "0"}))
    store.close()

    again = opened()

    assert again.born() == {"WD1": {"firmware": "2"}}
    assert again.alias_key == store.alias_key


def test_erasing_takes_a_module_out_of_a_time_and_nothing_else(opened):
    store = opened()
    for number in range(10):
        store.note(event(number, EventKind.BORN, firmware="1"))
        store.note(event(number, module="WD2"))
    assert store.flush()
    assert store.reader.count("WD1", NOON_US, NOON_US + 20_000_000) == 10

    deleted = store.erase("WD1", NOON_US, NOON_US + 20_000_000)

    assert deleted == 10
    assert store.reader.page(Wanted("WD1")).events == []
    assert len(store.reader.page(Wanted("WD2")).events) == 10
    assert store.born() == {}
    [day] = store.reader.days(dt.date(2026, 11, 25), dt.date(2026, 11, 25))
    assert (day.kind, day.modules) == ("connected", 1)
    assert store.erase("NOBODY", 0, NOON_US) == 0


def test_above_the_bound_the_oldest_are_shed_and_counted(opened, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(schema, "_BUSY_S", 0.05)
    path = tmp_path / "events.sqlite"
    opened(path).close()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    store = opened(path, most_waiting=100)
    with caplog.at_level(logging.ERROR):
        for number in range(1000):
            store.note(event(number))
    # What the writer holds at once comes on top.
    assert store.waiting <= 200
    blocker.execute("ROLLBACK")
    blocker.close()
    recovered(store)

    counters = store.counters
    assert counters.noted == 1000 == counters.written + counters.shed
    assert counters.shed >= 100
    assert sum("oldest are dropped" in record.message for record in caplog.records) == 1
    newest = store.reader.page(Wanted(limit=1000)).events
    assert len(newest) == counters.written
    assert times(store.reader.page(Wanted(limit=1)))[0] == 999


def test_what_can_not_be_a_row_is_lost_alone(opened):
    store = opened()
    store.note(event(1))
    store.note(event(2, bad="\ud800"))
    store.note(Event("WD\ud800", NOON_US, EventKind.CONNECTED))
    store.note(Event("WD1", 2**80, EventKind.CONNECTED))
    store.note(event(3, text="x" * 100_000))
    store.note(event(4, when=dt.date(2026, 1, 1), text="a\x00b"))
    assert store.flush()

    found = store.reader.page(Wanted()).events

    assert [one.details for one in found] == [{}, {"when": "2026-01-01", "text": "a\x00b"}, {"cut": True}, {}]
    assert store.counters.lost == 2


def test_a_newer_file_is_refused_and_left_alone(opened, tmp_path):
    path = tmp_path / "events.sqlite"
    opened(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(schema.EventsTooNew, match="version 99"):
        EventStore.open(path, days=lambda: 90, zone="UTC", now_us=Clock())
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)
    database.close()


def test_an_older_file_is_migrated_and_keeps_its_events(opened, tmp_path):
    path = tmp_path / "events.sqlite"
    store = opened(path)
    store.note(event(1))
    store.close()
    steps = [*schema.MIGRATIONS, "ALTER TABLE module ADD COLUMN note TEXT; CREATE INDEX module_note ON module (note)"]

    for _twice in range(2):
        database = schema.open_to_write(path, steps)
        assert database.execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert database.execute("SELECT serial, note FROM module").fetchall() == [("WD1", None)]
        database.close()
    assert len(EventReader(path).page(Wanted()).events) == 1


def test_a_migration_that_fails_changes_nothing(opened, tmp_path):
    path = tmp_path / "events.sqlite"
    opened(path).close()

    with pytest.raises(sqlite3.OperationalError):
        schema.open_to_write(path, [*schema.MIGRATIONS, "CREATE TABLE later (a); CREATE TABLE event (a)"])
    database = schema.open_to_write(path)
    assert database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)
    database.close()


def test_a_damaged_file_is_moved_away_and_new_events_are_kept(opened, tmp_path, caplog):
    path = tmp_path / "events.sqlite"
    path.write_bytes(b"this is no database, and it is long enough to be seen as none" * 100)

    store = opened(path)
    store.note(event(1))
    assert store.flush()

    assert times(store.reader.page(Wanted())) == [1]
    [aside] = [found for found in tmp_path.iterdir() if "damaged" in found.name]
    assert aside.read_bytes().startswith(b"this is no database")
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1


def test_nothing_is_read_where_no_file_is(tmp_path):
    reader = EventReader(tmp_path / "none.sqlite")

    assert reader.page(Wanted()).events == []
    assert reader.days(dt.date(2026, 1, 1), dt.date(2026, 1, 2)) == []
    assert not reader.knows("WD1")
    assert not (tmp_path / "none.sqlite").exists()


def test_a_write_that_fails_half_way_leaves_nothing_and_forgets_numbers(tmp_path):
    database = schema.open_to_write(tmp_path / "events.sqlite")
    writing = Writing("UTC")
    database.execute("CREATE TEMP TRIGGER broken BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'no'); END")

    with pytest.raises(sqlite3.IntegrityError):
        writing.write(database, [event(1)])
    assert database.execute("SELECT count(*) FROM module").fetchone() == (0,)
    database.execute("DROP TRIGGER broken")
    assert writing.write(database, [event(1)]) == 1
    assert database.execute("SELECT serial FROM event JOIN module ON module.id = event.module").fetchall() == [("WD1",)]
    database.close()


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(path):
    """Until there is no room left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_is_told_once_and_nothing_is_lost_when_it_has_room_again(small_disk, opened, caplog):
    caplog.set_level(logging.INFO)
    store = opened(small_disk / "events.sqlite")
    store.note(event(0))
    assert store.flush()
    filler = small_disk / "filler"
    fill(filler)
    for number in range(1, 20_001):
        store.note(event(number, text="x" * 50))
    assert not store.flush()
    assert store.failing
    assert store.waiting == 20_000
    # The first events are read all the same.
    assert times(store.reader.page(Wanted())) == [0]

    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=30M", small_disk], check=True)
    recovered(store)

    assert store.counters.written == 20_001
    assert store.reader.count("WD1", 0, 2**62) == 20_001
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert any("can be written again" in record.message for record in caplog.records)


def test_a_read_only_disk_is_survived(small_disk, opened, caplog):
    store = opened(small_disk / "events.sqlite")
    store.note(event(0))
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    store = opened(small_disk / "events.sqlite")
    store.note(event(1))
    assert not store.flush()
    assert store.failing
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    recovered(store)

    assert times(store.reader.page(Wanted())) == [1, 0]
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1
