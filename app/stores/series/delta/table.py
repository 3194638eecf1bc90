"""One Delta table, written by this process alone."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import deltalake
import pyarrow as pa

from app.stores.errors import StoreDamaged, TableConflict, TableUnavailable
from app.stores.failpoints import FailPoint, FailPoints
from app.stores.series.delta import log as delta_log
from app.stores.series.delta import parquet_format, recovery, rewrite
from app.stores.series.delta.files import CommitLabel, DataFile, RowGroupIndex, ScanCount, TableSizes, Verification
from app.stores.series.delta.footers import Footers
from app.stores.series.delta.log import Action, DeltaLog, LogState
from app.stores.series.delta.options import TableOptions
from app.stores.series.delta.rows import KEY, TIME, int64_values, one_per_key_and_time
from app.stores.series.delta.scan import Wanted, scan_files
from app.stores.storage import Storage

__all__ = ["SeriesTable", "TableOptions"]

_log = logging.getLogger(__name__)


class SeriesTable:
    """A Delta table of rows with a `key` (int64) and a `time` (UTC microseconds), each file sorted by both.

    Any thread may call: commits take turns, scans work on the state at their start and keep its files. Blocking, so not
    for an event loop. All writing methods raise TableUnavailable when the disk refuses (the call may be repeated) and
    TableConflict when a file to be removed is no longer live.
    """

    def __init__(
        self, directory: Path, schema: pa.Schema, options: TableOptions, failpoints: FailPoints, storage: Storage
    ) -> None:
        self.directory = directory
        self.schema = schema
        self.options = options
        self.verification = Verification()
        self.rows_lost = 0
        self.failpoints = failpoints
        self.storage = storage
        self._log = DeltaLog(directory, storage)
        self._footers = Footers(directory)
        self._writing = threading.RLock()
        self._reading = threading.Lock()  # of _files and _leases
        self._state = LogState()
        self._files: tuple[DataFile, ...] = ()
        self._leases: Counter[str] = Counter()
        self._checkpoint = -1
        # A commit is named but the folder's sync failed: nothing may be promised before it succeeds.
        self._log_unsynced = False

    @classmethod
    def open(
        cls,
        directory: Path,
        schema: pa.Schema,
        options: TableOptions | None = None,
        failpoints: FailPoints | None = None,
        storage: Storage | None = None,
    ) -> SeriesTable:
        """Opens or makes the table, rolls a torn newest commit back, unlinks orphan files.

        Nullable columns new in `schema` read as null from older files. Raises StoreDamaged when the log can not be read
        (no checkpoint and no first entry) or is of another table, TableUnavailable when the disk refuses.
        """
        table = cls(directory, schema, options or TableOptions(), failpoints or FailPoints(), storage or Storage())
        with table._commits():
            table._open()
        return table

    @property
    def version(self) -> int:
        """Of the newest commit."""
        return self._state.version

    def append(self, rows: pa.Table, *, label: CommitLabel | None = None) -> int | None:
        """Commits rows as one file; returns the version, or None when the label is already committed.

        Rows are sorted here, and of equal (key, time) one is kept (see rows.one_per_key_and_time). Without rows it
        commits the label alone, or nothing at all without a label (None).
        """
        with self._commits():
            if label is not None and self._state.labels.get(label.app_id, -1) >= label.version:
                return None
            actions: list[Action] = []
            written: list[DataFile] = []
            if rows.num_rows:
                rows = one_per_key_and_time(parquet_format.aligned(rows, self.schema), self.options.extra_key)
                written = [self._write_appended(rows)]
                actions += [delta_log.add_action(file, data_change=True) for file in written]
            if label is not None:
                actions.append(delta_log.label_action(label))
            if not actions:
                return None
            with self._unlinked_on_failure(written):
                self.failpoints.passing(FailPoint.DELTA_WRITTEN)
                version = self._commit(actions, "WRITE")
            self.warm(written)
            return version

    def last_label(self, app_id: str) -> int | None:
        """Newest committed version of an application's labels."""
        return self._state.labels.get(app_id)

    def files(self) -> tuple[DataFile, ...]:
        """Live files, oldest `order` first."""
        return self._files

    def row_groups(self, file: DataFile) -> RowGroupIndex:
        """Parsed once for each file and kept."""
        return self._footers.index(file)

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
        Raises TableUnavailable when a file can not be read; one that is no longer what was written is mended first.
        """
        asked = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        needed = pa.schema([*asked, *(self.schema.field(name) for name in (KEY, TIME) if name not in asked.names)])
        wanted = Wanted.of(keys, start_us, end_us)
        try:
            pieces = self._scan(needed, wanted, count)
        except StoreDamaged:
            self.mend([file for file in self.files() if wanted.may_be_in(file)])
            pieces = self._scan(needed, wanted, count)
        found = pa.concat_tables(pieces) if pieces else needed.empty_table()
        return found.select(asked.names)

    def mend(self, files: Sequence[DataFile]) -> int:
        """Decodes the files; of one that can not be decoded only what can be stays in the table. Returns the rows lost.

        The whole file is kept in `_damaged/`. An ERROR for each, and `rows_lost` counts. Slow: it reads everything.
        """
        lost = 0
        for file in files:
            with self.lease() as live, self._disk_errors():
                if file not in live:
                    continue
                group_rows = self.options.group_rows(max(1, file.level))
                rest = rewrite.what_is_readable(self.directory, file, self.schema, group_rows, self.storage)
                if rest is None:
                    continue
                recovery.keep_copy(self.directory, file.name, self.storage)
                self.replace([file], rest, data_change=True, operation="FSCK")
            gone = file.rows - sum(each.rows for each in rest)
            _log.error(
                "%s: %d rows of %s can not be read and are lost; kept in _damaged", self.directory, gone, file.name
            )
            lost += gone
        self.rows_lost += lost
        return lost

    @contextlib.contextmanager
    def lease(self) -> Iterator[tuple[DataFile, ...]]:
        """The live files; their bytes stay while inside, whatever is committed meanwhile."""
        with self._reading:
            files = self._files
            self._leases.update(file.name for file in files)
        try:
            yield files
        finally:
            with self._reading:
                for file in files:
                    self._leases[file.name] -= 1
                    if not self._leases[file.name]:
                        del self._leases[file.name]

    def replace(
        self,
        remove: Sequence[DataFile],
        add: Sequence[DataFile],
        *,
        data_change: bool = False,
        operation: str = "OPTIMIZE",
        point: FailPoint | None = None,
    ) -> int:
        """Exchanges files in one commit; the added ones are written and synced already. Passes `point` before it.

        When it raises TableConflict or TableUnavailable the added files are unlinked, unless the commit is visible.
        """
        with self._commits(), self._unlinked_on_failure(add):
            gone = [file.name for file in remove if file.name not in self._state.live]
            if gone:
                raise TableConflict(f"{self.directory}: {len(gone)} files to be removed are no longer live")
            if point is not None:
                self.failpoints.passing(point)
            actions = [delta_log.add_action(file, data_change=data_change) for file in add]
            actions += [delta_log.remove_action(file, data_change=data_change) for file in remove]
            version = self._commit(actions, operation)
        self.warm(add)
        return version

    def warm(self, files: Iterable[DataFile] | None = None) -> None:
        """Reads footers (None: of all files) before a query needs them; a large one takes milliseconds."""
        for file in self.files() if files is None else files:
            # A query will say what is wrong with it.
            with contextlib.suppress(OSError):
                self._footers.index(file)

    def discard_tagged(self, tag: str) -> None:
        """Unlinks files of a merge that failed; what can not be unlinked now is removed at the next start."""
        for path in self.directory.glob(f"l*-{tag}*.parquet"):
            if path.name not in self._state.live and path.name not in self._state.removed:
                with contextlib.suppress(OSError):
                    self.storage.unlink(path)

    def delete_rows(self, keys: Collection[int]) -> int:
        """Rewrites the files that hold rows of these keys; returns the rows deleted. Gone after `vacuum(0)`.

        One commit for each file, so that a long deletion never holds up an append for long. Rows appended meanwhile may
        stay.
        """
        wanted = Wanted.of(keys, None, None)
        deleted, clean = 0, set[str]()
        # A merge may take files from under us: what it made of them is looked at in the next round.
        while files := [file for file in self.files() if file.name not in clean and wanted.may_be_in(file)]:
            for file in files:
                with contextlib.suppress(TableConflict):
                    rows, rewritten = self._rewrite(file, wanted)
                    deleted += rows
                    clean.update([file.name, *(each.name for each in rewritten)])
        return deleted

    def drop_before(self, time_us: int, *, slack_us: int = 0) -> int:
        """Retention: drops files wholly before `time_us` (UTC), rewrites one that begins more than `slack_us` before.

        Returns the rows dropped. At most one border file is rewritten in a call: call again while it returns rows.
        """
        with self._commits():
            old = [file for file in self._files if file.max_us < time_us]
            if old:
                self._commit([delta_log.remove_action(file, data_change=True) for file in old], "DELETE")
        dropped = sum(file.rows for file in old)
        border = next((file for file in self._files if file.min_us < time_us - slack_us), None)
        if border is not None:
            # A merge that has just taken the file leaves it to the next call.
            with contextlib.suppress(TableConflict):
                dropped += self._rewrite(border, Wanted.of(None, None, time_us))[0]
        return dropped

    def vacuum(self, keep_s: float | None = None) -> int:
        """Unlinks removed files older than `keep_s` (None: the setting) that no scan here uses; returns how many."""
        keep_ms = (self.options.keep_s if keep_s is None else keep_s) * 1000
        before = delta_log.now_ms() - keep_ms
        with self._commits():
            with self._reading:
                old = [name for name, (when, _) in self._state.removed.items() if when <= before]
                old = [name for name in old if not self._leases[name]]
            for number, name in enumerate(old):
                if number == len(old) // 2:
                    self.failpoints.passing(FailPoint.VACUUM)
                self.storage.unlink(self.directory / name)
                self._footers.forget(name)
                del self._state.removed[name]
            if old:
                self.storage.sync_directory(self.directory)
        return len(old)

    def maintain(self) -> int:
        """What is due: a checkpoint each so many commits, and `vacuum`; returns the files unlinked."""
        if self._state.version - self._checkpoint >= self.options.checkpoint_each:
            self.checkpoint()
        return self.vacuum()

    def checkpoint(self) -> None:
        """Writes a checkpoint of the newest version, synced, and deletes log entries older than `keep_s`."""
        with self._commits():
            version = self._state.version
            try:
                deltalake.DeltaTable(self.directory).create_checkpoint()
            except deltalake.exceptions.DeltaError as problem:
                raise TableUnavailable(self.directory, OSError(None, str(problem))) from problem
            self.storage.sync_file(self._log.checkpoint_path(version))
            self.storage.sync_file(self._log.directory / "_last_checkpoint")
            self._log.sync()
            self._checkpoint = version
            self._log.clean(version, self.options.keep_s)

    def sizes(self) -> TableSizes:
        with self._commits():
            kept = sum(size for _when, size in self._state.removed.values())
            log_bytes = self._log.size_bytes()
        files = self._files
        return TableSizes(
            rows=sum(file.rows for file in files),
            live_bytes=sum(file.size_bytes for file in files),
            kept_bytes=kept,
            log_bytes=log_bytes,
            files_by_level=dict(Counter(file.level for file in files)),
        )

    def verify(self) -> Verification:
        """Compares live files with the disk again, without changing anything."""
        with self._commits():
            return replace(Verification(), missing_files=len(recovery.missing_files(self.directory, self._state)))

    def close(self) -> None:
        """Waits for the commit in progress; scans may go on."""
        with self._writing:
            pass

    def _scan(self, needed: pa.Schema, wanted: Wanted, count: ScanCount | None) -> list[pa.Table]:
        with self.lease() as files, self._disk_errors():
            return scan_files(self.directory, files, self._footers, needed, wanted, count or ScanCount())

    @contextlib.contextmanager
    def _commits(self) -> Iterator[None]:
        """One writer at a time."""
        with self._writing, self._disk_errors():
            if self._log_unsynced:
                self._log.sync()
                self._log_unsynced = False
            yield

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """The disk's refusals become TableUnavailable, what can not be decoded StoreDamaged."""
        try:
            yield
        except (OSError, pa.ArrowException) as problem:
            if parquet_format.is_damage(problem):
                raise StoreDamaged(self.directory, str(problem)) from problem
            if isinstance(problem, OSError):
                raise TableUnavailable(self.directory, problem) from problem
            raise

    @contextlib.contextmanager
    def _unlinked_on_failure(self, files: Sequence[DataFile]) -> Iterator[None]:
        try:
            yield
        except (OSError, TableConflict):
            for file in files:
                if file.name not in self._state.live:
                    # Leftovers are removed at the next start as well.
                    with contextlib.suppress(OSError):
                        self.storage.unlink(self.directory / file.name)
            raise

    def _commit(self, actions: Sequence[Action], operation: str) -> int:
        self.failpoints.passing(FailPoint.DELTA_COMMIT)
        version = self._state.version + 1
        try:
            self._log.commit(version, actions, operation)
        except FileExistsError as problem:
            raise TableConflict(f"{self.directory}: another program committed version {version}") from problem
        self._log_unsynced = True
        self._state.apply(version, actions)
        with self._reading:
            self._files = self._state.files()
        self._log.sync()
        self._log_unsynced = False
        self.failpoints.passing(FailPoint.DELTA_COMMITTED)
        return version

    def _write_appended(self, rows: pa.Table) -> DataFile:
        name = delta_log.new_file_name(0, self._state.version + 1)
        data = parquet_format.encode(rows, group_rows=self.options.append_group_rows, merged=False)
        self.storage.write_file(self.directory / name, memoryview(data))
        self.storage.sync_directory(self.directory)
        keys, times = int64_values(rows[KEY]), int64_values(rows[TIME])
        bounds = (int(keys[0]), int(keys[-1]), int(times.min()), int(times.max()))
        return DataFile(name, self._state.version + 1, 0, rows.num_rows, data.size, *bounds)

    def _rewrite(self, file: DataFile, unwanted: Wanted) -> tuple[int, list[DataFile]]:
        """Commits the file without its unwanted rows; returns how many there were and what it is now."""
        with self.lease() as files, self._disk_errors():
            if file not in files:
                raise TableConflict(f"{self.directory}: the file to rewrite is no longer live")
            if not len(unwanted.groups(self._footers.index(file))):
                return 0, [file]
            added = rewrite.without(
                self.directory, file, self.schema, unwanted, self.options.group_rows(max(1, file.level)), self.storage
            )
            kept = sum(each.rows for each in added)
            if kept == file.rows:
                for each in added:
                    self.storage.unlink(self.directory / each.name)
                return 0, [file]
            self.replace([file], added, data_change=True, operation="DELETE")
        return file.rows - kept, added

    def _open(self) -> None:
        self.storage.make_directory(self._log.directory)
        recovered = recovery.recover(self.directory, self._log, self.storage)
        recovery.mend_checkpoint_hint(self._log, self.storage)
        self._state, self._checkpoint, found = recovered.state, recovered.checkpoint, recovered.found
        if self._state.version < 0:
            actions = delta_log.first_actions(self.schema, self._configuration())
            self._log.commit(0, actions, "CREATE TABLE")
            self._log.sync()
            self._state.apply(0, actions)
        self._adopt_schema()
        missing = recovery.missing_files(self.directory, self._state)
        if missing:
            _log.error("%s: %d data files are missing or cut; their rows are lost", self.directory, len(missing))
            self._commit(recovery.removal_of(missing), "FSCK")
        self._files = self._state.files()
        keep = bool(found.rolled_back_commits or found.blanked_commits or missing)
        orphans = recovery.remove_orphans(self.directory, self._state, self.storage, keep=keep)
        self.verification = replace(found, missing_files=len(missing), orphans_removed=orphans)

    def _adopt_schema(self) -> None:
        meta = self._state.meta_data
        assert meta is not None
        have, want = delta_log.schema_fields(meta), delta_log.delta_fields(self.schema)
        if have == want:
            return
        new = [name for name in want if name not in have]
        same = all(want.get(name) == kind for name, kind in have.items())
        if not same or not all(self.schema.field(name).nullable for name in new):
            raise StoreDamaged(self.directory, "the table was written with columns this version does not know")
        changed = delta_log.meta_data(self.schema, self._configuration(), meta.id)
        self._commit([Action(meta_data=changed)], "ADD COLUMN")

    def _configuration(self) -> dict[str, str]:
        keep = f"interval {max(1, round(self.options.keep_s))} seconds"
        return {"delta.deletedFileRetentionDuration": keep, "delta.logRetentionDuration": keep}
