"""Reads Tasmota's payloads: JSON objects, and values of any type within bounds, None for what can not be one."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from app.protocol.codec import MAX_OTHER_BYTES, Reason
from app.protocol.foreign import Refusal

Section = dict[str, Any]

# Firmware of 2017, and the raw frames of the Teleinfo fork, write numbers as text.
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,9})?\Z", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,5})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})\Z", re.ASCII)
_HARDWARE_ADDRESS = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\Z", re.ASCII)
# More phases, or channels of one meter, than any module has.
_MOST_PHASES = 16


def read_object(payload: bytes) -> Section | Refusal:
    """The JSON object of a payload, or why it is none."""
    if not payload:
        return Refusal(Reason.EMPTY)
    if len(payload) > MAX_OTHER_BYTES:
        return Refusal(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_OTHER_BYTES}")
    try:
        value = msgspec.json.decode(payload)
    except RecursionError:
        return Refusal(Reason.NESTING, "nested too deep")
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return Refusal(Reason.SYNTAX, "not JSON")
    return value if isinstance(value, dict) else Refusal(Reason.TYPE, "not a JSON object")


def number(value: object, least: float, most: float) -> int | float | None:
    """A number within bounds, also one that is written as text; a boolean is none, nor is what is not finite."""
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if least <= value <= most else None


def whole(value: object, least: int, most: int) -> int | None:
    """A whole number within bounds."""
    found = number(value, least, most)
    return int(found) if found is not None and found == int(found) else None


def by_phase(value: object, least: float, most: float) -> list[int | float | None]:
    """A value of each phase: firmware writes an array for several phases, a bare number for one."""
    values = value[:_MOST_PHASES] if isinstance(value, list) else [value]
    return [number(one, least, most) for one in values]


def total(value: object, least: float, most: float) -> int | float | None:
    """The sum over the phases; None when one of them is missing, since the rest is not the whole."""
    found = [one for one in by_phase(value, least, most) if one is not None]
    if isinstance(value, list) and (not value or len(found) != len(value)):
        return None
    return sum(found) if found and least <= sum(found) <= most else None


def words(value: object, most: int) -> str | None:
    """A text that can be shown, cut at `most` characters; None for an empty one."""
    if not isinstance(value, str):
        return None
    shown = "".join(character for character in value[: 4 * most] if character.isprintable()).strip()
    return shown[:most] or None


def hardware_address(value: object) -> str | None:
    """A MAC address as `aa:bb:cc:dd:ee:ff`, however it is written; None for a masked or broken one."""
    if not isinstance(value, str) or len(value) > 17:
        return None
    digits = value.lower().replace(":", "").replace("-", "")
    written = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    return written if _HARDWARE_ADDRESS.match(written) else None


def duration_s(value: object) -> int | None:
    """Seconds of `0T00:03:14` (days, T, time). The bare hours of firmware before 2018 are not taken."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def section(value: object) -> Section:
    """An object inside a payload; an empty one for anything else."""
    return value if isinstance(value, dict) else {}
