"""Settings of one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Settings of one table."""

    # Columns that tell rows of one (key, time) apart, such as the register's number.
    extra_key: tuple[str, ...] = ()
    # A removed file and an old log entry stay this long, for readers in other processes.
    keep_s: float = 15 * 60
    # Replaying the log at start reads at most about this many commits.
    checkpoint_each: int = 100
    # Rows a group holds: of an appended file, of a merged one (a reader of one key decodes whole groups).
    append_group_rows: int = 16_384
    merge_group_rows: int = 12_000
    # In files of whole hours a key has more rows, so larger groups do, and their footers are read sooner.
    hour_group_rows: int = 24_576

    def group_rows(self, level: int) -> int:
        """For files of a level."""
        return (self.append_group_rows, self.merge_group_rows)[level] if level < 2 else self.hour_group_rows
