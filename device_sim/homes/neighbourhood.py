"""A neighbourhood: homes simulated side by side, second by second or in longer steps."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from device_sim.homes import calendar, tariffs
from device_sim.homes.appliances import VAR_PER_WATT, Appliance
from device_sim.homes.chance import Floats, Int64s, lattice, uniform
from device_sim.homes.cycles import cold_appliances, cold_segments, heaters, heating_segments
from device_sim.homes.households import draw_households
from device_sim.homes.routine import Routine, routine_of
from device_sim.homes.segments import Segments, joules, segments_of_uses
from device_sim.homes.uses import Uses, uses_of
from device_sim.homes.weather import PV_STEP_S, DayWeather, photovoltaic, weather_of

Floats32 = npt.NDArray[np.float32]
_US = 1_000_000
_JITTER_STREAM, _JITTER_AT, _GRID_VOLTAGE, _STREET_VOLTAGE = 401, 402, 403, 404
# Small loads nobody models move a few watts each second; the pattern repeats, at another place for each home.
_JITTER_S = 1 << 15
_NOMINAL_V = 233.0
# So much is simulated at once; more only misses the processor's caches.
_CELLS_AT_ONCE = 1_500_000
_STEP_AHEAD_S = 60
_DAYS_KEPT = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Some time of all homes: arrays are (homes, steps), of each step its mean power and its end's index.

    `active_w` is signed, + drawn, - injected; so is `apparent_va`. Registers and indices are as a meter shows them.
    """

    start_us: int
    step_s: int
    active_w: Floats32
    apparent_va: Floats32
    drawn_wh: Int64s
    injected_wh: Int64s
    register: npt.NDArray[np.int8]
    # (homes, registers) at the block's end, register 1 first.
    registers_wh: Int64s
    voltage_v: Floats32
    current_a: Floats32

    @property
    def steps(self) -> int:
        """How many there are."""
        return int(self.active_w.shape[1])


@dataclasses.dataclass(frozen=True, slots=True)
class _Power:
    active_j: Floats
    reactive_j: Floats


