"""The generic dialect: units, readings, presence, facts, commands, bounds."""

from __future__ import annotations

import pytest

from app.domain.reading import Reading
from app.protocol import home_assistant_registry
from app.protocol.dialects import Dialects
from app.protocol.foreign import Dialect, Facts
from app.protocol.home_assistant import HomeAssistant
from app.protocol.messages import Fota
from tests.app.protocol.discovery import Ear, facts, presences, readings, refusals, sensor, values

STATE = "meter/state"


def test_it_is_a_dialect():
    dialect: Dialect = HomeAssistant()
    assert Dialects([dialect]).of_topic("homeassistant/sensor/x/config") is dialect


# --- Units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "device_class", "payload", "expected"),
    [
        ("W", "power", "1500.5", {"active_w": 1500.5}),
        ("kW", "power", "1.5", {"active_w": 1500}),
        ("W", None, "-20", {"active_w": -20}),
        ("VA", "apparent_power", "620", {"apparent_va": 620}),
        ("kVA", "apparent_power", "0.62", {"apparent_va": 620}),
        # The class says power, the unit says what it is.
        ("VA", "power", "620", {"apparent_va": 620}),
        ("Wh", "energy", "1234567", {"drawn_wh": 1234567}),
        ("kWh", "energy", "1234.5678", {"drawn_wh": 1234568}),
        ("MWh", "energy", "1.5", {"drawn_wh": 1_500_000}),
        ("A", "current", "2.5", {"current_a": 2.5}),
        ("mA", "current", "2500", {"current_a": 2.5}),
        ("V", "voltage", "230", {"voltage_v": 230}),
        # Never as something else.
        ("W", "apparent_power", "620", {}),
        ("VA", "energy", "620", {}),
        ("kWh", "power", "620", {}),
        ("var", "reactive_power", "620", {}),
        ("VArh", "energy", "620", {}),
        ("m³", "gas", "620", {}),
        ("%", "power_factor", "98", {}),
        (None, "energy", "620", {}),
        (None, "power", "620", {}),
        ("°C", "temperature", "20", {}),
        ("dBm", "signal_strength", "-60", {}),
    ],
)
def test_a_unit_and_a_class(unit, device_class, payload, expected):
    ear = Ear()
    ear.config("sensor/m/thing", sensor(unit, device_class))
    what = ear.said(STATE, payload) + ear.wait(2) if ear.dialect.claims(STATE) else []
    assert [values(one) for one in readings(what)] == ([expected] if expected else [])


@pytest.mark.parametrize("payload", ["true", "inf", "-inf", "on", "1_000", "0x10", "12,5", "1e999", "1e6 W", "[1]"])
def test_what_is_no_number_is_refused(payload):
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power"))
    assert refusals(ear.said(STATE, payload)) == ["type"]
    assert ear.wait(5) == []


@pytest.mark.parametrize("payload", ["1000001", "-1e30", str(2**70)])
def test_what_no_meter_shows_is_refused(payload):
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power"))
    assert set(refusals(ear.said(STATE, payload))) <= {"range", "type"}
    assert refusals(ear.said(STATE, payload))
    assert ear.wait(5) == []


@pytest.mark.parametrize("payload", ["", "unknown", "unavailable", "None", "null", "nan"])
def test_words_for_no_value_are_no_fault(payload):
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power"))
    assert ear.said(STATE, payload) == []
    assert ear.wait(5) == []


# --- Readings -------------------------------------------------------------------------------------------------------


def json_meter(ear: Ear) -> list[object]:
    heard = ear.config("sensor/m/power", sensor("W", "power", value_template="{{ value_json.p }}"))
    heard += ear.config("sensor/m/energy", sensor("kWh", "energy", value_template="{{ value_json.e | float }}"))
    return heard + ear.config("sensor/m/voltage", sensor("V", "voltage", value_template="{{ value_json.u }}"))


