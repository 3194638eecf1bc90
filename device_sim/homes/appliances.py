"""The appliances: power factor, who owns them, when they are used, and the shape of their power."""

from __future__ import annotations

import dataclasses
import enum
import itertools

import numpy as np

from device_sim.homes.chance import Floats, Int64s


class Appliance(enum.IntEnum):
    """What draws power; the photovoltaic panels draw less than none."""

    STANDBY = 0
    FRIDGE = 1
    FREEZER = 2
    LIGHTING = 3
    TELEVISION = 4
    COMPUTER = 5
    KETTLE = 6
    COFFEE_MAKER = 7
    MICROWAVE = 8
    OVEN = 9
    HOB = 10
    WASHING_MACHINE = 11
    DISHWASHER = 12
    DRYER = 13
    CLEANING = 14
    WATER_HEATER = 15
    ELECTRIC_HEATING = 16
    HEAT_PUMP = 17
    EV = 18
    PHOTOVOLTAIC = 19


# Displacement power factors as plug-in meters show them (g.k.); resistive loads are 1.
POWER_FACTOR = np.array(
    [0.80, 0.85, 0.85, 0.92, 0.94, 0.93, 1.0, 1.0, 0.94, 0.99, 0.98, 0.96, 0.98, 0.96, 0.95, 1.0, 1.0, 0.94, 0.99, 1.0]
)
VAR_PER_WATT: Floats = np.tan(np.arccos(POWER_FACTOR))


class Shape(enum.IntEnum):
    """How the power of a use runs; from `PROGRAMMES` on a programme of `programme_table`."""

    STEADY = 0
    HOB = 1
    OVEN = 2
    MICROWAVE = 3
    PROGRAMMES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Pulse:
    """Full power for `warm_s`, then on for `duty` of each `period_s`."""

    warm_s: int
    period_s: int
    duty: float


# An induction hob at half power, an oven that keeps its temperature, a microwave on "medium".
PULSES = {Shape.HOB: Pulse(150, 14, 0.55), Shape.OVEN: Pulse(480, 110, 0.34), Shape.MICROWAVE: Pulse(60, 30, 0.6)}


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """One way of using an appliance.

    `per_day` + `per_member` times the members is how often, at most `most` times; `hours` names its day curve;
    `shapes` are programmes of which one is chosen each time. `watts` and `seconds` are ranges.
    """

    appliance: Appliance
    owners: float
    per_day: float
    per_member: float
    most: int
    hours: str
    watts: tuple[int, int]
    seconds: tuple[int, int]
    shapes: tuple[int, ...] = (Shape.STEADY,)


# Weights of the 24 hours of a working day, of a day at home and of a day of rest.
_DAY_CURVES: dict[str, tuple[str, str, str]] = {
    # One digit an hour, from 0 to 23 h.
    "meals": ("000001232001200002697310", "000000122113940013696210", "000000012224950013696310"),
    "breakfast": ("000002795210100111111000", "000000389521110211111000", "000000037974211211111000"),
    "evening": ("000000121001210013689631", "100000122223432224689631", "200000012334543344689631"),
    "washing": ("100000131111110012465431", "000000135764322222221100", "000000014798654433322100"),
    "dishes": ("210000121001310001124985", "210000121112630001123985", "210000011113741001123985"),
    "day": ("000000132111111123565310", "000000247866356754333210", "000000026898656654322210"),
}
HOURS: dict[str, Floats] = {
    name: np.stack([np.array([int(digit) for digit in curve], np.float64) for curve in curves])
    for name, curves in _DAY_CURVES.items()
}

Step = tuple[int, int, int]


def _pulses(offset_s: int, total_s: int, on_s: int, off_s: int, watts: int) -> list[Step]:
    return [(at, on_s, watts) for at in range(offset_s, offset_s + total_s - on_s, on_s + off_s)]


def _washing(heat_s: int) -> list[Step]:
    """Fill, heat while the drum turns now and then, wash, three rinses with a short spin, the long spin."""
    end = 240 + heat_s
    steps = [(0, 240, 12), (240, heat_s, 1_950)]
    steps += _pulses(240, heat_s + 1_500, 12, 18, 160)
    for rinse in range(3):
        begin = end + 1_500 + rinse * 600
        steps += [(begin, 60, 35), *_pulses(begin + 60, 360, 12, 18, 160), (begin + 480, 90, 300)]
    return [*steps, (end + 3_300, 240, 380), (end + 3_540, 240, 520)]


