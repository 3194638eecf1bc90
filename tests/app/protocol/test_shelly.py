"""Shelly Gen2 and later: status topics, partial notifications, channels, facts, commands; and what is no message."""

from __future__ import annotations

import json
import pathlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.protocol import shelly
from app.protocol.dialects import Dialects
from app.protocol.foreign import Facts, Heard, Presence, Refusal
from app.protocol.messages import Ack, Cmd, Fota
from app.protocol.shelly import EVENTS_WIN_US, Shelly
from app.protocol.shelly_gen1 import ShellyGen1

CAPTURES = pathlib.Path(__file__).parents[3].parent / "shared" / "captures" / "mqtt"
P = "shellypro3em-02005e100001"
NOW = 1_800_000_000_000_000
EM = {
    "id": 0,
    "a_voltage": 230.5,
    "a_current": 2.0,
    "a_act_power": 400.0,
    "a_aprt_power": 460.0,
    "b_voltage": 231.0,
    "b_current": 0.5,
    "b_act_power": 100.0,
    "b_aprt_power": 115.0,
    "c_voltage": 232.0,
    "c_current": 0.1,
    "c_act_power": -20.0,
    "c_aprt_power": 25.0,
    "n_current": None,
    "total_act_power": 480.0,
    "total_aprt_power": 600.0,
}
EMDATA = {"id": 0, "total_act": 5_000_123.9, "total_act_ret": 77.2}


def take(dialect, topic, message, *, retained=False, at=NOW):
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return list(dialect.take(topic, payload, retained=retained, arrival_us=at))


def notify(dialect, params, *, method="NotifyStatus", prefix=P, src=P, at=NOW):
    message = {"src": src, "dst": f"{prefix}/events", "method": method, "params": {"ts": 1_799_999_999.25, **params}}
    return take(dialect, f"{prefix}/events/rpc", message, at=at)


def of(kind, heard):
    return [(one.device, one.what) for one in heard if isinstance(one.what, kind)]


def readings(heard):
    return of(Reading, heard)


def test_three_phases_are_one_reading():
    heard = readings(take(Shelly(), f"{P}/status/em:0", EM))
    assert heard == [
        (
            P,
            Reading(
                active_w=480.0,
                apparent_va=600.0,
                voltage_v=230.5,
                current_a=2.0,
                voltage_2_v=231.0,
                current_2_a=0.5,
                voltage_3_v=232.0,
                current_3_a=0.1,
            ),
        )
    ]


def test_indexes_are_wh_and_join_the_next_reading_once():
    dialect = Shelly()
    assert readings(take(dialect, f"{P}/status/emdata:0", EMDATA)) == []
    first, second = (readings(take(dialect, f"{P}/status/em:0", EM))[0][1] for _ in range(2))
    assert (first.drawn_wh, first.injected_wh) == (5_000_123, 77)
    assert (second.drawn_wh, second.injected_wh, second.active_w) == (None, None, 480.0)


def test_an_index_in_the_same_message_joins_its_power():
    [(_, reading)] = readings(notify(Shelly(), {"em:0": EM, "emdata:0": EMDATA}))
    assert (reading.drawn_wh, reading.time_ms) == (5_000_123, 1_799_999_999_250)


def test_a_notification_is_partial_and_overlays_the_last_status():
    dialect = Shelly()
    notify(dialect, {"em:0": EM}, method="NotifyFullStatus")
    [(_, reading)] = readings(notify(dialect, {"em:0": {"id": 0, "a_voltage": 229.0, "total_act_power": 500.0}}))
    assert (reading.active_w, reading.voltage_v, reading.voltage_2_v, reading.current_3_a) == (500.0, 229.0, 231.0, 0.1)
    # What it did not bring is not said again: the apparent power belongs to another instant.
    assert reading.apparent_va is None


def test_one_phase_that_changed_changes_the_total():
    dialect = Shelly()
    notify(dialect, {"em:0": EM})
    [(_, reading)] = readings(notify(dialect, {"em:0": {"c_act_power": 30.0}}))
    assert reading.active_w == 400.0 + 100.0 + 30.0


