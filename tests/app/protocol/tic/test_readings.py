"""Readings of frames: values, registers, states, and what is odd."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.linky import TicMode
from app.domain.reading import StateBit
from app.protocol.tic.frames import FrameReader
from app.protocol.tic.groups import GroupReader
from app.protocol.tic.index_guard import AGREEING_TO_MOVE, SLACK_WH, IndexGuard, Verdict
from app.protocol.tic.readings import ReadingMaker, Warn
from tests.app.protocol.tic import synthetic
from tests.app.protocol.tic.synthetic import frame

S, H = TicMode.STANDARD, TicMode.HISTORIQUE
SECOND_US = 1_000_000


def frames_of(stream: bytes):
    groups, frames = GroupReader(), FrameReader()
    return [*frames.take(groups.feed(stream)), *frames.finish()]


def read(stream: bytes, maker: ReadingMaker | None = None, at_us: int | None = None):
    [one] = frames_of(stream)
    return (maker or ReadingMaker()).read(one, at_us)


def test_a_standard_frame():
    made = read(synthetic.standard_mono(7))
    reading = made.reading

    assert reading is not None
    assert reading.time_ms == int(dt.datetime(2025, 11, 23, 9, 0, 7, tzinfo=dt.UTC).timestamp() * 1000)
    assert reading.apparent_va == 1840
    assert reading.active_w is None
    assert reading.drawn_wh == 12_345_678
    assert reading.injected_wh is None
    assert reading.register == 2
    assert reading.registers_wh == {1: 5_000_000, 2: 7_345_678} | dict.fromkeys(range(3, 11), 0)
    assert (reading.voltage_v, reading.voltage_2_v, reading.current_a, reading.current_2_a) == (231, None, 8, None)
    assert reading.state == StateBit.RELAY_OPEN
    assert made.warnings == ()


def test_a_producer_injects_with_a_minus_sign():
    reading = read(synthetic.standard_tri_producer()).reading

    assert reading is not None
    assert reading.apparent_va == -1675
    assert reading.injected_wh == 3_626_872
    assert (reading.voltage_2_v, reading.voltage_3_v, reading.current_3_a) == (238, 235, 1)


@pytest.mark.parametrize(
    ("letter", "hour_utc", "degraded"), [("H", 9, False), ("E", 8, False), ("h", 9, True), ("e", 8, True)]
)
def test_the_letter_of_the_date_is_its_offset(letter, hour_utc, degraded):
    made = read(synthetic.standard_mono(letter=letter))

    assert made.meter_time is not None
    assert made.meter_time.utc == dt.datetime(2025, 11, 23, hour_utc, tzinfo=dt.UTC)
    assert made.meter_time.degraded is degraded
    assert made.reading is not None
    assert bool((made.reading.state or 0) & StateBit.METER_CLOCK_DEGRADED) is degraded
    assert (Warn.CLOCK_DEGRADED in made.warnings) is degraded


@pytest.mark.parametrize(("date", "warnings"), [(" 251123100000", ()), ("H251323100000", (Warn.DATE_INVALID,))])
def test_a_date_that_is_none_leaves_the_reading_without_a_time(date, warnings):
    made = read(frame(S, ("ADSC", "041961000017"), ("DATE", date, ""), ("EAST", "000000001")))

    assert made.reading is not None
    assert made.reading.time_ms is None
    assert made.warnings == warnings


@pytest.mark.parametrize(
    ("option", "indexes", "period", "register"),
    [
        ("BASE", {"BASE": 7}, "TH..", 1),
        ("HC..", {"HCHC": 1, "HCHP": 2}, "HC..", 1),
        ("HC..", {"HCHC": 1, "HCHP": 2}, "HP..", 2),
        ("EJP.", {"EJPHN": 1, "EJPHPM": 2}, "HN..", 1),
        ("EJP.", {"EJPHN": 1, "EJPHPM": 2}, "PM..", 2),
        *(
            (
                "BBR(",
                {"BBRHCJB": 1, "BBRHPJB": 2, "BBRHCJW": 3, "BBRHPJW": 4, "BBRHCJR": 5, "BBRHPJR": 6},
                period,
                register,
            )
            for register, period in enumerate(("HCJB", "HPJB", "HCJW", "HPJW", "HCJR", "HPJR"), start=1)
        ),
    ],
)
def test_historique_contracts(option, indexes, period, register):
    made = read(
        frame(
            H,
            ("ADCO", "041961000017"),
            ("OPTARIF", option),
            *((label, f"{index:09}") for label, index in indexes.items()),
            ("PTEC", period),
        )
    )

    assert made.reading is not None
    assert made.reading.drawn_wh == sum(indexes.values())
    assert made.reading.registers_wh == dict(enumerate(indexes.values(), start=1))
    assert made.reading.register == register
    assert made.warnings == ()


def test_a_total_that_lacks_a_register_is_unknown():
    made = read(frame(H, ("ADCO", "041961000017"), ("OPTARIF", "HC.."), ("HCHP", "000000002"), ("PTEC", "HP..")))

    assert made.reading is not None
    assert made.reading.drawn_wh is None
    assert made.reading.registers_wh == {2: 2}


def test_without_optarif_the_indexes_say_the_contract_if_they_can():
    clear = read(frame(H, ("ADCO", "041961000017"), ("HCHC", "000000001"), ("HCHP", "000000002"))).reading
    unclear = read(frame(H, ("ADCO", "041961000017"), ("BASE", "000000001"), ("HCHP", "000000002"), ("PAPP", "00100")))

    assert clear is not None
    assert clear.drawn_wh == 3
    assert unclear.reading is not None
    assert unclear.reading.drawn_wh is None
    assert unclear.warnings == (Warn.CONTRACT_UNCLEAR,)


def test_a_short_frame_says_the_currents_and_nothing_else():
    maker = ReadingMaker()
    long = read(synthetic.historique_tri(), maker).reading
    short = read(synthetic.historique_tri_short(23), maker).reading

    assert long is not None
    assert short is not None
    assert (short.current_a, short.current_2_a, short.current_3_a) == (23, 2, 4)
    assert (short.drawn_wh, short.apparent_va, short.register, short.registers_wh) == (None, None, None, None)
    assert (short.state or 0) & StateBit.OVER_POWER


def test_a_veille_frame_is_no_reading():
    assert read(frame(H, ("ADCO", "041961000017"))).reading is None


def test_nothing_personal_is_in_a_reading():
    reading = read(synthetic.standard_mono()).reading

    assert "041961000017" not in repr(reading)
    assert "00000000000017" not in repr(reading)


@pytest.mark.parametrize(
    ("stge", "bits"),
    [
        ("003A4400", 0),
        ("003A4401", StateBit.RELAY_OPEN),
        ("003A4402", StateBit.BREAKER_OPEN),
        ("003A440E", StateBit.BREAKER_OPEN),
        ("003A4410", StateBit.TERMINAL_COVER_OPEN),
        ("003A4440", StateBit.OVER_VOLTAGE),
        ("003A4480", StateBit.OVER_POWER),
        ("003B4400", StateBit.METER_CLOCK_DEGRADED),
    ],
)
def test_the_status_register_becomes_state_bits(stge, bits):
    reading = read(synthetic.standard_mono(stge=stge)).reading

    assert reading is not None
    assert reading.state == bits


def test_a_damaged_frame_is_marked():
    reading = read(synthetic.standard_mono().replace(b"VTIC\t02", b"VTIC\t03")).reading

    assert reading is not None
    assert (reading.state or 0) & StateBit.METER_LINK_BAD


def test_registers_that_do_not_add_up_are_warned_of():
    stream = frame(
        S, ("ADSC", "041961000017"), ("EAST", "000000100"), *((f"EASF{n:02}", "000000001") for n in range(1, 11))
    )

    assert read(stream).warnings == (Warn.REGISTER_SUM,)


def test_two_sayings_of_the_running_register_are_compared():
    made = read(synthetic.standard_mono(stge="003A4001"))

    assert made.warnings == (Warn.REGISTER_DISAGREES,)
    assert made.reading is not None
    assert made.reading.register == 2


def test_the_status_register_stands_in_for_a_lost_register_number():
    reading = read(frame(S, ("ADSC", "041961000017"), ("EAST", "000000100"), ("STGE", "003A4C01"))).reading

    assert reading is not None
    assert reading.register == 4


def test_the_gap_is_between_frames():
    maker = ReadingMaker()
    gaps = [
        made.reading.frame_gap_ms
        for at_us in (5 * SECOND_US, 6_012_000, None, 8 * SECOND_US, 7 * SECOND_US)
        if (made := read(synthetic.historique_hc(), maker, at_us)).reading
    ]

    assert gaps == [None, 1012, None, None, None]


def test_an_index_that_falls_is_left_out_with_its_registers():
    maker = ReadingMaker()
    read(synthetic.standard_mono(0, 12_345_678), maker)
    made = read(synthetic.standard_mono(1, 12_345_600), maker)

    assert made.warnings == (Warn.INDEX_FELL,)
    assert made.reading is not None
    assert made.reading.drawn_wh is None
    assert made.reading.registers_wh is None
    assert made.reading.apparent_va == 1840


def test_an_index_that_jumps_is_left_out():
    maker = ReadingMaker()
    read(synthetic.standard_mono(0, 12_345_678), maker)
    made = read(synthetic.standard_mono(1, 22_345_678), maker)

    assert made.warnings == (Warn.INDEX_JUMPED,)
    assert made.reading is not None
    assert made.reading.drawn_wh is None


class TestIndexGuard:
    def test_a_single_misread_is_rejected_and_the_next_is_accepted(self):
        guard = IndexGuard()
        verdicts = [
            guard.judge(index, second * SECOND_US, 9000) for second, index in enumerate((1000, 9000, 1001, 10, 1002))
        ]

        assert verdicts == [
            Verdict.ACCEPTED,
            Verdict.JUMPED,
            Verdict.ACCEPTED,
            Verdict.FELL,
            Verdict.ACCEPTED,
        ]

    def test_a_new_level_is_believed_when_it_stays(self):
        guard = IndexGuard()
        guard.judge(5_000_000, 0, 9000)
        verdicts = [guard.judge(100 + step, step * SECOND_US, 9000) for step in range(1, AGREEING_TO_MOVE + 2)]

        assert verdicts == [Verdict.FELL] * (AGREEING_TO_MOVE - 1) + [Verdict.ACCEPTED] * 2

    def test_after_a_long_gap_a_large_growth_is_possible(self):
        guard = IndexGuard()
        guard.judge(1_000, 0, 9000)

        assert guard.judge(1_000 + 9_000, 3600 * SECOND_US, 9000) is Verdict.ACCEPTED

    def test_without_times_growth_is_not_judged(self):
        guard = IndexGuard()
        guard.judge(1_000, None, 9000)

        assert guard.judge(900_000_000, None, 9000) is Verdict.ACCEPTED

    @given(st.lists(st.integers(0, SLACK_WH), max_size=50))
    def test_a_true_index_is_never_rejected(self, steps):
        guard = IndexGuard()
        index = 0
        for second, step in enumerate(steps):
            index += step

            assert guard.judge(index, second * SECOND_US, 3000) is Verdict.ACCEPTED
