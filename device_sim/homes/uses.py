"""What is switched on in each home on a civil day, as a table of uses with their begin, length and power."""

from __future__ import annotations

import dataclasses

import numpy as np

from device_sim.homes.appliances import HOURS, PROGRAMME_S, USES, Appliance, Shape, Use
from device_sim.homes.calendar import Day
from device_sim.homes.chance import Anys, Int64s, uniform
from device_sim.homes.households import OFF_PEAK_WINDOWS, Households, Offer
from device_sim.homes.routine import Routine
from device_sim.homes.weather import DayWeather

# Draws of use number u have the streams from here on.
_STREAM, _STREAMS_EACH = 1_000, 8
_LIGHT, _WATER, _CAR = 900, 920, 940
_MINUTE_S = 60
_LONGEST_HEATING_S = 6 * 3600 + 1_800
_EVENING_LAMPS, _MORNING_LAMPS = 6, 2


@dataclasses.dataclass(frozen=True, slots=True)
class Uses:
    """Parallel columns; `home` is an index, times are UTC seconds. Every use begins on its own day."""

    home: Int64s
    start_s: Int64s
    long_s: Int64s
    watts: Int64s
    appliance: Int64s
    shape: Int64s

    def chosen(self, rows: Anys) -> Uses:
        """Some of the rows."""
        return Uses(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def joined(parts: list[Uses]) -> Uses:
    """All of them."""
    return Uses(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Uses)))


def uses_of(seed: int, homes: Households, day: Day, routine: Routine, weather: DayWeather) -> Uses:
    """All that happens on a day."""
    parts = [_ordinary(seed, number, use, homes, day, routine) for number, use in enumerate(USES)]
    parts += [
        _lamps(seed, homes, day, routine, weather),
        _water(seed, homes, day, routine),
        _car(seed, homes, day, routine),
    ]
    found = joined(parts)
    return found.chosen(found.long_s > 0)


