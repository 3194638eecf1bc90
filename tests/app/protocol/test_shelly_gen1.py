"""Shelly Gen1: bare values of a short window to one reading, units, facts, presence; and what is no value."""

from __future__ import annotations

import json
import pathlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.protocol import shelly_gen1
from app.protocol.foreign import Facts, Heard, Presence, Refusal
from app.protocol.messages import Ack, Cmd, Fota
from app.protocol.shelly_gen1 import FRESH_US, WINDOW_US, ShellyGen1

CAPTURES = pathlib.Path(__file__).parents[3].parent / "shared" / "captures" / "mqtt"
EM3, EM = "shellyem3-02005E100003", "shellyem-10A0B1"
NOW = 1_800_000_000_000_000
POWERS = {0: "120.11", 1: "-16.23", 2: "76.46"}


def take(dialect, topic, payload, *, at=NOW, retained=False):
    if not isinstance(payload, bytes):
        payload = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    return list(dialect.take(f"shellies/{topic}", payload, retained=retained, arrival_us=at))


def round_of(base, emeters, *, at=NOW, extra=()):
    """A round as a device sends it, topic and payload, in its order."""
    for n in emeters:
        yield f"{base}/emeter/{n}/power", POWERS[n]
        yield f"{base}/emeter/{n}/pf", "0.71"
        if base == EM3:
            yield f"{base}/emeter/{n}/current", f"0.{n + 5}"
        yield f"{base}/emeter/{n}/voltage", f"23{n}.5"
        yield f"{base}/emeter/{n}/total", f"{1000 * (n + 1)}.9"
        yield f"{base}/emeter/{n}/total_returned", f"{n}.0"
        yield from extra


def of(kind, heard):
    return [(one.device, one.what) for one in heard if isinstance(one.what, kind)]


def readings(heard):
    return of(Reading, heard)


def play(dialect, messages, *, at=NOW, step_us=1_000):
    heard = []
    for number, (topic, payload) in enumerate(messages):
        heard += take(dialect, topic, payload, at=at + number * step_us)
    return heard


def test_a_whole_round_of_a_3em_is_one_reading_at_once():
    dialect = ShellyGen1()
    assert readings(play(dialect, round_of(EM3, (0, 1, 2)))) == [
        (
            EM3,
            Reading(
                active_w=pytest.approx(180.34),
                drawn_wh=6002,
                injected_wh=3,
                voltage_v=230.5,
                voltage_2_v=231.5,
                voltage_3_v=232.5,
                current_a=0.5,
                current_2_a=0.6,
                current_3_a=0.7,
            ),
        )
    ]
    assert list(dialect.due(NOW + 10 * WINDOW_US)) == []


def test_the_two_emeters_of_an_em_are_devices_of_their_own():
    first, second = readings(play(ShellyGen1(), round_of(EM, (0, 1))))
    assert (first[0], first[1].active_w, first[1].drawn_wh, first[1].voltage_v) == (f"{EM}:0", 120.11, 1000, 230.5)
    assert (second[0], second[1].active_w, second[1].drawn_wh, second[1].voltage_v) == (f"{EM}:1", -16.23, 2000, 231.5)


def test_a_round_without_some_values_waits_for_its_window():
    dialect = ShellyGen1()
    partial = [message for message in round_of(EM3, (0, 1, 2)) if "total" not in message[0]]
    assert readings(play(dialect, partial)) == []
    assert list(dialect.due(NOW + WINDOW_US - 1)) == []
    [(_, reading)] = readings(dialect.due(NOW + WINDOW_US))
    assert (reading.active_w, reading.drawn_wh) == (pytest.approx(180.34), None)
    assert list(dialect.due(NOW + 2 * WINDOW_US)) == []


def test_a_value_that_comes_again_begins_the_next_reading():
    dialect = ShellyGen1()
    partial = [message for message in round_of(EM3, (0, 1, 2)) if "power" in message[0]]
    heard = play(dialect, [*partial, (f"{EM3}/emeter/0/power", "999")])
    assert [reading.active_w for _, reading in readings(heard)] == [pytest.approx(180.34)]
    [(_, second)] = readings(dialect.due(NOW + 2 * WINDOW_US))
    assert second.active_w == pytest.approx(999 - 16.23 + 76.46)  # the other phases are still so


def test_a_late_value_after_the_window_without_a_tick_between():
    dialect = ShellyGen1()
    play(dialect, [(f"{EM3}/emeter/{n}/power", "10") for n in range(3)])
    heard = take(dialect, f"{EM3}/emeter/0/voltage", "230", at=NOW + 2 * WINDOW_US)
    assert [reading.active_w for _, reading in readings(heard)] == [30.0]


