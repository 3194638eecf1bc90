"""The fleet's table against plain Python: the same rows, in the same order, whatever is asked."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.routes.modules import COLUMNS, POWER_COLUMNS
from app.domain.errors import OperatorInputError
from app.domain.listing import Comparison, Condition, Listing, SortBy, parse_listing
from app.domain.liveness import Liveness
from app.ingest.live import LiveState
from app.services.fleet.columns import chosen
from app.services.fleet.live_columns import UsualGaps, live_columns
from app.services.fleet.table import MOST_TAGS, FleetTableBuilder
from app.sources.sessions import Sessions
from app.stores.registry.fleet_rows import FleetRow
from broker.engine import Access, ClientInfo

COUNT = 5000
NOW_US = 1_800_000_000_000_000
CITIES = ("Lyon", "lyon", "Nîmes", "Évreux", "Paris", None)
TAGS = ("pilot", "north", "South", "x-1")


def a_row(draw: random.Random, serial: str) -> FleetRow:
    city = draw.choice(CITIES)
    return FleetRow(
        serial=serial,
        kind=draw.choice(("module", "module", "meter", "foreign")),
        dialect=draw.choice(("wattdeck", "tasmota")),
        hardware=draw.choice((None, "HW1", "HW2")),
        firmware=draw.choice((None, "2.4.1", "2.4.10", "2.5.0")),
        period_ms=draw.choice((None, 1000, 2000)),
        collection=draw.choice(("active", "paused", "retired")),
        created_us=NOW_US - draw.randrange(100),
        version=draw.randrange(1, 4),
        blocked=draw.choice((None, True, False)),
        last_used_us=draw.choice((None, NOW_US - 5)),
        tags=tuple(sorted(draw.sample(TAGS, draw.randrange(3)))),
        site_id=None if city is None else draw.randrange(1, 900),
        city=city,
        meter_serials=(),
        holders=(),
    )


@pytest.fixture(scope="module")
def fleet():
    """A table, and the same as dictionaries."""
    draw = random.Random(7)
    serials = [f"{draw.choice('aAbBZ')}{draw.choice('._-0')}{number:05d}" for number in range(COUNT)]
    draw.shuffle(serials)
    # A few have no slot yet.
    slots = {serial: slot for slot, serial in enumerate(serials[:-40])}
    live = LiveState()
    live.reserve(len(slots))
    sessions = Sessions(slots.get)
    builder = FleetTableBuilder(slots.get)
    rows = [a_row(draw, serial) for serial in serials]
    # Some are put twice: the second time counts.
    builder.put([a_row(draw, serial) for serial in serials[::3]])
    builder.put(rows[:2000])
    builder.table()
    builder.put(rows[2000:])
    plain = []
    for row in rows:
        serial, slot = row.serial, slots.get(row.serial)
        facts = {name: getattr(row, name) for name in FleetRow._fields}
        facts |= dict.fromkeys(("last_us", "age_s", "rssi_dbm", "frame_gap_ms", "power", "power_kind"))
        facts |= {"tags": list(row.tags), "connected": False, "received": 0}
        age_us = None
        if slot is not None and draw.random() < 0.8:
            age_us = draw.randrange(0, 130_000_000, 1_000_000)
            live.arrival_us[slot] = NOW_US - age_us
            live.time_us[slot] = facts["last_us"] = NOW_US - age_us - 7
            live.received[slot] = facts["received"] = draw.randrange(1, 9)
            facts["age_s"] = age_us / 1e6
            if draw.random() < 0.8:
                live.rssi_dbm[slot] = facts["rssi_dbm"] = draw.randrange(-90, -30)
                live.frame_gap_ms[slot] = facts["frame_gap_ms"] = draw.randrange(0, 3000, 500)
                live.power[slot] = facts["power"] = draw.randrange(-100, 100) / 2
                live.power_kind[slot] = kind = draw.choice((1, 2))
                facts["power_kind"] = ("", "W", "VA")[kind]
        if slot is not None and row.kind == "module" and draw.random() < 0.5:
            sessions.opened(ClientInfo(serial, Access(serial, "module"), "", "mqtt", 4))
            facts["connected"] = True
        facts["state"] = state_of(facts, age_us, row)
        plain.append(facts)
    table = builder.table()
    plain.sort(key=lambda facts: facts["serial"])
    return table, live_columns(table, None, live, sessions, UsualGaps(live), NOW_US), plain


def state_of(facts, age_us: int | None, row: FleetRow) -> str:
    """The rule, written once more for one module; no gap is known here, so none is late."""
    age_s = None if age_us is None else age_us / 1e6
    period_s = (row.period_ms or 0) / 1000
    heard = age_s is not None or facts["connected"] or row.last_used_us
    if not heard:
        return Liveness.NEVER
    if row.kind == "module":
        if not facts["connected"]:
            return Liveness.OFFLINE
    elif age_s is None or age_s > max(60, 3 * period_s):
        return Liveness.OFFLINE
    return Liveness.SILENT if age_s is None or age_s > max(3, 3 * period_s) else Liveness.LIVE


def holds(condition: Condition, facts) -> bool:
    found = facts[condition.column]
    if condition.column != "tags":
        return condition.holds(found)
    if condition.comparison is Comparison.UNEQUAL:
        return condition.value not in found
    return any(condition.holds(tag) for tag in found)


def reference(plain, listing: Listing) -> list[str]:
    kept = [facts for facts in plain if all(holds(one, facts) for one in listing.conditions)]
    rest = Listing(0, COUNT, listing.sort)
    getters = {name: (lambda facts, name=name: facts[name]) for name in POWER_COLUMNS}
    return [facts["serial"] for facts in rest.page(kept, getters).rows]


def values_of(plain, name: str) -> st.SearchStrategy:
    known = sorted({facts[name] for facts in plain if facts[name] is not None}, key=str)[:200]
    return st.sampled_from(known)


@st.composite
def conditions(draw, plain) -> Condition:
    name = draw(st.sampled_from(sorted(POWER_COLUMNS)))
    kind = POWER_COLUMNS[name].kind
    if name == "tags":
        words = st.sampled_from((*TAGS, "missing"))
        comparison = draw(st.sampled_from((Comparison.EQUAL, Comparison.UNEQUAL, Comparison.HAS, Comparison.AMONG)))
        values = {
            Comparison.HAS: st.sampled_from(("o", "OUT", "-", "q", "")),
            Comparison.AMONG: st.lists(words, min_size=1, max_size=3).map(tuple),
        }
        return Condition(name, comparison, draw(values.get(comparison, words)))
    # 0 and -1 stand for unknown inside: asked for, they must not be found.
    other = st.text("aLzé0", max_size=3) if kind is str else st.sampled_from((-1, 0, 1)).map(kind)
    one = values_of(plain, name) | other
    comparisons = list(Comparison) if kind is str else [one for one in Comparison if one is not Comparison.HAS]
    comparison = draw(st.sampled_from(comparisons))
    if comparison is Comparison.AMONG:
        return Condition(name, comparison, tuple(draw(st.lists(one, min_size=1, max_size=3))))
    if comparison is Comparison.HAS:
        return Condition(name, comparison, draw(st.sampled_from(("", "y", "LY", "4.1", "É", "é", "-", "z.0", "9"))))
    return Condition(name, comparison, draw(one))


@st.composite
def listings(draw, plain) -> Listing:
    sortable = [name for name, column in POWER_COLUMNS.items() if column.sortable]
    sort = draw(st.lists(st.builds(SortBy, st.sampled_from(sortable), st.booleans()), max_size=3))
    return Listing(0, COUNT, tuple(sort), tuple(draw(st.lists(conditions(plain), max_size=3))))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_asked_is_answered_as_plain_python_would(fleet, data):
    table, live, plain = fleet
    listing = data.draw(listings(plain))

    rows = chosen(listing, {**table.columns, **live.all}, table.by_serial)

    assert [table.serial(int(row)) for row in rows] == reference(plain, listing)


def test_every_value_is_what_was_put(fleet):
    table, live, plain = fleet
    columns = {**table.columns, **live.all}
    for name in POWER_COLUMNS:
        assert columns[name].values(table.by_serial) == [facts[name] for facts in plain], name


def test_counts_are_those_of_the_rows(fleet):
    table, _live, plain = fleet

    assert table.tags.counts() == {tag: sum(tag in facts["tags"] for facts in plain) for tag in TAGS}
    assert table.city.counts() == {
        city: sum(facts["city"] == city for facts in plain) for city in CITIES if city is not None
    }


def test_a_table_stays_as_it_was(fleet):
    draw = random.Random(1)
    builder = FleetTableBuilder(lambda serial: None)
    builder.put([a_row(draw, "B")])
    before = builder.table()
    old = before.columns["firmware"].values(np.array([0]))
    builder.put([FleetRow(**{**row_facts(a_row(draw, "B")), "firmware": "9.9", "tags": ("new",)}), a_row(draw, "A")])
    after = builder.table()

    assert (len(before), before.row("A")) == (1, None)
    assert before.columns["firmware"].values(np.array([0])) == old
    assert [after.serial(int(row)) for row in after.by_serial] == ["A", "B"]
    assert after.columns["firmware"].values(np.array([0])) == ["9.9"]
    assert after.columns["tags"].values(np.array([0])) == [["new"]]


def row_facts(row: FleetRow):
    return {name: getattr(row, name) for name in FleetRow._fields}


def test_a_module_with_more_tags_than_fit_loses_the_last_from_lists_only():
    draw = random.Random(1)
    tags = tuple(f"t{number:02d}" for number in range(MOST_TAGS + 3))
    builder = FleetTableBuilder(lambda serial: None)
    builder.put([FleetRow(**{**row_facts(a_row(draw, "A")), "tags": tags})])

    assert builder.table().columns["tags"].values(np.array([0])) == [list(tags[:MOST_TAGS])]


def test_tags_have_no_order(fleet):
    table, live, _plain = fleet
    listing = parse_listing(COLUMNS, offset=0, limit=10, sort="", filters=["tags:lt:pilot"])

    with pytest.raises(OperatorInputError, match="no order"):
        chosen(listing, {**table.columns, **live.all}, table.by_serial)


def test_the_usual_gap_is_the_mean_since_the_last_look_and_unknown_for_who_was_silent():
    live = LiveState()
    live.reserve(3)
    gaps = UsualGaps(live)
    slots = np.arange(3)
    live.arrival_us[:3] = [NOW_US, NOW_US - 20_000_000, NOW_US]
    live.received[:3] = [100, 100, 100]
    gaps.look(NOW_US)
    received = np.array([115, 115, 102])
    arrival_us = np.full(3, NOW_US + 30_000_000)

    # Fifteen readings in half a minute; silent before; too few.
    found = gaps.gap_us(slots, received, arrival_us, np.full(3, 1_000_000))

    assert found.tolist() == [2_000_000, -1, -1]


@pytest.mark.parametrize("value", [-1, 0])
@pytest.mark.parametrize("comparison", [one for one in Comparison if one not in {Comparison.HAS, Comparison.AMONG}])
def test_what_stands_for_unknown_inside_is_no_value(fleet, comparison, value):
    table, live, plain = fleet
    for name in (name for name, column in POWER_COLUMNS.items() if column.kind in {int, float}):
        condition = Condition(name, comparison, value)
        column = {**table.columns, **live.all}[name]
        expected = [condition.holds(facts[name]) for facts in plain]
        assert column.holds(condition)[table.by_serial].tolist() == expected, name
