"""The ZLinky behind Zigbee2MQTT: what its keys hold, with and without discovery."""

from __future__ import annotations

import pytest

from app.protocol.foreign import Refusal
from app.protocol.messages import Fota
from tests.app.protocol.discovery import Ear, facts, presences, readings, refusals, values

TOPIC = "zigbee2mqtt/linky"
ADDRESS = "0x00158d0000000001"
# Type 61: single phase; 63: three.
SINGLE, THREE = "042261000001", "042263000001"
STANDARD = {
    "active_power": 812,
    "active_power_ph_b": 790,
    "active_power_max": 3120,
    "apparent_power": 640,
    "current_index_tarif": 2,
    "current_summ_delivered": 12345,
    "current_tarif": "H PLEINE/CREUSE",
    "current_price": "HEURE PLEINE",
    "current_tier1_summ_delivered": 4000,
    "current_tier2_summ_delivered": 8345,
    "active_energy_out_d01": 4000,
    "linkquality": 93,
    "rms_current": 3,
    "rms_voltage": 233,
    "status_register": "003A0401",
}
TEMPO = {
    "active_register_tier_delivered": "HPJB",
    "apparent_power": 640,
    "current_summ_delivered": 3,
    "current_tarif": "BBRx",
    **{f"current_tier{number}_summ_delivered": number for number in range(1, 7)},
    "rms_current": 3,
    "rms_voltage": 65535,
}


def one(message, topic=TOPIC, ear=None):
    found = [values(reading) for reading in readings((ear or Ear()).said(topic, message))]
    assert len(found) == 1
    return found[0]


def test_standard_mode():
    assert one(STANDARD) == {
        "apparent_va": 640,
        "drawn_wh": 12_345_000,
        "register": 2,
        "registers_wh": {1: 4_000_000, 2: 8_345_000},
        "voltage_v": 233,
        "current_a": 3,
        # The dry contact is open.
        "state": 8,
    }


def test_active_power_is_a_point_of_the_load_curve():
    """CCASN and CCASN-1 under names of power now; a reading never has watts."""
    assert "active_w" not in one(STANDARD)
    assert readings(Ear().said(TOPIC, {"current_tarif": "X", "active_power": 800, "active_power_max": 5})) == []


def test_what_is_known_of_the_device():
    assert facts(Ear().said(TOPIC, STANDARD)) == {
        "maker": "LiXee",
        "model": "ZLinky_TIC",
        "meter_kind": "linky-standard",
        "link_quality": 93,
    }


def test_link_quality_is_told_apart_and_personal_data_not_at_all():
    ear = Ear()
    what = ear.said(TOPIC, STANDARD | {"site_id": "01234567890123", "meter_serial_number": SINGLE})
    assert facts(what)["link_quality"] == 93
    assert "rssi_dbm" not in facts(what)
    assert facts(what)["meter_serial"] == SINGLE
    assert "01234567890123" not in repr(what)


@pytest.mark.parametrize("nothing", [-32768, 65535, None, "", "x", True, 1e300, [], {}])
@pytest.mark.parametrize("key", ["apparent_power", "rms_current", "rms_voltage"])
def test_sentinels_are_no_values(key, nothing):
    field = {"apparent_power": "apparent_va", "rms_current": "current_a", "rms_voltage": "voltage_v"}[key]
    assert field in one(STANDARD)
    assert field not in one(STANDARD | {key: nothing})


@pytest.mark.parametrize("nothing", [-1, -32768, None, "7", True, 281474976710.655, 1e300])
def test_indexes_that_are_none(nothing):
    assert "drawn_wh" not in one(STANDARD | {"current_summ_delivered": nothing})


def test_a_total_that_was_not_read_yet():
    assert "drawn_wh" not in one(STANDARD | {"current_summ_delivered": 0})
    nothing_drawn = {"current_tier1_summ_delivered": 0, "current_tier2_summ_delivered": 0}
    assert one(STANDARD | {"current_summ_delivered": 0} | nothing_drawn)["drawn_wh"] == 0


def test_a_retained_message_tells_facts_and_no_reading():
    what = Ear().said(TOPIC, STANDARD, retained=True)
    assert facts(what)["link_quality"] == 93
    assert readings(what) == []


def test_65535_is_an_index():
    assert one(STANDARD | {"current_summ_delivered": 65535})["drawn_wh"] == 65_535_000


