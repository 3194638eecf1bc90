"""Devices as their makers describe them: ESPHome, TICMeter, teleinfo2mqtt, a metering plug (all invented)."""

from __future__ import annotations

import pytest

from app.protocol.messages import Log
from tests.app.protocol.discovery import Ear, facts, presences, readings, values

# --- ESPHome: a bare number a topic, short keys, LWT on <node>/status -----------------------------------------------

NODE = {
    "avty_t": "linky-esp/status",
    "dev": {
        "ids": "a0b1c2d3e4f5",
        "name": "linky-esp",
        "sw": "esphome v2025.4.0",
        "mdl": "esp32dev",
        "mf": "Espressif",
    },
}


def esphome(ear: Ear) -> list[object]:
    heard = []
    for name, unit, device_class in (
        ("papp", "VA", "apparent_power"),
        ("iinst", "A", "current"),
        ("hchc", "kWh", "energy"),
        ("hchp", "kWh", "energy"),
        ("imax", "A", "current"),
        ("wifi_signal", "dBm", "signal_strength"),
        ("wifi_percent", "%", None),
    ):
        config = NODE | {"name": name, "stat_t": f"linky-esp/sensor/{name}/state", "uniq_id": f"ESPsensor{name}"}
        config |= {"unit_of_meas": unit} | ({"dev_cla": device_class} if device_class else {})
        heard += ear.config(f"sensor/linky-esp/{name}", config)
    ptec = NODE | {"name": "ptec", "stat_t": "linky-esp/sensor/ptec/state", "uniq_id": "ESPptec"}
    return heard + ear.config("sensor/linky-esp/ptec", ptec)


def test_esphome():
    ear = Ear()
    assert facts(esphome(ear)) == {
        "name": "linky-esp",
        "maker": "Espressif",
        "model": "esp32dev",
        "firmware": "esphome v2025.4.0",
        "meter_kind": "linky-historique",
    }
    assert presences(ear.said("linky-esp/status", "online", retained=True)) == [True]
    heard = []
    for name, value in (("papp", "710"), ("iinst", "3"), ("hchc", "1000.5"), ("hchp", "2000"), ("ptec", "HP..")):
        heard += ear.said(f"linky-esp/sensor/{name}/state", value)
        heard += ear.wait(0.05)
    assert heard == []
    assert [values(one) for one in ear.wait(2)] == [
        {
            "apparent_va": 710,
            "drawn_wh": 3_000_500,
            "register": 2,
            "registers_wh": {1: 1_000_500, 2: 2_000_000},
            "current_a": 3,
        }
    ]
    assert facts(ear.said("linky-esp/sensor/wifi_signal/state", "-71")) == {"rssi_dbm": -71}
    # IMAX is what once was, the percentage is no dBm.
    for name in ("imax", "wifi_percent"):
        topic = f"linky-esp/sensor/{name}/state"
        assert not ear.dialect.claims(topic) or ear.said(topic, "58") == []
    assert ear.wait(5) == []
    assert presences(ear.said("linky-esp/status", "offline")) == [False]


def test_esphome_without_names_of_a_linky():
    ear = Ear()
    for name, unit, device_class in (
        ("house_power", "W", "power"),
        ("house_energy", "kWh", "energy"),
        ("house_voltage", "V", "voltage"),
    ):
        config = NODE | {"stat_t": f"linky-esp/sensor/{name}/state", "unit_of_meas": unit, "dev_cla": device_class}
        ear.config(f"sensor/linky-esp/{name}", config)
    for name, value in (("house_power", "1200.4"), ("house_energy", "17.251"), ("house_voltage", "229.9")):
        ear.said(f"linky-esp/sensor/{name}/state", value)
    assert [values(one) for one in ear.wait(2)] == [{"active_w": 1200.4, "drawn_wh": 17_251, "voltage_v": 229.9}]


def test_va_in_a_linkys_label_stay_va_where_the_user_wrote_w():
    ear = Ear()
    config = NODE | {"stat_t": "linky-esp/sensor/papp/state", "unit_of_meas": "W", "dev_cla": "power"}
    ear.config("sensor/linky-esp/papp", config)
    ear.said("linky-esp/sensor/papp/state", "710.0")
    assert [values(one) for one in ear.wait(2)] == [{"apparent_va": 710}]


