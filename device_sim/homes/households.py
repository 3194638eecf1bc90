"""Who lives where and with what: attributes of households, drawn from French distributions; they cause what follows.

Sources of the shares are named beside them, with their addresses in docs/simulator.md; "g.k." is general knowledge.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np
import numpy.typing as npt

from device_sim.homes.chance import Floats, Int64s, spread, uniform
from device_sim.homes.cities import CITIES, WEIGHTS

Bools = npt.NDArray[np.bool_]


class Property(enum.IntEnum):
    """Kind of dwelling."""

    FLAT = 0
    HOUSE = 1


class Heater(enum.IntEnum):
    """What heats the rooms."""

    OTHER = 0
    ELECTRIC = 1
    HEAT_PUMP = 2


class Offer(enum.IntEnum):
    """Tariff structure of the supply contract."""

    BASE = 0
    OFF_PEAK = 1
    TEMPO = 2


# Heures creuses as minutes of the local day, eight hours in all; Tempo's are the first. (Enedis's habits, g.k.)
OFF_PEAK_WINDOWS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 360), (1320, 1440)),
    ((0, 390), (1350, 1440)),
    ((0, 420), (1380, 1440)),
    ((30, 450), (930, 990)),
    ((90, 450), (750, 870)),
    ((120, 480), (780, 900)),
)

# INSEE, Menages selon la taille, and FAM T1 2022: 38.6 % live alone, a third by two, 2.15 people on average. Flats hold
# fewer people than houses (g.k.); with 55 % of houses this gives the shares above.
_MEMBERS = {
    Property.FLAT: (0.53, 0.28, 0.10, 0.06, 0.03),
    Property.HOUSE: (0.26, 0.38, 0.15, 0.15, 0.06),
}
# ADEME/RTE/Enertech, Panel Elecdom: 55 % of its homes are houses, 92 m2 on average; INSEE's 112 m2 and 63 m2 are g.k.
_HOUSES = 0.55
_AREA_M2 = {Property.FLAT: 63.0, Property.HOUSE: 112.0}
# RTE: 39 % of households heat by electricity; the split between convectors and heat pumps is g.k.
_HEATER = {Property.FLAT: (0.60, 0.38, 0.02), Property.HOUSE: (0.62, 0.25, 0.13)}
# Watts per kelvin and square metre: with the climate, 4,312 kWh a year for convectors in a house (ADEME).
_LOSS_W_PER_K_M2 = {Property.FLAT: 0.97, Property.HOUSE: 0.97}
# An electric water heater: nearly half the homes, most of them where heating is electric (g.k.). Off-peak offers: 30 %
# of regulated contracts (a report of a concession, 2021), 11 million homes in the press of 2025.
_ELECTRIC_WATER = {Heater.OTHER: 0.26, Heater.ELECTRIC: 0.82, Heater.HEAT_PUMP: 0.65}
_WATER_OFF_PEAK = 0.68
_OFF_PEAK_WITHOUT = 0.06
_TEMPO = 0.03
# Electric cars and roofs with panels, for the middle of the 2020s (g.k.).
_EV = {Property.FLAT: 0.02, Property.HOUSE: 0.08}
_PV = {Property.FLAT: 0.0, Property.HOUSE: 0.055}
_KVA = np.array([3, 6, 9, 12, 15, 18])


class _Stream(enum.IntEnum):
    CITY = 1
    PROPERTY = 2
    MEMBERS = 3
    AREA = 4
    HEATER = 5
    LOSS = 6
    WATER = 7
    WATER_OFF_PEAK = 8
    OFFER = 9
    WINDOW = 10
    EV = 11
    PV = 12
    PV_SIZE = 13
    ROOF = 14
    ROUTINE = 15
    APPETITE = 16
    STANDBY = 17
    SETBACK = 18
    WATER_USE = 19
    VOLTAGE = 20
    OPENING = 21
    KVA = 22


@dataclasses.dataclass(frozen=True, slots=True)
class Households:
    """Attributes of homes; arrays are parallel. `number` names a home, whoever is simulated beside it."""

    number: Int64s
    city: Int64s
    property: Int64s
    members: Int64s
    area_m2: Int64s
    heater: Int64s
    water_heater: Bools
    water_off_peak: Bools
    offer: Int64s
    window: Int64s
    subscribed_kva: Int64s
    ev_w: Int64s
    pv_kwp: Floats
    roof: Int64s
    # Somebody works away from home on weekdays.
    works: Bools
    # How much a home uses what it has: 1 on average.
    appetite: Floats
    standby_w: Int64s
    # Whether the heating is turned down when nobody is in.
    setback: Bools
    loss_w_per_k: Floats
    hot_water_wh: Floats
    water_heater_w: Int64s
    supply_ohm: Floats
    opening_wh: Int64s

    def __len__(self) -> int:
        return len(self.number)

    def described(self, at: int) -> dict[str, Any]:
        """One home's attributes as words and plain numbers."""
        return {
            "home": int(self.number[at]),
            "city": CITIES[int(self.city[at])].name,
            "property": Property(int(self.property[at])).name.lower(),
            "members": int(self.members[at]),
            "area_m2": int(self.area_m2[at]),
            "heater": Heater(int(self.heater[at])).name.lower(),
            "water_heater": "off_peak" if self.water_off_peak[at] else "any_time" if self.water_heater[at] else "other",
            "subscribed_kva": int(self.subscribed_kva[at]),
            "offer": Offer(int(self.offer[at])).name.lower(),
            "ev": bool(self.ev_w[at]),
            "pv_kwp": float(self.pv_kwp[at]),
        }


