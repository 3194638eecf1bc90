"""A year of a simulated population beside what is published of French households; docs/simulator.md has the sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from device_sim.bench.output import Value
from device_sim.homes import calendar
from device_sim.homes.appliances import Appliance
from device_sim.homes.chance import Floats, Int64s
from device_sim.homes.households import Heater, Households, Property
from device_sim.homes.neighbourhood import Neighbourhood

_US = 1_000_000
_STEP_S = 600
_DAYS = 365
# A year from Thursday, 1 January 2026 on.
_FIRST_DAY = 20_454
# Appliances by their truth are looked at on every so manieth day: odd, so that all weekdays are met.
_EACH = 5
_SPECIFIC = [
    appliance
    for appliance in Appliance
    if appliance
    not in {
        Appliance.OVEN, Appliance.HOB, Appliance.WATER_HEATER, Appliance.ELECTRIC_HEATING, Appliance.HEAT_PUMP,
        Appliance.EV, Appliance.PHOTOVOLTAIC,
    }
]  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class _Year:
    homes: Households
    # kWh a year of each home: all that is consumed (panels left out), and (appliances, homes).
    consumed: Floats
    by_appliance: Floats
    # Mean watts of a home by local hour, in December to February and in June to August.
    winter: Floats
    summer: Floats
    # The power below which a home is a tenth of the time, watts.
    base_w: Floats

    def mean(self, chosen: Floats | Int64s | None = None) -> float:
        """Mean kWh a year of some homes."""
        return float(self.consumed.mean() if chosen is None else self.consumed[chosen].mean())

    def of_owners(self, appliance: Appliance) -> float:
        """Mean kWh a year of those who have it."""
        kwh = self.by_appliance[appliance]
        return float(kwh[kwh > 0].mean()) if (kwh > 0).any() else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    unit: str
    published: str
    source: str
    of: Callable[[_Year], float]


def _electric(year: _Year) -> Int64s:
    return np.flatnonzero(year.homes.heater != Heater.OTHER)


_FIGURES = (
    _Figure("all homes", "kWh/a", "4255; 4792", "RTE 2024 by Selectra; Panel Elecdom", lambda year: year.mean()),
    _Figure(
        "homes without electric heating", "kWh/a", "-", "", lambda y: y.mean(np.flatnonzero(y.homes.heater == 0))
    ),
    _Figure(
        "homes with convectors", "kWh/a", "-", "", lambda y: y.mean(np.flatnonzero(y.homes.heater == Heater.ELECTRIC))
    ),
    _Figure(
        "homes with a heat pump", "kWh/a", "-", "", lambda y: y.mean(np.flatnonzero(y.homes.heater == Heater.HEAT_PUMP))
    ),
    _Figure(
        "specific electricity (no heat, water, cooking)", "kWh/a", "2228", "Panel Elecdom",
        lambda y: float(y.by_appliance[_SPECIFIC].sum(0).mean()),
    ),
    _Figure(
        "convectors of a house", "kWh/a", "4312", "ADEME",
        lambda y: float(
            y.by_appliance[
                Appliance.ELECTRIC_HEATING,
                (y.homes.heater == Heater.ELECTRIC) & (y.homes.property == Property.HOUSE),
            ].mean()
        ),
    ),
    _Figure(
        "electric water heater", "kWh/a", "2054 (all-electric)", "ADEME 2013",
        lambda y: y.of_owners(Appliance.WATER_HEATER),
    ),
    _Figure(
        "share of electric water in all", "%", "-", "",
        lambda y: 100 * float(y.by_appliance[Appliance.WATER_HEATER].sum() / y.consumed.sum()),
    ),
    _Figure("fridge", "kWh/a", "174 to 346", "Panel Elecdom", lambda y: y.of_owners(Appliance.FRIDGE)),
    _Figure("freezer", "kWh/a", "308", "Panel Elecdom", lambda y: y.of_owners(Appliance.FREEZER)),
    _Figure("television", "kWh/a", "187", "Panel Elecdom", lambda y: y.of_owners(Appliance.TELEVISION)),
    _Figure("dishwasher", "kWh/a", "192", "Panel Elecdom", lambda y: y.of_owners(Appliance.DISHWASHER)),
    _Figure("oven", "kWh/a", "146", "Panel Elecdom", lambda y: y.of_owners(Appliance.OVEN)),
    _Figure("hob", "kWh/a", "159", "Panel Elecdom", lambda y: y.of_owners(Appliance.HOB)),
    _Figure("dryer", "kWh/a", "301", "Panel Elecdom", lambda y: y.of_owners(Appliance.DRYER)),
    _Figure(
        "electric heating", "% of homes", "39", "RTE 2015",
        lambda y: 100 * float((y.homes.heater != Heater.OTHER).mean()),
    ),
    _Figure("living alone", "% of homes", "38.6", "INSEE 2022", lambda y: 100 * float((y.homes.members == 1).mean())),
    _Figure("people in a home", "", "2.15", "INSEE 2022", lambda y: float(y.homes.members.mean())),
    _Figure("floor area", "m2", "92", "Panel Elecdom", lambda y: float(y.homes.area_m2.mean())),
    _Figure(
        "off-peak or Tempo", "% of homes", "30 to 32", "concession 2021; press 2025",
        lambda y: 100 * float((y.homes.offer > 0).mean()),
    ),
    _Figure("6 kVA", "% of homes", "70", "GEG", lambda y: 100 * float((y.homes.subscribed_kva == 6).mean())),
    _Figure(
        "winter: hour of the evening peak", "h", "18 to 20, 19", "RTE, ADEME",
        lambda y: 16 + float(y.winter[16:22].argmax()),
    ),
    _Figure("winter: evening peak of a home", "W", "-", "", lambda y: float(y.winter[16:22].max())),
    _Figure(
        "winter: lowest hour of the day", "h", "3 to 4 (whole country)", "ouvertures.net",
        lambda y: float(y.winter.argmin()),
    ),
    _Figure(
        "winter: evening peak / mean", "", "-", "", lambda y: float(y.winter[16:22].max() / y.winter.mean())
    ),
    _Figure("summer mean / winter mean", "", "-", "", lambda y: float(y.summer.mean() / y.winter.mean())),
    _Figure("base load (p10 of a home, median)", "W", "-", "", lambda y: float(np.median(y.base_w))),
)  # fmt: skip


def rows_of_population(seed: int, homes: int) -> list[dict[str, Value]]:
    """A row for each figure: simulated, published, whose."""
    year = _simulated(seed, homes)
    return [
        {
            "figure": figure.name,
            "unit": figure.unit,
            "simulated": round(figure.of(year), 2),
            "published": figure.published,
            "source": figure.source,
        }
        for figure in _FIGURES
    ]


def _simulated(seed: int, homes: int) -> _Year:
    first_s = calendar.day(_FIRST_DAY).start_s
    neighbourhood = Neighbourhood(seed, homes, first_s * _US)
    consumed = np.zeros(homes)
    by_appliance = np.zeros((len(Appliance), homes))
    curves = np.zeros((2, 24))
    days = [0, 0]
    lows = []
    for number in range(_FIRST_DAY, _FIRST_DAY + _DAYS):
        day = calendar.day(number)
        seconds = day.end_s - day.start_s
        if number % _EACH == 0:
            truth = neighbourhood.truth(range(homes), day.start_s * _US, seconds, step_s=_STEP_S)
            for appliance, watts in truth.items():
                by_appliance[appliance] += _EACH * watts.sum(axis=1) * _STEP_S / 3.6e6
            total = np.sum([truth[appliance] for appliance in Appliance], axis=0) - truth[Appliance.PHOTOVOLTAIC]
            consumed += _EACH * total.sum(axis=1) * _STEP_S / 3.6e6
            lows.append(np.quantile(total, 0.1, axis=1))
            season = 0 if day.month in {12, 1, 2} else 1 if day.month in {6, 7, 8} else None
            if season is not None and total.shape[1] == 144:
                curves[season] += total.mean(axis=0).reshape(24, 6).mean(axis=1)
                days[season] += 1
    return _Year(
        neighbourhood.households,
        consumed,
        by_appliance,
        curves[0] / max(days[0], 1),
        curves[1] / max(days[1], 1),
        np.mean(lows, axis=0),
    )