def test_one_json_message_is_one_reading():
    ear = Ear()
    json_meter(ear)
    what = ear.said(STATE, {"p": 100, "e": "2.5", "u": 231})
    assert [values(one) for one in what] == [{"active_w": 100, "drawn_wh": 2500, "voltage_v": 231}]
    # Each message stands for itself, with what it has.
    assert [values(one) for one in ear.said(STATE, {"p": 120})] == [{"active_w": 120}]
    assert ear.wait(60) == []


def test_topics_of_a_moment_are_one_reading():
    ear = Ear()
    for name, unit in (("power", "W"), ("energy", "Wh"), ("voltage", "V")):
        ear.config(f"sensor/m/{name}", sensor(unit, name, state_topic=f"meter/{name}"))
    assert ear.said("meter/power", "100") == []
    assert ear.wait(0.4) == []
    assert ear.said("meter/energy", "5000") == []
    assert ear.wait(0.4) == []
    assert ear.said("meter/voltage", "230") == []
    assert ear.wait(0.4) == []
    assert [values(one) for one in ear.wait(0.4)] == [{"active_w": 100, "drawn_wh": 5000, "voltage_v": 230}]
    assert ear.wait(10) == []


def test_the_same_value_again_begins_the_next_reading():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power", state_topic="meter/power"))
    ear.config("sensor/m/energy", sensor("Wh", "energy", state_topic="meter/energy"))
    ear.said("meter/power", "100")
    ear.said("meter/energy", "5000")
    ear.wait(1)
    assert [values(one) for one in ear.said("meter/power", "110")] == [{"active_w": 100, "drawn_wh": 5000}]
    assert ear.wait(1) == []
    assert [values(one) for one in ear.wait(1)] == [{"active_w": 110}]


def test_a_window_that_nobody_ended_does_not_take_later_values():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power", state_topic="meter/power"))
    ear.config("sensor/m/energy", sensor("Wh", "energy", state_topic="meter/energy"))
    ear.said("meter/power", "100")
    ear.now_us += 10_000_000
    assert [values(one) for one in ear.said("meter/energy", "5000")] == [{"active_w": 100}]


def test_a_clock_that_goes_back_holds_no_reading():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power"))
    ear.said(STATE, "100")
    assert len(readings(ear.wait(-3600))) == 1


def test_retained_values_are_old_news():
    ear = Ear()
    json_meter(ear)
    assert ear.said(STATE, {"p": 100, "e": 2.5, "u": 231}, retained=True) == []
    assert ear.wait(10) == []


def test_the_total_and_the_tariffs_of_a_contract():
    ear = Ear()
    for name in ("energy_total", "energy_tariff_1", "energy_tariff_2", "energy_returned", "energy_today"):
        ear.config(f"sensor/m/{name}", sensor("kWh", "energy", value_template=f"{{{{ value_json.{name} }}}}"))
    what = ear.said(
        STATE,
        {
            "energy_total": 30,
            "energy_tariff_1": 10,
            "energy_tariff_2": 20,
            "energy_returned": 3,
            "energy_today": 1,
        },
    )
    assert [values(one) for one in what] == [
        {"drawn_wh": 30_000, "injected_wh": 3000, "registers_wh": {1: 10_000, 2: 20_000}}
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("HCHC", "HCHP"), {"drawn_wh": 3000, "registers_wh": {1: 1000, 2: 2000}}),
        (("EJPHN", "EJPHPM"), {"drawn_wh": 3000, "registers_wh": {1: 1000, 2: 2000}}),
        (
            ("BBRHCJB", "BBRHPJB", "BBRHCJW", "BBRHPJW", "BBRHCJR", "BBRHPJR"),
            {"drawn_wh": 21_000, "registers_wh": {1: 1000, 2: 2000, 3: 3000, 4: 4000, 5: 5000, 6: 6000}},
        ),
        (("BASE",), {"drawn_wh": 1000, "registers_wh": {1: 1000}}),
        (("EASF01", "EASF02"), {"registers_wh": {1: 1000, 2: 2000}}),
        (("EASF10",), {"registers_wh": {10: 1000}}),
        (("EAST",), {"drawn_wh": 1000}),
        (("EAIT",), {"injected_wh": 1000}),
        # The distributor's registers, reactive energy: not ours.
        (("EASD01", "EASD02"), {}),
    ],
)
def test_registers_have_the_numbers_that_they_have_elsewhere(labels, expected):
    ear = Ear()
    message = {}
    for number, label in enumerate(labels, start=1):
        ear.config(f"sensor/m/{label}", sensor("kWh", "energy", value_template=f"{{{{ value_json.{label} }}}}"))
        message[label] = number
    what = ear.said(STATE, message) if ear.dialect.claims(STATE) else []
    assert [values(one) for one in readings(what)] == ([expected] if expected else [])


