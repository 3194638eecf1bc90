"""The Tasmota dialect: topics, presence, facts, and what is refused."""

from __future__ import annotations

import json

import pytest
from paho.mqtt.client import topic_matches_sub as matches

from app.domain.reading import Reading
from app.protocol.foreign import Facts, Presence, Refusal
from app.protocol.tasmota import OTHER_ROOT_AFTER_US, SIGNAL_HOLDS_US, Tasmota
from app.protocol.tasmota_topics import FILTERS

NOW_US = 1_790_000_000_000_000
ENERGY = {"ENERGY": {"Total": 1.5, "Power": 42}}
CONFIG = {
    "ip": "192.0.2.7",
    "dn": "Cellar",
    "fn": ["Tasmota", None],
    "hn": "cellar-0001",
    "mac": "02005E100001",
    "md": "Test Plug",
    "ofln": "Offline",
    "onln": "Online",
    "sw": "14.2.0",
    "t": "cellar_plug",
    "ft": "%prefix%/%topic%/",
    "tp": ["cmnd", "stat", "tele"],
}


def heard(dialect, topic, message, *, retained=False, at_us=NOW_US):
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return list(dialect.take(topic, payload, retained=retained, arrival_us=at_us))


def said(*args, **kwargs):
    return [one.what for one in heard(*args, **kwargs)]


def announce(dialect, **changes):
    return heard(dialect, "tasmota/discovery/02005E100001/config", CONFIG | changes, retained=True)


def reading_of(message, topic="tele/plug/SENSOR"):
    (reading,) = said(Tasmota(), topic, message)
    assert isinstance(reading, Reading)
    return reading


# --- Topics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "device"),
    [
        ("tele/plug/SENSOR", "plug"),
        ("emoncms/town/factory/module_1/tele/SENSOR", "module_1"),
        ("plug/tele/SENSOR", "plug"),
        ("home/tele/plug/SENSOR", "plug"),
        ("tele/cellar/plug/SENSOR", "plug"),
    ],
)
def test_the_prefix_may_stand_anywhere(topic, device):
    dialect = Tasmota()

    assert dialect.claims(topic)
    assert [one.device for one in heard(dialect, topic, ENERGY)] == [device]
    assert any(matches(filter_, topic) for filter_ in dialect.filters)


@pytest.mark.parametrize(
    "topic",
    [
        "wd/v1/m/serial/tele",
        "wd/v1/m/tele/state",
        "shellies/plug/emeter/0/power",
        "zigbee2mqtt/meter",
        "tele/plug/sensor",
        "tele/SENSOR",
        "SENSOR",
        "home/SENSOR",
        "cmnd/plug/Restart",
        "tasmota/discovery/02005E100001/other",
        "tele/pl+ug/SENSOR",
        "",
    ],
)
def test_topics_of_others_are_left_alone(topic):
    assert not Tasmota().claims(topic)
    assert heard(Tasmota(), topic, ENERGY) == []


def test_every_filter_can_be_subscribed_to_and_brings_each_topic_once():
    topics = ["tele/a/LWT", "stat/a/STATUS11", "x/a/tele/SENSOR", "x/y/z/a/tele/SENSOR", "x/tele/a/STATE"]

    for topic in topics:
        assert sum(matches(filter_, topic) for filter_ in FILTERS) == 1, topic


def test_a_discovered_full_topic_is_exact():
    dialect = Tasmota()
    announce(dialect, ft="site/%hostname%/%id%/%prefix%/", tp=["do", "did", "says"])
    topic = "site/cellar-0001/02005E100001/says/SENSOR"

    assert dialect.claims(topic)
    assert [one.device for one in heard(dialect, topic, ENERGY)] == ["cellar_plug"]
    assert not Tasmota().claims(topic)


def test_a_discovered_full_topic_may_have_no_prefix():
    dialect = Tasmota()
    announce(dialect, ft="site/%topic%/")

    assert [one.device for one in heard(dialect, "site/cellar_plug/SENSOR", ENERGY)] == ["cellar_plug"]


@pytest.mark.parametrize("changes", [{"ft": "a/+/%topic%"}, {"t": ""}, {"t": "a#"}, {"t": 5}, {"ft": "%prefix%\n"}])
def test_a_discovery_that_gives_no_topic_is_refused(changes):
    (refusal,) = [one.what for one in announce(Tasmota(), **changes)]

    assert isinstance(refusal, Refusal)


