"""One Delta table, written by this process alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from app.stores.failpoints import FailPoint, FailPoints
from app.stores.series.delta.files import CommitLabel, DataFile, RowGroupIndex, ScanCount, TableSizes, Verification
from app.stores.storage import Storage


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Settings of one table."""

    # A removed file and an old log entry stay this long, for readers in other processes.
    keep_s: float = 15 * 60
    # Replaying the log at start reads at most this many commits.
    checkpoint_each: int = 100
    # Rows a group holds: of an appended file, of a merged one (a reader of one key decodes whole groups).
    append_group_rows: int = 16_384
    merge_group_rows: int = 10_000
    # The file's encodings; see parquet_format.
    configuration: Mapping[str, str] = field(default_factory=dict)


class SeriesTable:
    """A Delta table of rows with a `key` (int64) and a `time` (UTC microseconds), each file sorted by both.

    Any thread may call: commits take turns, scans work on the state at their start and keep its files. Blocking,
    so not for an event loop. All writing methods raise TableUnavailable when the disk refuses (nothing is visible then,
    the call may be repeated) and TableConflict when a file to be removed is no longer live.
    """

    directory: Path
    schema: pa.Schema
    verification: Verification

    @classmethod
    def open(
        cls,
        directory: Path,
        schema: pa.Schema,
        options: TableOptions | None = None,
        failpoints: FailPoints | None = None,
        storage: Storage | None = None,
    ) -> SeriesTable:
        """Opens or makes the table, verifies the newest commits, rolls a torn one back, unlinks orphan files.

        Nullable columns new in `schema` read as null from older files. Raises StoreDamaged when the log can not be read
        (no checkpoint and no first entry), TableUnavailable when the disk refuses.
        """
        raise NotImplementedError

    @property
    def version(self) -> int:
        """Of the newest commit."""
        raise NotImplementedError

    def append(self, rows: pa.Table, *, label: CommitLabel | None = None) -> int | None:
        """Commits rows as one file, sorted here; returns the version, or None when the label is already committed.

        Without rows it commits the label alone (or nothing at all without a label: None).
        """
        raise NotImplementedError

    def last_label(self, app_id: str) -> int | None:
        """Newest committed version of an application's labels."""
        raise NotImplementedError

    def files(self) -> tuple[DataFile, ...]:
        """Live files, oldest `order` first."""
        raise NotImplementedError

    def row_groups(self, file: DataFile) -> RowGroupIndex:
        """Parsed once for each file and kept."""
        raise NotImplementedError

    def scan(
        self,
        columns: Sequence[str] | None = None,
        *,
        keys: Collection[int] | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
        count: ScanCount | None = None,
    ) -> pa.Table:
        """Rows with start_us <= time < end_us (UTC) of the keys (None: of all), oldest file first, as stored.

        A (key, time) may come more than once: `rows.one_per_key_and_time` decides, and needs key, time and origin.
        """
        raise NotImplementedError

    def replace(
        self,
        remove: Sequence[DataFile],
        add: Sequence[DataFile],
        *,
        data_change: bool = False,
        operation: str = "OPTIMIZE",
        point: FailPoint | None = None,
    ) -> int:
        """Exchanges files in one commit; the added ones are written and synced already. Passes `point` before it."""
        raise NotImplementedError

    def write_files(self, rows: pa.Table, *, order: int, level: int) -> list[DataFile]:
        """Writes sorted rows as synced files that no commit names yet (see `replace`)."""
        raise NotImplementedError

    def delete_rows(self, keys: Collection[int]) -> int:
        """Rewrites the files that hold rows of these keys; returns the rows deleted. Gone after `vacuum(0)`."""
        raise NotImplementedError

    def drop_before(self, time_us: int, *, slack_us: int = 0) -> int:
        """Retention: drops files wholly before `time_us` (UTC), rewrites one that begins more than `slack_us` before.

        Returns the rows dropped. At most one border file is rewritten in a call: call again while it returns rows.
        """
        raise NotImplementedError

    def vacuum(self, keep_s: float | None = None) -> int:
        """Unlinks removed files older than `keep_s` (None: the setting) that no scan here uses; returns how many."""
        raise NotImplementedError

    def checkpoint(self) -> None:
        """Writes a checkpoint of the newest version, synced, and deletes log entries older than `keep_s`."""
        raise NotImplementedError

    def sizes(self) -> TableSizes:
        raise NotImplementedError

    def verify(self) -> Verification:
        """Looks at the newest commits on disk again without changing anything."""
        raise NotImplementedError

    def close(self) -> None:
        """Waits for the commit in progress; scans may go on."""
        raise NotImplementedError
