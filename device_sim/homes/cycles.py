"""What switches itself on and off all day: fridges, freezers, convectors and heat pumps with their thermostats."""

from __future__ import annotations

import dataclasses

import numpy as np

from device_sim.homes.appliances import Appliance
from device_sim.homes.calendar import Day
from device_sim.homes.chance import Floats, Int64s, uniform
from device_sim.homes.households import Heater, Households
from device_sim.homes.routine import Routine
from device_sim.homes.segments import Segments, repeated
from device_sim.homes.weather import GRID_S, DayWeather

_STREAM = 300
# A room of 19.3 degrees needs no heating above this outdoor temperature: people, sun and appliances warm it too.
_NO_HEATING_ABOVE_C = 15.2
_ABSENT_K, _NIGHT_K, _AT_WORK_K, _BOOST_K = -4.0, -1.2, -2.0, 2.2
_BOOST_S = 4_500
_LONGEST_CYCLE_S = 3_600
_DESIGN_K = 24.0
# A heat pump can not run slower than this share of its full power; below it switches.
_SLOWEST = 0.35


@dataclasses.dataclass(frozen=True, slots=True)
class Cyclers:
    """Everything that cycles, parallel: a cycle begins at `phase_s` + a multiple of `period_s`."""

    home: Int64s
    appliance: Int64s
    watts: Int64s
    period_s: Int64s
    phase_s: Int64s
    # Share of a period it runs; of heaters the share of the home's need divided by what its heaters give.
    duty: Floats
    name: Int64s


