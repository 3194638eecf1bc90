"""What can go wrong in the stores, by whose fault."""

from __future__ import annotations

from pathlib import Path

from app.domain.errors import EnvironmentFault, OperatorInputError


class StoreUnavailable(EnvironmentFault):
    """The disk refuses, and it may pass: full, read-only, input/output error. Try again later.

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


class StoreDamaged(EnvironmentFault):
    """Files that can not be what we wrote; waiting will not mend them."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class TableConflict(EnvironmentFault):
    """A commit was built on a state of the table that is gone; plan the work anew."""


class CompactionFailed(EnvironmentFault):
    """The merging process ended without a result; nothing was committed."""


class FailPointError(OperatorInputError):
    """The text of a fail point names no point or no action."""
