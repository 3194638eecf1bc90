"""Tasmota's ENERGY, and METER, CONTRACT and ALERT of the Teleinfo fork: which value becomes which field."""

from __future__ import annotations

import json

import pytest

from app.domain.reading import Reading, StateBit
from app.protocol.foreign import Facts, Refusal
from app.protocol.tasmota import Tasmota

NOW_US = 1_790_000_000_000_000


def said(dialect, message, topic="tele/plug/SENSOR"):
    payload = json.dumps(message).encode()
    return [one.what for one in dialect.take(topic, payload, retained=False, arrival_us=NOW_US)]


def reading_of(message, topic="tele/plug/SENSOR"):
    found = [what for what in said(Tasmota(), message, topic) if isinstance(what, Reading)]
    assert len(found) == 1
    return found[0]


# --- ENERGY ---------------------------------------------------------------------------------------------------------


def test_a_plug():
    energy = {
        "TotalStartTime": "2026-01-01T00:00:00",
        "Total": 3.185,
        "Yesterday": 3.058,
        "Today": 0.127,
        "Period": 9,
        "Power": 120.5,
        "ApparentPower": 140,
        "ReactivePower": 30,
        "Factor": 0.86,
        "Voltage": 227.7,
        "Current": 0.615,
    }

    assert reading_of({"Time": "2026-05-01T10:00:00", "ENERGY": energy}) == Reading(
        active_w=120.5, apparent_va=140, drawn_wh=3185, voltage_v=227.7, current_a=0.615
    )


def test_three_phases_are_arrays():
    energy = {
        "Total": [1.5, 2.25, 0.125],
        "ExportActive": [0.5, 0, 0],
        "Power": [100, -40, 7.5],
        "ApparentPower": [110, 50, 10],
        "Voltage": [230, 231, 229],
        "Current": [0.5, 0.2, 0.1],
    }

    assert reading_of({"ENERGY": energy}) == Reading(
        active_w=67.5,
        apparent_va=170,
        drawn_wh=3875,
        injected_wh=500,
        voltage_v=230,
        voltage_2_v=231,
        voltage_3_v=229,
        current_a=0.5,
        current_2_a=0.2,
        current_3_a=0.1,
    )


@pytest.mark.parametrize("value", [[1, None, 3], [1, "x"], [True, 1], [1, [2]], []])
def test_the_sum_of_phases_is_unknown_when_one_is(value):
    reading = reading_of({"ENERGY": {"Power": value, "Total": value, "Voltage": 230}})

    assert reading == Reading(voltage_v=230)


@pytest.mark.parametrize(
    ("value", "power", "wh"),
    [
        ("3.185", 3.185, 3185),
        (0, 0, 0),
        (-5, -5, None),
        ("1e3", None, None),
        ("", None, None),
        (True, None, None),
        (None, None, None),
        (10**400, None, None),
        (1e6, 1e6, 10**9),
        (1000001, None, 1_000_001_000),
        ({"a": 1}, None, None),
    ],
)
def test_numbers_are_bounded_and_texts_may_be_numbers(value, power, wh):
    reading = reading_of({"ENERGY": {"Power": value, "Total": value, "Voltage": 230}})

    assert (reading.active_w, reading.drawn_wh, reading.voltage_v) == (power, wh, 230)


@pytest.mark.parametrize("value", [1e999, float("inf"), float("nan")])
def test_what_json_does_not_have_is_refused_or_left_out(value):
    payload = b'{"ENERGY":{"Power":' + (b"1e999" if value == 1e999 else str(value).encode()) + b"}}"
    (what,) = [one.what for one in Tasmota().take("tele/a/SENSOR", payload, retained=False, arrival_us=NOW_US)]

    assert isinstance(what, Refusal)


