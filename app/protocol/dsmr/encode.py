"""Telegrams of a P1 port as bytes: the way back, for tests and the simulator."""

from __future__ import annotations

from collections.abc import Iterable

from app.protocol.dsmr.telegrams import crc16


def encode_telegram(identification: str, lines: Iterable[str], *, with_crc: bool = True) -> bytes:
    """A telegram of OBIS lines such as `1-0:1.8.1(000001.234*kWh)`; without a CRC as DSMR 2 and 3 send it."""
    body = "".join(f"{line}\r\n" for line in (f"/{identification}", "", *lines)).encode("ascii") + b"!"
    return body + (b"%04X\r\n" % crc16(body) if with_crc else b"\r\n")