def test_decimals_of_the_users_choice():
    assert one(STANDARD | {"current_summ_delivered": 12345.678})["drawn_wh"] == 12_345_678


def test_the_converter_of_2021_wrote_camel_case_and_wh():
    old = {
        "currentSummDelivered": 12_345_678,
        "currentTier1SummDelivered": 4_000_111,
        "apparentPower": 640,
        "statusRegister": "003A0401",
    }
    assert one(old) == {
        "apparent_va": 640,
        "drawn_wh": 12_345_678,
        "register": 2,
        "registers_wh": {1: 4_000_111},
        "state": 8,
    }


def test_old_keys_that_were_kept_beside_the_new_are_stale():
    message = STANDARD | {"currentSummDelivered": 1, "currentTier1SummDelivered": 1, "apparentPower": 1}
    assert one(message) == one(STANDARD)


@pytest.mark.parametrize("key", ["active_energy_out_d01", "active_enerfy_out_d01"])
def test_the_distributors_register_by_both_spellings_is_known_and_not_read(key):
    what = Ear().said(TOPIC, {key: 4102, "rms_voltage": 230})
    assert facts(what)["meter_kind"] == "linky-standard"
    assert [values(reading) for reading in readings(what)] == [{"voltage_v": 230}]


def test_three_phases_of_standard_mode():
    message = STANDARD | {
        "meter_serial_number": THREE,
        "apparent_power": 100,
        "apparent_power_ph_b": 200,
        "apparent_power_ph_c": 300,
        "rms_current_ph_b": 4,
        "rms_current_ph_c": 5,
        "rms_voltage_ph_b": 231,
        "rms_voltage_ph_c": 232,
    }
    found = one(message)
    assert found["apparent_va"] == 600
    assert [found[f"{name}"] for name in ("current_a", "current_2_a", "current_3_a")] == [3, 4, 5]
    assert [found[f"{name}"] for name in ("voltage_v", "voltage_2_v", "voltage_3_v")] == [233, 231, 232]
    assert one(message | {"total_apparent_power": 610})["apparent_va"] == 610


def test_phase_1_alone_is_not_the_whole():
    """`apparent_power` of a three-phase meter is SINSTS1."""
    assert "apparent_va" not in one(STANDARD | {"meter_serial_number": THREE})
    assert "apparent_va" not in one(STANDARD | {"apparent_power_ph_b": 5})
    ear = Ear()
    one(STANDARD | {"rms_voltage_ph_b": 231}, ear=ear)
    assert "apparent_va" not in one(STANDARD, ear=ear), "what was learned of the meter holds"


def test_names_that_lie_do_not_make_three_phases():
    """CCASN-1 and ERQ3 stand under the names of a second phase."""
    message = STANDARD | {"active_power_ph_b": 790, "reactive_power_ph_b": 12, "rms_current_ph_b": 65535}
    assert one(message)["apparent_va"] == 640
    assert one(message | {"meter_serial_number": SINGLE, "rms_current_ph_b": 9})["apparent_va"] == 640


def test_injection():
    assert one(STANDARD | {"apparent_power": 0, "injected_v_a": 900, "current_summ_received": 50}) == one(STANDARD) | {
        "apparent_va": -900,
        "injected_wh": 50_000,
    }


def test_historique_tempo():
    """The total is the sum of six registers: the converter's own total adds two of them."""
    assert one(TEMPO) == {
        "apparent_va": 640,
        "drawn_wh": 21_000,
        "register": 2,
        "registers_wh": {number: number * 1000 for number in range(1, 7)},
        "current_a": 3,
    }


def test_historique_tempo_without_its_option():
    message = {key: value for key, value in TEMPO.items() if key != "current_tarif"}
    assert one(message)["drawn_wh"] == 21_000


def test_historique_off_peak_and_base():
    off_peak = TEMPO | {"current_tarif": "HC..", "active_register_tier_delivered": "HC.."}
    assert {**one(off_peak)}.items() >= {"drawn_wh": 3000, "registers_wh": {1: 1000, 2: 2000}, "register": 1}.items()
    base = TEMPO | {"current_tarif": "BASE", "active_register_tier_delivered": "TH..", "current_summ_delivered": 77}
    assert one(base).items() >= {"drawn_wh": 77_000, "registers_wh": {1: 77_000}, "register": 1}.items()