def test_one_phase_alone_is_no_total():
    assert readings(notify(Shelly(), {"em:0": {"a_act_power": 30.0}})) == []


def test_a_partial_without_power_is_kept_for_the_next_and_makes_no_reading():
    dialect = Shelly()
    notify(dialect, {"em:0": EM})
    assert readings(notify(dialect, {"em:0": {"b_voltage": 240.0}})) == []
    [(_, reading)] = readings(notify(dialect, {"em:0": {"total_act_power": 1.0}}))
    assert reading.voltage_2_v == 240.0


def test_null_is_unknown_from_then_on():
    dialect = Shelly()
    notify(dialect, {"em:0": EM})
    assert readings(notify(dialect, {"em:0": {"total_act_power": None, "total_aprt_power": None}})) == []
    [(_, reading)] = readings(notify(dialect, {"em:0": {"total_act_power": 5.0, "c_voltage": None}}))
    assert (reading.active_w, reading.voltage_3_v) == (5.0, None)


def test_a_full_status_replaces_what_was_known():
    dialect = Shelly()
    notify(dialect, {"em:0": EM})
    [(_, reading)] = readings(notify(dialect, {"em:0": {"total_act_power": 5.0}}, method="NotifyFullStatus"))
    assert (reading.active_w, reading.voltage_v) == (5.0, None)


def test_a_device_that_was_away_starts_without_its_old_values():
    dialect = Shelly()
    notify(dialect, {"em:0": EM})
    take(dialect, f"{P}/online", b"false")
    [(_, reading)] = readings(notify(dialect, {"em:0": {"total_act_power": 5.0}}))
    assert reading.voltage_v is None


def test_both_ways_of_publishing_give_one_reading_each_time():
    dialect = Shelly()
    assert len(readings(notify(dialect, {"em:0": EM}))) == 1
    assert readings(take(dialect, f"{P}/status/em:0", EM, at=NOW + 1)) == []
    assert len(readings(take(dialect, f"{P}/status/em:0", EM, at=NOW + EVENTS_WIN_US))) == 1


def test_channels_of_their_own_are_devices_of_their_own():
    dialect = Shelly()
    prefix = "shellyproem50-02005e100002"
    assert take(dialect, f"{prefix}/online", b"true") == []  # nobody knows yet which channels there are
    take(dialect, f"{prefix}/status/wifi", {"rssi": -61, "ssid": "x", "sta_ip": "192.0.2.7", "status": "got ip"})
    em1 = {"id": 0, "voltage": 230.0, "current": 1.5, "act_power": -345.0, "aprt_power": 350.0, "pf": -0.98}
    heard = notify(
        dialect,
        {
            "em1:0": em1,
            "em1data:0": {"total_act_energy": 10.5, "total_act_ret_energy": 2.0},
            "em1:1": {"act_power": 7.0},
        },
        prefix=prefix,
        src=prefix,
    )
    first, second = readings(heard)
    assert first[0] == f"{prefix}:0"
    assert (first[1].active_w, first[1].apparent_va, first[1].voltage_v, first[1].current_a) == (-345, 350, 230, 1.5)
    assert (first[1].drawn_wh, first[1].injected_wh) == (10, 2)
    assert (second[0], second[1].active_w, second[1].drawn_wh) == (f"{prefix}:1", 7.0, None)
    # Each is told what was heard before, and what comes after.
    assert of(Presence, heard) == [(f"{prefix}:0", Presence(True)), (f"{prefix}:1", Presence(True))]
    assert [(device, facts.rssi_dbm) for device, facts in of(Facts, heard)] == [
        (f"{prefix}:0", -61),
        (f"{prefix}:1", -61),
    ]
    assert [one.device for one in take(dialect, f"{prefix}/online", b"false")] == [f"{prefix}:0", f"{prefix}:1"]


def test_a_three_phase_meter_in_the_monophase_profile_has_three_channels():
    params = {f"em1:{n}": {"act_power": 10.0 * n} for n in range(3)}
    assert [device for device, _ in readings(notify(Shelly(), params))] == [f"{P}:0", f"{P}:1", f"{P}:2"]


