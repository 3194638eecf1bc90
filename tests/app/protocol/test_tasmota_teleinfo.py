"""Frames of a meter that Tasmota sends: full, skipping, only what changed, and raw."""

from __future__ import annotations

import json

import pytest

from app.domain.reading import Reading, StateBit
from app.protocol.foreign import Facts, Refusal
from app.protocol.tasmota import Tasmota
from app.protocol.tasmota_teleinfo import KEPT_FOR_US

NOW_US = 1_790_000_000_000_000
HISTORIQUE = {
    "ADCO": "012345678901",
    "OPTARIF": "HC..",
    "ISOUSC": 15,
    "HCHC": 920750,
    "HCHP": 2275560,
    "PTEC": "HP..",
    "IINST": 1,
    "IMAX": 90,
    "PAPP": 170,
    "HHPHC": "A",
    "MOTDETAT": 0,
}
STANDARD = {
    "ADSC": "012345678901",
    "VTIC": 2,
    "DATE": "E260501100000",
    "NGTF": "      BASE      ",
    "EAST": 3000,
    "EASF01": 3000,
    **{f"EASF{number:02}": 0 for number in range(2, 11)},
    "IRMS1": 2,
    "URMS1": 231,
    "PREF": 6,
    "SINSTS": 460,
    "STGE": "003A0001",
    "NTARF": 1,
}


def said(dialect, frame, *, at_us=NOW_US, topic="tele/module/SENSOR", **sections):
    message = frame if topic.endswith("TIC") else {"TIC": frame} | sections
    payload = json.dumps(message).encode()
    return [one.what for one in dialect.take(topic, payload, retained=False, arrival_us=at_us)]


def readings(dialect, *frames, **kwargs):
    return [what for frame in frames for what in said(dialect, frame, **kwargs) if isinstance(what, Reading)]


def test_a_frame_of_the_historique_mode():
    reading, facts = said(Tasmota(), HISTORIQUE)

    assert reading == Reading(
        apparent_va=170,
        drawn_wh=3_196_310,
        register=2,
        registers_wh={1: 920_750, 2: 2_275_560},
        current_a=1,
        state=0,
    )
    assert facts == Facts(meter_kind="linky-historique", meter_serial="012345678901")


def test_a_frame_of_the_standard_mode():
    reading, facts = said(Tasmota(), STANDARD)

    assert reading == Reading(
        time_ms=1_777_622_400_000,
        apparent_va=460,
        drawn_wh=3000,
        register=1,
        registers_wh={1: 3000, **dict.fromkeys(range(2, 11), 0)},
        voltage_v=231,
        current_a=2,
        state=StateBit.RELAY_OPEN,
    )
    assert facts == Facts(meter_kind="linky-standard", meter_serial="012345678901")


@pytest.mark.parametrize(
    ("contract", "registers_wh", "register"),
    [
        ({"OPTARIF": "BASE", "BASE": 5, "PTEC": "TH.."}, {1: 5}, 1),
        ({"OPTARIF": "EJP.", "EJPHN": 5, "EJPHPM": 6, "PTEC": "PM.."}, {1: 5, 2: 6}, 2),
        (
            {
                "OPTARIF": "BBR(",
                "BBRHCJB": 1,
                "BBRHPJB": 2,
                "BBRHCJW": 3,
                "BBRHPJW": 4,
                "BBRHCJR": 5,
                "BBRHPJR": 6,
                "PTEC": "HPJW",
            },
            {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6},
            4,
        ),
    ],
)
def test_every_contract_of_the_historique_mode(contract, registers_wh, register):
    (reading,) = readings(Tasmota(), {"ADCO": "012345678901", "PAPP": 170} | contract)

    assert (reading.registers_wh, reading.register) == (registers_wh, register)
    assert reading.drawn_wh == sum(registers_wh.values())


def test_telemetry_takes_the_indexes_from_the_frame_and_not_from_energy():
    energy = {"Total": 9098.245, "Power": 170, "Current": 1.0, "Load": 6}

    (reading,) = readings(Tasmota(), HISTORIQUE, ENERGY=energy)

    assert (reading.drawn_wh, reading.active_w, reading.apparent_va) == (3_196_310, None, 170)


def energy_after(*sections):
    dialect = Tasmota()
    for section in sections:
        dialect.take("tele/module/SENSOR", json.dumps(section).encode(), retained=False, arrival_us=NOW_US)
    energy = {"Total": 9098.245, "Power": 170, "Current": 1.0} | ({} if sections else {"Load": 6})
    payload = json.dumps({"ENERGY": energy}).encode()
    return dialect.take("tele/module/SENSOR", payload, retained=False, arrival_us=NOW_US)[0].what


@pytest.mark.parametrize("before", [(), ({"TIC": HISTORIQUE},), ({"TIC": {"OPTARIF": "HC.."}},)])
def test_power_of_a_teleinfo_module_is_va_also_without_a_frame(before):
    assert energy_after(*before) == Reading(apparent_va=170, current_a=1.0)


def test_a_module_that_announced_frames_gives_va():
    dialect = Tasmota()
    config = {"t": "module", "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"]}
    for kind, message in (("config", config), ("sensors", {"sn": {"ENERGY": {"Power": 0}, "TIC": {}}})):
        topic = f"tasmota/discovery/02005E100001/{kind}"
        dialect.take(topic, json.dumps(message).encode(), retained=True, arrival_us=NOW_US)
    energy = dialect.take("tele/module/SENSOR", b'{"ENERGY":{"Power":170}}', retained=False, arrival_us=NOW_US)

    assert energy[0].what == Reading(apparent_va=170)