def draw_households(seed: int, number: Int64s) -> Households:
    """The households of some homes."""

    def chance(stream: _Stream) -> Floats:
        return uniform(seed, stream, number)

    city = _chosen(WEIGHTS, chance(_Stream.CITY))
    kind = (chance(_Stream.PROPERTY) < _HOUSES).astype(np.int64)
    members = 1 + _chosen_by(kind, _MEMBERS, chance(_Stream.MEMBERS))
    area = _by(kind, _AREA_M2) * np.exp(0.28 * spread(seed, _Stream.AREA, number)) * (0.82 + 0.08 * members)
    area_m2 = np.clip(np.rint(area), 14, 400).astype(np.int64)
    heater = _chosen_by(kind, _HEATER, chance(_Stream.HEATER))
    water = chance(_Stream.WATER) < _by(heater, _ELECTRIC_WATER)
    water_off_peak = water & (chance(_Stream.WATER_OFF_PEAK) < _WATER_OFF_PEAK)
    luck = chance(_Stream.OFFER)
    off_peak = water_off_peak | (luck < _OFF_PEAK_WITHOUT)
    offer = np.where(off_peak, np.where(luck > 1 - _TEMPO, Offer.TEMPO, Offer.OFF_PEAK), Offer.BASE).astype(np.int64)
    window = np.where(offer == Offer.OFF_PEAK, (chance(_Stream.WINDOW) * len(OFF_PEAK_WINDOWS)).astype(np.int64), 0)
    has_ev = chance(_Stream.EV) < _by(kind, _EV)
    ev_w = np.where(has_ev, np.where(kind == Property.HOUSE, 7_200, 3_600), 0).astype(np.int64)
    size = chance(_Stream.PV_SIZE)
    pv_kwp = np.where(
        chance(_Stream.PV) < _by(kind, _PV), np.where(size < 0.6, 3.0, np.where(size < 0.85, 6.0, 9.0)), 0.0
    )
    # Electric heating comes with better walls (g.k.), so the losses are a little lower there.
    loss = area_m2 * _by(kind, _LOSS_W_PER_K_M2) * np.exp(0.33 * spread(seed, _Stream.LOSS, number))
    hot_water = (members * 1_900.0 * np.exp(0.3 * spread(seed, _Stream.WATER_USE, number)) + 1_100.0).astype(np.float64)
    water_w = np.where(members == 1, 1_200, np.where(members == 2, 1_800, np.where(members < 5, 2_400, 3_000)))
    return Households(
        number=number,
        city=city,
        property=kind,
        members=members,
        area_m2=area_m2,
        heater=heater,
        water_heater=water,
        water_off_peak=water_off_peak,
        offer=offer,
        window=window,
        subscribed_kva=_subscribed(seed, number, heater, area_m2, members, water, ev_w, loss),
        ev_w=ev_w,
        pv_kwp=pv_kwp,
        roof=(chance(_Stream.ROOF) * 3).astype(np.int64),
        works=chance(_Stream.ROUTINE) < np.where(members == 1, 0.52, 0.62),
        appetite=np.exp(0.32 * spread(seed, _Stream.APPETITE, number)),
        standby_w=np.rint(30 + 0.25 * area_m2 + 10 * members + 26 * chance(_Stream.STANDBY)).astype(np.int64),
        setback=chance(_Stream.SETBACK) < 0.55,
        loss_w_per_k=loss,
        hot_water_wh=hot_water,
        water_heater_w=water_w.astype(np.int64),
        supply_ohm=0.06 + 0.22 * chance(_Stream.VOLTAGE),
        opening_wh=(2_000_000 + 38_000_000 * chance(_Stream.OPENING)).astype(np.int64),
    )


def _subscribed(
    seed: int,
    number: Int64s,
    heater: Int64s,
    area_m2: Int64s,
    members: Int64s,
    water: Bools,
    ev_w: Int64s,
    loss: Floats,
) -> Int64s:
    """What a supplier would have advised: the largest loads that may run together."""
    heat_w = loss * 24 * np.where(heater == Heater.ELECTRIC, 0.85, np.where(heater == Heater.HEAT_PUMP, 0.35, 0.0))
    need_w = 2_300 + 250 * members + 5 * area_m2 + 1_100 * water + heat_w + 0.9 * ev_w
    need_w *= 0.85 + 0.3 * uniform(seed, _Stream.KVA, number)
    at = np.searchsorted(1000 * _KVA, need_w)
    return _KVA[np.minimum(at, len(_KVA) - 1)].astype(np.int64)


def _chosen(weights: Floats, drawn: Floats) -> Int64s:
    edges = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(edges, drawn, side="right"), len(edges) - 1).astype(np.int64)


def _chosen_by(kinds: Int64s, shares: Any, drawn: Floats) -> Int64s:
    result = np.zeros(len(kinds), np.int64)
    for kind, weights in shares.items():
        rows = kinds == kind
        result[rows] = _chosen(np.array(weights), drawn[rows])
    return result


def _by(kinds: Int64s, values: Any) -> Floats:
    table = np.array([values[kind] for kind in sorted(values)], np.float64)
    found: Floats = table[kinds]
    return found
