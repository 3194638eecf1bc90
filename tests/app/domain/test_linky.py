"""Facts of Linky meters."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import linky
from app.domain.linky import Breaker, DayProfileStep, Plc, TempoColour


@pytest.mark.parametrize(
    ("text", "register", "distributor", "producer", "injecting", "today"),
    [
        ("013A0501", 2, 1, True, False, TempoColour.BLUE),
        ("003AC701", 2, 4, True, True, TempoColour.NONE),
        ("000A4411", 2, 2, False, False, TempoColour.NONE),
        ("003A4001", 1, 2, False, False, TempoColour.NONE),
    ],
)
def test_status_registers_of_real_meters(text, register, distributor, producer, injecting, today):
    status = linky.decode_stge(text)

    assert status is not None
    assert status.supplier_register == register
    assert status.distributor_register == distributor
    assert (status.producer, status.injecting) == (producer, injecting)
    assert status.tempo_today is today
    assert status.tic_standard
    assert status.breaker is Breaker.CLOSED
    assert not status.breaker_open


def test_bits_of_the_status_register():
    status = linky.decode_stge(
        f"{(1 | 3 << 1 | 1 << 4 | 1 << 6 | 1 << 7 | 9 << 10 | 3 << 14 | 1 << 16 | 2 << 19 | 2 << 21 | 1 << 23 | 3 << 24 | 1 << 26 | 2 << 28 | 1 << 30):08X}"
    )

    assert status is not None
    assert status.dry_contact_open
    assert status.breaker is Breaker.OPEN_SHEDDING
    assert status.terminal_cover_open
    assert status.over_voltage
    assert status.over_power
    assert status.supplier_register == 10
    assert status.distributor_register == 4
    assert status.clock_degraded
    assert not status.tic_standard
    assert status.euridis == 2
    assert status.plc is Plc.REGISTERED
    assert status.plc_synchronised
    assert status.tempo_today is TempoColour.RED
    assert status.tempo_tomorrow is TempoColour.BLUE
    assert (status.mobile_peak_notice, status.mobile_peak_running) == (2, 1)


@given(st.integers(0, 2**32 - 1))
def test_every_register_is_decoded(raw):
    status = linky.decode_stge(f"{raw:08X}")

    assert status is not None
    assert status.raw == raw


@pytest.mark.parametrize("text", ["", "003A400", "003A40011", "003A40G1", "0x3A4001", "-03A4001", "003A4001\n"])
def test_what_is_no_status_register(text):
    assert linky.decode_stge(text) is None


@given(st.text(max_size=20) | st.from_regex(r"[HEhe ][0-9]{12}", fullmatch=True))
def test_any_text_is_a_time_or_none(text):
    found = linky.parse_horodate(text)

    assert found is None or found.utc.tzinfo is dt.UTC


@given(st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31)), st.times(), st.sampled_from("HEhe"))
def test_a_time_is_its_local_time_less_the_letters_offset(day, time, letter):
    local = dt.datetime.combine(day, time.replace(microsecond=0))
    found = linky.parse_horodate(f"{letter}{local:%y%m%d%H%M%S}")

    assert found is not None
    assert found.utc.replace(tzinfo=None) == local - dt.timedelta(hours=1 if letter in "Hh" else 2)
    assert found.degraded is letter.islower()
    assert found.time_ms == int(found.utc.timestamp()) * 1000


@pytest.mark.parametrize(
    "text", [" 251123100000", "H251123100060", "H251131100000", "E2511231000", "X251123100000", "H²51123100000"]
)
def test_what_is_no_time(text):
    assert linky.parse_horodate(text) is None


def test_the_off_peak_hours_of_a_day_profile():
    steps = linky.decode_day_profile("00008002 0100C001 06008002 1230C001 15308002 NONUTILE NONUTILE")

    assert steps == (
        DayProfileStep(0, 2, "open"),
        DayProfileStep(60, 1, "closed"),
        DayProfileStep(360, 2, "open"),
        DayProfileStep(750, 1, "closed"),
        DayProfileStep(930, 2, "open"),
    )


@pytest.mark.parametrize("text", ["", "NONUTILE", "25008002", "0060C001", "0000800", "00004000"])
def test_blocks_that_are_none_are_left_out(text):
    assert all(step.register is None for step in linky.decode_day_profile(text))


@pytest.mark.parametrize(
    ("serial", "phases"),
    [("041961000017", 1), ("041976000017", 3), ("041970000017", None), ("", None), ("0419610000170", None)],
)
def test_phases_by_serial(serial, phases):
    assert linky.phases_of_serial(serial) == phases


@pytest.mark.parametrize(
    ("optarif", "name"),
    [("BASE", "Base"), ("HC..", "HC/HP"), ("EJP.", "EJP"), ("BBR(", "Tempo"), ("BBR1", "Tempo"), ("XXXX", None)],
)
def test_contracts(optarif, name):
    contract = linky.historique_contract(optarif)

    assert (contract.name if contract else None) == name


def test_every_period_runs_on_a_register_of_some_contract():
    assert all(
        any(register <= len(contract.indexes) for contract in linky.HISTORIQUE_CONTRACTS)
        for register in linky.REGISTER_OF_PERIOD.values()
    )
