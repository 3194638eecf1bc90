"""What telegrams say, in our units and signs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.reading import Reading, StateBit
from app.protocol.codec import decode_tele
from app.protocol.dsmr.encode import encode_telegram
from app.protocol.dsmr.objects import identifier, meter_time, watt_hours
from app.protocol.dsmr.readings import ReadingMaker, Warn, meter_facts, meter_number
from app.protocol.dsmr.telegrams import Telegram, TelegramReader
from tests.app.protocol.dsmr import synthetic


def telegrams(stream: bytes) -> list[Telegram]:
    return [event for event in TelegramReader().feed(stream) if isinstance(event, Telegram)]


def reading(stream: bytes) -> Reading | None:
    [telegram] = telegrams(stream)
    return ReadingMaker().read(telegram).reading


def of_lines(*lines: str) -> Reading | None:
    return reading(encode_telegram("WDK5X", lines))


def test_the_netherlands():
    assert reading(synthetic.netherlands(7)) == Reading(
        time_ms=1_763_887_207_000,
        active_w=111,
        drawn_wh=2_107_115 + 245_467,
        injected_wh=10_003,
        register=2,
        registers_wh={1: 2_107_115, 2: 245_467},
        voltage_v=229.9,
        voltage_2_v=229.2,
        voltage_3_v=222.9,
        current_a=0,
        current_2_a=2,
        current_3_a=1,
        state=0,
        gas_m3=246.138,
    )


def test_dsmr_2_without_crc_and_clock():
    assert reading(synthetic.old_netherlands()) == Reading(
        active_w=1010,
        drawn_wh=80_235,
        injected_wh=0,
        register=1,
        registers_wh={1: 12_345, 2: 67_890},
        state=0,
        gas_m3=543.21,
    )


def test_belgium():
    assert reading(synthetic.belgium()) == Reading(
        time_ms=1_747_986_000_000,
        active_w=-2500,
        drawn_wh=300_792,
        injected_wh=11,
        register=1,
        registers_wh={1: 100_034, 2: 200_758},
        state=StateBit.BREAKER_OPEN,
        gas_m3=112.384,
        water_m3=872.234,
    )


def test_austria_gives_whole_watts_and_a_total():
    found = reading(synthetic.austria())

    assert found is not None
    assert (found.active_w, found.drawn_wh, found.injected_wh) == (286, 6_545_766, 58)
    assert found.registers_wh == {1: 5_017_120, 2: 1_528_646}


def test_germany_gives_power_by_phase_and_indexes_finer_than_a_watt_hour():
    found = reading(synthetic.germany())

    assert found is not None
    assert (found.active_w, found.drawn_wh, found.injected_wh) == (650.3, 52_185_782, 19_949_322)
    assert (found.time_ms, found.registers_wh) == (None, None)


def test_heat_alone():
    assert reading(synthetic.heat()) == Reading(time_ms=1_763_887_200_000, state=0, heat_gj=240.86)


@pytest.mark.parametrize(
    ("lines", "watts"),
    [
        (("1-0:1.7.0(01.500*kW)",), 1500),
        (("1-0:2.7.0(01.500*kW)",), -1500),
        (("1-0:2.7.0(00.000*kW)",), None),
        (("1-0:1.7.0(00.000*kW)", "1-0:2.7.0(00.750*kW)"), -750),
        (("1-0:16.7.0(-000345*W)",), -345),
        (("1-0:21.7.0(00.100*kW)", "1-0:22.7.0(00.000*kW)", "1-0:42.7.0(00.300*kW)"), -200),
        (("1-0:1.7.0(999999*kW)",), None),
        (("1-0:1.7.0(1.5)",), None),
        (("1-0:1.7.0(1.5*VA)",), None),
    ],
)
def test_power_is_drawn_minus_injected_in_watts(lines, watts):
    found = of_lines(*lines)

    assert (found.active_w if found else None) == watts
    assert found is None or found.apparent_va is None


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("004", "001.000*GJ", ("heat_gj", 1.0)),
        ("012", "001000.0*MJ", ("heat_gj", 1.0)),
        ("004", "000100*kWh", ("heat_gj", 0.36)),
        ("004", "0001.000*MWh", ("heat_gj", 3.6)),
        ("007", "00001.500*m3", ("water_m3", 1.5)),
        ("006", "00001.500*m3", ("water_m3", 1.5)),
        ("003", "00001.500*m3", ("gas_m3", 1.5)),
        ("003", "00001.500*kWh", None),
        ("010", "00001.500*m3", None),
        ("", "00001.500*m3", None),
        ("003", "9999999999999.0*m3", None),
    ],
)
def test_other_meters_by_their_type_and_unit(kind, value, expected):
    found = of_lines("1-0:1.7.0(1*W)", f"0-1:24.1.0({kind})", f"0-1:24.2.1(251123094000W)({value})")

    assert found is not None
    others = {name: getattr(found, name) for name in ("gas_m3", "water_m3", "heat_gj")}
    assert {name: value for name, value in others.items() if value is not None} == dict([expected] if expected else [])


def test_an_exchanged_gas_meter_stays_silent_behind_the_new_one():
    found = of_lines(
        "0-1:24.1.0(003)",
        "0-1:24.2.1(230101000000W)(05000.000*m3)",
        "0-2:24.1.0(003)",
        "0-2:24.2.1(251123094000W)(00007.000*m3)",
    )
    assert found is not None
    assert found.gas_m3 == 7


def test_another_meters_index_is_given_once_for_each_time_it_was_read():
    maker = ReadingMaker()
    first = synthetic.netherlands(1) + synthetic.netherlands(2)
    then = (
        encode_telegram(
            "WDK5WATTDECK-1",
            ("1-0:1.7.0(00.111*kW)", "0-2:24.1.0(003)", "0-2:24.2.1(251123094000W)(00246.138*m3)"),
        )
        * 2
    )
    found = [maker.read(telegram).reading for telegram in telegrams(first + then)]

    assert [one.gas_m3 for one in found if one] == [246.138, None, 246.138, None]


def test_without_a_crc_a_damaged_line_leaves_no_sum_and_marks_the_link():
    stream = synthetic.old_netherlands().replace(b"1-0:1.8.2(00067.890*kWh)", b"1-0:1.8.2(0006#.890*kWh")
    [telegram] = telegrams(stream)
    found = ReadingMaker().read(telegram)

    assert found.warnings == (Warn.BAD_LINES,)
    assert found.reading is not None
    assert (found.reading.drawn_wh, found.reading.registers_wh) == (None, None)
    assert found.reading.state == StateBit.METER_LINK_BAD
    assert found.reading.active_w == 1010


def test_without_a_crc_an_index_that_can_not_be_is_left_out_and_with_one_it_is_the_meters_word():
    good = synthetic.old_netherlands()
    jumped = good.replace(b"(00012.345*kWh)", b"(80012.345*kWh)")
    maker = ReadingMaker()
    found = [maker.read(telegram, at * 10_000_000) for at, telegram in enumerate(telegrams(good + jumped + good))]

    assert [one.reading.drawn_wh for one in found if one.reading] == [80_235, None, 80_235]
    assert [one.warnings for one in found] == [(), (Warn.INDEX_JUMPED,), ()]
    assert [one.reading.registers_wh is None for one in found if one.reading] == [False, True, False]

    maker = ReadingMaker()
    indexes = [
        maker.read(telegram, 0).reading.drawn_wh  # type: ignore[union-attr]
        for telegram in telegrams(synthetic.netherlands(50) + synthetic.netherlands(3))
    ]
    assert indexes == [2_395_582, 2_348_582]


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("200512135409S", 1_589_284_449_000),
        ("170102192002W", 1_483_381_202_000),
        # The hour that comes twice.
        ("251026023000S", 1_761_438_600_000),
        ("251026023000W", 1_761_442_200_000),
        ("251323094000W", None),
        ("2511230940", None),
        ("251123094000X", None),
        ("251123094000w", None),
        ("", None),
    ],
)
def test_times_by_their_letter(text, time_ms):
    found = meter_time(text)

    assert (found.time_ms if found else None) == time_ms


def test_a_time_that_can_not_be_is_told():
    [telegram] = telegrams(encode_telegram("WDK5X", ("0-0:1.0.0(251323094000W)", "1-0:1.7.0(1*W)")))

    assert ReadingMaker().read(telegram).warnings == (Warn.DATE_INVALID,)


@pytest.mark.parametrize(
    ("text", "wh"),
    [
        ("001581.123*kWh", 1_581_123),
        ("00000.0009*kWh", 0),
        ("0001.0*MWh", 1_000_000),
        ("5*Wh", 5),
        ("-1*Wh", None),
        ("1e3*Wh", None),
        ("nan*Wh", None),
        ("inf*Wh", None),
        ("٣*Wh", None),
        ("9" * 17 + "*Wh", None),
        ("9999999999999999*kWh", None),
        ("*Wh", None),
        ("12", None),
    ],
)
def test_indexes_are_whole_watt_hours(text, wh):
    assert watt_hours(text) == wh


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4530303939", "E0099"),
        ("ADC3100000158491", "ADC3100000158491"),
        ("1WDK99", "1WDK99"),
        ("123", "123"),
        ("00000000", "00000000"),
        ("45 30", "45 30"),
        ("", None),
    ],
)
def test_numbers_of_meters(text, said):
    assert identifier(text) == said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("netherlands", "E0099000000000017"),
        ("belgium", "1WDK9900000020"),
        ("germany", "1WDK9900000021"),
        ("austria", "WDK5\\299999998_A"),
        ("heat", "ADC3990000000022"),
    ],
)
def test_whose_a_telegram_is(kind, said):
    [telegram] = telegrams(synthetic.all_kinds()[kind])

    assert meter_number(telegram) == said


def test_zeros_are_no_number():
    [telegram] = telegrams(encode_telegram("WDK5X", ("0-0:96.1.1(00000000000000)", "1-0:1.7.0(1*W)")))

    assert meter_number(telegram) == "WDK5X"


@pytest.mark.parametrize(
    ("kind", "tariffs"),
    [
        ("netherlands", "Netherlands: tariff 1 is the low one, 2 the normal one"),
        ("old_netherlands", "Netherlands: tariff 1 is the low one, 2 the normal one"),
        ("belgium", "Belgium: tariff 1 is the day, 2 the night"),
        ("austria", "Austria or Luxembourg"),
        ("germany", "Germany, push telegram"),
        ("heat", None),
    ],
)
def test_facts_say_what_the_tariffs_are_and_nothing_personal(kind, tariffs):
    [telegram] = telegrams(synthetic.all_kinds()[kind])
    facts = meter_facts(telegram)

    assert facts.get("tariffs") == tariffs
    number = meter_number(telegram)
    assert number == telegram.identification or number not in str(facts)


value = st.one_of(
    st.from_regex(r"[0-9*.kKWhmMVAGJ3+-]{0,20}", fullmatch=True),
    st.sampled_from(["1e400*kWh", "-0.0*kW", "9999999999999999.999999999*kWh", "003", "251123094000W", "99999*A"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="()!/"), max_size=12),
)
code = st.sampled_from(
    [
        *(f"1-0:{number}.8.{tariff}" for number in (1, 2) for tariff in (0, 1, 10)),
        *(f"1-0:{number}.7.0" for number in (1, 2, 16, 21, 31, 32)),
        *(f"0-1:24.{number}" for number in ("1.0", "2.1", "2.3", "3.0")),
        *(f"0-0:{number}" for number in ("1.0.0", "96.14.0", "96.1.1", "96.3.10")),
    ]
)


@given(st.lists(st.tuples(code, st.lists(value, min_size=1, max_size=4)), max_size=12), st.booleans())
def test_any_values_make_readings_within_the_bounds_of_their_fields(lines, with_crc):
    stream = encode_telegram(
        "WDK5X", (code + "".join(f"({text})" for text in texts) for code, texts in lines), with_crc=with_crc
    )
    maker = ReadingMaker()
    for telegram in telegrams(stream * 2):
        found = maker.read(telegram).reading
        meter_facts(telegram)
        meter_number(telegram)
        if found is not None:
            # The border's decoder checks every bound.
            assert decode_tele(msgspec.json.encode(found)).active_w == found.active_w


@given(st.sampled_from(list(synthetic.all_kinds().values())), st.data())
def test_mutations_of_telegrams_never_raise(stream, data):
    changed = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed) - 1))
        if data.draw(st.booleans()):
            changed[at] = data.draw(st.integers(0, 255))
        else:
            del changed[at : at + data.draw(st.integers(0, 40))]
        if not changed:
            break
    maker = ReadingMaker()
    for telegram in telegrams(bytes(changed) + stream):
        found = maker.read(telegram)
        if found.reading is not None:
            decode_tele(msgspec.json.encode(found.reading))
