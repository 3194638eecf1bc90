"""Shapes of the backups over HTTP."""

from __future__ import annotations

from typing import Annotated

import msgspec

from app.protocol.api.common import TimeUs
from app.protocol.api.jobs import JobId

SnapshotName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$",
        description="name of a snapshot; names sort by time",
        examples=["20261125T033000Z-0123abcd"],
    ),
]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A finished backup; `taken_us` is the moment up to which every acknowledged reading is in it."""

    name: SnapshotName
    taken_us: TimeUs
    finished_us: TimeUs
    program: str
    files: int
    size_bytes: int
    # What no snapshot before had.
    added_bytes: int
    # When it was looked through last, and what was wrong (the first few).
    verified_us: TimeUs | None = None
    problems: list[str] = []


class BackupWork(msgspec.Struct, frozen=True, kw_only=True):
    """A backup or a verification: `state` is running, done or failed; `message` says what it does, or why it failed."""

    kind: str
    state: str
    message: str
    started_us: TimeUs
    finished_us: TimeUs | None = None
    snapshot: str | None = None
    # The principal who asked for it; "schedule" for the daily one.
    asked_by: str
    # The job that does it, where it can be cancelled.
    job: JobId


class BackupState(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub knows of its backups. Snapshots newest first; `damaged` are those whose manifest can not be read."""

    directory: str
    at: str
    keep: int
    next_us: TimeUs | None
    running: BackupWork | None
    last: BackupWork | None
    snapshots: list[Snapshot]
    damaged: list[str]
