"""A neighbourhood: the same whoever asks and however; its meters count what its homes draw."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from device_sim.homes import calendar
from device_sim.homes.appliances import Appliance
from device_sim.homes.households import OFF_PEAK_WINDOWS, Heater
from device_sim.homes.neighbourhood import Neighbourhood
from device_sim.homes.tariffs import BLUE, RED, WHITE, tempo_colour

US = 1_000_000


def _us(*moment: int) -> int:
    return int(dt.datetime(*moment, tzinfo=dt.UTC).timestamp()) * US  # type: ignore[arg-type,misc]


WINTER = _us(2026, 1, 13, 17)
SUMMER = _us(2026, 7, 7, 0)


def test_same_seed_same_seconds_in_whatever_pieces() -> None:
    """Chunks do not show: power, index, registers, voltage."""
    whole = Neighbourhood(5, 60, WINTER).block(WINTER, 900)
    pieces = Neighbourhood(5, 60, WINTER)
    at = 0
    for seconds in (1, 59, 7, 333, 500):
        part = pieces.block(WINTER + at * US, seconds)
        for name in ("active_w", "apparent_va", "drawn_wh", "injected_wh", "register", "voltage_v", "current_a"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[:, at : at + seconds]), name
        at += seconds
    assert np.array_equal(part.registers_wh, whole.registers_wh)


def test_a_home_is_the_same_beside_however_many_others() -> None:
    alone = Neighbourhood(5, [7, 41], WINTER).block(WINTER, 600)
    among = Neighbourhood(5, 400, WINTER).block(WINTER, 600)

    assert np.array_equal(alone.active_w, among.active_w[[7, 41]])
    assert np.array_equal(alone.drawn_wh, among.drawn_wh[[7, 41]])


def test_another_seed_gives_other_homes() -> None:
    one, other = (Neighbourhood(seed, 50, WINTER).power(WINTER, 60) for seed in (1, 2))

    assert not np.array_equal(one, other)


def test_steps_are_the_columns_of_a_block() -> None:
    whole = Neighbourhood(9, 30, WINTER + 30 * US).block(WINTER + 30 * US, 90)
    stepping = Neighbourhood(9, 30, WINTER + 30 * US)
    for second in range(90):
        step = stepping.step()
        assert step.start_us == WINTER + (30 + second) * US
        assert np.array_equal(step.active_w[:, 0], whole.active_w[:, second])
        assert np.array_equal(step.drawn_wh[:, 0], whole.drawn_wh[:, second])


def test_a_block_goes_on_where_the_last_one_ended() -> None:
    homes = Neighbourhood(1, 3, WINTER)
    homes.block(WINTER, 10)

    with pytest.raises(ValueError, match="goes on"):
        homes.block(WINTER, 10)


def test_index_is_the_integral_of_power() -> None:
    """Drawn and injected, exactly to the watt-second, homes with panels at noon included."""
    homes = Neighbourhood(5, 600, SUMMER + 10 * 3600 * US)
    sunny = homes.households.pv_kwp > 0
    drawn, injected, _ = homes.counted_wh
    joule = np.zeros((2, 600))
    for _ in range(4):
        block = homes.block(homes.now_s * US, 450)
        power = block.active_w.astype(np.float64)
        joule += np.maximum(power, 0).sum(axis=1), np.maximum(-power, 0).sum(axis=1)
    counted = homes.counted_wh

    assert (np.abs(counted[0] - drawn - joule[0] / 3600) <= 1).all()
    assert (np.abs(counted[1] - injected - joule[1] / 3600) <= 1).all()
    assert joule[1][sunny].sum() > 0
    assert joule[1][~sunny].sum() == 0


def test_minutes_count_the_joules_of_their_seconds() -> None:
    """A longer step sums the very same stretches of power."""
    seconds = Neighbourhood(5, 200, WINTER).power(WINTER, 3_600).astype(np.float64)
    minutes = Neighbourhood(5, 200, WINTER).power(WINTER, 3_600, step_s=60).astype(np.float64)

    assert np.allclose(seconds.reshape(200, 60, 60).mean(axis=2), minutes, atol=0.01)


def test_registers_add_up_to_the_index_and_run_in_their_hours() -> None:
    homes = Neighbourhood(5, 300, _us(2026, 1, 13, 0))
    before = homes.counted_wh
    block = homes.block(homes.now_s * US, 86_400, step_s=60)
    after = homes.counted_wh

    assert (after[2].sum(axis=1) == after[0]).all()
    steps = np.diff(block.drawn_wh, axis=1, prepend=before[0][:, None])
    for number in range(6):
        grown = np.where(block.register == number + 1, steps, 0).sum(axis=1)
        assert (grown == after[2][:, number] - before[2][:, number]).all()
    base = homes.households.offer == 0
    assert (block.register[base] == 1).all()
    off_peak = homes.households.offer == 1
    assert np.isclose((block.register[off_peak] == 1).mean(), 8 / 24)


def test_truth_sums_to_the_total() -> None:
    homes = Neighbourhood(5, 120, WINTER)
    rows = [3, 77, 12]
    truth = homes.truth(rows, WINTER, 1_200)

    total = np.sum([truth[appliance] for appliance in Appliance], axis=0)
    assert np.array_equal(total, homes.power(WINTER, 1_200)[rows])


@pytest.mark.parametrize("day", [(2026, 1, 13), (2026, 3, 28), (2026, 3, 29), (2026, 10, 24), (2026, 10, 25)])
def test_off_peak_water_heater_keeps_to_its_hours(day: tuple[int, int, int]) -> None:
    """Also in the nights in which the clocks change."""
    number = (dt.date(*day) - dt.date(1970, 1, 1)).days
    civil = calendar.day(number)
    homes = Neighbourhood(5, 400, civil.start_s * US)
    wired = np.flatnonzero(homes.households.water_off_peak)
    seconds = civil.end_s - civil.start_s
    heats = homes.truth(wired.tolist(), civil.start_s * US, seconds, step_s=60)[Appliance.WATER_HEATER] > 0
    register = homes.block(civil.start_s * US, seconds, step_s=60).register[wired]

    assert heats.any(axis=1).mean() > 0.9
    assert (register[heats] % 2 == 1).all()


def test_heating_follows_the_cold() -> None:
    """Cold days draw more than mild ones, none heats in July."""
    homes = Neighbourhood(5, 300, SUMMER)
    heated = np.flatnonzero(homes.households.heater != Heater.OTHER).tolist()

    def mean_w(start_us: int) -> float:
        truth = homes.truth(heated, start_us, 86_400, step_s=600)
        return float((truth[Appliance.ELECTRIC_HEATING] + truth[Appliance.HEAT_PUMP]).mean())

    days = [_us(2026, 1, 1, 0) + 3 * number * 86_400 * US for number in range(30)]
    felt = [float(homes._day(calendar.day_number(day // US)).weather.felt_c.mean()) for day in days]
    drawn = [mean_w(day) for day in days]
    assert np.corrcoef(felt, drawn)[0, 1] < -0.9
    assert mean_w(SUMMER) < 0.02 * max(drawn)


def test_panels_never_give_at_night() -> None:
    homes = Neighbourhood(5, 900, SUMMER)
    roofs = np.flatnonzero(homes.households.pv_kwp > 0).tolist()
    for start in (SUMMER, _us(2026, 12, 21, 0)):
        light = homes.truth(roofs, start, 86_400, step_s=600)[Appliance.PHOTOVOLTAIC]
        # 22:30 to 3:30 UTC in summer and 17:00 to 6:30 in winter are night all over France.
        night = np.r_[0:21, 135:144] if start == SUMMER else np.r_[0:39, 102:144]
        assert not light[:, night].any()
        assert light.min() < -300
        assert (light <= 0).all()


def test_workdays_differ_from_sundays() -> None:
    """On a working day homes draw less around noon, compared with their evening."""
    homes = Neighbourhood(5, 800, WINTER)
    works = np.flatnonzero(homes.households.works).tolist()
    kept = [Appliance.HOB, Appliance.OVEN, Appliance.TELEVISION, Appliance.WASHING_MACHINE]

    def noon(day: int) -> float:
        start = _us(2026, 1, day, 10)
        truth = homes.truth(works, start, 3 * 3600, step_s=600)
        return float(sum(truth[appliance].mean() for appliance in kept))

    assert noon(18) > 1.4 * noon(15)


def test_voltage_and_current_are_a_meters() -> None:
    block = Neighbourhood(5, 500, WINTER).block(WINTER, 300)

    assert block.voltage_v.min() >= 207
    assert block.voltage_v.max() <= 253
    assert np.allclose(block.current_a, np.abs(block.apparent_va) / block.voltage_v, atol=0.51)
    assert (np.abs(block.apparent_va) >= np.abs(block.active_w) - 0.01).all()


def test_tempo_has_its_numbers_of_days() -> None:
    first = calendar.day_number(_us(2025, 9, 1, 12) // US)
    colours = [tempo_colour(5, number) for number in range(first, first + 365)]

    assert (colours.count(RED), colours.count(WHITE), colours.count(BLUE)) == (22, 43, 300)
    red = [calendar.day(first + at) for at, colour in enumerate(colours) if colour == RED]
    assert all(day.weekday < 5 and day.month in {11, 12, 1, 2, 3} for day in red)


def test_holidays_of_a_known_year() -> None:
    def day(*date: int) -> calendar.Day:
        return calendar.day((dt.date(*date) - dt.date(1970, 1, 1)).days)

    assert day(2026, 4, 6).public_holiday  # Easter Monday
    assert day(2026, 5, 14).public_holiday  # Ascension
    assert not day(2026, 5, 13).public_holiday
    assert day(2026, 2, 10).school_holidays == (True, False, False)
    assert day(2026, 2, 18).school_holidays == (True, True, False)
    assert day(2026, 7, 20).school_holidays == (True, True, True)
    assert day(2026, 3, 29).moved_s == 3_600
    assert day(2026, 10, 25).moved_s == -3_600


def test_every_window_has_eight_hours() -> None:
    assert all(sum(end - begin for begin, end in window) == 480 for window in OFF_PEAK_WINDOWS)