def test_historique_of_three_phases():
    """There `apparent_power` is PAPP, of all phases."""
    message = TEMPO | {"meter_serial_number": THREE, "rms_current_ph_b": 4, "rms_current_ph_c": 5}
    assert one(message).items() >= {"apparent_va": 640, "current_a": 3, "current_2_a": 4, "current_3_a": 5}.items()


def test_messages_with_what_changed_alone():
    ear = Ear()
    one(TEMPO, ear=ear)
    assert one({"apparent_power": 700}, ear=ear) == {"apparent_va": 700}
    assert one({"current_tier3_summ_delivered": 4}, ear=ear) == {"registers_wh": {3: 4000}}
    assert readings(ear.said(TOPIC, {"linkquality": 90})) == []


def test_the_total_of_an_unknown_mode_may_be_the_sum_of_two():
    message = {"current_summ_delivered": 3, "current_tier1_summ_delivered": 1, "current_tier3_summ_delivered": 9}
    assert "drawn_wh" not in one(message)
    assert one(message)["registers_wh"] == {1: 1000, 3: 9000}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
        ("2026-01-02T04:04:05+01:00", 1_767_323_045_000),
        (1_767_323_045_678, 1_767_323_045_678),
        ("2026-01-02T03:04:05", None),
        ("yesterday", None),
        (-5, None),
        (1e300, None),
        (True, None),
        ({}, None),
    ],
)
def test_the_time_is_when_zigbee2mqtt_heard_it(seen, expected):
    assert one(STANDARD | {"last_seen": seen, "current_date": "H220101000000"}).get("time_ms") == expected


# --- Zigbee2MQTT ----------------------------------------------------------------------------------------------------


def test_other_devices_are_nobody():
    ear = Ear()
    for message in (
        {"power": 5, "energy": 1.2, "voltage": 230, "linkquality": 80},
        {"state": "ON", "brightness": 3, "linkquality": 80},
        {"current_summ_delivered": 5},
        [1],
        "text",
        5,
    ):
        assert ear.said("zigbee2mqtt/other", message) == []
    assert ear.said("zigbee2mqtt/bridge/info", {"current_tarif": "BASE"}) == []
    assert ear.said(TOPIC + "/set", STANDARD) == []


def test_presence_by_json_and_by_bare_text():
    ear = Ear()
    ear.said(TOPIC, STANDARD)
    assert presences(ear.said(TOPIC + "/availability", {"state": "online"})) == []
    assert presences(ear.said("zigbee2mqtt/bridge/state", {"state": "online"})) == [True]
    assert presences(ear.said(TOPIC + "/availability", "offline")) == [False]
    assert presences(ear.said(TOPIC + "/availability", "online")) == [True]
    assert presences(ear.said("zigbee2mqtt/bridge/state", "offline")) == [False]
    assert presences(ear.said("zigbee2mqtt/bridge/state", {"state": "online"})) == [True]


def test_presence_that_came_before_the_device():
    ear = Ear()
    assert ear.said("zigbee2mqtt/bridge/state", {"state": "online"}, retained=True) == []
    assert ear.said(TOPIC + "/availability", {"state": "online"}, retained=True) == []
    assert presences(ear.said(TOPIC, STANDARD)) == [True]


def test_the_bridge_alone_can_only_say_that_all_are_gone():
    ear = Ear()
    ear.said(TOPIC, STANDARD)
    assert presences(ear.said("zigbee2mqtt/bridge/state", {"state": "online"})) == []
    assert presences(ear.said("zigbee2mqtt/bridge/state", {"state": "offline"})) == [False]
    assert presences(ear.said("zigbee2mqtt/bridge/state", {"state": "online"})) == []
    assert presences(ear.said(TOPIC, STANDARD)) == [True], "it speaks"


def test_another_base_topic():
    ear = Ear()
    assert not ear.dialect.claims("house/z2m/linky")
    ear.said("house/z2m/bridge/state", {"state": "online"})
    assert len(readings(ear.said("house/z2m/linky", STANDARD))) == 1
    assert "house/z2m/#" in ear.dialect.filters


def test_one_device_by_its_address_however_it_was_heard():
    by_message, by_list, by_name, unknown = Ear(), Ear(), Ear(), Ear()
    message = STANDARD | {"device": {"ieeeAddr": ADDRESS, "friendlyName": "linky"}}
    assert {one.device for one in by_message.hear(TOPIC, message)} == {f"zigbee2mqtt_{ADDRESS}"}
    by_list.said("zigbee2mqtt/bridge/devices", [{"ieee_address": ADDRESS, "friendly_name": "linky"}])
    assert {one.device for one in by_list.hear(TOPIC, STANDARD)} == {f"zigbee2mqtt_{ADDRESS}"}
    assert {one.device for one in by_name.hear(f"zigbee2mqtt/{ADDRESS}", STANDARD)} == {f"zigbee2mqtt_{ADDRESS}"}
    assert {one.device for one in unknown.hear(TOPIC, STANDARD)} == {"zigbee2mqtt_linky"}


