"""Groups and frames of the customer output as bytes: the way back, for tests and the simulator."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.linky import TicMode
from app.protocol.tic.groups import CR, ETX, LF, STX, checksum


def encode_group(mode: TicMode, label: str, data: str, horodate: str | None = None) -> bytes:
    """A group, LF and CR included. A horodate exists in standard mode only (ValueError otherwise)."""
    if mode is TicMode.STANDARD:
        fields = (label, data) if horodate is None else (label, horodate, data)
        zone = "\t".join(fields).encode("ascii") + b"\t"
        return b"%c%b%c%c" % (LF, zone, checksum(zone), CR)
    if horodate is not None:
        raise ValueError("the historique mode has no horodates")
    zone = f"{label} {data}".encode("ascii")
    return b"%c%b %c%c" % (LF, zone, checksum(zone), CR)


def encode_frame(groups: Iterable[bytes]) -> bytes:
    """A frame of encoded groups."""
    return b"%c%b%c" % (STX, b"".join(groups), ETX)
