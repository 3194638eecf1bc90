"""What can go wrong in the stores, by whose fault."""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """Root of what the stores raise."""


class StoreUnavailable(StoreError):
    """The environment's fault, and it may pass: disk full, read-only, input/output error. Try again later.

    `errno` is the operating system's number, `path` what was worked on.
    """

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"{path}: {cause.strerror or cause}")
        self.path = path
        self.errno: int | None = cause.errno


class JournalUnavailable(StoreUnavailable):
    """The journal could not make rows durable; they are kept in memory, `sync` may be called again."""


class TableUnavailable(StoreUnavailable):
    """A Delta table could not be written; nothing of the commit is visible, the call may be repeated."""


class StoreDamaged(StoreError):
    """The environment's fault, and it will not pass by waiting: files that can not be what we wrote."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class TableConflict(StoreError):
    """A commit was built on a state of the table that is gone; plan the work anew."""


class CompactionFailed(StoreError):
    """The merging process ended without a result; nothing was committed, its files are unlinked."""


class BadFailPoint(StoreError):
    """The operator's fault: the text of a fail point names no point or no action."""