class Neighbourhood:
    """Homes of a seed. The same seed gives the same homes and the same seconds, however they are asked for.

    `block` and `step` go on from where the last one ended, since an index does; `power` and `truth` may jump.
    """

    def __init__(self, seed: int, homes: int | Sequence[int], start_us: int) -> None:
        """`homes`: how many, or the numbers of those wanted. `start_us`: a whole second, UTC microseconds."""
        if start_us % _US:
            raise ValueError("a neighbourhood begins on a whole second")
        number = np.arange(homes, dtype=np.int64) if isinstance(homes, int) else np.array(homes, np.int64)
        self.seed = seed
        self.households = draw_households(seed, number)
        self.now_s = start_us // _US
        self._cold = cold_appliances(seed, self.households)
        self._heaters = heaters(seed, self.households)
        self._tariff = tariffs.tariff_kind(self.households)
        tile = np.rint(2.2 * (uniform(seed, _JITTER_STREAM, np.arange(_JITTER_S)) - 0.5) * 2).astype(np.int64)
        tile[0] -= tile.sum()
        self._jitter = np.concatenate([tile, tile])
        self._jitter_sum = np.append(0, np.cumsum(self._jitter))
        self._jitter_at = (uniform(seed, _JITTER_AT, number) * _JITTER_S).astype(np.int64)
        self._pv = np.flatnonzero(self.households.pv_kwp > 0)
        self._drawn_j = self.households.opening_wh * 3600.0
        self._injected_j = np.zeros(len(number))
        # What a meter that was there before has counted: most of it where its offer counts most.
        self._registers_wh = self._opening_registers()
        self._days: dict[int, _HomeDay] = {}
        self._ahead: Block | None = None

    @property
    def homes(self) -> int:
        """How many there are."""
        return len(self.households)

    @property
    def counted_wh(self) -> tuple[Int64s, Int64s, Int64s]:
        """What the meters show now: drawn, injected, and (homes, registers)."""
        drawn, injected = (np.floor(joule / 3600).astype(np.int64) for joule in (self._drawn_j, self._injected_j))
        return drawn, injected, self._registers_wh.copy()

    @property
    def register_counts(self) -> Int64s:
        """How many registers each home's offer has: 1, 2 or 6."""
        return np.array([1, 2, 6], np.int64)[self.households.offer]

    def step(self) -> Block:
        """The next second of all homes."""
        ahead = self._ahead
        if ahead is None or self.now_s * _US >= ahead.start_us + ahead.steps * _US:
            start_s = self.now_s
            ahead = self._ahead = self.block(self.now_s * _US, _STEP_AHEAD_S - start_s % _STEP_AHEAD_S)
            self.now_s = start_s
        at = self.now_s - ahead.start_us // _US
        self.now_s += 1
        cells = slice(at, at + 1)
        return dataclasses.replace(
            ahead,
            start_us=ahead.start_us + at * _US,
            **{
                name: getattr(ahead, name)[:, cells]
                for name in ("active_w", "apparent_va", "drawn_wh", "injected_wh", "register", "voltage_v", "current_a")
            },
        )

    def block(self, start_us: int, seconds: int, *, step_s: int = 1) -> Block:
        """The next `seconds`, in steps of `step_s` (1, or a multiple of 10). Raises ValueError when it is not next."""
        start_s = start_us // _US
        if start_s != self.now_s or start_us % _US:
            raise ValueError(f"a block goes on where the last one ended, at {self.now_s} s")
        power = self._total(start_s, seconds, step_s)
        block = self._measured(power, start_s, step_s)
        self.now_s = start_s + seconds
        self._ahead = None
        return block

    def power(self, start_us: int, seconds: int, *, step_s: int = 1) -> Floats32:
        """Active watts, (homes, steps), of any time: + drawn, - injected."""
        total = self._total(start_us // _US, seconds, step_s).active_j
        watts: Floats32 = (total / step_s).astype(np.float32)
        return watts

    def truth(
        self, rows: Sequence[int], start_us: int, seconds: int, *, step_s: int = 1
    ) -> Mapping[Appliance, Floats32]:
        """Watts of each appliance of some homes (by index), (rows, steps), of any time; they add up to `power`."""
        chosen = np.array(rows, np.int64)
        start_s, count = start_us // _US, _steps(start_us // _US, seconds, step_s)
        found = {appliance: np.zeros((len(chosen), count), np.float32) for appliance in Appliance}
        place = np.full(self.homes, -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        for day, begin, end in _within_days(start_s, seconds):
            segments = self._segments(day, begin, end)
            segments = segments.chosen(place[segments.home] >= 0)
            segments = dataclasses.replace(segments, home=place[segments.home])
            for appliance in Appliance:
                part = segments.chosen(segments.appliance == appliance)
                first, steps = (begin - start_s) // step_s, (end - begin) // step_s
                active, _ = joules(part, len(chosen), begin, step_s, steps)
                if appliance is Appliance.STANDBY:
                    active += self._standing(begin, step_s, steps)[chosen]
                elif appliance is Appliance.PHOTOVOLTAIC:
                    sun = np.zeros((self.homes, steps))
                    self._shine(sun, day, begin, step_s)
                    active += sun[chosen]
                found[appliance][:, first : first + steps] = active / step_s
        return found

    def _total(self, start_s: int, seconds: int, step_s: int) -> _Power:
        count = _steps(start_s, seconds, step_s)
        active = np.empty((self.homes, count))
        reactive = np.empty((self.homes, count))
        for day, begin, end in _within_days(start_s, seconds):
            # Bounded pieces: the answer is the same, and the memory is not.
            piece = max(_CELLS_AT_ONCE // max(self.homes, 1), 1) * step_s
            for at in range(begin, end, piece):
                until = min(at + piece, end)
                first, steps = (at - start_s) // step_s, (until - at) // step_s
                segments = self._segments(day, at, until)
                cells = slice(first, first + steps)
                one, other = joules(segments, self.homes, at, step_s, steps)
                one += self._standing(at, step_s, steps)
                other += (self.households.standby_w * VAR_PER_WATT[Appliance.STANDBY] * step_s)[:, None]
                self._shine(one, day, at, step_s)
                active[:, cells], reactive[:, cells] = one, other
        return _Power(active, reactive)

    def _segments(self, number: int, start_s: int, end_s: int) -> Segments:
        """All that is switched, of a range of time within one civil day."""
        today, before = self._day(number), self._day(number - 1)
        routines = (before.routine, today.routine)
        return segments_of_uses(today.uses, start_s, end_s).beside(
            segments_of_uses(before.uses, start_s, end_s),
            cold_segments(self.seed, self._cold, start_s, end_s),
            heating_segments(self._heaters, self.households, today.weather, routines, today.day, start_s, end_s),
        )

    def _day(self, number: int) -> _HomeDay:
        if number not in self._days:
            day = calendar.day(number)
            weather = _weather(self.seed, number)
            routine = routine_of(self.seed, self.households, day)
            uses = uses_of(self.seed, self.households, day, routine, weather)
            while len(self._days) >= _DAYS_KEPT:
                self._days.pop(min(self._days, key=lambda known: -abs(known - number)))
            self._days[number] = _HomeDay(day, weather, routine, uses)
        return self._days[number]

    def _standing(self, start_s: int, step_s: int, count: int) -> Floats:
        """Joules of what is always on."""
        if step_s == 1:
            at = (start_s + self._jitter_at) % _JITTER_S
            if count <= _JITTER_S:
                jitter = np.lib.stride_tricks.sliding_window_view(self._jitter, count)[at]
            else:
                jitter = self._jitter[(at[:, None] + np.arange(count)) % _JITTER_S]
        else:
            edges = (start_s + self._jitter_at[:, None] + step_s * np.arange(count + 1)) % _JITTER_S
            # The pattern sums up to nothing over a period, so one that begins anew loses nothing.
            jitter = np.diff(self._jitter_sum[edges], axis=1)
        standing: Floats = jitter + (self.households.standby_w * step_s)[:, None].astype(np.float64)
        return standing

    def _shine(self, active_j: Floats, number: int, start_s: int, step_s: int) -> None:
        """Takes off what the panels give."""
        if not len(self._pv):
            return
        count = active_j.shape[1]
        first = start_s - start_s % PV_STEP_S
        steps = -(-(start_s + step_s * count - first) // PV_STEP_S)
        homes = self.households
        # Homes of one city with one kind of roof share the sun.
        kinds, kind = np.unique(3 * homes.city[self._pv] + homes.roof[self._pv], return_inverse=True)
        weather = _weather(self.seed, number)
        light = photovoltaic(self.seed, weather, kinds // 3, kinds % 3, first, steps)
        watts = np.rint(homes.pv_kwp[self._pv, None] * light[kind])
        if step_s == 1:
            per_second = np.repeat(watts, PV_STEP_S, axis=1)[:, start_s - first :][:, :count]
            active_j[self._pv] -= per_second
        else:
            whole = watts.reshape(len(self._pv), count, step_s // PV_STEP_S)
            active_j[self._pv] -= whole.sum(axis=2) * PV_STEP_S

    def _measured(self, power: _Power, start_s: int, step_s: int) -> Block:
        """What a meter makes of it; counts on."""
        active, count = power.active_j, power.active_j.shape[1]
        active_w = (active / step_s).astype(np.float32)
        var = (power.reactive_j / step_s).astype(np.float32)
        apparent = np.sqrt(active_w * active_w + var * var)
        drawn = np.cumsum(np.maximum(active, 0.0), axis=1)
        drawn += self._drawn_j[:, None]
        injected_wh = np.repeat(np.floor(self._injected_j / 3600)[:, None], count, axis=1)
        if len(self._pv):
            injected = np.cumsum(np.maximum(-active[self._pv], 0.0), axis=1) + self._injected_j[self._pv, None]
            injected_wh[self._pv] = np.floor(injected / 3600)
            self._injected_j[self._pv] = injected[:, -1]
        register = self._registers(start_s, step_s, count)
        drawn_wh = np.floor(drawn / 3600).astype(np.int64)
        self._count_registers(register, drawn_wh)
        self._drawn_j = drawn[:, -1].copy()
        voltage = self._voltage(start_s, step_s, count, apparent)
        current = np.rint(apparent / voltage)
        apparent = np.where(active_w < 0, -apparent, apparent)
        return Block(
            start_s * _US,
            step_s,
            active_w,
            apparent,
            drawn_wh,
            injected_wh.astype(np.int64),
            register[self._tariff],
            self._registers_wh.copy(),
            voltage,
            current,
        )

    def _registers(self, start_s: int, step_s: int, count: int) -> npt.NDArray[np.int8]:
        """(tariff kinds, count)"""
        each = tariffs.TARIFF_STEP_S
        first = start_s - start_s % each
        steps = -(-(start_s + step_s * count - first) // each)
        running = tariffs.running_registers(self.seed, first, steps).astype(np.int8)
        at = (start_s - first + step_s * np.arange(count)) // each
        found: npt.NDArray[np.int8] = running[:, at]
        return found

    def _count_registers(self, register: npt.NDArray[np.int8], drawn_wh: Int64s) -> None:
        """What the index grew by is the running register's: the registers add up to the index."""
        changes = np.flatnonzero((register[:, 1:] != register[:, :-1]).any(axis=0)) + 1
        edges = [0, *changes.tolist(), register.shape[1]]
        before = np.floor(self._drawn_j / 3600).astype(np.int64)
        for begin, end in itertools.pairwise(edges):
            after = drawn_wh[:, end - 1]
            running = register[self._tariff, begin].astype(np.int64) - 1
            self._registers_wh[np.arange(self.homes), running] += after - before
            before = after

    def _voltage(self, start_s: int, step_s: int, count: int, apparent: Floats32) -> Floats32:
        """The transformer's voltage moves with the region's load and the street's, a home's own load pulls it down."""
        grid_s = 60
        times = np.arange(start_s - start_s % grid_s, start_s + step_s * count, grid_s, dtype=np.int64)
        cities = np.unique(self.households.city)
        region = np.zeros((int(cities.max()) + 1, len(times)), np.float32)
        region[cities] = 2.0 * lattice(self.seed, _GRID_VOLTAGE, times[None, :], 5_400, cities[:, None])
        region[cities] += 0.8 * lattice(self.seed, _STREET_VOLTAGE, times[None, :], 240, cities[:, None])
        at = (start_s + step_s * np.arange(count) - times[0]) // grid_s
        ohm_per_v = (self.households.supply_ohm / _NOMINAL_V).astype(np.float32)
        volts = _NOMINAL_V + region[:, at][self.households.city] - ohm_per_v[:, None] * apparent
        rounded: Floats32 = np.rint(np.clip(volts, 207.0, 253.0)).astype(np.float32)
        return rounded

    def _opening_registers(self) -> Int64s:
        by_offer = np.array([(1, 0, 0, 0, 0, 0), (0.36, 0.64, 0, 0, 0, 0), (0.27, 0.5, 0.06, 0.1, 0.03, 0.04)])
        opening = self.households.opening_wh
        wh = np.floor(by_offer[self.households.offer] * opening[:, None]).astype(np.int64)
        wh[:, 0] += opening - wh.sum(axis=1)
        return wh


@dataclasses.dataclass(frozen=True, slots=True)
class _HomeDay:
    day: calendar.Day
    weather: DayWeather
    routine: Routine
    uses: Uses


@functools.lru_cache(maxsize=8)
def _weather(seed: int, number: int) -> DayWeather:
    return weather_of(seed, calendar.day(number))


def _steps(start_s: int, seconds: int, step_s: int) -> int:
    if step_s != 1 and (step_s % PV_STEP_S or start_s % step_s):
        raise ValueError("a step is 1 s, or a multiple of 10 s beginning on a multiple of itself")
    if seconds <= 0 or seconds % step_s:
        raise ValueError("a range holds whole steps")
    return seconds // step_s


def _within_days(start_s: int, seconds: int) -> list[tuple[int, int, int]]:
    """(day, begin, end) of each civil day's part of a range."""
    end_s = start_s + seconds
    return [
        (number, max(calendar.day(number).start_s, start_s), min(calendar.day(number).end_s, end_s))
        for number in calendar.days_between(start_s, end_s)
    ]