def test_no_total_of_some_phases_only():
    dialect = ShellyGen1()
    play(dialect, [(f"{EM3}/emeter/0/power", "10"), (f"{EM3}/emeter/1/power", "20"), (f"{EM3}/emeter/0/total", "5")])
    assert readings(dialect.due(NOW + WINDOW_US)) == []


def test_no_total_with_a_phase_of_long_ago():
    dialect = ShellyGen1()
    play(dialect, [(f"{EM3}/emeter/{n}/power", "10") for n in range(3)])
    assert readings(dialect.due(NOW + WINDOW_US))
    take(dialect, f"{EM3}/emeter/0/power", "20", at=NOW + FRESH_US)
    assert readings(dialect.due(NOW + FRESH_US + WINDOW_US)) == []


@pytest.mark.parametrize(("name", "value"), [("power", "9e5"), ("power", "-9e5"), ("total", "9e15")])
def test_no_total_that_is_out_of_bounds(name, value):
    dialect = ShellyGen1()
    play(dialect, [(f"{EM3}/emeter/{n}/{name}", value) for n in range(3)])
    assert readings(dialect.due(NOW + WINDOW_US)) == []


def test_watt_minutes_are_no_index():
    dialect = ShellyGen1()
    partial = [
        (f"{EM}/emeter/{n}/{name}", value)
        for n in (0, 1)
        for name, value in (("power", "60"), ("energy", "123456"), ("returned_energy", "99"))
    ]
    assert readings(play(dialect, partial)) == []
    assert [(reading.drawn_wh, reading.injected_wh) for _, reading in readings(dialect.due(NOW + WINDOW_US))] == [
        (None, None),
        (None, None),
    ]
    # Alone they open no window either.
    play(dialect, [(f"{EM}/emeter/0/energy", "123457"), (f"{EM}/emeter/0/pf", "0.5")], at=NOW + WINDOW_US)
    assert list(dialect.due(NOW + 9 * WINDOW_US)) == []


def test_retained_values_are_no_reading():
    dialect = ShellyGen1()
    heard = []
    for topic, payload in round_of(EM3, (0, 1, 2)):
        heard += take(dialect, topic, payload, retained=True)
    heard += dialect.due(NOW + WINDOW_US)
    assert readings(heard) == []
    assert of(Presence, take(dialect, f"{EM3}/online", "true", retained=True)) == [(EM3, Presence(True))]


def test_presence_is_of_each_device():
    dialect = ShellyGen1()
    assert of(Presence, take(dialect, f"{EM3}/online", "false")) == [(EM3, Presence(False))]
    assert of(Presence, take(dialect, f"{EM}/online", "true")) == [
        (f"{EM}:0", Presence(True)),
        (f"{EM}:1", Presence(True)),
    ]
    assert of(Refusal, take(dialect, f"{EM}/online", "yes"))[0][1].reason == "type"


def test_a_name_that_its_owner_chose():
    dialect = ShellyGen1()
    play(dialect, [("cellar/emeter/0/power", "1"), ("cellar/emeter/0/current", "2"), ("cellar/emeter/1/power", "1")])
    take(dialect, "cellar/emeter/2/power", "1", at=NOW + 10)
    assert [(device, reading.active_w) for device, reading in readings(dialect.due(NOW + WINDOW_US))] == [
        ("cellar", 3.0)
    ]
    play(dialect, [("attic/emeter/0/power", "1"), ("attic/emeter/1/power", "2")])
    assert [device for device, _ in readings(dialect.due(NOW + WINDOW_US))] == ["attic:0", "attic:1"]
    # A third emeter that comes late corrects what was taken for an EM.
    take(dialect, "attic/emeter/2/power", "3")
    assert [(device, reading.active_w) for device, reading in readings(dialect.due(NOW + WINDOW_US))] == [
        ("attic", 6.0)
    ]
    take(dialect, "announce", {"id": "barn", "model": "SHEM-3", "mac": "02005E100009", "new_fw": False, "fw_ver": "1"})
    play(dialect, [(f"barn/emeter/{n}/power", "5") for n in range(3)])
    assert [device for device, _ in readings(dialect.due(NOW + WINDOW_US))] == ["barn"]