def _dishes(first_s: int, second_s: int) -> list[Step]:
    """Pump all the time; the water is heated once to wash and once for the last rinse."""
    rest = 2_400
    return [
        (0, 300 + first_s + rest, 75),
        (300, first_s, 1_850),
        (300 + first_s + rest, 900, 40),
        (1_200 + first_s + rest, second_s, 1_920),
        (1_200 + first_s + rest + second_s, 1_500, 6),
    ]


def _drying() -> list[Step]:
    """The drum turns; the heating runs through at first, then is switched by the thermostat."""
    return [(0, 4_500, 190), (60, 2_100, 1_900), *_pulses(2_160, 2_100, 170, 130, 1_900)]


def _drying_by_heat_pump() -> list[Step]:
    return [(0, 6_600, 160), (120, 900, 420), (1_020, 4_800, 560)]


PROGRAMMES: tuple[tuple[Step, ...], ...] = (
    tuple(_washing(420)),
    tuple(_washing(780)),
    tuple(_washing(1_500)),
    tuple(_dishes(960, 900)),
    tuple(_dishes(720, 660)),
    tuple(_drying()),
    tuple(_drying_by_heat_pump()),
)
PROGRAMME_S: Int64s = np.array([max(at + long for at, long, _ in steps) for steps in PROGRAMMES], np.int64)
# All steps in a row, and where each programme's begin.
STEPS: Int64s = np.array(list(itertools.chain.from_iterable(PROGRAMMES)), np.int64)
STEP_STARTS: Int64s = np.append(0, np.cumsum([len(steps) for steps in PROGRAMMES])).astype(np.int64)

_P = int(Shape.PROGRAMMES)
# Shares of owners and yearly uses after ADEME/RTE/Enertech, Panel Elecdom (oven 187 and hob 409 uses a year, dishwasher
# 166 cycles, television 6 h 46 a day, desktop computer 3 h 54); kettle, coffee, cleaning and powers are g.k.
USES: tuple[Use, ...] = (
    Use(Appliance.TELEVISION, 0.93, 0.9, 0.15, 3, "day", (60, 150), (3_600, 12_600)),
    Use(Appliance.TELEVISION, 0.93, 0.95, 0.20, 3, "evening", (60, 150), (5_400, 14_400)),
    Use(Appliance.COMPUTER, 0.80, 0.5, 0.50, 5, "evening", (30, 170), (2_400, 12_000)),
    Use(Appliance.KETTLE, 0.62, 0.5, 0.35, 4, "breakfast", (1_800, 2_400), (70, 220)),
    Use(Appliance.COFFEE_MAKER, 0.80, 0.5, 0.45, 4, "breakfast", (1_100, 1_500), (50, 240)),
    Use(Appliance.MICROWAVE, 0.88, 0.4, 0.35, 4, "meals", (1_050, 1_450), (60, 300), (Shape.MICROWAVE,)),
    Use(Appliance.OVEN, 0.78, 0.2, 0.16, 2, "meals", (2_000, 2_600), (1_500, 4_200), (Shape.OVEN,)),
    Use(Appliance.HOB, 0.70, 0.55, 0.30, 4, "meals", (1_100, 2_000), (480, 2_400), (Shape.HOB,)),
    Use(Appliance.WASHING_MACHINE, 0.95, 0.12, 0.19, 3, "washing", (100, 100), (0, 0), (_P, _P + 1, _P + 1, _P + 2)),
    Use(Appliance.DISHWASHER, 0.64, 0.12, 0.20, 2, "dishes", (100, 100), (0, 0), (_P + 3, _P + 4)),
    Use(Appliance.DRYER, 0.36, 0.05, 0.21, 2, "washing", (100, 100), (0, 0), (_P + 5, _P + 6)),
    Use(Appliance.CLEANING, 0.95, 0.14, 0.06, 2, "day", (650, 1_900), (420, 1_800)),
)
