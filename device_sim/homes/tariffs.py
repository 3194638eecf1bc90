"""Which supplier register runs: base, off-peak hours, or Tempo with its colours."""

from __future__ import annotations

import datetime as dt
import functools

import numpy as np

from device_sim.homes import calendar
from device_sim.homes.chance import Int64s
from device_sim.homes.cities import WEIGHTS
from device_sim.homes.households import OFF_PEAK_WINDOWS, Households, Offer
from device_sim.homes.weather import temperature

REGISTERS = 6
# Registers as a Linky numbers them: 1 base; 1 off-peak, 2 peak; Tempo blue, white, red, each off-peak before peak.
BLUE, WHITE, RED = range(3)
# 22 red days on working days of November to March, 43 white ones, the coldest of the country (the rule's outline).
_RED_DAYS, _WHITE_DAYS = 22, 43
_TEMPO_DAY_BEGINS_S = 6 * 3600
# Every tariff changes on a multiple of this.
TARIFF_STEP_S = 600
_KINDS = 2 + len(OFF_PEAK_WINDOWS)


def tariff_kind(homes: Households) -> Int64s:
    """Homes of one kind change registers together: 0 base, 1 Tempo, 2.. off-peak hours by window."""
    kind = np.where(homes.offer == Offer.OFF_PEAK, 2 + homes.window, np.where(homes.offer == Offer.TEMPO, 1, 0))
    return kind.astype(np.int64)


def running_registers(seed: int, start_s: int, count: int) -> Int64s:
    """(kinds, count): the register that runs in each `TARIFF_STEP_S` from `start_s`, a multiple of it."""
    times = start_s + TARIFF_STEP_S * np.arange(count, dtype=np.int64)
    registers = np.ones((_KINDS, count), np.int64)
    for number in calendar.days_between(start_s, start_s + TARIFF_STEP_S * count):
        day = calendar.day(number)
        at = np.flatnonzero((times >= day.start_s) & (times < day.end_s))
        since = times[at] - day.start_s
        clock = since + np.where(since + day.moved_s >= 9_000, day.moved_s, 0)
        minutes = clock // 60
        for window, spans in enumerate(OFF_PEAK_WINDOWS):
            off_peak = np.zeros(len(at), np.bool_)
            for begin, end in spans:
                off_peak |= (minutes >= begin) & (minutes < end)
            registers[2 + window, at] = np.where(off_peak, 1, 2)
            if window == 0:
                colours = np.where(
                    clock < _TEMPO_DAY_BEGINS_S, tempo_colour(seed, number - 1), tempo_colour(seed, number)
                )
                registers[1, at] = 1 + 2 * colours + np.where(off_peak, 0, 1)
    return registers


def tempo_colour(seed: int, number: int) -> int:
    """The colour of a civil day (which begins at 6 h)."""
    day = calendar.day(number)
    # Seasons begin in September.
    year = day.year if day.month >= 9 else day.year - 1
    return _season_colours(seed, year).get(number, BLUE)


@functools.lru_cache(maxsize=32)
def _season_colours(seed: int, year: int) -> dict[int, int]:
    first = (dt.date(year, 11, 1) - dt.date(1970, 1, 1)).days
    days = [calendar.day(number) for number in range(first, first + 152)]
    days = [day for day in days if day.month in {11, 12, 1, 2, 3} and day.weekday != 6]
    noons = np.array([day.start_s + 43_200 for day in days], np.int64)
    country_c = (temperature(seed, noons) * WEIGHTS[:, None]).sum(0)
    colours: dict[int, int] = {}
    for at in np.argsort(country_c, kind="stable").tolist():
        red = sum(colour == RED for colour in colours.values())
        if red < _RED_DAYS and not days[at].at_rest:
            colours[days[at].number] = RED
        elif len(colours) - red < _WHITE_DAYS:
            colours[days[at].number] = WHITE
    return colours