def test_the_bridge_lists_its_devices():
    ear = Ear()
    listed = [
        {"ieee_address": "0x00000000000000aa", "friendly_name": "Coordinator", "definition": None},
        {
            "ieee_address": ADDRESS,
            "friendly_name": "cellar/linky",
            "definition": {"model": "ZLinky_TIC", "vendor": "LiXee"},
            "model_id": "ZLinky_TIC\u0000",
            "software_build_id": "4001-0011",
        },
        {"ieee_address": 5, "friendly_name": []},
        "text",
        None,
    ]
    heard = ear.hear("zigbee2mqtt/bridge/devices", listed, retained=True)
    assert {one.device for one in heard} == {f"zigbee2mqtt_{ADDRESS}"}
    assert facts([one.what for one in heard]) == {
        "name": "cellar/linky",
        "maker": "LiXee",
        "model": "ZLinky_TIC",
        "firmware": "4001-0011",
    }
    # A friendly name may have levels; a listed one needs no key to be known by.
    assert [values(one) for one in readings(ear.said("zigbee2mqtt/cellar/linky", {"apparent_power": 5}))] == [
        {"apparent_va": 5}
    ]
    for nonsense in ("x", b"\xff", {"a": 1}, b"[" * 5000):
        assert refusals(ear.said("zigbee2mqtt/bridge/devices", nonsense)) == ["syntax"]


def discovery(name: str, key: str, unit: str | None = "kWh") -> dict:
    return {
        "availability": [
            {"topic": "zigbee2mqtt/bridge/state", "value_template": "{{ value_json.state }}"},
            {"topic": f"{TOPIC}/availability", "value_template": "{{ value_json.state }}"},
        ],
        "availability_mode": "all",
        "device": {"identifiers": [f"zigbee2mqtt_{ADDRESS}"], "name": "linky", "sw_version": "4000-0015"},
        "device_class": "energy",
        "object_id": f"{ADDRESS}_{name}",
        "state_topic": TOPIC,
        "unit_of_measurement": unit,
        "value_template": f"{{{{ value_json.{key} }}}}",
    }


def test_with_discovery_the_same_rules_hold():
    ear = Ear()
    what = ear.config(f"sensor/{ADDRESS}/EASF01", discovery("EASF01", "current_tier1_summ_delivered"))
    assert facts(what) == {"name": "linky", "firmware": "4000-0015"}
    heard = ear.hear(TOPIC, STANDARD)
    assert {one.device for one in heard} == {f"zigbee2mqtt_{ADDRESS}"}
    assert [values(one.what) for one in heard if readings([one.what])] == [one(STANDARD)]
    assert presences(ear.said("zigbee2mqtt/bridge/state", {"state": "online"})) == []
    assert presences(ear.said(TOPIC + "/availability", {"state": "online"})) == [True]


def test_an_update_over_the_air():
    ear = Ear()
    ear.said(TOPIC, STANDARD)
    (sending,) = ear.send("zigbee2mqtt_linky", "update")
    assert sending.topic == "zigbee2mqtt/bridge/request/device/ota_update/update"
    assert sending.payload == b'{"id":"linky"}'
    assert ear.send("zigbee2mqtt_linky", "reboot") is None
    what = ear.said(TOPIC, STANDARD | {"update": {"state": "updating", "progress": 13.4, "remaining": 900}})
    assert [one for one in what if isinstance(one, Fota)] == [Fota(phase="downloading", percent=13.4)]
    what = ear.said(TOPIC, STANDARD | {"update": {"state": "available", "latest_version": 7, "installed_version": 6}})
    assert facts(what) == {"newer_firmware": "7"}
    assert facts(ear.said(TOPIC, STANDARD | {"update": {"state": "idle"}})) == {"newer_firmware": ""}


def test_nothing_is_refused_of_a_whole_day():
    ear = Ear()
    what = [one for _ in range(50) for one in ear.said(TOPIC, STANDARD | TEMPO)]
    assert not [one for one in what if isinstance(one, Refusal)]
