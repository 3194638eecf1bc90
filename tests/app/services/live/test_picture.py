"""What the feed sends is, decoded by a console, what live state holds."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from app.client.live_decoding import LivePayloadError, Roster, decode_fleet, decode_roster
from app.domain.keys import CollectionLevel, SupplyPeriod, SupplyPeriods
from app.hub.authenticator import module_access
from app.ingest.directory import ModuleDirectory, ModuleEntry
from app.ingest.live import LiveState
from app.protocol.live import AT_KEY, VERSION_KEY
from app.services.live.picture import encode_picture, encode_powers, encode_stream, take_picture
from app.services.live.roster import LiveRoster, encode_roster
from app.services.live.totals import FleetTotals
from app.sources.sessions import Sessions
from app.stores.registry.records import Place
from broker.engine import ClientInfo

NOW_US = 1_795_608_000_000_000


def supply(key, level=CollectionLevel.SECOND):
    return SupplyPeriods([SupplyPeriod(key, 0, None, level, assigned=True)])


class Fleet:
    """Modules of whom some have no consent and some never said anything, with everything else at random."""

    def __init__(self, count, seed=1):
        random = np.random.default_rng(seed)
        levels = [CollectionLevel(int(level)) for level in random.integers(0, 4, count)]
        self.modules = ModuleDirectory()
        self.modules.put(
            ModuleEntry(f"WD{number:05}", supply(number + 1, levels[number]), number % 3) for number in range(count)
        )
        self.consent = np.array(levels) == CollectionLevel.SECOND
        self.sessions = Sessions(self.modules.slot)
        self.connected = random.random(count) < 0.9
        for slot in np.flatnonzero(self.connected):
            serial = self.modules.serial(int(slot))
            self.sessions.opened(ClientInfo(serial, module_access(serial), "", "mqtt", 4))
        self.live = LiveState()
        self.live.reserve(count)
        heard = random.random(count) < 0.95

        def put(name, values, unknown):
            getattr(self.live, name)[:count] = np.where(heard & (random.random(count) < 0.9), values, unknown)

        self.live.arrival_us[:count] = np.where(heard, NOW_US - random.integers(0, 10**9, count), 0)
        put("power", random.uniform(-6000, 12000, count).astype(np.float32), np.nan)
        self.live.power_kind[:count] = random.integers(1, 3, count)
        put("rssi_dbm", random.integers(-127, 0, count), 0)
        put("frame_gap_ms", random.integers(0, 2**31, count), -1)
        put("state", random.integers(0, 2**17, count), 0)
        self.heard = heard

    def picture(self, version="run.1"):
        return take_picture(self.live, self.modules, self.sessions, version, NOW_US)


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_decoded_rows_equal_live_state(count):
    fleet = Fleet(count)
    live = fleet.live

    frame = decode_fleet(encode_picture(fleet.picture(), with_power=True))

    assert (frame.version, frame.at_us) == ("run.1", NOW_US)
    assert frame.number.tolist() == list(range(count))
    expected = np.where(fleet.consent, live.power[:count], np.nan)
    np.testing.assert_array_equal(frame.power, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(frame.power_kind, np.where(known, live.power_kind[:count], 0))
    np.testing.assert_array_equal(frame.rssi_dbm, live.rssi_dbm[:count])
    np.testing.assert_array_equal(frame.frame_gap_ms, live.frame_gap_ms[:count])
    np.testing.assert_array_equal(frame.age_ms, np.where(fleet.heard, (NOW_US - live.arrival_us[:count]) // 1000, -1))
    np.testing.assert_array_equal(frame.connected, fleet.connected)
    np.testing.assert_array_equal(frame.state & 0x1FFFF, live.state[:count])


def test_a_picture_without_power_has_none_at_all():
    fleet = Fleet(100)
    payload = encode_picture(fleet.picture(), with_power=False)

    frame = decode_fleet(payload)

    assert pa.ipc.open_stream(payload).schema.names == ["number", "rssi_dbm", "frame_gap_ms", "age_ms", "state"]
    assert np.isnan(frame.power).all()
    assert not frame.power_kind.any()
    powers = pa.ipc.open_stream(encode_powers(fleet.picture())).read_all()
    assert powers.schema.names == ["number", "power", "power_kind"]


def test_a_picture_does_not_change_any_more():
    fleet = Fleet(50)
    picture = fleet.picture()
    before = encode_picture(picture, with_power=True)
    for name in ("power", "rssi_dbm", "state", "arrival_us"):
        getattr(fleet.live, name)[:] = 1
    fleet.modules.put([ModuleEntry("NEW", supply(999))])

    assert encode_picture(picture, with_power=True) == before


def test_consent_that_was_withdrawn_hides_what_was_shown_before():
    fleet = Fleet(10)
    fleet.live.power[:10] = 500
    fleet.modules.put([ModuleEntry("WD00003", supply(4, CollectionLevel.DAILY))])

    frame = decode_fleet(encode_picture(fleet.picture(), with_power=True))

    assert np.isnan(frame.power[3])


def test_no_picture_holds_a_series_key():
    fleet = Fleet(2000)
    key = 0x5EC2E7_5EC2E7_5EC2
    fleet.modules.put([ModuleEntry("WD00000", supply(key))])
    roster = LiveRoster(fleet.modules, lambda: Facts({key: Place("Lyon", 1, "UTC")}, {}), lambda: NOW_US)

    for payload in (encode_picture(fleet.picture(), with_power=True), encode_roster(roster.picture())):
        table = pa.ipc.open_stream(payload).read_all()
        assert key not in [value for name in table.column_names for value in table[name].to_pylist()]


def test_a_fleet_is_made_within_milliseconds_on_the_loop():
    fleet = Fleet(48_000)
    fleet.picture()
    took = []
    for _ in range(5):
        began = time.thread_time()
        picture = fleet.picture()
        took.append(time.thread_time() - began)

    assert min(took) < 0.005
    assert len(encode_picture(picture, with_power=True)) < 800_000


class Facts:
    def __init__(self, places, periods):
        self.places = places
        self.periods_ms_by_serial = periods


def test_the_roster_names_each_number_and_changes_its_version_with_its_modules():
    clock = [0.0]
    fleet = Fleet(5)
    facts = [Facts({1: Place("Lyon", 1, "UTC"), 2: Place("Nice", 2, "UTC")}, {"WD00001": 1000, "WD00002": 0})]
    roster = LiveRoster(fleet.modules, lambda: facts[0], lambda: NOW_US, lambda: clock[0])
    first = decode_roster(encode_roster(roster.picture()))
    assert list(first.serials) == [f"WD{number:05}" for number in range(5)]
    assert list(first.cities) == [None, "Lyon", "Nice", None, "Lyon"]
    assert first.period_ms.tolist() == [-1, 1000, -1, -1, -1]
    assert roster.version() == first.version
    frame = decode_fleet(encode_picture(fleet.picture(roster.version()), with_power=True))
    assert first.covers(frame)
    assert first.is_current(frame)

    # Births change facts all the time: told when it has settled.
    facts[0] = Facts(facts[0].places, {"WD00001": 2000})
    assert roster.version() == first.version
    clock[0] += 60
    assert roster.version() != first.version
    frame = decode_fleet(encode_picture(fleet.picture(roster.version()), with_power=True))
    assert first.covers(frame)
    assert not first.is_current(frame)

    # A new module: told at once.
    fleet.modules.put([ModuleEntry("NEW", supply(999))])
    frame = decode_fleet(encode_picture(fleet.picture(roster.version()), with_power=True))
    assert not first.covers(frame)
    second = decode_roster(encode_roster(roster.picture()))
    assert second.covers(frame)

    # Another run numbers anew.
    other = LiveRoster(fleet.modules, lambda: facts[0], lambda: NOW_US)
    frame = decode_fleet(encode_picture(fleet.picture(other.version()), with_power=True))
    assert not second.covers(frame)


def test_no_roster_covers_an_empty_picture_of_another_run():
    assert not Roster("a.1", [], [], np.zeros(0, np.int32)).covers(
        decode_fleet(encode_picture(Fleet(0).picture("b.1"), with_power=True))
    )


@pytest.mark.parametrize("payload", [b"", b"x", b"{}", bytes(1000), b"\xff\xff\xff\xff\x10\x00\x00\x00" + bytes(50)])
def test_what_is_no_picture_is_refused(payload):
    with pytest.raises(LivePayloadError):
        decode_fleet(payload)
    with pytest.raises(LivePayloadError):
        decode_roster(payload)


def test_a_picture_cut_anywhere_is_refused_or_whole():
    payload = encode_picture(Fleet(40).picture(), with_power=True)
    whole = decode_fleet(payload)
    for end in range(0, len(payload), 37):
        try:
            frame = decode_fleet(payload[:end])
        except LivePayloadError:
            continue
        np.testing.assert_array_equal(frame.power, whole.power)


def test_columns_of_another_type_or_without_a_name_are_refused():
    number = pa.array([1], pa.int32())
    with pytest.raises(LivePayloadError, match="no column"):
        decode_fleet(encode_stream([number], ["number"], "a.1", NOW_US))
    with pytest.raises(LivePayloadError, match="int64"):
        decode_fleet(encode_stream([pa.array([1])], ["number"], "a.1", NOW_US))
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        out, pa.schema([("number", pa.int32())], metadata={VERSION_KEY: b"a", AT_KEY: b"x"})
    ) as writer:
        writer.write_batch(pa.record_batch([number], ["number"]).replace_schema_metadata(None))
    with pytest.raises(LivePayloadError):
        decode_fleet(out.getvalue().to_pybytes())


# Totals.


def totals_after(fleet, totals, steps, *, wh, first=0):
    for second in range(first, first + steps):
        fleet.live.drawn_wh[:100] += wh
        picture = take_picture(fleet.live, fleet.modules, fleet.sessions, "", NOW_US + second * 1_000_000)
        found = totals.of(picture)
    return found


def test_fleet_power_is_the_rise_of_the_indexes():
    fleet = Fleet(100)
    fleet.live.drawn_wh[:100] = 1000
    totals = FleetTotals()

    found = totals_after(fleet, totals, 30, wh=1)

    # 100 homes, 1 Wh a second each.
    assert found.power_w == pytest.approx(360_000)
    assert found.homes == 100
    assert found.connected == fleet.connected.sum()


def test_a_meter_that_was_changed_draws_nothing():
    fleet = Fleet(100)
    fleet.live.drawn_wh[:100] = 10**8
    totals = FleetTotals()
    totals_after(fleet, totals, 15, wh=1)
    fleet.live.drawn_wh[7] = 5
    fleet.live.drawn_wh[8] = 10**9

    found = totals_after(fleet, totals, 5, wh=1, first=15)

    # In one second of ten two homes are not in it.
    assert found.power_w == pytest.approx(360_000, rel=0.003)
    assert totals_after(fleet, totals, 15, wh=1, first=20).power_w == pytest.approx(360_000)


def test_a_clock_that_is_set_back_begins_anew():
    fleet = Fleet(100)
    fleet.live.drawn_wh[:100] = 1000
    totals = FleetTotals()
    totals_after(fleet, totals, 15, wh=1, first=3600)
    assert totals_after(fleet, totals, 1, wh=1).power_w is None

    assert totals_after(fleet, totals, 5, wh=1, first=1).power_w == pytest.approx(360_000)


def test_few_homes_have_no_sum():
    fleet = Fleet(100)
    fleet.live.drawn_wh[:39] = 1000
    totals = FleetTotals()
    for second in range(5):
        fleet.live.drawn_wh[:39] += 1
        found = totals.of(take_picture(fleet.live, fleet.modules, fleet.sessions, "", NOW_US + second * 1_000_000))

    assert found.homes == 39
    assert found.power_w is None