# --- Time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        # Local time of an unknown zone: the hub stamps it when it arrives.
        ({"Time": "2026-05-01T10:00:00"}, None),
        ({"Time": "2026-05-01T10:00:00.123"}, None),
        ({"Time": "2026-05-01T10:00:00Z"}, 1_777_629_600_000),
        ({"Time": "2026-05-01T10:00:00+02:00"}, 1_777_622_400_000),
        ({"Time": "2026-05-01T10:00:00", "Epoch": 1_777_622_400}, 1_777_622_400_000),
        ({"Time": 1_777_622_400}, 1_777_622_400_000),
        # A clock that was never set.
        ({"Time": "1970-01-01T00:00:10Z"}, None),
        ({"Time": 10}, None),
        ({"Time": "1970-01-01T00:00:10", "Epoch": 10}, None),
        ({"Time": "0001-01-01T00:00:00+14:00"}, None),
        ({"Time": "9999-12-31T23:59:59-14:00"}, None),
        ({"Time": "yesterday"}, None),
        ({"Time": ["2026-05-01T10:00:00Z"]}, None),
        ({}, None),
    ],
)
def test_a_time_counts_only_with_its_offset(time, time_ms):
    assert reading_of(time | {"ENERGY": {"Power": 1}}).time_ms == time_ms


# --- METER, CONTRACT, ALERT -----------------------------------------------------------------------------------------

METER = {"PH": 1, "ISUB": 45, "PSUB": 9000, "PMAX": 9000, "U1": 231, "I1": 1.52, "P1": 350, "W1": 203, "P": 350}
METER |= {"W": 203, "I": 1.52, "C": 0.58, "TDAY": 5000, "YDAY": 9000}


def test_va_and_watts_of_a_meter_are_kept_apart():
    assert reading_of({"METER": METER}) == Reading(active_w=203, apparent_va=350, voltage_v=231, current_a=1.52)


def test_va_alone_is_never_watts():
    assert reading_of({"METER": {"PH": 1, "P": 350}}) == Reading(apparent_va=350)


def test_what_is_produced_is_negative():
    produced = {"PH": 1, "U1": 235, "I1": 0, "P": 0, "W": 0, "PP": 1200, "PW": 1150, "PC": 0.96}

    reading = reading_of({"METER": produced, "CONTRACT": {"serial": "012345678901", "CONSO": 500, "PROD": 700}})

    assert (reading.active_w, reading.apparent_va) == (-1150, -1200)
    assert (reading.drawn_wh, reading.injected_wh) == (500, 700)


def test_three_phases_of_a_meter():
    meter = {"PH": 3, "U1": 230, "U2": 231, "U3": 232, "I1": 1, "I2": 2, "I3": 3, "P": 1380, "W": 1300, "I": 6}

    assert reading_of({"METER": meter}) == Reading(
        active_w=1300,
        apparent_va=1380,
        voltage_v=230,
        voltage_2_v=231,
        voltage_3_v=232,
        current_a=1,
        current_2_a=2,
        current_3_a=3,
    )


def contract(**more):
    return {"serial": "012345678901", "name": "x", "period": "x", "color": "Bleu", "hour": "HP"} | more