def test_what_changed_is_laid_over_what_is_known():
    dialect = Tasmota()
    _, second, third, fourth = readings(dialect, HISTORIQUE, {"PAPP": 160}, {"HCHP": 2_275_561}, {"PTEC": "HC.."})

    assert (second.apparent_va, second.drawn_wh) == (160, 3_196_310)
    assert (third.apparent_va, third.drawn_wh) == (160, 3_196_311)
    assert (fourth.apparent_va, fourth.drawn_wh, fourth.register) == (160, 3_196_311, 1)


def test_changes_without_anything_known_give_what_they_say_and_no_more():
    dialect = Tasmota()

    assert said(dialect, {"OPTARIF": "HC.."}) == [Facts(meter_kind="linky-historique")]
    (first, second, third) = readings(dialect, {"PAPP": 160}, {"HCHP": 100}, {"HCHC": 50})
    assert (first.apparent_va, first.drawn_wh) == (160, None)
    # One index of two is no total.
    assert (second.registers_wh, second.drawn_wh) == ({2: 100}, None)
    assert (third.registers_wh, third.drawn_wh) == ({1: 50, 2: 100}, 150)


def test_what_is_known_is_given_up_when_nothing_came_for_long():
    dialect = Tasmota()
    said(dialect, HISTORIQUE)
    (kept,) = readings(dialect, {"PAPP": 160}, at_us=NOW_US + KEPT_FOR_US)
    (lost,) = readings(dialect, {"PAPP": 150}, at_us=NOW_US + 2 * KEPT_FOR_US + 1)

    assert (kept.drawn_wh, lost.drawn_wh) == (3_196_310, None)


def test_the_time_of_one_frame_is_not_that_of_the_next():
    _, second = readings(Tasmota(), STANDARD, {"SINSTS": 470})

    assert (second.time_ms, second.apparent_va, second.drawn_wh) == (None, 470, 3000)


def test_another_meter_begins_anew():
    dialect = Tasmota()
    said(dialect, HISTORIQUE)
    reading, facts = said(dialect, {"ADCO": "999999999999", "PAPP": 50})

    assert (reading.apparent_va, reading.drawn_wh, reading.current_a) == (50, None, None)
    assert facts.meter_serial == "999999999999"


def test_another_mode_begins_anew():
    dialect = Tasmota()
    said(dialect, HISTORIQUE)
    reading, facts = said(dialect, STANDARD)

    assert (reading.apparent_va, reading.drawn_wh) == (460, 3000)
    assert facts.meter_kind == "linky-standard"


def test_an_index_that_falls_once_is_not_believed():
    first, second, third = readings(Tasmota(), HISTORIQUE, {"HCHP": 5}, {"HCHP": 2_275_570})

    assert [first.drawn_wh, second.drawn_wh, third.drawn_wh] == [3_196_310, None, 3_196_320]


def test_a_value_that_can_not_be_read_is_no_longer_what_it_was():
    _, second = readings(Tasmota(), HISTORIQUE, {"PAPP": "17x", "IINST": 2})

    assert (second.apparent_va, second.current_a) == (None, 2)


def test_over_power_in_the_middle_of_a_frame_says_only_that():
    dialect = Tasmota()
    said(dialect, HISTORIQUE)
    # Its value is the phase, by the firmware, not amperes.
    (alarm,) = readings(dialect, {"ADPS": 1})
    (after,) = readings(dialect, {"PAPP": 3000})

    assert alarm == Reading(state=StateBit.OVER_POWER)
    assert (after.state, after.apparent_va) == (0, 3000)


def test_over_power_within_a_frame_is_state():
    (reading,) = readings(Tasmota(), HISTORIQUE | {"ADPS": 18})

    assert (reading.state, reading.apparent_va) == (StateBit.OVER_POWER, 170)


def test_a_status_register_of_digits_has_lost_its_zeros():
    # 003A0001 has a letter and stays; 00120001 arrives as a number. Bit 0 is the contact, 17 the mode.
    (reading,) = readings(Tasmota(), STANDARD | {"STGE": 120_001, "NTARF": None})

    assert (reading.state, reading.register) == (StateBit.RELAY_OPEN, 1)


def test_three_phases_of_the_historique_mode():
    frame = {"ADCO": "012345678901", "IINST1": 1, "IINST2": 2, "IINST3": 3, "PAPP": 1200}

    (reading,) = readings(Tasmota(), frame)

    assert (reading.current_a, reading.current_2_a, reading.current_3_a) == (1, 2, 3)


def test_injection_is_negative():
    (reading,) = readings(Tasmota(), STANDARD | {"SINSTS": 0, "SINSTI": 800, "EAIT": 77})

    assert (reading.apparent_va, reading.injected_wh) == (-800, 77)


def test_the_raw_frames_of_the_fork_are_texts():
    raw = {label: str(value).zfill(9) if label.startswith("HC") else str(value) for label, value in HISTORIQUE.items()}
    raw["PAPP"] = "00170"

    reading = said(Tasmota(), raw, topic="tele/module/TIC")[0]

    assert (reading.apparent_va, reading.drawn_wh) == (170, 3_196_310)


@pytest.mark.parametrize("frame", [{"P": 5}, {"PJOURF+1": "x"}, {}])
def test_a_frame_of_labels_without_use_is_no_reading(frame):
    assert readings(Tasmota(), frame) == []


@pytest.mark.parametrize("value", [True, -1, 10**9, 1.5, "x", "", None, [170], "1" * 10, "\u0661"])
def test_a_value_no_meter_sends_is_none(value):
    found = said(Tasmota(), {"BASE": value})

    assert len(found) == 1
    assert isinstance(found[0], Refusal)