def test_several_energies_and_none_the_total_give_none():
    ear = Ear()
    for name in ("fridge", "oven"):
        ear.config(f"sensor/m/{name}", sensor("kWh", "energy", value_template=f"{{{{ value_json.{name} }}}}"))
    ear.config("sensor/m/power", sensor("W", "power", value_template="{{ value_json.p }}"))
    assert [values(one) for one in ear.said(STATE, {"fridge": 1, "oven": 2, "p": 5})] == [{"active_w": 5}]


@pytest.mark.parametrize(
    "name", ["power_max", "peak_power", "power_today", "power_limit", "average_power", "power_factor"]
)
def test_maxima_limits_and_means_are_not_now(name):
    ear = Ear()
    ear.config("sensor/m/energy", sensor("kWh", "energy", value_template="{{ value_json.e }}"))
    ear.config(f"sensor/m/{name}", sensor("W", "power", value_template="{{ value_json.p }}"))
    assert [values(one) for one in ear.said(STATE, {"e": 1, "p": 5})] == [{"drawn_wh": 1000}]


def test_three_phases():
    ear = Ear()
    for phase in "abc":
        for name, unit in (("power", "W"), ("voltage", "V"), ("current", "A")):
            key = f"{name}_phase_{phase}"
            ear.config(f"sensor/m/{key}", sensor(unit, name, value_template=f"{{{{ value_json.{key} }}}}"))
    whole = {f"power_phase_{p}": n for n, p in enumerate("abc", start=100)}
    whole |= {f"voltage_phase_{p}": n for n, p in enumerate("abc", start=230)}
    whole |= {f"current_phase_{p}": n for n, p in enumerate("abc", start=1)}
    assert [values(one) for one in ear.said(STATE, whole)] == [
        {
            "active_w": 303,
            "voltage_v": 230,
            "voltage_2_v": 231,
            "voltage_3_v": 232,
            "current_a": 1,
            "current_2_a": 2,
            "current_3_a": 3,
        }
    ]
    # One phase is not the whole.
    assert [values(one) for one in ear.said(STATE, {"power_phase_a": 5, "voltage_phase_a": 229})] == [
        {"voltage_v": 229}
    ]


# --- Configs over time ----------------------------------------------------------------------------------------------


def test_a_template_outside_the_subset_is_told_once():
    ear = Ear()
    config = sensor("W", "power", value_template="{{ states('sensor.x') }}")
    what = ear.config("sensor/m/power", config)
    assert refusals(what) == ["format"]
    assert "states('sensor.x')" in next(one.detail for one in what if not isinstance(one, Facts))
    # The same again, and again with another name.
    assert ear.config("sensor/m/power", config) == []
    assert refusals(ear.config("sensor/m/power", config | {"icon": "mdi:flash"})) == []
    assert ear.said(STATE, "5") == []
    assert ear.wait(5) == []


def test_a_template_that_nobody_needs_is_not_told():
    ear = Ear()
    assert ear.config("sensor/m/boot", sensor(None, "timestamp", value_template="{{ as_datetime(value) }}")) == []


def test_an_empty_payload_deletes_the_entity():
    ear = Ear()
    json_meter(ear)
    assert ear.config("sensor/m/power", b"") == []
    assert [values(one) for one in ear.said(STATE, {"p": 100, "e": 1})] == [{"drawn_wh": 1000}]
    ear.config("sensor/m/energy", b"")
    ear.config("sensor/m/voltage", b"")
    assert not ear.dialect.claims(STATE)
    assert ear.send("meter-1", "reboot") is None


