"""Collects the values of one device's entities into one reading: those of a JSON message, or of a short window."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.domain.reading import LARGEST_COUNTER, Reading
from app.protocol.codec import Reason
from app.protocol.home_assistant_quantities import Kind, Use
from app.protocol.tic.readings import ReadingMaker
from app.protocol.tic_values import label_data, read_labels

_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?\Z", re.ASCII)
# What stands for "no value" where a number should be.
_NOTHING = frozenset({"", "unknown", "unavailable", "none", "null", "nan", "undefined", "n/a"})
# Field -> least, greatest, and whether it is a whole number; the bounds of app.domain.reading.
_BOUNDS: Mapping[str, tuple[float, float, bool]] = {
    "active_w": (-1e6, 1e6, False),
    "apparent_va": (-1e6, 1e6, False),
    "drawn_wh": (0, LARGEST_COUNTER, True),
    "injected_wh": (0, LARGEST_COUNTER, True),
    "registers_wh": (0, LARGEST_COUNTER, True),
    **dict.fromkeys(("voltage_v", "voltage_2_v", "voltage_3_v"), (0, 1000, False)),
    **dict.fromkeys(("current_a", "current_2_a", "current_3_a"), (-10_000, 10_000, False)),
}
_PHASED_FIELDS = ("active_w", "apparent_va")


def number_of(value: Any) -> float | None:
    """A number from a number or its text; None for anything else, for NaN and infinity."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.match(text):
            return None
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # 2**1024 has no float; nothing that is measured comes near.
    if isinstance(value, int):
        return value if abs(value) < 10**18 else None
    return value if math.isfinite(value) else None


def says_nothing(value: Any) -> bool:
    """Whether a value is one of the words and forms for "no value"."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


class Gathering:
    """Values that belong to one instant of one device."""

    __slots__ = ("_fields", "_labels", "_phases", "_registers")

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._fields: dict[str, float] = {}
        self._registers: dict[int, int] = {}
        self._phases: dict[tuple[str, int], float] = {}

    def has(self, use: Use) -> bool:
        """Whether there is a value of this use already."""
        if use.kind is Kind.LABEL:
            return use.name in self._labels
        if use.kind is Kind.REGISTER:
            return use.number in self._registers
        return (use.name, use.number) in self._phases if use.number else use.name in self._fields

    def put(self, use: Use, value: Any) -> Reason | None:
        """Take a value; the reason when it can not be one. Text where a word stands for "no value" is no fault."""
        if says_nothing(value):
            return None
        number = number_of(value)
        if use.kind is Kind.LABEL:
            if use.factor != 1 and number is None:
                return Reason.TYPE
            data = label_data(use.name, value if use.factor == 1 or number is None else number * use.factor)
            if data is None and number is not None and use.factor == 1:
                # "230.0" is a number too, where the label has digits.
                data = label_data(use.name, number)
            if data is None:
                return Reason.TYPE if number is None else Reason.RANGE
            self._labels[use.name] = data
            return None
        if number is None:
            return Reason.TYPE
        least, greatest, whole = _BOUNDS[use.name]
        number *= use.factor
        if not least <= number <= greatest:
            return Reason.RANGE
        if use.kind is Kind.REGISTER:
            self._registers[use.number] = round(number)
        elif use.number:
            self._phases[use.name, use.number] = number
        else:
            self._fields[use.name] = round(number) if whole else number
        return None

    def reading(self, maker: ReadingMaker, phases: Mapping[str, int]) -> Reading | None:
        """The reading, None when there is nothing for one. `phases` says of how many phases a power is the sum."""
        base = read_labels(maker, self._labels) if self._labels else None
        fields: dict[str, Any] = dict(self._fields)
        for name in _PHASED_FIELDS:
            parts = [value for (field, _), value in self._phases.items() if field == name]
            total = sum(parts)
            if name not in fields and parts and len(parts) == phases.get(name) and abs(total) <= _BOUNDS[name][1]:
                fields[name] = total
        if self._registers:
            fields["registers_wh"] = dict(sorted(self._registers.items()))
        if base is None:
            return Reading(**fields) if fields else None
        return msgspec.structs.replace(base, **fields)
