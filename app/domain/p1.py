"""The customer port P1 of Dutch and Belgian meters as a line: its two speeds."""

from __future__ import annotations

import enum


class P1Mode(enum.StrEnum):
    """How a P1 port speaks: at 115,200 baud 8N1 since DSMR 4, at 9600 baud 7E1 before."""

    FAST = "p1_115200"
    SLOW = "p1_9600"
