"""Values in the brackets of OBIS objects: numbers with units, times, identifiers. None is what can not be read."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal

from app.domain.linky import MeterTime
from app.domain.reading import LARGEST_COUNTER

_NUMBER = re.compile(r"[+-]?\d{1,16}(?:\.\d{1,9})?\Z", re.ASCII)
_TIME = re.compile(r"\d{12}[WS]\Z", re.ASCII)
# W winter, S summer: all countries of P1 share one zone, and the letter says which hour is meant when it comes twice.
_OFFSETS = {"W": dt.timezone(dt.timedelta(hours=1)), "S": dt.timezone(dt.timedelta(hours=2))}

Factors = Mapping[str, Decimal]
WATT_HOURS: Factors = {"wh": Decimal(1), "kwh": Decimal(1000), "mwh": Decimal(1_000_000)}
WATTS: Factors = {"w": Decimal(1), "kw": Decimal(1000), "mw": Decimal(1_000_000)}
VOLTS: Factors = {"v": Decimal(1)}
AMPERES: Factors = {"a": Decimal(1), "ma": Decimal("0.001")}
CUBIC_METRES: Factors = {"m3": Decimal(1), "dm3": Decimal("0.001"), "l": Decimal("0.001")}
GIGAJOULES: Factors = {
    "gj": Decimal(1),
    "mj": Decimal("0.001"),
    "kwh": Decimal("0.0036"),
    "mwh": Decimal("3.6"),
}


def quantity(text: str, factors: Factors) -> Decimal | None:
    """A value such as `001581.123*kWh` in the unit whose factor is 1; None without a unit that is known."""
    number, _, unit = text.partition("*")
    factor = factors.get(unit.strip().lower())
    if factor is None or not _NUMBER.match(number):
        return None
    return Decimal(number) * factor


def watt_hours(text: str) -> int | None:
    """An energy index, whole Wh, rounded down: an index must not run ahead of the meter."""
    value = quantity(text, WATT_HOURS)
    return int(value) if value is not None and 0 <= value <= LARGEST_COUNTER else None


def bounded(text: str, factors: Factors, least: float, largest: float) -> float | None:
    """A measured value within the bounds of its field."""
    value = quantity(text, factors)
    return float(value) if value is not None and least <= value <= largest else None


def meter_time(text: str) -> MeterTime | None:
    """A time `YYMMDDhhmmssX`, X being W or S."""
    if not _TIME.match(text):
        return None
    year, month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(0, 12, 2))
    try:
        local = dt.datetime(2000 + year, month, day, hour, minute, second, tzinfo=_OFFSETS[text[12]])
    except ValueError:
        return None
    return MeterTime(local.astimezone(dt.UTC), degraded=False)


def identifier(text: str) -> str | None:
    """An equipment's number: hexadecimal digits of printable characters become these, anything else stays as it is."""
    plain = text.strip()
    if not plain:
        return None
    try:
        # Not bytes.fromhex alone: it takes blanks between digits.
        said = bytes.fromhex(plain).decode("ascii") if plain.isalnum() else ""
    except ValueError:
        return plain
    return said if said.isprintable() and said.strip() == said and said else plain