def _ordinary(seed: int, number: int, use: Use, homes: Households, day: Day, routine: Routine) -> Uses:
    stream = _STREAM + _STREAMS_EACH * number
    # A home's television is the same one in the afternoon and in the evening.
    of_appliance = _STREAM - _STREAMS_EACH * (1 + use.appliance)
    owns = uniform(seed, of_appliance, homes.number) < use.owners
    rate = np.minimum((use.per_day + use.per_member * homes.members) * homes.appetite / use.most, 1.0)
    rate = np.where(owns & ~routine.away, rate, 0.0)
    today = np.full(1, day.number, np.int64)
    times = np.arange(use.most, dtype=np.int64)[None, :]
    happens = uniform(seed, stream, homes.number[:, None], today, times) < rate[:, None]
    home, turn = np.nonzero(happens)
    name = homes.number[home]

    def draw(offset: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return uniform(seed, stream + offset, name, today, turn)

    edges = np.cumsum(HOURS[use.hours], axis=1)
    edges = edges / edges[:, -1:]
    # Curves by kind of day lie one above the other, so that one search finds the hour in the right one.
    kind = routine.kind[home]
    drawn = draw(1)
    at = np.searchsorted((edges + np.arange(len(edges))[:, None]).ravel(), kind + drawn, side="right") - 24 * kind
    hour = np.clip(at, 0, 23)
    before = np.where(hour > 0, edges[kind, hour - 1], 0.0)
    width = np.maximum(edges[kind, hour] - before, 1e-9)
    clock = (3600 * (hour + np.clip((drawn - before) / width, 0.0, 0.9999))).astype(np.int64)
    shapes = np.array(use.shapes, np.int64)
    shape = shapes[(draw(2) * len(shapes)).astype(np.int64)]
    low, high = use.seconds
    long_s = (low + (high - low) * draw(3)).astype(np.int64)
    programme = shape - Shape.PROGRAMMES
    long_s = np.where(programme >= 0, PROGRAMME_S[np.maximum(programme, 0)], long_s)
    least, most = use.watts
    watts = (least + (most - least) * uniform(seed, of_appliance + 1, name)).astype(np.int64)
    return Uses(home, day.utc(clock), long_s, watts, np.full(len(home), use.appliance, np.int64), shape)


def _steady(home: Int64s, start_s: Int64s, long_s: Int64s, watts: Int64s, appliance: Appliance) -> Uses:
    count = len(home)
    return Uses(
        home,
        start_s,
        long_s,
        watts,
        np.full(count, appliance, np.int64),
        np.full(count, Shape.STEADY, np.int64),
    )


def _lamps(seed: int, homes: Households, day: Day, routine: Routine, weather: DayWeather) -> Uses:
    """Lamps burn while somebody is up, in, and it is dark."""
    sunrise, sunset = weather.sunrise_s[homes.city], weather.sunset_s[homes.city]
    dark_from = np.maximum(sunset - 1_200, routine.wake_s)
    out = (routine.leave_s <= dark_from) & (dark_from < routine.return_s)
    evening = np.where(out, routine.return_s, dark_from)
    morning_end = np.minimum(sunrise + 900, routine.leave_s)
    # A use begins on its own day.
    bed = np.minimum(routine.bed_s, day.end_s + 7_200)
    parts = []
    today = np.full(1, day.number, np.int64)
    for lamp in range(_EVENING_LAMPS + _MORNING_LAMPS):
        begin, end = (evening, bed) if lamp < _EVENING_LAMPS else (routine.wake_s, morning_end)
        one = uniform(seed, _LIGHT, homes.number, today, np.full(1, lamp, np.int64))
        two = uniform(seed, _LIGHT + 1, homes.number, today, np.full(1, lamp, np.int64))
        span = np.maximum(end - begin, 0)
        start = begin + (np.minimum(one, two) * 0.7 * span).astype(np.int64)
        long_s = ((0.25 + 0.75 * np.maximum(one, two)) * span).astype(np.int64)
        long_s = np.minimum(long_s, end - start)
        kind = uniform(seed, _LIGHT + 2, homes.number, np.full(1, lamp, np.int64))
        watts = np.rint((7 + 36 * kind) * np.sqrt(homes.area_m2 / 80.0)).astype(np.int64)
        burns = (long_s > 0) & ~routine.away & (start < day.end_s)
        home = np.flatnonzero(burns)
        parts.append(_steady(home, start[home], long_s[home], watts[home], Appliance.LIGHTING))
    return joined(parts)


def _water(seed: int, homes: Households, day: Day, routine: Routine) -> Uses:
    """The tank is heated to its thermostat: in the off-peak hours where it is wired so, else after use."""
    today = np.full(1, day.number, np.int64)
    home = np.flatnonzero(homes.water_heater)
    name = homes.number[home]
    season = 1.0 + 0.16 * np.cos(2 * np.pi * (day.day_of_year - 30) / 365.25)
    need_wh = homes.hot_water_wh[home] * season * (0.6 + 0.8 * uniform(seed, _WATER, name, today))
    need_wh = np.where(routine.away[home], 900.0, need_wh)
    watts = homes.water_heater_w[home]
    seconds = need_wh * 3600.0 / watts
    by_night = homes.water_off_peak[home]
    parts = []
    for window, spans in enumerate(OFF_PEAK_WINDOWS):
        # The meter closes its contact a little later in each home, so that the grid does not see a step.
        rows = np.flatnonzero(by_night & (homes.window[home] == window))
        delay = (60 + 1_500 * uniform(seed, _WATER + 1, name[rows])).astype(np.int64)
        night, noon = _night_and_noon(spans)
        runs = [(night, 1.0)] if noon is None else [(night, 0.72), (noon, 0.28)]
        for (begin, end), share in runs:
            most = np.minimum((end - begin) * _MINUTE_S - delay - 60, _LONGEST_HEATING_S)
            long_s = np.minimum((share * seconds[rows]).astype(np.int64), most)
            clock = begin * _MINUTE_S + delay
            parts.append(_steady(home[rows], day.utc(clock), long_s, watts[rows], Appliance.WATER_HEATER))
    rows = np.flatnonzero(~by_night)
    for turn, (hour, share) in enumerate(((7.2, 0.55), (19.5, 0.45))):
        clock = (3600 * (hour + 2.2 * uniform(seed, _WATER + 2 + turn, name[rows], today))).astype(np.int64)
        long_s = (share * seconds[rows]).astype(np.int64)
        parts.append(_steady(home[rows], day.utc(clock), long_s, watts[rows], Appliance.WATER_HEATER))
    return joined(parts)


def _night_and_noon(spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """The night's span, from its evening on where it begins before midnight, and the day's if there is one."""
    first, second = spans
    if second[1] == 1440:
        return (second[0], 1440 + first[1]), None
    return first, second


def _car(seed: int, homes: Households, day: Day, routine: Routine) -> Uses:
    """Charged every other night, from the off-peak hours on where there are some, else from coming home."""
    today = np.full(1, day.number, np.int64)
    home = np.flatnonzero(homes.ev_w > 0)
    name = homes.number[home]
    plugged = (uniform(seed, _CAR, name, today) < 0.45) & ~routine.away[home]
    home, name = home[plugged], name[plugged]
    energy_wh = 5_000 + 18_000 * uniform(seed, _CAR + 1, name, today)
    wait = (7_200 * uniform(seed, _CAR + 2, name, today)).astype(np.int64)
    evening = np.minimum(np.maximum(routine.return_s[home], day.start_s + 17 * 3600) + wait, day.end_s - 60)
    starts = np.array([_night_and_noon(spans)[0][0] for spans in OFF_PEAK_WINDOWS], np.int64)
    night = day.utc(starts[homes.window[home]] * _MINUTE_S + 120 + wait // 12)
    start = np.where(homes.offer[home] == Offer.BASE, evening, night)
    watts = homes.ev_w[home]
    return _steady(home, start, (energy_wh * 3600.0 / watts).astype(np.int64), watts, Appliance.EV)