def cold_appliances(seed: int, homes: Households) -> Cyclers:
    """A fridge in each home, a freezer in every second."""
    parts = []
    # Panel Elecdom: 346 kWh a year for a fridge with freezer compartment, 308 kWh for a freezer.
    for turn, (appliance, owners, low_w, high_w) in enumerate(
        ((Appliance.FRIDGE, 0.99, 75, 140), (Appliance.FREEZER, 0.44, 65, 130))
    ):
        stream = _STREAM + 10 * turn
        home = np.flatnonzero(uniform(seed, stream, homes.number) < owners)
        name = homes.number[home]
        parts.append(
            (
                home,
                np.full(len(home), appliance, np.int64),
                (low_w + (high_w - low_w) * uniform(seed, stream + 1, name)).astype(np.int64),
                (2_100 + 2_400 * uniform(seed, stream + 2, name)).astype(np.int64),
                (86_400 * uniform(seed, stream + 3, name)).astype(np.int64),
                0.27 + 0.17 * uniform(seed, stream + 4, name),
                2 * name + turn,
            )
        )
    return Cyclers(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def heaters(seed: int, homes: Households) -> Cyclers:
    """A convector in each room of electrically heated homes, one heat pump where there is one."""
    stream = _STREAM + 40
    electric = np.flatnonzero(homes.heater == Heater.ELECTRIC)
    rooms = np.clip(np.rint(homes.area_m2[electric] / 19.0), 1, 9).astype(np.int64)
    home, room = repeated(electric, rooms)
    name = 16 * homes.number[home] + room
    each = homes.loss_w_per_k[home] * _DESIGN_K * 1.25 / np.repeat(rooms, rooms)
    watts = np.clip(250 * np.rint(each / 250), 500, 2_500).astype(np.int64)
    pumps = np.flatnonzero(homes.heater == Heater.HEAT_PUMP)
    pump_name = 16 * homes.number[pumps]
    full_w = np.rint(homes.loss_w_per_k[pumps] * _DESIGN_K / _performance(np.full(len(pumps), -7.0)))
    return Cyclers(
        np.concatenate([home, pumps]),
        np.concatenate([np.full(len(home), Appliance.ELECTRIC_HEATING), np.full(len(pumps), Appliance.HEAT_PUMP)]),
        np.concatenate([watts, full_w.astype(np.int64)]),
        np.concatenate(
            [
                (420 + 900 * uniform(seed, stream, name)).astype(np.int64),
                (1_200 + 1_200 * uniform(seed, stream, pump_name)).astype(np.int64),
            ]
        ),
        np.concatenate(
            [
                (86_400 * uniform(seed, stream + 1, name)).astype(np.int64),
                (86_400 * uniform(seed, stream + 1, pump_name)).astype(np.int64),
            ]
        ),
        np.concatenate([0.8 + 0.4 * uniform(seed, stream + 2, name), np.ones(len(pumps))]),
        np.concatenate([name, pump_name]),
    )


def heat_needs(
    homes: Households, rows: Int64s, weather: DayWeather, routines: tuple[Routine, Routine], day: Day, times_s: Int64s
) -> tuple[Floats, Floats]:
    """What some homes lose, (rows, times) in watts of heat, and the temperature they feel.

    `routines`: of the day before and of the day; times lie on the weather's grid.
    """
    felt = weather.felt_at(homes.city[rows][:, None], times_s[None, :])
    offset = np.where(
        times_s[None, :] < day.start_s,
        _offsets(homes, rows, routines[0], times_s),
        _offsets(homes, rows, routines[1], times_s),
    )
    need: Floats = homes.loss_w_per_k[rows][:, None] * np.maximum(_NO_HEATING_ABOVE_C + offset - felt, 0.0)
    return need, felt


def _offsets(homes: Households, rows: Int64s, routine: Routine, times_s: Int64s) -> Floats:
    times = times_s[None, :]
    wake, leave, back, bed = (
        column[rows][:, None] for column in (routine.wake_s, routine.leave_s, routine.return_s, routine.bed_s)
    )
    at_night = (times < wake - 1_800) | (times >= bed)
    at_work = (times >= leave) & (times < back - 1_800)
    boost = ((times >= wake - 1_800) & (times < wake + _BOOST_S)) | (
        (times >= back - 1_800) & (times < back - 1_800 + _BOOST_S) & (back > leave)
    )
    offset = _NIGHT_K * at_night + _AT_WORK_K * at_work + _BOOST_K * boost
    turned = np.where(homes.setback[rows][:, None], offset, 0.35 * _NIGHT_K * at_night)
    found: Floats = np.where(routine.away[rows][:, None], _ABSENT_K, turned)
    return found


def cold_segments(seed: int, cyclers: Cyclers, start_s: int, end_s: int) -> Segments:
    """Runs of compressors; each begins with a second of starting current."""
    at, cycle = _cycles(cyclers, start_s, end_s)
    luck = uniform(seed, _STREAM + 30, cyclers.name[at], cycle)
    period = cyclers.period_s[at]
    begin = cyclers.phase_s[at] + cycle * period + (0.2 * luck * period).astype(np.int64)
    long_s = (period * cyclers.duty[at] * (0.85 + 0.3 * uniform(seed, _STREAM + 31, cyclers.name[at], cycle))).astype(
        np.int64
    )
    watts = cyclers.watts[at]
    runs = Segments(cyclers.home[at], begin, begin + long_s, watts, cyclers.appliance[at])
    starts = Segments(cyclers.home[at], begin, begin + 1, 4 * watts, cyclers.appliance[at])
    return runs.beside(starts)


def heating_segments(
    cyclers: Cyclers,
    homes: Households,
    weather: DayWeather,
    routines: tuple[Routine, Routine],
    day: Day,
    start_s: int,
    end_s: int,
) -> Segments:
    """Runs of heaters: a thermostat decides at the begin of each cycle how long it heats."""
    rows, which = np.unique(cyclers.home, return_inverse=True)
    first = start_s - _LONGEST_CYCLE_S
    first -= first % GRID_S
    times = np.arange(first, end_s, GRID_S, dtype=np.int64)
    need, felt = heat_needs(homes, rows, weather, routines, day, times)
    heats = need.max(axis=1) > 0
    chosen = np.flatnonzero(heats[which])
    some = Cyclers(*(getattr(cyclers, field.name)[chosen] for field in dataclasses.fields(Cyclers)))
    at, cycle = _cycles(some, start_s, end_s)
    begin = some.phase_s[at] + cycle * some.period_s[at]
    column = (begin - first) // GRID_S
    row = which[chosen][at]
    heat_w = need[row, column]
    capacity = np.bincount(which, cyclers.watts, len(rows))
    watts = some.watts[at]
    pump = some.appliance[at] == Appliance.HEAT_PUMP
    drawn_w = np.where(pump, heat_w / _performance(felt[row, column]), heat_w)
    slowest = np.where(pump, _SLOWEST, 1.0) * watts
    share = np.where(pump, drawn_w / np.maximum(slowest, 1.0), drawn_w * some.duty[at] / capacity[row])
    level = np.where(pump, np.clip(drawn_w, slowest, watts), watts)
    long_s = (np.minimum(share, 1.0) * some.period_s[at]).astype(np.int64)
    found = Segments(some.home[at], begin, begin + long_s, np.rint(level).astype(np.int64), some.appliance[at])
    return found.chosen(long_s > 0)


def _cycles(cyclers: Cyclers, start_s: int, end_s: int) -> tuple[Int64s, Int64s]:
    """Which cycler, and which of its cycles, for all that may reach into a range of time."""
    # A cycle may begin late within its period, so the one before the first is taken, too.
    first = (start_s - cyclers.phase_s) // cyclers.period_s - 1
    count = (end_s - 1 - cyclers.phase_s) // cyclers.period_s - first + 1
    at, turn = repeated(np.arange(len(first), dtype=np.int64), count)
    return at, first[at] + turn


def _performance(outdoor_c: Floats) -> Floats:
    """Heat for each watt of electricity of an air source heat pump with radiators."""
    performance: Floats = np.clip(2.75 + 0.075 * outdoor_c, 1.7, 4.6)
    return performance