INFO = {
    "wifi_sta": {"connected": True, "ssid": "example", "ip": "192.0.2.3", "rssi": -63},
    "mac": "02005E100003",
    "uptime": 12345,
    "emeters": [{"power": 1.0, "is_valid": True, "total": 5.0}] * 3,
    "update": {"status": "pending", "has_update": True, "new_version": "v1.14.1", "old_version": "v1.14.0"},
}


def test_info_gives_facts_and_no_reading():
    dialect = ShellyGen1()
    heard = take(dialect, f"{EM3}/info", INFO)
    facts = of(Facts, heard)[-1][1]
    assert msgspec.to_builtins(facts) == {
        "mac": "02:00:5E:10:00:03",
        "ip": "192.0.2.3",
        "ssid": "example",
        "rssi_dbm": -63,
        "uptime_s": 12345,
        "firmware": "v1.14.0",
        "newer_firmware": "v1.14.1",
    }
    assert readings([*heard, *dialect.due(NOW + 9 * WINDOW_US)]) == []


@pytest.mark.parametrize(("has", "newer"), [("true", "v1.14.1"), ("false", ""), (False, ""), (None, None), (1, None)])
def test_booleans_may_be_texts(has, newer):
    info = {"update": {"has_update": has, "new_version": "v1.14.1", "old_version": "v1.14.0"}}
    assert of(Facts, take(ShellyGen1(), f"{EM3}/info", info))[-1][1].newer_firmware == newer


@pytest.mark.parametrize("rssi", [0, "-63", True, 5, -63.5, -1000])
def test_a_signal_of_zero_or_nonsense_is_unknown(rssi):
    heard = take(ShellyGen1(), f"{EM3}/info", {"wifi_sta": {"rssi": rssi, "ssid": "x"}})
    assert all(facts.rssi_dbm is None for _, facts in of(Facts, heard))


def test_announcements():
    announcement = {"id": EM3, "mac": "02005E100003", "ip": "192.0.2.3", "new_fw": False, "fw_ver": "v1.14.0"}
    for topic in ("announce", f"{EM3}/announce"):
        device, facts = of(Facts, take(ShellyGen1(), topic, announcement))[-1]
        assert (device, facts.firmware, facts.newer_firmware, facts.ip) == (EM3, "v1.14.0", "", "192.0.2.3")
    assert take(ShellyGen1(), "announce", {"mac": "x"}) == [Heard("", Refusal("missing", "id"))]


def test_an_update_shows_in_info():
    dialect = ShellyGen1()
    seen = []
    for status, old in (("pending", "1"), ("updating", "1"), ("updating", "1"), ("idle", "2")):
        info = {"update": {"status": status, "old_version": old, "new_version": "2"}}
        seen += [(fota.phase, fota.to_firmware) for _, fota in of(Fota, take(dialect, f"{EM3}/info", info))]
    assert seen == [("downloading", "2"), ("done", "2")]


def test_commands():
    dialect = ShellyGen1()
    take(dialect, f"{EM}/online", "true")
    [sending] = dialect.send(f"{EM}:1", Cmd(id="d", name="diagnose"))
    assert (sending.topic, sending.payload) == (f"shellies/{EM}/command", b"announce")
    announcement = {"id": EM, "mac": "02005E10A0B1", "new_fw": False, "fw_ver": "v1"}
    assert of(Ack, take(dialect, f"{EM}/announce", announcement, retained=True)) == []
    heard = take(dialect, f"{EM}/announce", announcement)
    assert [(device, ack.id, ack.result) for device, ack in of(Ack, heard)] == [(f"{EM}:1", "d", "done")]
    assert of(Ack, take(dialect, f"{EM}/announce", announcement)) == []
    assert dialect.send(EM3, Cmd(id="u", name="update"))[0].payload == b"update_fw"
    assert dialect.send(EM3, Cmd(id="u", name="update", args={"url": "http://x"})) is None
    assert dialect.send(EM3, Cmd(id="u", name="update", args={"stage": "beta"})) is None
    for name in ("reboot", "set_period", "identify", "send_log", "sync_clock", "nonsense"):
        assert dialect.send(EM3, Cmd(id="x", name=name)) is None
    for device in ("", "a/b", "+", "#", "x" * 200):
        assert dialect.send(device, Cmd(id="x", name="diagnose")) is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "type"),
        (b"nan", "type"),
        (b"NaN", "type"),
        (b"1_000", "type"),
        (b"true", "type"),
        (b"12,5", "type"),
        (b"\xff", "type"),
        (b"1" * 41, "type"),
        (b"inf", "range"),
        (b"1e400", "range"),
        (b"-1e400", "range"),
        (b"1e7", "range"),
        (b"1" * 40, "range"),
    ],
)
def test_what_is_no_value_is_refused_and_joins_no_window(payload, reason):
    dialect = ShellyGen1()
    assert of(Refusal, take(dialect, f"{EM3}/emeter/0/power", payload))[0][1].reason == reason
    assert list(dialect.due(NOW + WINDOW_US)) == []