def test_facts_of_wifi_and_system():
    dialect = Shelly()
    heard = notify(
        dialect,
        {
            "wifi": {"rssi": -57, "ssid": "example", "sta_ip": "192.0.2.1", "status": "got ip"},
            "sys": {
                "uptime": 501683,
                "mac": "02005E100001",
                "reset_reason": 3,
                "available_updates": {"stable": {"version": "1.6.2"}, "beta": {"version": "1.7.0-beta1"}},
            },
        },
    )
    seen = {}
    for device, facts in of(Facts, heard):
        assert device == P
        seen |= msgspec.to_builtins(facts)
    assert seen == {
        "maker": "Shelly",
        "model": "shellypro3em",
        "mac": "02:00:5E:10:00:01",
        "rssi_dbm": -57,
        "ssid": "example",
        "ip": "192.0.2.1",
        "uptime_s": 501683,
        "reset_reason": "software",
        "newer_firmware": "1.6.2",
    }
    [(_, none)] = of(Facts, notify(dialect, {"sys": {"available_updates": {}}}))
    assert none.newer_firmware == ""
    [(_, some)] = of(Facts, notify(dialect, {"sys": {"uptime": 5}}))
    assert some.newer_firmware is None


@pytest.mark.parametrize("rssi", [0, 12, -200, "-57", True, -57.5, None])
def test_a_signal_of_zero_or_nonsense_is_unknown(rssi):
    heard = take(Shelly(), f"{P}/status/wifi", {"rssi": rssi, "ssid": "example", "sta_ip": None})
    assert all(facts.rssi_dbm is None for _, facts in of(Facts, heard))


def test_the_signal_joins_a_reading_only_of_the_same_message():
    dialect = Shelly()
    wifi = {"rssi": -57, "ssid": "x", "sta_ip": "192.0.2.1"}
    assert readings(notify(dialect, {"em:0": EM, "wifi": wifi}))[0][1].rssi_dbm == -57
    assert readings(notify(dialect, {"em:0": EM}))[0][1].rssi_dbm is None


def test_a_retained_message_is_no_reading():
    dialect = Shelly()
    heard = take(dialect, f"{P}/status/em:0", EM, retained=True)
    heard += take(dialect, f"{P}/status/emdata:0", EMDATA, retained=True)
    assert readings(heard) == []
    assert of(Presence, take(dialect, f"{P}/online", b"true", retained=True)) == [(P, Presence(True))]
    # Nor does it join a later one.
    [(_, reading)] = readings(take(dialect, f"{P}/status/em:0", {"total_act_power": 1.0}))
    assert (reading.voltage_v, reading.drawn_wh) == (None, None)


@pytest.mark.parametrize("ts", [0, 12.5, -1, 1e400, True, "1799999999", None])
def test_a_clock_that_was_never_set_gives_no_time(ts):
    payload = json.dumps({"src": P, "method": "NotifyStatus", "params": {"ts": ts, "em:0": EM}}).replace(
        "Infinity", "1e400"
    )
    heard = take(Shelly(), f"{P}/events/rpc", payload.encode())
    assert all(reading.time_ms is None for _, reading in readings(heard))


@pytest.mark.parametrize(
    ("value", "reason"),
    [("480", "type"), (True, "type"), ([1], "type"), (1e7, "range"), (-1e300, "range"), (2**70, "range")],
)
def test_a_value_that_can_not_be_is_refused_and_the_rest_is_used(value, reason):
    heard = take(Shelly(), f"{P}/status/em:0", {**EM, "total_aprt_power": value})
    assert [(device, refusal.reason) for device, refusal in of(Refusal, heard)] == [(P, reason)]
    [(_, reading)] = readings(heard)
    assert (reading.active_w, reading.apparent_va) == (480.0, None)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (f"{P}/status/em:0", b"\xff\xfe", "syntax"),
        (f"{P}/status/em:0", b"NaN", "syntax"),
        (f"{P}/status/em:0", b"[1]", "type"),
        (f"{P}/status/em:0", b'{"a":' * 5000, "nesting"),
        (f"{P}/status/em:0", b" " * 70_000, "too_large"),
        (f"{P}/status/em:0", b"", "syntax"),
        (f"{P}/online", b"maybe", "type"),
        (f"{P}/events/rpc", b"{}", "missing"),
        (f"{P}/events/rpc", b'{"method":"NotifyEvent","params":{"events":7}}', "type"),
        (f"{P}/events/rpc", b'{"method":"NotifyStatus","params":{"em:0":7}}', "type"),
        (f"wattdeck/{P}/rpc", b'{"id":null}', "missing"),
    ],
)
def test_what_is_no_message_is_refused(topic, payload, reason):
    [refusal] = [one.what for one in take(Shelly(), topic, payload) if isinstance(one.what, Refusal)]
    assert refusal.reason == reason