def test_the_log_of_esphome():
    ear = Ear()
    esphome(ear)
    assert ear.said("linky-esp/debug", "\x1b[0;33m[W][teleinfo:087]: Bad checksum\x1b[0m") == [
        Log(level="warning", tag="teleinfo", text="Bad checksum")
    ]
    assert ear.said("linky-esp/debug", "free words") == [Log(text="free words")]
    assert ear.said("linky-esp/debug", b"\xff" * 5000)[0].text
    assert ear.said("linky-esp/debug", "[I][app:102]: old", retained=True) == []


def test_a_restart_button_of_esphome():
    ear = Ear()
    esphome(ear)
    button = NODE | {"dev_cla": "restart", "cmd_t": "linky-esp/button/restart/command"}
    ear.config("button/linky-esp/restart", button)
    (sending,) = ear.send("a0b1c2d3e4f5", "reboot")
    assert (sending.topic, sending.payload) == ("linky-esp/button/restart/command", b"PRESS")


def test_connectivity_where_there_is_no_availability():
    ear = Ear()
    device = {"dev": {"ids": ["x1"]}}
    ear.config("sensor/x1/power", device | {"stat_t": "x1/power", "unit_of_meas": "W", "dev_cla": "power"})
    status = {"stat_t": "x1/status", "dev_cla": "connectivity", "pl_on": "online", "pl_off": "offline"}
    ear.config("binary_sensor/x1/status", device | status)
    assert presences(ear.said("x1/status", "online")) == [True]
    assert presences(ear.said("x1/status", "offline")) == [False]


# --- TICMeter: `~`, one label a topic, a connection in place of identifiers, exp_aft of 4 periods --------------------


def ticmeter(ear: Ear, *labels: tuple[str, str | None, str | None]) -> list[object]:
    heard = []
    for label, unit, device_class in labels:
        config = {
            "~": "TICMeter-0001",
            "name": f"Label {label}",
            "uniq_id": f"ticmeter_0001_{label}",
            "obj_id": f"ticmeter_0001_{label}",
            "stat_t": f"~/{label}",
            "exp_aft": 240,
            "dev": {
                "name": "TICMeter 0001",
                "mdl": "TICMeter",
                "mf": "GammaTroniques",
                "sw": "2.1",
                "cns": [["SN", "0001"]],
            },
        }
        config |= {"unit_of_meas": unit} if unit else {}
        config |= {"dev_cla": device_class} if device_class else {}
        heard += ear.config(f"sensor/TICMeter_0001/{label}", config)
    return heard


STANDARD = (
    ("ADSC", None, None),
    ("NGTF", None, None),
    ("EAST", "Wh", "energy"),
    ("EASF01", "Wh", "energy"),
    ("EASF02", "Wh", "energy"),
    ("EASD01", "Wh", "energy"),
    ("EAIT", "Wh", "energy"),
    ("ERQ1", "VArh", None),
    ("IRMS1", "A", "current"),
    ("URMS1", "V", "voltage"),
    ("UMOY1", "V", "voltage"),
    ("PREF", "kVA", "apparent_power"),
    ("SINSTS", "VA", "apparent_power"),
    ("SINSTI", "VA", "apparent_power"),
    ("SMAXSN", "VA", "apparent_power"),
    ("CCASN", "W", "power"),
    ("CCASN-1", "W", "power"),
    ("STGE", None, None),
    ("NTARF", None, None),
    ("PRM", None, None),
)


