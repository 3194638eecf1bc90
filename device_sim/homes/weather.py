"""A day's weather in every city: temperature, what walls make of it, clouds and the sun. By seed and day alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from device_sim.homes import calendar, chance
from device_sim.homes.chance import Floats, Int64s
from device_sim.homes.cities import CITIES, LATITUDES, LONGITUDES, MONTHLY_C

GRID_S = 600
# A day's grid reaches this far on either side: a heater's cycle may have begun the day before.
_MARGIN_S = 4 * 3600
# Walls remember some 20 h: the outdoor temperature a house feels is a mean of what was, each 3 h of three days.
_LAG_S = 3 * 3600
_LAGS = 24
_TIME_CONSTANT_S = 20 * 3600
_YEAR_DAYS = 365.25
# Fronts come every few days over the whole country, and each place has its own; kelvin.
_NOISE = ((4 * 86_400, 2.3, False), (36 * 3600, 1.4, False), (2 * 86_400, 1.1, True), (3 * 3600, 0.4, True))
_NOISE_STREAM, _CLOUD_STREAM, _PASSING_STREAM = 101, 111, 112
# Roofs face south-east, south or south-west, at 30 degrees.
ROOF_AZIMUTHS = np.radians([-50.0, 0.0, 50.0])
_TILT = np.radians(30.0)
PV_STEP_S = 10
# What reaches the grid of what reaches the panel under standard light: inverter, heat, dirt.
_PERFORMANCE = 0.84


@dataclasses.dataclass(frozen=True, slots=True)
class DayWeather:
    """One civil day; arrays are (cities, times), on a grid of `GRID_S` from `grid_start_s`."""

    grid_start_s: int
    outdoor_c: Floats
    felt_c: Floats
    # Of clear sky, 0 (overcast) to 1.
    clearness: Floats
    sunrise_s: Int64s
    sunset_s: Int64s

    def felt_at(self, cities: Int64s, times_s: Int64s) -> Floats:
        """The temperature that a house feels, by city and moment (within the day and four hours around it)."""
        at = np.clip((times_s - self.grid_start_s) // GRID_S, 0, self.felt_c.shape[1] - 1)
        felt: Floats = self.felt_c[cities, at]
        return felt


def temperature(seed: int, times_s: Int64s) -> Floats:
    """Outdoor temperature in degrees Celsius, (cities, times)."""
    cities = np.arange(len(CITIES))[:, None]
    times = times_s[None, :]
    days = times / 86_400.0
    # Month m's mean stands at its middle.
    month = (days % _YEAR_DAYS) / (_YEAR_DAYS / 12) - 0.5
    before = np.floor(month).astype(np.int64)
    share = month - before
    mean = MONTHLY_C[cities, before % 12] * (1 - share) + MONTHLY_C[cities, (before + 1) % 12] * share
    season = 0.5 - 0.5 * np.cos(2 * np.pi * (days % _YEAR_DAYS - 15) / _YEAR_DAYS)
    solar_hour = (times / 3600.0 + LONGITUDES[:, None] / 15.0) % 24
    daily = (2.3 + 3.0 * season) * np.cos(2 * np.pi * (solar_hour - 15.0) / 24)
    result: Floats = mean + daily
    for number, (knot_s, kelvin, of_city) in enumerate(_NOISE):
        series = cities if of_city else np.zeros((1, 1), np.int64)
        result = result + kelvin * chance.lattice(seed, _NOISE_STREAM + number, times, knot_s, series)
    return result


def weather_of(seed: int, day: calendar.Day) -> DayWeather:
    """A day's weather."""
    start = day.start_s - _MARGIN_S
    start -= start % GRID_S
    first = start - _LAGS * _LAG_S
    times = np.arange(first, day.end_s + _MARGIN_S, GRID_S, dtype=np.int64)
    all_c = temperature(seed, times)
    step = _LAG_S // GRID_S
    weights = np.exp(-np.arange(_LAGS) * _LAG_S / _TIME_CONSTANT_S)
    skipped = _LAGS * step
    felt = np.zeros((len(CITIES), len(times) - skipped))
    for lag, weight in enumerate(weights / weights.sum()):
        felt += weight * all_c[:, skipped - lag * step : len(times) - lag * step]
    grid = times[skipped:]
    sunrise, sunset = _sun_times(day)
    return DayWeather(start, all_c[:, skipped:], felt, _clearness(seed, grid), sunrise, sunset)