def test_updates_are_told_as_they_happen():
    dialect = Shelly()
    seen = []
    for event in (
        {"event": "ota_begin", "msg": "Waiting for start"},
        {"event": "ota_progress", "progress_percent": 42},
        {"event": "ota_success"},
        {"event": "ota_error", "msg": "bad signature"},
        {"event": "something_new"},
        7,
    ):
        heard = notify(dialect, {"events": [event]}, method="NotifyEvent")
        seen += [(fota.phase, fota.percent, fota.error, fota.detail) for _, fota in of(Fota, heard)]
    assert seen == [
        ("downloading", None, None, "Waiting for start"),
        ("downloading", 42.0, None, None),
        ("done", None, None, None),
        ("failed", None, "device", "bad signature"),
    ]


def test_commands_are_requests_and_their_answers_acks():
    dialect = Shelly()
    [sending] = dialect.send(f"{P}:1", Cmd(id="c-7", name="reboot", args={"delay_s": 2}))
    request = json.loads(sending.payload)
    assert (sending.topic, sending.qos, sending.retain) == (f"{P}/rpc", 1, False)
    assert request == {
        "id": "c-7",
        "src": f"wattdeck/{P}:1",
        "method": "Shelly.Reboot",
        "params": {"delay_ms": 2000},
    }
    # A device answers on <src>/rpc, to the one that asked.
    answer_topic = f"{request['src']}/rpc"
    assert dialect.claims(answer_topic)
    assert take(dialect, answer_topic, {"id": "c-7", "src": P, "dst": request["src"], "result": None}) == [
        Heard(f"{P}:1", Ack(id="c-7", result="done"))
    ]
    error = {"id": "c-7", "src": P, "error": {"code": -103, "message": "Invalid argument"}}
    assert take(dialect, answer_topic, error) == [
        Heard(f"{P}:1", Ack(id="c-7", result="failed", detail="Invalid argument (-103)"))
    ]


@pytest.mark.parametrize(
    ("args", "params"),
    [
        (None, {"stage": "stable"}),
        ({"stage": "beta"}, {"stage": "beta"}),
        ({"url": "http://192.0.2.1/fw.zip"}, {"url": "http://192.0.2.1/fw.zip"}),
        ({"stage": "nightly"}, None),
        ({"stage": 7}, None),
        ({"url": "file:///etc/passwd"}, None),
    ],
)
def test_update_by_stage_or_url(args, params):
    sent = Shelly().send(P, Cmd(id="u", name="update", args=args))
    assert (sent and json.loads(sent[0].payload)["params"]) == params


@pytest.mark.parametrize("name", ["set_period", "identify", "send_log", "sync_clock", "nonsense"])
def test_a_command_it_does_not_have(name):
    assert Shelly().send(P, Cmd(id="x", name=name)) is None


@pytest.mark.parametrize("device", ["", "a/+", "#", "x" * 200])
def test_no_command_goes_where_no_device_can_be(device):
    assert Shelly().send(device, Cmd(id="x", name="reboot")) is None