def test_ticmeter_in_standard_mode():
    ear = Ear()
    assert facts(ticmeter(ear, *STANDARD)) == {
        "name": "TICMeter 0001",
        "maker": "GammaTroniques",
        "model": "TICMeter",
        "firmware": "2.1",
        "meter_kind": "linky-standard",
        "period_ms": 60_000,
    }
    sent = {
        "ADSC": "042261000001",
        "EAST": "30000",
        "EASF01": "10000",
        "EASF02": "20000",
        "EASD01": "777",
        "EAIT": "55",
        "ERQ1": "5",
        "IRMS1": "4",
        "URMS1": "236",
        "UMOY1": "111",
        "PREF": "9",
        "SINSTS": "840",
        "SINSTI": "0",
        "SMAXSN": "4999",
        "CCASN": "812",
        "CCASN-1": "790",
        "STGE": "003A0401",
        "NTARF": "2",
        "PRM": "01234567890123",
    }
    heard = []
    for label, value in sent.items():
        topic = f"TICMeter-0001/{label}"
        heard += ear.said(topic, value) if ear.dialect.claims(topic) else []
        heard += ear.wait(0.03)
    assert facts(heard) == {"meter_serial": "042261000001"}
    assert "01234567890123" not in repr(heard)
    assert [values(one) for one in readings(ear.wait(2))] == [
        {
            "apparent_va": 840,
            "drawn_wh": 30_000,
            "injected_wh": 55,
            "register": 2,
            "registers_wh": {1: 10_000, 2: 20_000},
            "voltage_v": 236,
            "current_a": 4,
            "state": 8,
        }
    ]
    assert presences(ear.wait(240)) == [False]
    ear.said("TICMeter-0001/SINSTS", "5")
    assert len(readings(ear.wait(2))) == 1


def test_ticmeter_in_historique_mode():
    ear = Ear()
    ticmeter(
        ear, ("BASE", "Wh", "energy"), ("PTEC", None, None), ("PAPP", "VA", "apparent_power"), ("IINST", "A", "current")
    )
    for label, value in (("BASE", "12345"), ("PTEC", "TH"), ("PAPP", "410"), ("IINST", "2")):
        ear.said(f"TICMeter-0001/{label}", value)
    assert [values(one) for one in ear.wait(2)] == [
        {"apparent_va": 410, "drawn_wh": 12_345, "register": 1, "registers_wh": {1: 12_345}, "current_a": 2}
    ]


# --- teleinfo2mqtt: JSON of groups, the meter's number in topic and identifier ----------------------------------------

NUMBER = "042261000001"
HISTORIQUE = {
    "ADCO": {"raw": NUMBER, "value": int(NUMBER)},
    "OPTARIF": {"raw": "HC..", "value": "HC"},
    "ISOUSC": {"raw": "45", "value": 45},
    "HCHC": {"raw": "009058688", "value": 9058688},
    "HCHP": {"raw": "009752846", "value": 9752846},
    "PTEC": {"raw": "HP..", "value": "HP"},
    "IINST": {"raw": "022", "value": 22},
    "IMAX": {"raw": "090", "value": 90},
    "PAPP": {"raw": "04110", "value": 4110},
}
EXPECTED = {
    "apparent_va": 4110,
    "drawn_wh": 18_811_534,
    "register": 2,
    "registers_wh": {1: 9_058_688, 2: 9_752_846},
    "current_a": 22,
}


def stamped(raw: str, value: object, date: str) -> dict:
    return {"raw": raw, "value": value, "timestamp": {"date": date, "dst": "summer"}}


def test_teleinfo2mqtt_without_discovery():
    ear = Ear()
    heard = ear.hear(f"teleinfo/{NUMBER}", HISTORIQUE)
    assert facts([one.what for one in heard]) == {
        "model": "teleinfo2mqtt",
        "meter_kind": "linky-historique",
        "meter_serial": NUMBER,
    }
    assert [values(one) for one in readings([one.what for one in heard])] == [EXPECTED]
    # The meter's number is a personal thing: the device is not called by it.
    assert not any(NUMBER in one.device for one in heard)
    assert presences(ear.said("teleinfo/status", "up")) == [True]
    assert presences(ear.said("teleinfo/status", "down")) == [False]
    assert ear.said("teleinfo/tempo", {"today": "BLUE"}) == []