def test_a_changed_config_counts_from_now_on():
    ear = Ear()
    ear.config("sensor/m/energy", sensor("kWh", "energy"))
    ear.config("sensor/m/energy", sensor("Wh", "energy", state_topic="meter/wh"))
    assert not ear.dialect.claims(STATE)
    ear.said("meter/wh", "700")
    assert [values(one) for one in ear.wait(2)] == [{"drawn_wh": 700}]


def test_a_whole_device_in_one_message():
    ear = Ear()
    config = {
        "dev": {"ids": ["plug-7"], "name": "Plug", "mf": "Maker", "mdl": "P1", "sw": "3.1"},
        "stat_t": "plug/state",
        "cmps": {
            "power": {"p": "sensor", "dev_cla": "power", "unit_of_meas": "W", "val_tpl": "{{ value_json.power }}"},
            "energy": {"p": "sensor", "dev_cla": "energy", "unit_of_meas": "kWh", "val_tpl": "{{ value_json.kwh }}"},
        },
    }
    what = ear.config("device/plug-7", config)
    assert facts(what) == {"name": "Plug", "maker": "Maker", "model": "P1", "firmware": "3.1"}
    assert [values(one) for one in ear.said("plug/state", {"power": 1, "kwh": 2})] == [
        {"active_w": 1, "drawn_wh": 2000}
    ]
    ear.config("device/plug-7", b"")
    assert not ear.dialect.claims("plug/state")


def test_devices_that_measure_nothing_of_ours_are_not_told_of():
    ear = Ear()
    bulb = {"state_topic": "z/bulb", "device": {"identifiers": ["bulb"], "name": "Bulb"}, "availability_topic": "z/up"}
    assert ear.config("light/bulb/light", bulb) == []
    battery = bulb | {"unit_of_measurement": "V", "device_class": "voltage"}
    assert ear.config("sensor/bulb/battery", battery) == []
    quality = bulb | {"unit_of_measurement": "lqi", "value_template": "{{ value_json.linkquality }}"}
    assert ear.config("sensor/bulb/linkquality", quality) == []
    assert ear.said("z/up", "online") == []
    assert facts(ear.said("z/bulb", {"linkquality": 7})) == {}


def test_topics_that_others_claim_are_left_to_them():
    ear = Ear(HomeAssistant(claimed_elsewhere=lambda topic: topic.startswith("tele/")))
    assert ear.config("sensor/t/power", sensor("W", "power", state_topic="tele/plug/SENSOR")) == []
    assert not ear.dialect.claims("tele/plug/SENSOR")
    ear.config("sensor/t/power", sensor("W", "power", state_topic="own/plug"))
    assert ear.dialect.claims("own/plug")


@pytest.mark.parametrize("topic", ["wd/v1/m/X1/tele", "$SYS/broker/uptime", "wd/v1/m/X1/cmd"])
def test_nobody_can_claim_our_own_topics(topic):
    ear = Ear()
    assert ear.config("sensor/m/power", sensor("W", "power", state_topic=topic)) == []
    assert not ear.dialect.claims(topic)
    assert ear.dialect.take(topic, b"5", retained=False, arrival_us=1) == ()


def test_filters_grow_with_the_configs():
    ear = Ear()
    before = set(ear.dialect.filters)
    assert "homeassistant/+/+/config" in before
    assert "homeassistant/+/+/+/config" in before
    ear.config("sensor/m/power", sensor("W", "power", state_topic="node-7/sensor/power/state"))
    assert set(ear.dialect.filters) - before == {"node-7/#"}


def test_what_was_forgotten_is_taken_anew():
    ear = Ear()
    heard = json_meter(ear)
    ear.dialect.forget("meter-1")
    ear.dialect.forget("nobody")
    assert not ear.dialect.claims(STATE)
    assert json_meter(ear) == heard
    assert len(readings(ear.said(STATE, {"p": 1}))) == 1


# --- Presence -------------------------------------------------------------------------------------------------------


def meter_with(ear: Ear, **availability) -> list[object]:
    return ear.config("sensor/m/power", sensor("W", "power", **availability))