def _clearness(seed: int, times_s: Int64s) -> Floats:
    cities = np.arange(len(CITIES))[:, None]
    front = chance.lattice(seed, _CLOUD_STREAM, times_s[None, :], 30 * 3600, cities)
    # Summers and the south are clearer.
    season = -np.cos(2 * np.pi * (times_s[None, :] / 86_400.0 - 15) / _YEAR_DAYS)
    clear: Floats = 1.0 / (1.0 + np.exp(-(0.25 + 1.3 * front + 0.6 * season + 0.16 * (47.0 - LATITUDES[:, None]))))
    return clear


def photovoltaic(seed: int, weather: DayWeather, cities: Int64s, roofs: Int64s, start_s: int, count: int) -> Floats:
    """Watts per kWp of some roofs (a city and an azimuth each), (roofs, count), every `PV_STEP_S`; 0 at night."""
    times = start_s + PV_STEP_S * np.arange(count, dtype=np.int64)
    at = np.clip((times - weather.grid_start_s) // GRID_S, 0, weather.clearness.shape[1] - 2)
    share = np.clip((times - weather.grid_start_s) / GRID_S - at, 0.0, 1.0)
    declination, equation_h = _declination(times)
    solar_h = (times / 3600.0) % 24 + equation_h - 12.0
    up_and_down, across = np.sin(declination), np.cos(declination)
    result = np.zeros((len(cities), count))
    for row, (city, roof) in enumerate(zip(cities.tolist(), roofs.tolist(), strict=True)):
        hour_angle = np.radians(15.0 * (solar_h + LONGITUDES[city] / 15.0))
        latitude = np.radians(LATITUDES[city])
        height = np.sin(latitude) * up_and_down + np.cos(latitude) * across * np.cos(hour_angle)
        lit = np.flatnonzero(height > 0)
        if not len(lit):
            continue
        up, angle = height[lit], hour_angle[lit]
        clear = weather.clearness[city, at[lit]] * (1 - share[lit]) + weather.clearness[city, at[lit] + 1] * share[lit]
        # Single clouds pass within minutes, most of them where the sky is half clear.
        passing = chance.lattice(seed, _PASSING_STREAM, times[lit], 150, np.full(1, city, np.int64))
        clear = np.clip(clear + 0.9 * clear * (1 - clear) * passing, 0.0, 1.0)
        beam = 1_160.0 * np.exp(-0.16 / np.maximum(up, 0.02)) * clear * np.sqrt(clear)
        diffuse = up * (100.0 + 180.0 * (1.0 - clear) * clear + 150.0 * (1 - clear))
        south = np.cos(angle) * across[lit] * np.sin(latitude) - up_and_down[lit] * np.cos(latitude)
        facing = np.cos(ROOF_AZIMUTHS[roof]) * south + np.sin(ROOF_AZIMUTHS[roof]) * across[lit] * np.sin(angle)
        incidence = np.maximum(np.cos(_TILT) * up + np.sin(_TILT) * facing, 0.0)
        result[row, lit] = _PERFORMANCE * (beam * incidence + diffuse)
    return result


def _declination(times_s: Int64s) -> tuple[Floats, Floats]:
    angle = 2 * np.pi * ((times_s / 86_400.0) % _YEAR_DAYS) / _YEAR_DAYS
    declination = np.radians(-23.44) * np.cos(angle + 2 * np.pi * 10 / _YEAR_DAYS)
    b = angle - 2 * np.pi * 81 / _YEAR_DAYS
    return declination, (9.87 * np.sin(2 * b) - 7.53 * np.cos(b) - 1.5 * np.sin(b)) / 60.0


def _sun_times(day: calendar.Day) -> tuple[Int64s, Int64s]:
    noon_utc = np.array([day.start_s + 43_200], np.int64)
    declination, equation_h = _declination(noon_utc)
    half_day = np.degrees(np.arccos(np.clip(-np.tan(np.radians(LATITUDES)) * np.tan(declination), -1, 1))) / 15.0
    midnight_utc = day.start_s + 43_200 - (day.start_s + 43_200) % 86_400
    noon_h = 12.0 - LONGITUDES / 15.0 - equation_h
    sunrise = midnight_utc + (3600 * (noon_h - half_day)).astype(np.int64)
    return sunrise, midnight_utc + (3600 * (noon_h + half_day)).astype(np.int64)