def test_two_devices_of_one_topic_name_are_not_mixed():
    dialect = Tasmota()
    heard(dialect, "house_1/tele/plug/SENSOR", ENERGY)
    (refusal,) = said(dialect, "house_2/tele/plug/SENSOR", ENERGY, at_us=NOW_US + 1)
    again = said(dialect, "house_1/tele/plug/SENSOR", ENERGY, at_us=NOW_US + 2)

    assert isinstance(refusal, Refusal)
    assert isinstance(again[0], Reading)


def test_a_device_whose_full_topic_was_changed_is_followed():
    dialect = Tasmota()
    heard(dialect, "tele/plug/SENSOR", ENERGY)
    later = NOW_US + OTHER_ROOT_AFTER_US

    assert said(dialect, "plug/tele/LWT", b"Offline", retained=True, at_us=NOW_US + 1) == []
    assert isinstance(said(dialect, "plug/tele/SENSOR", ENERGY, at_us=later)[0], Reading)


def test_a_discovered_device_is_heard_only_where_it_said():
    dialect = Tasmota()
    announce(dialect, ft="site/%prefix%/%topic%/")

    (refusal,) = said(dialect, "tele/cellar_plug/SENSOR", ENERGY)

    assert isinstance(refusal, Refusal)


def test_a_renamed_device_leaves_its_old_name():
    dialect = Tasmota()
    announce(dialect)
    announce(dialect, t="kitchen_plug")

    assert list(dialect._devices) == ["kitchen_plug"]
    assert list(dialect._topics._roots) == ["stat/kitchen_plug", "tele/kitchen_plug"]


def test_an_announcement_that_was_deleted_no_longer_binds():
    dialect = Tasmota()
    announce(dialect, ft="site/%prefix%/%topic%/")
    assert heard(dialect, "tasmota/discovery/02005E100001/config", b"") == []

    assert dialect._topics._roots == {}


# --- Presence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retained", [True, False])
@pytest.mark.parametrize(("word", "online"), [(b"Online", True), (b"Offline", False), (b"offline", False)])
def test_the_will_is_presence(word, online, retained):
    assert said(Tasmota(), "tele/plug/LWT", word, retained=retained) == [Presence(online=online)]


def test_the_words_of_the_will_are_the_devices_own():
    dialect = Tasmota()
    announce(dialect, onln="hier", ofln="weg")

    assert said(dialect, "tele/cellar_plug/LWT", b"hier") == [Presence(online=True)]
    assert said(dialect, "tele/cellar_plug/LWT", b"weg") == [Presence(online=False)]


def test_a_will_that_came_before_its_words_is_understood_with_them():
    dialect = Tasmota()
    (refusal,) = said(dialect, "tele/cellar_plug/LWT", b"weg", retained=True)
    known = [one.what for one in announce(dialect, onln="hier", ofln="weg")]

    assert isinstance(refusal, Refusal)
    assert Presence(online=False) in known


@pytest.mark.parametrize("payload", [b"maybe", b"\xff\xfe", b"   ", b"\x00"])
def test_other_words_are_refused(payload):
    (refusal,) = said(Tasmota(), "tele/plug/LWT", payload)

    assert isinstance(refusal, Refusal)


def test_a_deleted_will_says_nothing():
    assert said(Tasmota(), "tele/plug/LWT", b"") == []


# --- Facts ----------------------------------------------------------------------------------------------------------

STATE = {
    "Time": "2026-05-01T10:00:00",
    "Uptime": "1T02:03:04",
    "UptimeSec": 93784,
    "Heap": 146,
    "Channel": [25, 44, 45],
    "Wifi": {
        "AP": 1,
        "SSId": "example",
        "BSSId": "02:00:5E:10:00:AA",
        "Channel": 11,
        "RSSI": 60,
        "Signal": -70,
        "LinkCount": 3,
        "Downtime": "0T00:00:04",
    },
}


def test_the_state_tells_of_the_radio():
    (facts,) = said(Tasmota(), "tele/plug/STATE", STATE)

    assert facts == Facts(
        ssid="example",
        bssid="02:00:5e:10:00:aa",
        channel=11,
        rssi_dbm=-70,
        wifi_connects=3,
        wifi_down_ms=4000,
        uptime_s=93784,
    )


