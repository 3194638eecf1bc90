"""Values of Shelly devices: numbers within bounds, texts, and what an id says of a device."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from app.domain.reading import LARGEST_COUNTER
from app.protocol.codec import MAX_OTHER_BYTES, Reason
from app.protocol.foreign import Facts, Refusal

# Topic levels that a user chose are a device's id here; longer ones are no meter's.
LONGEST_ID = 128
POWER, VOLTAGE, CURRENT, ENERGY = (-1e6, 1e6), (0.0, 1000.0), (-1e4, 1e4), (0.0, float(LARGEST_COUNTER))
_ID = re.compile(r"(shelly[a-z0-9]+)-([0-9A-Fa-f]{6}(?:[0-9A-Fa-f]{6})?)\Z", re.ASCII)
# shellypro3em-.., shellyplus1pm-.., shellyemg3-.., shelly3em63g3-.. against shellyem-.., shellyem3-.. (Gen1).
_LATER_GENERATION = re.compile(r"shelly(?:pro|plus|blu|wall|[a-z0-9]*g[2-9]-)", re.ASCII)


def is_later_generation(device: str) -> bool:
    """Whether an id is one of Gen2, 3 or 4; both may stand below `shellies/`."""
    return _LATER_GENERATION.match(device) is not None


def is_number(value: object, bounds: tuple[float, float]) -> bool:
    """Whether this is a finite number within bounds; true and false are none."""
    return type(value) in {int, float} and bounds[0] <= value <= bounds[1]  # type: ignore[operator]


def number_of_text(payload: bytes, bounds: tuple[float, float]) -> float | Refusal:
    """A bare number as Gen1 publishes it, or why it is none."""
    text = payload[:40].strip()
    try:
        # float() takes more than devices send (1_000, nan); both are refused below.
        value = float(text) if b"_" not in text and len(payload) <= 40 else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        return Refusal(Reason.TYPE, "not a number")
    return value if bounds[0] <= value <= bounds[1] else Refusal(Reason.RANGE, f"not from {bounds[0]} to {bounds[1]}")


def text_of(value: object, longest: int = 64) -> str | None:
    """A text that is not empty, cut to a length; None for anything else."""
    return value[:longest] if isinstance(value, str) and value else None


def whole_of(value: object, smallest: int, largest: int) -> int | None:
    """A whole number within bounds."""
    return value if type(value) is int and smallest <= value <= largest else None


def truth_of(value: object) -> bool | None:
    """True or false, which some firmware writes as a text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def rssi_of(value: object) -> int | None:
    """A signal in dBm; 0 is what devices say while they do not know."""
    return whole_of(value, -127, -1)


def mac_of(value: object) -> str | None:
    """A hardware address as AA:BB:CC:DD:EE:FF."""
    digits = value.replace(":", "").upper() if isinstance(value, str) else ""
    if re.fullmatch("[0-9A-F]{12}", digits) is None:
        return None
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def facts_of_id(device: str) -> Facts:
    """What a factory id says: shellypro3em-aabbccddeeff, shellyem3-DDEEFF."""
    match = _ID.match(device)
    if match is None:
        return Facts(maker="Shelly")
    return Facts(maker="Shelly", model=match[1], mac=mac_of(match[2]))


def merged(before: Facts, new: Facts) -> Facts:
    """Facts with what is newly known."""
    known = {name: value for name, value in msgspec.structs.asdict(new).items() if value is not None}
    return msgspec.structs.replace(before, **known)


def json_of(payload: bytes) -> dict[str, Any] | Refusal:
    """A JSON object, or why it is none."""
    if len(payload) > MAX_OTHER_BYTES:
        return Refusal(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_OTHER_BYTES}")
    try:
        value = msgspec.json.decode(payload)
    except RecursionError:
        return Refusal(Reason.NESTING, "nested too deep")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refusal(Reason.SYNTAX, str(error)[:160])
    return value if isinstance(value, dict) else Refusal(Reason.TYPE, "not an object")
