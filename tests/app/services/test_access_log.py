"""The access log on a real registry and real files: what it keeps, what it survives, and what it finds."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import threading

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.access_chain import BEGINNING, ERASED_SUBJECT, Anchor, ChainEnd, Entry, Look, chained, digest
from app.domain.errors import BugError, EnvironmentFault, OperatorInputError
from app.domain.listing import DEFAULT_LIMIT, parse_listing
from app.domain.people import Principal, Purpose
from app.services.access_audit import AccessAudit
from app.services.access_export import HEADER, csv_pieces
from app.services.access_log import QUARTER_US, AccessLog, anchor_restored
from app.services.access_verification import MOST_FAULTS, verify
from app.stores.access_head import AccessHead
from app.stores.registry.access_entries import COLUMNS, AccessEntries
from app.stores.registry.faults import RegistryFull
from app.stores.registry.models import AccessEntry, Action, table
from app.stores.storage import Storage

CLAIRE = Principal("claire", frozenset())
CALL = Purpose("call", "T-1")
ROWS = table(AccessEntry)
NAMES = [column.name for column in ROWS.columns]


class FailingStorage(Storage):
    """Replaces so many files, and no more."""

    def __init__(self, left):
        self.left = left

    def replace_file(self, path, data):
        if self.left <= 0:
            raise OSError(28, "No space left on device")
        self.left -= 1
        super().replace_file(path, data)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "access-log.head"


@pytest.fixture
def entries(registry):
    return AccessEntries(registry)


@pytest.fixture
def started(entries, place, clock):
    def start(storage=None, **options):
        access_log = AccessLog(entries, AccessHead(place, storage), clock, **options)
        access_log.start()
        return access_log

    return start


def checked(entries, place):
    return verify(AccessHead(place).read, entries.each())


def kept(entries):
    return [
        (one.number, one.look.operator, one.look.subject, one.look.attributes, one.look.purpose, one.look.count)
        for one in entries.each()
    ]


def test_a_look_is_an_entry_at_once_and_its_repetitions_are_counted(started, entries, place, clock):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:WD1", "site:1"], ["street", "holder"])
    clock.now_us += 1000
    for _ in range(3):
        access_log.note(CLAIRE, CALL, ["module:WD1"], ["holder", "street"])
    first = [
        (1, "claire", "module:WD1", "holder,street", "call", 1),
        (2, "claire", "site:1", "holder,street", "call", 1),
    ]
    assert kept(entries) == first
    access_log.write_counts()
    assert kept(entries) == first

    clock.now_us += QUARTER_US
    access_log.write_counts()
    access_log.write_counts()

    assert kept(entries) == [*first, (3, "claire", "module:WD1", "holder,street", "call", 4)]
    assert access_log.remembered == 0
    assert checked(entries, place).is_sound


@pytest.mark.parametrize(
    ("principal", "purpose", "subjects", "attributes"),
    [
        (Principal("paul", frozenset()), CALL, ["module:WD1"], ["street"]),
        (CLAIRE, Purpose("call", "T-2"), ["module:WD1"], ["street"]),
        (CLAIRE, Purpose("fraud", "T-1"), ["module:WD1"], ["street"]),
        (CLAIRE, CALL, ["module:WD2"], ["street"]),
        (CLAIRE, CALL, ["module:WD1"], ["street", "holder"]),
    ],
)
def test_whatever_differs_is_an_entry_of_its_own(started, entries, principal, purpose, subjects, attributes):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])
    access_log.note(principal, purpose, subjects, attributes)

    assert len(kept(entries)) == 2


def test_the_next_quarter_is_an_entry_again(started, entries, clock):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])
    clock.now_us += QUARTER_US
    access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])

    quarters = [one.look.quarter_us for one in entries.each()]
    assert quarters[1] - quarters[0] == QUARTER_US


def test_a_clean_stop_writes_the_counts_and_a_restart_goes_on(started, entries, place):
    access_log = started()
    for _ in range(3):
        access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])
    access_log.stop()
    assert [row[-1] for row in kept(entries)] == [1, 3]

    again = started()
    again.note(CLAIRE, CALL, ["module:WD1"], ["street"])
    assert len(kept(entries)) == 2
    again.stop()

    assert [row[-1] for row in kept(entries)] == [1, 3, 4]
    assert checked(entries, place).is_sound
    assert again.breaks == 0


def test_many_subjects_are_one_transaction_and_three_syncs(started, entries, registry, place):
    storage = FailingStorage(3)
    access_log = started(storage)
    access_log.note(CLAIRE, CALL, [f"module:WD{number}" for number in range(1000)], ["street"])

    assert storage.left == 0
    assert checked(entries, place).entries == 1000


def test_what_is_remembered_is_bounded_and_counts_are_kept(started, entries, place):
    access_log = started(most_remembered=10)
    for _ in range(2):
        access_log.note(CLAIRE, CALL, ["module:A"], ["street"])
    access_log.note(CLAIRE, CALL, [f"module:{number}" for number in range(35)], ["street"])

    assert access_log.remembered == 10
    assert (1, "claire", "module:A", "street", "call", 1) in kept(entries)
    assert [row[-1] for row in kept(entries) if row[2] == "module:A"] == [1, 2]
    access_log.note(CLAIRE, CALL, ["module:A"], ["street"])
    assert len(kept(entries)) == 38
    assert checked(entries, place).is_sound


def test_threads_that_note_the_same_write_it_once(started, entries, place):
    access_log = started()
    begin = threading.Barrier(8)

    def look():
        begin.wait()
        for number in range(10):
            access_log.note(CLAIRE, CALL, [f"module:{number}", "module:all"], ["street"])

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    access_log.stop()

    of_all = [row for row in kept(entries) if row[2] == "module:all"]
    assert [row[-1] for row in of_all] == [1, 80]
    assert len(kept(entries)) == 2 * 11
    assert checked(entries, place).is_sound


def test_a_subject_that_does_not_fit_is_our_fault_and_nothing_is_written(started, entries):
    with pytest.raises(BugError):
        started().note(CLAIRE, CALL, ["module:WD1", "x" * 201], ["street"])
    assert kept(entries) == []


# Faults and crashes


def test_a_log_that_can_not_be_written_refuses_the_look(started, entries, registry, place, monkeypatch):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])

    @contextlib.contextmanager
    def full():
        raise RegistryFull("here", "no space")
        yield

    with monkeypatch.context() as broken:
        broken.setattr(registry, "writing", full)
        with pytest.raises(EnvironmentFault):
            access_log.note(CLAIRE, CALL, ["module:WD2"], ["street"])
        # What is in the log already may be looked at again.
        access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])
    access_log.note(CLAIRE, CALL, ["module:WD2"], ["street"])

    assert [row[2] for row in kept(entries)] == ["module:WD1", "module:WD2"]
    assert access_log.counters.refused == 1
    assert checked(entries, place).is_sound


@pytest.mark.parametrize(("writes", "written"), [(1, 0), (2, 1)])
def test_a_crash_beside_the_commit_is_no_tampering(started, entries, place, writes, written):
    # The start writes the file once; then comes the announcement, the commit, and the confirmation.
    access_log = started(FailingStorage(writes))
    with pytest.raises(EnvironmentFault):
        access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])

    assert len(kept(entries)) == written
    assert checked(entries, place).is_sound
    again = started()
    again.note(CLAIRE, CALL, ["module:WD2"], ["street"])
    assert again.breaks == 0
    assert checked(entries, place).is_sound


def test_a_crash_before_the_commit_is_no_tampering(started, entries, registry, place, monkeypatch):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])
    real = entries.append

    def dies(looks, announce):
        def announced(before, after):
            announce(before, after)
            raise KeyboardInterrupt

        return real(looks, announced)

    monkeypatch.setattr(entries, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        access_log.note(CLAIRE, CALL, ["module:WD2"], ["street"])
    monkeypatch.undo()

    assert AccessHead(place).read().pending.number == 2
    assert checked(entries, place).is_sound
    again = started()
    again.note(CLAIRE, CALL, ["module:WD3"], ["street"])
    assert again.breaks == 0
    assert checked(entries, place).is_sound


def test_verifying_beside_a_hub_that_appends_finds_nothing(started, entries, place):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:0"], ["street"])
    numbers = itertools.count(1)

    def appended():
        for entry in entries.each():
            access_log.note(CLAIRE, CALL, [f"module:{next(numbers)}"], ["street"])
            yield entry
            if next(numbers) > 50:
                return

    found = verify(AccessHead(place).read, appended())
    assert found.is_sound
    assert found.end.number < entries.end().number


# Tampering


@pytest.fixture
def full_log(started, entries, registry, place, clock):
    """A log of a dozen entries, and a way to put it back as it was."""
    access_log = started()
    for number in range(6):
        access_log.note(CLAIRE, CALL, [f"module:WD{number % 4}", "site:1"], ["street"])
        clock.now_us += QUARTER_US // 3
    access_log.stop()
    head = place.read_bytes()
    with registry.reading() as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.select(ROWS).order_by(ROWS.c.number))]
    assert len(rows) >= 10

    def put(changed):
        place.write_bytes(head)
        with registry.writing() as connection:
            connection.execute(sa.delete(ROWS))
            if changed:
                connection.execute(sa.insert(ROWS), changed)

    return rows, put


def row_of(entry: Entry) -> dict:
    return entry.look._asdict() | {"number": entry.number, "previous": entry.previous, "sha256": entry.sha256}


def look_of(row: dict) -> Look:
    return Look(**{name: row[name] for name in Look._fields})


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_number = st.integers(-(2**62), 2**62)
_hash = st.binary(min_size=32, max_size=32)
_values = {name: _number if kind.kind is int else _text for name, kind in COLUMNS.items()} | {
    "previous": _hash,
    "sha256": _hash,
}
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PROPERTY
@given(data=st.data())
def test_any_change_of_a_field_is_found(full_log, entries, place, data):
    rows, put = full_log
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(NAMES))
    old = rows[at][name]
    taken = {row["number"] for row in rows} if name == "number" else {old}
    near = st.integers(-3, len(rows) + 3) if name == "number" else st.nothing()
    new = data.draw((near | _values[name]).filter(lambda value: value not in taken))
    changed = [dict(row) for row in rows]
    changed[at][name] = new
    if name != "sha256" and data.draw(st.booleans(), "with a hash that fits"):
        changed[at]["sha256"] = digest(changed[at]["number"], look_of(changed[at]), changed[at]["previous"])
    put(changed)

    assert checked(entries, place).faults


@PROPERTY
@given(data=st.data())
def test_any_removal_is_found(full_log, entries, place, data):
    rows, put = full_log
    gone = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1))
    put([row for at, row in enumerate(rows) if at not in gone])

    assert checked(entries, place).faults


@PROPERTY
@given(data=st.data())
def test_any_exchange_is_found(full_log, entries, place, data):
    rows, put = full_log
    first, second = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True))
    but = data.draw(st.sampled_from([("number",), ("number", "previous"), ("number", "previous", "sha256")]))
    changed = [dict(row) for row in rows]
    for name in set(NAMES) - set(but):
        changed[first][name], changed[second][name] = rows[second][name], rows[first][name]
    if changed == rows:
        return
    put(changed)

    assert checked(entries, place).faults


@PROPERTY
@given(data=st.data())
def test_any_insertion_is_found_even_with_hashes_that_fit(full_log, entries, place, data):
    rows, put = full_log
    number = data.draw(st.integers(-5, 0) | st.integers(len(rows) + 1, len(rows) + 5) | _number)
    if 1 <= number <= len(rows):
        return
    previous = rows[-1]["sha256"] if number > 0 else BEGINNING
    look = look_of(rows[0])._replace(subject=data.draw(_text))
    forged = Entry(number, look, previous, digest(number, look, previous))
    put([*rows, row_of(forged)])

    assert checked(entries, place).faults


@PROPERTY
@given(data=st.data())
def test_a_rewritten_chain_is_found_by_its_end(full_log, entries, place, data):
    rows, put = full_log
    at = data.draw(st.integers(0, len(rows) - 1))
    new = data.draw(_text.filter(lambda text: text != rows[at]["subject"]))
    way = data.draw(st.sampled_from(["change", "remove", "insert"]))
    looks = [look_of(row) for row in rows]
    if way == "change":
        looks[at] = looks[at]._replace(subject=new)
    elif way == "remove":
        del looks[at]
    else:
        looks.insert(at, looks[at]._replace(subject=new))
    put([row_of(entry) for entry in chained(ChainEnd(), looks)])

    assert checked(entries, place).faults


def test_a_chain_rewritten_beside_a_hub_that_appends_is_found(full_log):
    rows, _put = full_log
    looks = [look_of(row) for row in rows]
    true = chained(ChainEnd(), looks)
    forged = chained(ChainEnd(), [looks[0]._replace(subject="site:9"), *looks[1:]])
    anchors = iter([Anchor(true[4].end), Anchor(true[-1].end)])

    found = verify(lambda: next(anchors), forged[:7])
    assert found.faults == ("entry 5 is not the one that the hub wrote",)


def test_faults_are_named(full_log, entries, place):
    rows, put = full_log
    last = len(rows)

    put([row for row in rows if row["number"] not in {3, 4}])
    assert checked(entries, place).faults == ("entries 3 to 4 are missing",)
    put([row if row["number"] != 5 else row | {"subject": "site:2"} for row in rows])
    assert checked(entries, place).faults == ("entry 5 was changed",)
    put(rows[:-1])
    assert checked(entries, place).faults == (f"the end was cut off: entry {last} is missing",)
    put([])
    assert checked(entries, place).faults == (f"the end was cut off: entries 1 to {last} are missing",)
    put([*rows, row_of(chained(ChainEnd(last, rows[-1]["sha256"]), [look_of(rows[0])])[0])])
    assert checked(entries, place).faults == (f"the hub did not write what stands after entry {last}",)
    put(rows)
    place.unlink()
    assert "access-log.head is missing" in checked(entries, place).faults[0]
    place.write_text('{"committed": 1}')
    assert "can not be read" in checked(entries, place).faults[0]
    put([row | {"subject": "x"} for row in rows * 1])
    assert len(checked(entries, place).faults) <= MOST_FAULTS + 1
    put(rows)
    assert checked(entries, place).is_sound


def test_a_hub_says_at_its_start_that_the_end_was_cut_off_and_it_stays_known(full_log, started, entries, place, caplog):
    rows, put = full_log
    put(rows[:-2])

    again = started()
    assert again.breaks == 1
    assert "changed from outside" in caplog.text
    again.note(CLAIRE, CALL, ["module:new"], ["street"])
    third = started()

    assert third.breaks == 1
    (fault,) = checked(entries, place).faults
    assert f"ended with entry {len(rows) - 2}" in fault


def test_a_hub_notices_while_it_runs_that_the_end_is_not_its_own(started, registry, entries, place, caplog):
    access_log = started()
    access_log.note(CLAIRE, CALL, ["module:WD1", "module:WD2"], ["street"])
    with registry.writing() as connection:
        connection.execute(sa.delete(ROWS).where(ROWS.c.number == 2))
    access_log.note(CLAIRE, CALL, ["module:WD3"], ["street"])

    assert access_log.breaks == 1
    assert not checked(entries, place).is_sound


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"committed":{"number":1,"sha256":"zz"}}'])
def test_a_head_that_is_missing_or_damaged_at_the_start_is_a_break(full_log, started, entries, place, content):
    _rows, _put = full_log
    place.unlink() if content is None else place.write_bytes(content)

    assert started().breaks == 1
    assert not checked(entries, place).is_sound


def test_a_number_that_no_hub_reaches_stops_the_log_rather_than_the_hub(started, registry, entries, clock):
    access_log = started()
    look = Look(0, 0, "x", "y", "z", "p", "", 1)
    with registry.writing() as connection:
        connection.execute(sa.insert(ROWS), [row_of(Entry(2**62, look, BEGINNING, BEGINNING))])

    with pytest.raises(EnvironmentFault):
        access_log.note(CLAIRE, CALL, ["module:WD1"], ["street"])


def test_a_restore_takes_the_restored_end_and_says_so(full_log, started, entries, place):
    rows, put = full_log
    put(rows[:-3])
    anchor_restored(entries, AccessHead(place), "restored from the backup of Monday")

    found = checked(entries, place)
    assert (found.is_sound, found.notes) == (True, ("restored from the backup of Monday",))
    assert started().breaks == 0
    assert checked(entries, place).notes == ("restored from the backup of Monday",)


@pytest.fixture
def restored_log(full_log, entries, place):
    """A log that came back without whom it names in `gone`, and a way to put other rows in its place."""
    rows, put = full_log
    gone = {row["number"] for row in rows if row["subject"] == "module:WD1"}
    assert 1 < len(gone) < len(rows)
    back = [row | ({"subject": ERASED_SUBJECT} if row["number"] in gone else {}) for row in rows]
    put(back)
    anchor_restored(entries, AccessHead(place), "restored", gone)
    head = place.read_bytes()

    def put_again(changed):
        put(changed)
        place.write_bytes(head)

    return back, gone, put_again


def test_entries_of_erased_persons_are_a_class_of_their_own(restored_log, started, entries, place, clock):
    _back, gone, _put = restored_log
    found = checked(entries, place)
    assert (found.faults, found.erased) == ((), len(gone))
    assert found.notes[1] == f"{len(gone)} entries came back without whom they name, who was erased"

    # A hub goes on with this log, and keeps what is known of them.
    access_log = started()
    assert access_log.breaks == 0
    access_log.note(CLAIRE, CALL, ["module:WD7"], ["street"])
    access_log.stop()
    assert (checked(entries, place).faults, checked(entries, place).erased) == ((), len(gone))


@PROPERTY
@given(data=st.data())
def test_nothing_hides_behind_an_erased_subject(restored_log, entries, place, data):
    back, gone, put = restored_log
    number = data.draw(st.sampled_from(sorted(gone) if data.draw(st.booleans()) else [row["number"] for row in back]))
    column = data.draw(st.sampled_from([name for name in _values if name != "number"]))
    row = next(row for row in back if row["number"] == number)
    value = data.draw(_values[column].filter(lambda value: value != row[column]))
    put([one | {column: value} if one is row else one for one in back])
    assert not checked(entries, place).is_sound, (number, column)


def test_an_entry_can_not_be_called_erased_afterwards(restored_log, entries, place):
    back, gone, put = restored_log
    other = next(row for row in back if row["number"] not in gone)
    put([row | {"subject": ERASED_SUBJECT, "operator": "nobody"} if row is other else row for row in back])
    (fault,) = checked(entries, place).faults
    assert f"({len(gone)} at the restore, {len(gone) + 1} now)" in fault


def test_without_a_restore_no_entry_is_without_its_subject(full_log, entries, place):
    rows, put = full_log
    put([row | ({"subject": ERASED_SUBJECT} if row is rows[3] else {}) for row in rows])
    assert checked(entries, place).faults == ("entry 4 was changed",)


def test_what_was_changed_before_the_backup_is_no_erased_entry(full_log, entries, place):
    rows, put = full_log
    gone = {row["number"] for row in rows if row["subject"] == "site:1"}
    changed = next(row for row in rows if row["number"] not in gone)
    back = [row | ({"subject": ERASED_SUBJECT} if row["number"] in gone else {}) for row in rows]
    put([row | {"operator": "x"} if row["number"] == changed["number"] else row for row in back])
    anchor_restored(entries, AccessHead(place), "restored", gone)
    assert checked(entries, place).faults == (f"entry {changed['number']} was changed",)


def test_what_came_without_a_subject_already_is_told_apart(full_log, entries, place):
    rows, put = full_log
    put([row | ({"subject": ERASED_SUBJECT} if row["number"] in {2, 3} else {}) for row in rows])
    anchor_restored(entries, AccessHead(place), "restored", {3})
    found = checked(entries, place)
    assert (found.faults, found.erased) == ((), 2)
    assert found.notes[1:] == (
        "1 entries came back without whom they name, who was erased",
        "1 entries had no subject in the backup already: they are taken as they were there",
    )


@given(
    st.tuples(_number, _number, _number, _text, _text, _text, _text, _text, _number),
    st.tuples(_number, _number, _number, _text, _text, _text, _text, _text, _number),
)
def test_no_two_entries_have_the_same_encoding(one, other):
    same = digest(one[0], Look(*one[1:]), BEGINNING) == digest(other[0], Look(*other[1:]), BEGINNING)
    assert same == (one == other)


def test_text_does_not_move_from_field_to_field():
    look = Look(0, 0, "ab", "c", "", "", "", 1)
    assert digest(1, look, BEGINNING) != digest(1, look._replace(operator="a", subject="bc"), BEGINNING)
    # The encoding that docs/privacy.md describes; it must never change.
    encoded = b"1:1,1:2,1:3,6:claire,6:site:1,6:street,4:call,3:T-1,1:4,"
    one = Look(2, 3, "claire", "site:1", "street", "call", "T-1", 4)
    assert digest(1, one, BEGINNING) == hashlib.sha256(bytes(32) + encoded).digest()


# Reading it


def listing(*filters, sort="", limit=DEFAULT_LIMIT):
    return parse_listing(COLUMNS, offset=0, limit=limit, sort=sort, filters=filters)


def test_auditors_list_filter_and_sort(full_log, entries, clock, registry, place):
    rows, _put = full_log
    audit = AccessAudit(entries, AccessHead(place), clock)
    auditor = Principal("otto", frozenset())

    newest = audit.page(auditor, listing(limit=2))
    assert (newest.total, [one.number for one in newest.rows]) == (len(rows), [len(rows), len(rows) - 1])
    of_site = audit.page(auditor, listing("subject:eq:site:1", "count:ge:2", sort="-count,number"))
    assert {one.look.subject for one in of_site.rows} == {"site:1"}
    assert [one.number for one in of_site.rows] == sorted(
        (row["number"] for row in rows if row["subject"] == "site:1" and row["count"] >= 2),
        key=lambda number: (-rows[number - 1]["count"], number),
    )
    assert audit.page(auditor, listing("operator:has:LAIR")).total == len(rows)
    assert audit.page(auditor, listing("operator:has:%")).total == 0
    assert audit.page(auditor, listing("operator:has:_")).total == 0
    assert audit.page(auditor, listing("operator:in:paul|claire")).total == len(rows)
    assert audit.page(auditor, listing("operator:eq:a\0b")).total == 0
    assert audit.page(auditor, listing("operator:ne:a\0b")).total == len(rows)
    assert audit.page(auditor, listing("operator:in:a\0b|claire")).total == len(rows)
    with pytest.raises(OperatorInputError):
        listing("nothing:eq:1")
    assert audit.verify(auditor).is_sound

    with registry.reading() as connection:
        deeds = connection.execute(sa.select(Action.what, Action.actor, Action.after)).all()
    assert {deed.actor for deed in deeds} == {"otto"}
    assert [deed.what for deed in deeds].count("access_log.read") == 9
    assert deeds[-1].what == "access_log.verify"
    assert not any("site:1" in deed.after for deed in deeds)


def test_the_export_has_every_entry_and_no_formula(started, entries, clock, place):
    access_log = started()
    access_log.note(Principal("-2+3", frozenset()), Purpose("call", "=SUM(A1)"), ['module:a,b"c'], ["street"])
    access_log.note(CLAIRE, CALL, [f"module:{number}" for number in range(1500)], ["street"])
    audit = AccessAudit(entries, AccessHead(place), clock)

    text = b"".join(csv_pieces(audit.each(CLAIRE, listing("subject:has:module")))).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == HEADER
    assert [int(row["number"]) for row in rows] == list(range(1, 1502))
    assert (rows[0]["operator"], rows[0]["ticket"], rows[0]["subject"]) == ("'-2+3", "'=SUM(A1)", 'module:a,b"c')
    # Whoever has the export can check the chain.
    assert all(row["previous"] == before["sha256"] for before, row in itertools.pairwise(rows))