@pytest.mark.parametrize(
    ("wifi", "rssi_dbm"),
    [
        ({"RSSI": 60, "Signal": -70}, -70),
        ({"RSSI": 54, "Signal": -73}, -73),
        # Firmware of 2018: a percentage alone.
        ({"RSSI": 60}, -70),
        ({"RSSI": 54}, -73),
        ({"RSSI": "60"}, -70),
        ({"RSSI": 0}, -100),
        ({"RSSI": 100}, -50),
        # A signal that can not be one is not replaced by what was computed from it.
        ({"RSSI": 100, "Signal": 31}, None),
        ({"RSSI": 100, "Signal": 0}, None),
        ({"RSSI": 101}, None),
        ({"RSSI": -70}, None),
        ({"RSSI": True}, None),
        ({}, None),
    ],
)
def test_a_percentage_is_never_taken_for_dbm(wifi, rssi_dbm):
    facts = said(Tasmota(), "tele/plug/STATE", {"UptimeSec": 1, "Wifi": wifi})[0]

    assert facts.rssi_dbm == rssi_dbm


def test_the_percentage_of_2018_comes_with_other_keys():
    state = {"Uptime": "0T00:01:00", "Wifi": {"SSId": "example", "RSSI": 54, "APMac": "02:00:5E:10:00:AA"}}

    (facts,) = said(Tasmota(), "tele/plug/STATE", state)

    assert facts == Facts(ssid="example", bssid="02:00:5e:10:00:aa", rssi_dbm=-73, uptime_s=60)


@pytest.mark.parametrize("uptime", [5, "5", "0T00:00", "-1T00:00:00", "T::", None, {"a": 1}])
def test_hours_of_older_firmware_are_no_seconds(uptime):
    (facts,) = said(Tasmota(), "tele/plug/STATE", {"Uptime": uptime, "Wifi": {"Signal": -60}})

    assert facts == Facts(rssi_dbm=-60)


def test_the_signal_goes_with_the_readings_of_the_same_moment():
    dialect = Tasmota()
    said(dialect, "tele/plug/STATE", STATE)
    soon = said(dialect, "tele/plug/SENSOR", ENERGY, at_us=NOW_US + SIGNAL_HOLDS_US)
    later = said(dialect, "tele/plug/SENSOR", ENERGY, at_us=NOW_US + SIGNAL_HOLDS_US + 1)

    assert [soon[0].rssi_dbm, later[0].rssi_dbm] == [-70, None]


def test_discovery_tells_what_a_device_is():
    (one,) = announce(Tasmota())

    assert one.device == "cellar_plug"
    assert one.what == Facts(
        name="Cellar", model="Test Plug", firmware="14.2.0", ip="192.0.2.7", mac="02:00:5e:10:00:01"
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"dn": "Tasmota", "fn": ["Oven"]}, "Oven"),
        ({"dn": "Tasmota", "fn": ["Tasmota"]}, "cellar-0001"),
        ({"dn": None, "fn": None}, "cellar-0001"),
    ],
)
def test_the_name_every_device_is_delivered_with_is_none(changes, name):
    (one,) = announce(Tasmota(), **changes)

    assert one.what.name == name


def test_values_of_a_discovery_are_no_reading():
    dialect = Tasmota()
    announce(dialect)

    assert heard(dialect, "tasmota/discovery/02005E100001/sensors", {"sn": ENERGY, "ver": 1}) == []


def test_status_and_info_tell_of_firmware_and_start():
    dialect = Tasmota()
    firmware = {"StatusFWR": {"Version": "13.1.0(tasmota)", "Hardware": "ESP8266EX"}}
    network = {"StatusNET": {"IPAddress": "192.0.2.7", "Mac": "02:00:5E:10:00:01"}}

    assert said(dialect, "stat/plug/STATUS2", firmware) == [Facts(firmware="13.1.0(tasmota)", hardware="ESP8266EX")]
    assert said(dialect, "stat/plug/STATUS5", network) == [Facts(ip="192.0.2.7", mac="02:00:5e:10:00:01")]
    assert said(dialect, "stat/plug/STATUS3", {"StatusLOG": {"TelePeriod": 300}}) == [Facts(period_ms=300_000)]
    assert said(dialect, "stat/plug/STATUS11", {"StatusSTS": STATE})[0].rssi_dbm == -70
    assert said(dialect, "stat/plug/STATUS", {"Status": {"DeviceName": "Oven", "FriendlyName": ["x"]}}) == [
        Facts(name="Oven")
    ]
    assert said(dialect, "stat/plug/STATUS1", {"StatusPRM": {"RestartReason": "Power On", "Uptime": "0T00:00:09"}}) == [
        Facts(reset_reason="Power On", uptime_s=9)
    ]
    assert said(dialect, "tele/plug/INFO1", {"Info1": {"Module": "Plug", "Version": "13.1.0"}}) == [
        Facts(model="Plug", firmware="13.1.0")
    ]
    assert said(dialect, "tele/plug/INFO3", {"RestartReason": "Power On"}) == [Facts(reset_reason="Power On")]
    assert said(dialect, "stat/plug/RESULT", {"TelePeriod": 300}) == [Facts(period_ms=300_000)]