def test_one_availability_topic():
    ear = Ear()
    meter_with(ear, availability_topic="m/up")
    assert presences(ear.said("m/up", "online", retained=True)) == [True]
    assert presences(ear.said("m/up", "offline")) == [False]
    assert ear.said("m/up", "whatever") == []


def test_own_payloads_of_availability():
    ear = Ear()
    meter_with(ear, availability_topic="m/up", payload_available="1", payload_not_available="0")
    assert presences(ear.said("m/up", "1")) == [True]
    assert presences(ear.said("m/up", "0")) == [False]
    assert presences(ear.said("m/up", "online")) == []


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        # a online; b online; a offline; b offline; a online
        ("all", [[], [True], [False], [False], [False]]),
        ("any", [[True], [True], [True], [False], [True]]),
        ("latest", [[True], [True], [False], [False], [True]]),
        (None, [[True], [True], [False], [False], [True]]),
    ],
)
def test_several_availability_topics(mode, expected):
    ear = Ear()
    lists = {"availability": [{"topic": "a"}, {"topic": "b"}]} | ({"availability_mode": mode} if mode else {})
    meter_with(ear, **lists)
    steps = [("a", "online"), ("b", "online"), ("a", "offline"), ("b", "offline"), ("a", "online")]
    assert [presences(ear.said(topic, payload)) for topic, payload in steps] == expected


def test_availability_by_template_and_as_bare_text():
    ear = Ear()
    meter_with(ear, availability=[{"topic": "m/up", "value_template": "{{ value_json.state }}"}])
    assert presences(ear.said("m/up", {"state": "online"})) == [True]
    assert presences(ear.said("m/up", "offline")) == [False]
    assert presences(ear.said("m/up", "online")) == [True]
    assert presences(ear.said("m/up", {"state": "offline"})) == [False]
    assert presences(ear.said("m/up", {"state": 7})) == []


def test_availability_that_was_heard_before_the_device_was_a_meter():
    ear = Ear()
    ear.config("sensor/m/boot", sensor("s", "duration", availability_topic="m/up"))
    assert ear.said("m/up", "online") == []
    assert presences(ear.config("sensor/m/power", sensor("W", "power", availability_topic="m/up"))) == [True]


def test_values_expire():
    ear = Ear()
    meter_with(ear, expire_after=60)
    ear.said(STATE, "5")
    assert presences(ear.wait(59)) == []
    ear.said(STATE, "6")
    assert presences(ear.wait(59)) == []
    assert presences(ear.wait(2)) == [False]
    assert presences(ear.wait(600)) == []
    assert presences(ear.said(STATE, "7")) == [True]
    assert presences(ear.wait(61)) == [False]


def test_the_longest_expiry_counts():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power", state_topic="meter/p", expire_after=10))
    ear.config("sensor/m/energy", sensor("kWh", "energy", state_topic="meter/e", expire_after=100))
    ear.said("meter/p", "5")
    assert presences(ear.wait(50)) == []
    assert presences(ear.wait(51)) == [False]


def test_who_is_said_to_be_gone_does_not_come_back_by_a_value():
    ear = Ear()
    meter_with(ear, availability_topic="m/up", expire_after=60)
    ear.said("m/up", "offline")
    assert presences(ear.said(STATE, "5")) == []


# --- Facts ----------------------------------------------------------------------------------------------------------


def test_rssi_is_dbm_and_nothing_else():
    ear = Ear()
    meter_with(ear)
    ear.config("sensor/m/wifi_signal", sensor("dBm", "signal_strength", state_topic="m/dbm"))
    ear.config("sensor/m/wifi_percent", sensor("%", "signal_strength", state_topic="m/percent"))
    ear.config("sensor/m/wifi_plain", sensor("%", None, state_topic="m/plain"))
    assert facts(ear.said("m/dbm", "-67")) == {"rssi_dbm": -67}
    # Told each time: a survey counts samples.
    assert facts(ear.said("m/dbm", "-67")) == {"rssi_dbm": -67}
    for nonsense in ("0", "5", "-200", "x", "", "-inf"):
        assert facts(ear.said("m/dbm", nonsense)) == {}
    for topic in ("m/percent", "m/plain"):
        assert facts(ear.said(topic, "66") if ear.dialect.claims(topic) else []) == {}