@pytest.mark.parametrize(
    ("given", "registers_wh", "register"),
    [
        (contract(CONSO=300, **{"HC..": 100, "HP..": 200}), {1: 100, 2: 200}, 2),
        (contract(CONSO=300, hour="Creuse", **{"HC..": 100, "HP..": 200}), {1: 100, 2: 200}, 1),
        (contract(CONSO=300, period="HC..", **{"HC..": 100, "HP..": 200}), {1: 100, 2: 200}, 1),
        # Older firmware left out what was empty: the name says the register, not the place.
        (contract(**{"HP..": 200}), {2: 200}, None),
        (contract(CONSO=7, **{"TH..": 7}), {1: 7}, 1),
        (contract(CONSO=7, BASE=7), {1: 7}, 1),
        (contract(CONSO=3, **{"HN..": 1, "PM..": 2}), {1: 1, 2: 2}, None),
        (
            contract(CONSO=21, color="Blanc", HCJB=1, HPJB=2, HCJW=3, HPJW=4, HCJR=5, HPJR=6),
            {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6},
            4,
        ),
        (
            contract(
                CONSO=21,
                **{"HC BLEU": 1, "HP BLEU": 2, "HC BLANC": 3, "HP BLANC": 4, "HC ROUGE": 5, "HP ROUGE": 6},
            ),
            {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6},
            2,
        ),
        # An offer without names of ours: in the order of the registers, when nothing is left out.
        (contract(CONSO=6, period="SOIR", NUIT=1, SOIR=2, JOUR=3), {1: 1, 2: 2, 3: 3}, 2),
        (contract(CONSO=9, period="SOIR", NUIT=1, SOIR=2, JOUR=3), None, None),
        (contract(NUIT=1, SOIR=2), None, None),
        (contract(CONSO=5, **{"HC..": "x", "HP..": True}), None, 2),
        (contract(CONSO=5), None, None),
    ],
)
def test_the_periods_of_a_contract_are_registers(given, registers_wh, register):
    reading = reading_of({"METER": METER, "CONTRACT": given})

    assert (reading.registers_wh, reading.register) == (registers_wh, register)
    assert reading.drawn_wh == given.get("CONSO")


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ("012345678901", "012345678901"),
        # Written as a number it has lost its zeros.
        (12345678901, "012345678901"),
        (0, None),
        ("", None),
        (True, None),
        ("1" * 13, None),
        ([1], None),
    ],
)
def test_the_number_of_the_meter(serial, expected):
    facts = [one for one in said(Tasmota(), {"CONTRACT": {"serial": serial, "CONSO": 1}}) if isinstance(one, Facts)]

    assert facts == ([Facts(meter_serial=expected)] if expected else [])


def test_the_230_volts_of_the_historique_mode_are_none():
    dialect = Tasmota()
    first = said(dialect, {"METER": METER, "CONTRACT": contract(CONSO=300, **{"HC..": 100, "HP..": 200})})[0]
    live = said(dialect, {"METER": METER}, "tele/plug/LIVE")[0]
    standard = said(dialect, {"METER": METER, "CONTRACT": contract(CONSO=7, BASE=7)})[0]

    assert [first.voltage_v, live.voltage_v, standard.voltage_v] == [None, None, 231]


@pytest.mark.parametrize(
    ("alert", "bits"),
    [
        ({"volt": "", "load": "", "period": ""}, 0),
        ({"volt": "", "load": "ADPS", "period": "PM3"}, StateBit.OVER_POWER),
        ({"volt": "", "load": "STGE"}, StateBit.OVER_POWER),
        # Above a percentage that the owner chose.
        ({"volt": "", "load": "MAX2"}, 0),
        ({"volt": "STGE", "load": ""}, StateBit.OVER_VOLTAGE),
        ({"volt": "265", "load": ""}, StateBit.OVER_VOLTAGE),
        # Ten percent too low is an alert too, and no over-voltage.
        ({"volt": "201", "load": ""}, 0),
        ({"Load": 1, "Volt": 1, "Preavis": 0, "Label": ""}, StateBit.OVER_POWER | StateBit.OVER_VOLTAGE),
        ({"Load": 0, "Volt": 0}, 0),
        ({"Load": [], "Volt": {}}, 0),
    ],
)
def test_alerts_are_state(alert, bits):
    assert reading_of({"METER": METER, "ALERT": alert}).state == bits


def test_an_alert_alone_is_no_reading():
    assert said(Tasmota(), {"ALERT": {"volt": "", "load": "ADPS", "period": ""}}) == []


def test_one_message_is_one_reading_of_its_best_section():
    energy = {"Total": 9.0, "Power": 1}
    frame = {"ADCO": "012345678901", "OPTARIF": "BASE", "BASE": 100, "PAPP": 170}

    assert reading_of({"ENERGY": energy, "METER": METER}).active_w == 203
    assert reading_of({"ENERGY": energy, "METER": METER, "TIC": frame}).drawn_wh == 100
    assert reading_of({"ENERGY": energy, "METER": {"PH": 1}}).active_w == 1