def test_a_status_that_was_asked_for_is_a_reading():
    reading = said(Tasmota(), "stat/plug/STATUS10", {"StatusSNS": {"Time": "2026-05-01T10:00:00"} | ENERGY})[0]

    assert (reading.active_w, reading.drawn_wh) == (42, 1500)


# --- What is retained, and what is refused --------------------------------------------------------------------------


def test_what_is_retained_is_no_reading():
    dialect = Tasmota()
    frame = {"TIC": {"ADCO": "012345678901", "OPTARIF": "BASE", "BASE": 100, "PAPP": 170}}

    assert said(dialect, "tele/plug/SENSOR", ENERGY, retained=True) == []
    assert said(dialect, "stat/plug/STATUS10", {"StatusSNS": ENERGY}, retained=True) == []
    assert said(dialect, "tele/module/SENSOR", frame, retained=True) == [
        Facts(meter_kind="linky-historique", meter_serial="012345678901")
    ]
    # And no part of the next frame.
    assert said(dialect, "tele/module/SENSOR", {"TIC": {"PAPP": 160}})[0].drawn_wh is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"{", "syntax"),
        (b"\xff\xfe", "syntax"),
        (b"[1]", "type"),
        (b"3", "type"),
        (b"null", "type"),
        (b'{"ENERGY":{"Power":nan}}', "syntax"),
        (b'{"ENERGY":[1]}', "type"),
        (b'{"ENERGY":{"Power":"much"}}', "type"),
        (b'{"ENERGY":{"Power":true}}', "type"),
        (b'{"ENERGY":{"Power":1e7}}', "type"),
        (b'{"TIC":{"PAPP":"abc"}}', "type"),
        (b'{"TIC":5}', "type"),
        (b'{"METER":{"P":"abc","PH":1}}', "type"),
        (b'{"a":' * 30_000, "too_large"),
        (b'{"a":' * 12_000 + b"1" + b"}" * 3000, "nesting"),
    ],
)
def test_what_can_not_be_read_is_refused(payload, reason):
    dialect = Tasmota()
    (one,) = heard(dialect, "tele/plug/SENSOR", payload)

    assert one.device == "plug"
    assert isinstance(one.what, Refusal)
    assert one.what.reason == reason
    assert not dialect._devices


@pytest.mark.parametrize("message", [{}, {"AM2301": {"Temperature": 20.1}}, {"ENERGY": {}}, {"METER": {"PH": 1}}])
def test_what_holds_nothing_of_a_meter_is_no_fault(message):
    assert said(Tasmota(), "tele/plug/SENSOR", message) == []


def test_one_device_too_many_is_refused(monkeypatch):
    monkeypatch.setattr("app.protocol.tasmota.MOST_DEVICES", 2)
    dialect = Tasmota()
    heard(dialect, "tele/one/SENSOR", ENERGY)
    heard(dialect, "tele/two/SENSOR", ENERGY)
    (refusal,) = said(dialect, "tele/three/SENSOR", ENERGY)
    (announced,) = announce(dialect)

    assert refusal.reason == announced.what.reason == "too_many_devices"
    assert isinstance(said(dialect, "tele/one/SENSOR", ENERGY)[0], Reading)
    dialect.forget("one")
    assert isinstance(said(dialect, "tele/three/SENSOR", ENERGY)[0], Reading)


def test_forgetting_leaves_nothing():
    dialect = Tasmota()
    announce(dialect)
    heard(dialect, "tele/cellar_plug/SENSOR", ENERGY)
    dialect.forget("cellar_plug")
    dialect.forget("never seen")

    assert not dialect._devices
    assert not dialect._topics._roots
    assert not dialect._topics._roots_of
    assert not dialect._device_of_announcement