def test_link_quality_is_no_rssi():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power", value_template="{{ value_json.power }}"))
    ear.config("sensor/m/linkquality", sensor("lqi", None, value_template="{{ value_json.linkquality }}"))
    assert facts(ear.said(STATE, {"power": 1, "linkquality": 120})) == {"link_quality": 120}
    assert facts(ear.said(STATE, {"power": 2, "linkquality": 120})) == {}


def test_facts_are_told_when_they_change():
    ear = Ear()
    device = {"ids": ["meter-1"], "name": "Meter", "sw": "1.0"}
    assert facts(ear.config("sensor/m/power", sensor("W", "power", device=device))) == {
        "name": "Meter",
        "firmware": "1.0",
    }
    what = ear.config("sensor/m/power", sensor("W", "power", device=device | {"sw": "1.1"}))
    assert facts(what) == {"firmware": "1.1"}


def test_an_update_entity_tells_versions_and_progress():
    ear = Ear()
    meter_with(ear)
    ear.config("update/m/update", sensor(None, "firmware", state_topic="m/update", command_topic="m/update/set"))
    what = ear.said("m/update", {"installed_version": "1.0", "latest_version": "1.1"})
    assert facts(what) == {"firmware": "1.0", "newer_firmware": "1.1"}
    assert facts(ear.said("m/update", {"installed_version": "1.1", "latest_version": "1.1"})) == {
        "firmware": "1.1",
        "newer_firmware": "",
    }
    what = ear.said("m/update", {"update": {"state": "updating", "progress": 41.5}})
    assert [one for one in what if isinstance(one, Fota)] == [Fota(phase="downloading", percent=41.5)]


# --- Commands -------------------------------------------------------------------------------------------------------


def test_an_update_by_its_entity():
    ear = Ear()
    meter_with(ear)
    config = sensor(None, "firmware", state_topic="meter/update", command_topic="meter/update/install")
    ear.config("update/m/update", config)
    assert ear.send("meter-1", "update") is None, "no payload to install with"
    ear.config("update/m/update", config | {"payload_install": "go"})
    (sending,) = ear.send("meter-1", "update")
    assert (sending.topic, sending.payload, sending.retain) == ("meter/update/install", b"go", False)
    assert ear.send("meter-1", "update", url="http://x") is None, "the image can not be chosen"
    assert ear.send("nobody", "update") is None


def test_a_reboot_by_its_button():
    ear = Ear()
    meter_with(ear)
    assert ear.send("meter-1", "reboot") is None
    button = {"command_topic": "meter/restart", "device": {"identifiers": ["meter-1"]}}
    ear.config("button/m/identify", button | {"device_class": "identify"})
    assert ear.send("meter-1", "reboot") is None
    ear.config("button/m/restart", button | {"device_class": "restart"})
    (sending,) = ear.send("meter-1", "reboot")
    assert (sending.topic, sending.payload) == ("meter/restart", b"PRESS")
    for name in ("set_period", "identify", "diagnose", "send_log", "sync_clock", "x"):
        assert ear.send("meter-1", name) is None


@pytest.mark.parametrize("topic", ["wd/v1/m/X1/cmd", "$SYS/x", "cmnd/plug/Power", "neighbour/restart"])
def test_a_config_can_not_have_us_command_somebody_else(topic):
    ear = Ear()
    meter_with(ear)
    button = {"command_topic": topic, "device_class": "restart", "device": {"identifiers": ["meter-1"]}}
    ear.config("button/m/restart", button)
    assert ear.send("meter-1", "reboot") is None


def test_a_config_can_not_have_us_command_who_speaks_another_dialect():
    ear = Ear(HomeAssistant(claimed_elsewhere=lambda topic: topic.startswith("meter/other")))
    meter_with(ear)
    device = {"device": {"identifiers": ["meter-1"]}, "device_class": "restart"}
    ear.config("button/m/restart", device | {"command_topic": "meter/other/Restart"})
    assert ear.send("meter-1", "reboot") is None
    ear.config("button/m/restart", device | {"command_topic": "meter/own/restart"})
    assert ear.send("meter-1", "reboot") is not None