def test_teleinfo2mqtt_in_standard_mode():
    ear = Ear()
    message = {
        "ADSC": {"raw": NUMBER, "value": int(NUMBER)},
        "DATE": stamped("", "", "2022-06-09T06:05:31.000Z"),
        "EAST": {"raw": "000030000", "value": 30000},
        "EASF01": {"raw": "000010000", "value": 10000},
        "SINSTS": {"raw": "00840", "value": 840},
        "SMAXSN": stamped("02740", 2740, "2022-06-09T01:05:31.000Z"),
        "CCASN": stamped("00812", 812, "2022-06-09T06:00:00.000Z"),
        "URMS1": {"raw": "236", "value": 236},
        "STGE": {"raw": "003A0401", "value": "003A0401"},
    }
    assert [values(one) for one in readings(ear.said(f"teleinfo/{NUMBER}", message))] == [
        {
            "time_ms": 1_654_754_731_000,
            "apparent_va": 840,
            "drawn_wh": 30_000,
            "register": 2,
            "registers_wh": {1: 10_000},
            "voltage_v": 236,
            "state": 8,
        }
    ]


def test_the_gateways_period_is_no_gap_of_the_meter_link():
    ear = Ear()
    for second in ("31", "41"):
        message = {
            "ADSC": {"raw": NUMBER, "value": int(NUMBER)},
            "DATE": stamped("", "", f"2022-06-09T06:05:{second}.000Z"),
            "SINSTS": {"raw": "00840", "value": 840},
        }
        (reading,) = readings(ear.said(f"teleinfo/{NUMBER}", message))
        assert values(reading).keys() == {"time_ms", "apparent_va"}


def test_an_index_that_jumps_is_left_out():
    ear = Ear()
    for second, index, expected in (("31", 30_000, 30_000), ("41", 30_010, 30_010), ("51", 930_010, None)):
        message = {
            "DATE": stamped("", "", f"2022-06-09T06:05:{second}.000Z"),
            "EAST": {"raw": f"{index:09}", "value": index},
            "SINSTS": {"raw": "00840", "value": 840},
        }
        (reading,) = readings(ear.said(f"teleinfo/{NUMBER}", message))
        assert reading.drawn_wh == expected


def test_teleinfo2mqtt_with_discovery():
    ear = Ear()
    heard = []
    for label, unit, device_class in (("PAPP", "VA", "power"), ("HCHC", "Wh", "energy"), ("ADCO", None, None)):
        config = {
            "unique_id": f"teleinfo_{NUMBER}_{label}",
            "name": f"Teleinfo {NUMBER} {label}",
            "state_topic": f"teleinfo/{NUMBER}",
            "value_template": f"{{{{ value_json.{label}.value }}}}",
            "device": {
                "identifiers": [NUMBER],
                "manufacturer": "Enedis",
                "model": f"linky_{NUMBER}",
                "name": f"Linky {NUMBER}",
            },
        }
        config |= {"unit_of_measurement": unit, "device_class": device_class} if unit else {}
        heard += ear.config(f"sensor/teleinfo/{NUMBER}_{label.lower()}", config)
    assert facts(heard) == {"name": "Linky", "maker": "Enedis", "model": "linky", "meter_kind": "linky-historique"}
    again = ear.hear(f"teleinfo/{NUMBER}", HISTORIQUE)
    assert [values(one) for one in readings([one.what for one in again])] == [EXPECTED]
    # One device, heard of in both ways.
    assert {one.device for one in again} == {one.device for one in Ear().hear(f"teleinfo/{NUMBER}", HISTORIQUE)}


@pytest.mark.parametrize("topic", ["teleinfo/x", "teleinfo/12", "teleinfo/" + "1" * 30, "teleinfo/", "teleinfo/1/2"])
def test_other_topics_below_teleinfo(topic):
    assert Ear().said(topic, HISTORIQUE) == []


def test_an_index_that_fell_is_left_out():
    ear = Ear()
    ear.said(f"teleinfo/{NUMBER}", HISTORIQUE)
    fallen = HISTORIQUE | {"HCHC": {"raw": "000000001", "value": 1}}
    (reading,) = readings(ear.said(f"teleinfo/{NUMBER}", fallen))
    assert reading.drawn_wh is None
    assert reading.apparent_va == 4110