def test_diagnose_brings_a_reading_facts_and_an_answer():
    dialect = Shelly()
    request = json.loads(dialect.send(P, Cmd(id="d-1", name="diagnose"))[0].payload)
    assert request["method"] == "Shelly.GetStatus"
    status = {
        "em:0": EM,
        "emdata:0": EMDATA,
        "wifi": {"rssi": -60},
        "sys": {"uptime": 9},
        "cloud": {"connected": False},
    }
    heard = take(dialect, f"{request['src']}/rpc", {"id": "d-1", "src": P, "result": status})
    [(_, reading)] = readings(heard)
    assert (reading.active_w, reading.drawn_wh, reading.rssi_dbm) == (480.0, 5_000_123, -60)
    [(device, ack)] = of(Ack, heard)
    assert (device, ack.result, ack.data["rssi_dbm"], ack.data["uptime_s"]) == (P, "done", -60, 9)


def test_an_announcement_says_the_firmware():
    info = {"name": "Cellar", "id": P, "mac": "02005E100001", "model": "SPEM-003CEBEU", "ver": "1.4.4", "app": "Pro3EM"}
    facts = of(Facts, take(Shelly(), f"{P}/announce", info, retained=True))[-1][1]
    assert (facts.name, facts.firmware, facts.model, facts.hardware) == ("Cellar", "1.4.4", "Pro3EM", "SPEM-003CEBEU")


def test_a_free_prefix_is_claimed_by_shape_and_then_known():
    dialect = Shelly()
    prefix = "maison/compteur"
    assert not dialect.claims(f"{prefix}/online")
    assert dialect.claims(f"{prefix}/status/em:0")
    heard = notify(dialect, {"em:0": EM}, prefix=prefix)
    assert [device for device, _ in readings(heard)] == [prefix]
    assert of(Facts, heard)[-1][1].model == "shellypro3em"  # by src
    assert dialect.claims(f"{prefix}/online")
    assert of(Presence, take(dialect, f"{prefix}/online", b"true")) == [(prefix, Presence(True))]
    [sending] = dialect.send(prefix, Cmd(id="r", name="reboot"))
    assert sending.topic == f"{prefix}/rpc"
    assert dialect.claims(f"wattdeck/{prefix}/rpc")


def test_what_only_looks_like_a_status_is_nobodys():
    dialect = Shelly()
    assert take(dialect, "garage/status/wifi", {"connected": True}) == []
    assert take(dialect, "garage/status/sys", b"ok") == []
    assert not dialect.claims("garage/online")
    assert not dialect.claims("garage/status/temperature:0")
    assert not dialect.claims("shellies/shellyem-AABBCC/online")
    assert not dialect.claims("wd/v1/m/x/tele")


def test_a_gen2_device_below_shellies_is_not_taken_for_gen1():
    both = Dialects([ShellyGen1(), Shelly()])
    base = f"shellies/{P}"
    for rest, message in (("online", b"true"), ("status/em:0", json.dumps(EM).encode())):
        said = both.take(f"{base}/{rest}", message, retained=False, arrival_us=NOW)
        assert said
        assert {(one.dialect, one.device) for one in said} == {("shelly", base)}


def test_filters_bring_every_topic_it_takes():
    def matches(pattern, topic):
        want, have = pattern.split("/"), topic.split("/")
        if want[-1] == "#":
            return have[: len(want) - 1] == want[:-1]
        return len(want) == len(have) and all(w in ("+", h) for w, h in zip(want, have, strict=True))

    for prefix in (P, f"home/{P}", f"a/b/{P}"):
        for rest in ("online", "events/rpc", "status/em:0", "status/wifi", "status", "announce"):
            assert any(matches(pattern, f"{prefix}/{rest}") for pattern in Shelly.filters), rest
    assert any(matches(pattern, f"wattdeck/a/{P}:0/rpc") for pattern in Shelly.filters)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(shelly, "MOST_DEVICES", 2)
    dialect = Shelly()
    for n in range(5):
        for topic, message in ((f"x{n}/status/em:0", EM), (f"shelly{n}/online", b"true")):
            heard = take(dialect, topic, message)
            if (n, topic[0]) not in {(0, "x"), (0, "s")}:
                assert heard == [Heard("", Refusal("too_many_devices", topic.partition("/")[0]))]
    assert len(dialect._modules) == 2
    dialect.forget("x0")
    assert readings(take(dialect, "x9/status/em:0", EM))


