"""What the doctor finds: one finding a check."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from app.protocol.api.common import TimeUs


class FindingState(enum.StrEnum):
    """How it is; unknown where this machine does not tell."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Finding(msgspec.Struct, frozen=True):
    """One check: what was measured, and what to do about it (empty when nothing)."""

    check: Annotated[str, msgspec.Meta(description="part.thing", examples=["disk.free"])]
    state: FindingState
    measured: str
    advice: str = ""


class DoctorReport(msgspec.Struct, frozen=True):
    """All findings; `state` is the worst of them, unknown counting as ok."""

    state: FindingState
    at_us: TimeUs
    took_ms: float
    findings: list[Finding]