@pytest.mark.parametrize(("payload", "reason"), [(b"[]", "type"), (b"{", "syntax"), (b'{"a":' * 5000, "nesting")])
def test_what_is_no_information_is_refused(payload, reason):
    assert [one.what.reason for one in take(ShellyGen1(), f"{EM3}/info", payload)] == [reason]


def test_a_clock_that_is_set_back_keeps_no_window_open():
    dialect = ShellyGen1()
    play(dialect, [(f"{EM}/emeter/0/power", "1")])
    assert len(readings(dialect.due(NOW - 10**12))) == 1


def test_other_topics_are_claimed_and_ignored():
    dialect = ShellyGen1()
    for topic in (f"{EM3}/relay/0", "command", f"{EM3}/command", f"{EM3}/emeter/7/power", f"{EM3}/emeter/0/nonsense"):
        assert dialect.claims(f"shellies/{topic}")
        assert take(dialect, topic, "off") == []
    assert not dialect.claims("shelly/x")


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(shelly_gen1, "MOST_DEVICES", 2)
    dialect = ShellyGen1()
    for n in range(4):
        heard = take(dialect, f"x{n}/emeter/0/power", "1")
        assert bool(of(Refusal, heard)) == (n >= 2)
    dialect.forget("x0:0")
    assert not of(Refusal, take(dialect, "x9/emeter/0/power", "1"))
    dialect.forget("x9")
    dialect.forget("x1")
    assert (dialect._modules, dialect._open) == ({}, {})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
keys = ["wifi_sta", "rssi", "ssid", "ip", "update", "has_update", "status", "old_version", "new_version", "emeters"]
keys += ["id", "mac", "model", "uptime", "new_fw", "fw_ver"]
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=6)
)
names = st.sampled_from(["power", "voltage", "current", "total", "total_returned", "energy", "pf"])
rests = st.sampled_from(["online", "info", "announce", "relay/0", ""]) | st.builds(
    "emeter/{}/{}".format, st.integers(0, 3), names
)
topics = st.builds("shellies/{}/{}".format, st.sampled_from([EM3, EM, "x", ""]) | st.text(max_size=5), rests)
topics |= st.just("shellies/announce") | st.text(max_size=20)
payloads = st.binary(max_size=50) | scalars.map(lambda value: str(value).encode("utf-8", "replace"))
payloads |= values.map(lambda value: json.dumps(value).encode())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(topics, payloads, st.booleans(), st.integers(0, 10**7)), min_size=1, max_size=8))
def test_it_never_raises_and_says_nothing_that_is_out_of_bounds(sequence):
    dialect = ShellyGen1()
    dialect.send(EM3, Cmd(id="d", name="diagnose"))
    for topic, payload, retained, at in sequence:
        heard = [*dialect.take(topic, payload, retained=retained, arrival_us=NOW + at), *dialect.due(NOW + at)]
        for one in heard:
            assert isinstance(one, Heard)
            if isinstance(one.what, (Reading, Fota, Ack)):
                msgspec.convert(msgspec.to_builtins(one.what), type(one.what), strict=True)


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real modules are not at hand (../shared/captures/mqtt)")
def test_a_capture_of_a_3em():
    dialect = ShellyGen1()
    heard = []
    for line in (CAPTURES / "shelly_gen1_em3.log").read_text().splitlines():
        topic, _, payload = line.partition(" ")
        assert dialect.claims(topic)
        heard += dialect.take(topic, payload.encode(), retained=False, arrival_us=NOW)
    assert readings(heard) == []
    heard += dialect.due(NOW + WINDOW_US)
    # Thirteen messages, one of a relay: one round of three phases without totals.
    assert readings(heard) == [
        (
            "shellyem3-68C63AFAF952",
            Reading(
                active_w=pytest.approx(312.8),
                voltage_v=239.03,
                voltage_2_v=237.51,
                voltage_3_v=240.5,
                current_a=0.71,
                current_2_a=0.69,
                current_3_a=0.59,
            ),
        )
    ]
    assert {one.device for one in heard} == {"shellyem3-68C63AFAF952"}
    assert of(Refusal, heard) == []