def test_forgetting_one_channel_keeps_the_other():
    dialect = Shelly()
    notify(dialect, {"em1:0": {"act_power": 1.0, "voltage": 230.0}, "em1:1": {"act_power": 2.0, "voltage": 231.0}})
    dialect.forget(f"{P}:0")
    [first, second] = readings(notify(dialect, {"em1:0": {"act_power": 3.0}, "em1:1": {"act_power": 4.0}}))
    assert (first[1].voltage_v, second[1].voltage_v) == (None, 231.0)
    dialect.forget(f"{P}:0")
    dialect.forget(f"{P}:1")
    assert dialect._modules == {}


KEYS = ["em:0", "em:1", "em1:0", "emdata:0", "em1data:0", "wifi", "sys", "ts", "events", "temperature:0"]
INNER = [*EM, *EMDATA, "act_power", "voltage", "total_act_energy", "rssi", "ssid", "sta_ip", "mac", "uptime"]
INNER += ["available_updates", "stable", "version", "reset_reason", "event", "progress_percent", "msg", "ts"]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.sampled_from(["ota_begin"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=6)
)
statuses = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
messages = (
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["NotifyStatus", "NotifyFullStatus", "NotifyEvent"]) | values,
            "params": statuses | values,
            "result": statuses | values,
            "error": values,
            "id": values,
            "src": values,
        },
    )
    | statuses
    | values
)
prefixes = st.sampled_from([P, "shellyem-x", "home/x", "", "/", "shellies/a"]) | st.text(max_size=8)
rests = st.sampled_from(["online", "events/rpc", "status", "announce", "rpc", *(f"status/{key}" for key in KEYS)])
topics = (
    st.builds("{}/{}".format, prefixes, rests) | st.builds("wattdeck/{}/rpc".format, prefixes) | st.text(max_size=30)
)
payloads = messages.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60) | st.sampled_from([b"true"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(topics, payloads, st.booleans(), st.integers(0, 2**62)), min_size=1, max_size=6))
def test_it_never_raises_and_says_nothing_that_is_out_of_bounds(sequence):
    dialect = Shelly()
    for topic, payload, retained, at in sequence:
        dialect.claims(topic)
        for one in dialect.take(topic, payload, retained=retained, arrival_us=at):
            assert isinstance(one, Heard)
            if isinstance(one.what, (Reading, Fota, Ack)):
                # The bounds stand in the types.
                msgspec.convert(msgspec.to_builtins(one.what), type(one.what), strict=True)
            assert not (retained and isinstance(one.what, (Reading, Ack)))
        assert dialect.due(at) == ()


def lines(name):
    for line in (CAPTURES / name).read_text().splitlines():
        topic, _, payload = line.partition(" ")
        yield topic, payload.encode()


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real modules are not at hand (../shared/captures/mqtt)")
class TestCaptures:
    def test_status_topics(self):
        dialect = Shelly()
        heard = []
        for topic, payload in lines("shelly_gen2_pro3em_status_topics.log"):
            assert dialect.claims(topic)
            heard += take(dialect, topic, payload)
        assert {one.device for one in heard} == {"shellypro3em-aabbccddeeff"}
        # One message brings a power: em:0 stands before emdata:0, so no index joins it.
        [(_, reading)] = readings(heard)
        assert (reading.active_w, reading.apparent_va, reading.voltage_3_v) == (2413.825, 2525.779, 230.2)
        assert reading.drawn_wh is None
        assert len(of(Presence, heard)) == 1
        assert of(Refusal, heard) == []
        assert {facts.rssi_dbm for _, facts in of(Facts, heard)} >= {-57}

    def test_a_whole_status_as_one_message(self):
        payload = (CAPTURES / "shelly_gen2_pro3em_getstatus.json").read_bytes()
        heard = take(Shelly(), "shellypro3em-aabbccddeeff/status", payload)
        [(_, reading)] = readings(heard)
        assert (reading.active_w, reading.drawn_wh, reading.injected_wh, reading.rssi_dbm) == (
            2413.825,
            5415414,
            0,
            -57,
        )
        assert of(Refusal, heard) == []