# --- Bounds ---------------------------------------------------------------------------------------------------------


def test_too_many_devices(monkeypatch):
    monkeypatch.setattr(home_assistant_registry, "MOST_DEVICES", 3)
    ear = Ear()
    what = [
        ear.config(f"sensor/m{n}/power", sensor("W", "power", device={"ids": [f"m{n}"]}, state_topic=f"m{n}/p"))
        for n in range(5)
    ]
    assert [refusals(one) for one in what] == [[], [], [], ["too_many_devices"], ["too_many_devices"]]
    assert not ear.dialect.claims("m4/p")
    # Room again.
    ear.dialect.forget("m0")
    assert refusals(ear.config("sensor/m4/power", sensor("W", "power", device={"ids": ["m4"]}))) == []


def test_a_device_that_its_config_left_is_gone(monkeypatch):
    monkeypatch.setattr(home_assistant_registry, "MOST_DEVICES", 2)
    ear = Ear()
    for n in range(5):
        assert refusals(ear.config("sensor/m/power", sensor("W", "power", device={"ids": [f"m{n}"]}))) == []


def test_too_many_entities(monkeypatch):
    monkeypatch.setattr(home_assistant_registry, "MOST_ENTITIES", 3)
    ear = Ear()
    what = [ear.config(f"sensor/m/power{n}", sensor("W", "power", state_topic=f"m/p{n}")) for n in range(5)]
    assert [refusals(one) for one in what] == [[], [], [], ["length"], ["length"]]
    assert not ear.dialect.claims("m/p4")
    ear.config("sensor/m/power0", b"")
    assert refusals(ear.config("sensor/m/power4", sensor("W", "power", state_topic="m/p4"))) == []


def test_too_many_entities_on_one_topic(monkeypatch):
    monkeypatch.setattr(home_assistant_registry, "MOST_ENTITIES_OF_TOPIC", 3)
    ear = Ear()
    what = [ear.config(f"sensor/m/power{n}", sensor("W", "power", device={"ids": [f"m{n}"]})) for n in range(5)]
    assert [refusals(one) for one in what] == [[], [], [], ["length"], ["length"]]
    assert ear.send("m4", "reboot") is None


def test_availability_goes_with_the_last_entity_that_names_it():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power", availability_topic="m/up"))
    ear.config("sensor/m/energy", sensor("Wh", "energy", availability_topic="m/up"))
    ear.config("sensor/m/power", b"")
    assert presences(ear.said("m/up", "online")) == [True]
    ear.config("sensor/m/energy", sensor("Wh", "energy"))
    assert not ear.dialect.claims("m/up")


def test_an_entity_that_is_published_anew_counts_once(monkeypatch):
    monkeypatch.setattr(home_assistant_registry, "MOST_ENTITIES", 2)
    ear = Ear()
    for n in range(10):
        assert refusals(ear.config("sensor/m/power", sensor("W", "power", name=f"n{n}"))) == []


def test_large_messages_are_refused():
    ear = Ear()
    meter_with(ear)
    assert refusals(ear.said(STATE, b"1" * 300_000)) == ["too_large"]
    assert refusals(ear.config("sensor/m/power", b" " * 300_000)) == ["too_large"]


def test_json_where_text_was_said_and_the_other_way_round():
    ear = Ear()
    ear.config("sensor/m/power", sensor("W", "power", value_template="{{ value_json.p }}"))
    assert refusals(ear.said(STATE, "not JSON")) == ["syntax"]
    assert ear.said(STATE, "[1, 2]") == []
    ear.config("sensor/m/power", sensor("W", "power"))
    assert refusals(ear.said(STATE, {"p": 5})) == ["type"]


def test_readings_are_of_the_types_of_the_domain():
    ear = Ear()
    json_meter(ear)
    (reading,) = ear.said(STATE, {"p": 100, "e": "2.5", "u": 231})
    assert isinstance(reading, Reading)
    assert type(reading.drawn_wh) is int
