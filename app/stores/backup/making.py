"""Making a backup of a data directory, beside the hub that runs on it or without one (docs/decisions/0007)."""

from __future__ import annotations

import dataclasses
import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupFailed
from app.stores.backup.latest import check_same_hub, refresh_latest
from app.stores.backup.manifest import FORMAT, FileEntry, Manifest, RegistryEntry, SegmentEntry, TableEntry
from app.stores.backup.objects import Stored
from app.stores.backup.personal import LEFT_OUT as TABLES_LEFT_OUT
from app.stores.backup.progress import Progress, Report, silent
from app.stores.backup.registry_dump import write_dump
from app.stores.backup.series_snapshot import SealedSegment, SeriesSnapshot, sealed_segments, series_snapshot
from app.stores.journal.identity import FILE_NAME as JOURNAL_IDENTITY
from app.stores.registry.person_keys import PersonKeys
from app.stores.registry.registry import Registry
from app.stores.series.delta_store import STATE_FOLDER

# Hashing lets go of the interpreter, and one thread writes while the other reads.
_THREADS = 2
# Files vanish while we copy only when 15 minutes passed, or somebody was erased; each round copies what is new alone.
_ROUNDS = 6
_DUMPS = 3
# Telling a folder of an erasure takes a second; another backup takes longer than anybody waits.
_LONGEST_WAIT_S = 5.0

# Below the data directory.
JOURNAL, SERIES = "journal", "series"
STATE_FILE = f"{SERIES}/{STATE_FOLDER}/tiers-00000001.log"
# Small files that come along as they are.
_FILES = ("wattdeck.toml", "serial.json")
_FOLDERS = ("tls",)
# What does not, by the name below the data directory, and why.
LEFT_OUT: Mapping[str, str] = {
    "quarantine.sqlite": "refused messages: for inquiry, the newest only, and no erasure would reach them here",
    "events.sqlite": "events of modules: kept 90 days for inquiry, and no erasure would reach them here",
    "broker": "sessions and retained messages: modules connect and send them anew, commands of then must not come back",
    "access-log.head": "it speaks of the log as it is now; a restored log has a head of its own",
    "jobs": "results of exports: kept for days, made again on demand",
    "imports": "copies of series that somebody put there to be taken in",
    "before-upgrade": "copies that a backup takes the place of",
    "logs": "log lines of the last days: for whoever looks after this machine",
    "hub.lock": "says who runs now",
    "hub.json": "says who runs now",
}
_PASSED_OVER = ("registry.sqlite", JOURNAL, SERIES, *_FILES, *_FOLDERS)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What is backed up."""

    root: Path
    registry: Registry
    program: str
    # Known here, and standing in the data directory: the registry's files when it is SQLite.
    registry_file: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A finished backup."""

    manifest: Manifest
    seconds: float
    copied_files: int
    removed_snapshots: tuple[str, ...]
    freed_bytes: int


def make_backup(
    source: Source,
    directory: BackupDirectory,
    *,
    now_us: Callable[[], int],
    keep: int = 0,
    report: Report = silent,
) -> Made:
    """One more snapshot; with `keep`, only so many of the newest stay. Whatever fails, the earlier ones stay whole.

    Raises BackupRefused, BackupFailed, BackupDamaged, StoreUnavailable, StoreDamaged, RegistryFault.
    """
    began = time.monotonic()
    try:
        with directory.locked(wait_s=_LONGEST_WAIT_S):
            try:
                manifest, copied = _Maker(source, directory, now_us, Progress(report)).make()
            except OSError as problem:
                if problem.errno == errno.ENOSPC:
                    # What was copied would be found again, but a full disk helps nobody.
                    collect(directory)
                raise
            removed = _prune(directory, keep)
            freed = collect(directory)
    except OSError as problem:
        where = problem.filename or directory.root
        raise BackupFailed(
            f"the backup was not finished: {where}: {problem.strerror or problem}; the earlier ones are whole"
        ) from problem
    return Made(manifest, time.monotonic() - began, copied, tuple(removed), freed)


def collect(directory: BackupDirectory) -> int:
    """Remove objects that no snapshot needs, under the directory's lock; the bytes freed.

    Nothing is removed while a manifest can not be read: it may need them.
    """
    manifests = directory.sound_manifests()
    if len(manifests) != len(directory.names()):
        log.warning("%s: nothing is cleared away while a manifest is damaged", directory.root)
        return 0
    needed = {sha256 for manifest in manifests for sha256 in manifest.objects()}
    return sum(directory.objects.remove(name) for name in list(directory.objects.names()) if name not in needed)


def _prune(directory: BackupDirectory, keep: int) -> list[str]:
    names = directory.names()
    gone = names[:-keep] if keep > 0 else []
    for name in gone:
        directory.remove_snapshot(name)
    return gone


class _Maker:
    def __init__(
        self, source: Source, directory: BackupDirectory, now_us: Callable[[], int], progress: Progress
    ) -> None:
        self._source = source
        self._directory = directory
        self._objects = directory.objects
        self._now_us = now_us
        self._progress = progress
        # Path and size of a file that never changes -> its object, from the snapshots that are there.
        self._known: dict[tuple[str, int], str] = {}
        self._copied_files = 0
        self._added_bytes = 0
        self._left_out: dict[str, str] = {}
        # Of persons who were erased while their rows were written.
        self._lost_keys: list[bytes] = []

    def make(self) -> tuple[Manifest, int]:
        directory, root = self._directory, self._source.root
        left = directory.remove_unfinished()
        if left:
            log.warning("%s: %d files of an interrupted backup are removed", directory.root, left)
        check_same_hub(directory, self._source.registry)
        for manifest in directory.sound_manifests():
            self._known |= {(file.path, file.size_bytes): file.sha256 for file in manifest.files}
        taken_us = self._now_us()
        snapshot = directory.new_snapshot_name(taken_us)

        # In this order what leaves one place has entered the next, and every key in them is in the registry.
        journal, segments = self._journal()
        series, tables = self._series(root / SERIES)
        files = [*journal, *series, *self._small_files()]
        registry = self._registry(snapshot, taken_us)
        refresh_latest(directory, self._source.registry, self._lost_keys)

        self._objects.sync()
        manifest = Manifest(
            format=FORMAT,
            snapshot=snapshot,
            taken_us=taken_us,
            finished_us=self._now_us(),
            program=self._source.program,
            journal_id=_journal_id(root / JOURNAL),
            segments=segments,
            tables=tables,
            registry=registry,
            files=sorted(files, key=lambda file: file.path),
            left_out=self._what_is_left_out(),
            added_bytes=self._added_bytes,
        )
        directory.write_manifest(manifest)
        return manifest, self._copied_files

    def _journal(self) -> tuple[list[FileEntry], list[SegmentEntry]]:
        self._progress.begin("journal")
        files, segments = [], []
        for found in sealed_segments(self._source.root / JOURNAL):
            if not isinstance(found, SealedSegment):
                self._left_out[f"{JOURNAL}/{found}"] = "is no segment of a journal"
                continue
            files.append(self._entry(f"{JOURNAL}/{found.name}", self._objects.put(found.data)))
            segments.append(SegmentEntry(found.header.journal_id, found.header.number))
        return files, segments

    def _series(self, folder: Path) -> tuple[list[FileEntry], list[TableEntry]]:
        copied: dict[str, FileEntry] = {}
        for _ in range(_ROUNDS):
            snapshot = series_snapshot(folder)
            state = self._entry(STATE_FILE, self._objects.put(snapshot.state))
            try:
                self._copy_all(_wanted(snapshot, folder), copied)
            except FileNotFoundError:
                # Replaced and cleared away meanwhile: the table as it is now has others.
                continue
            wanted = {path for path, _file, _size in _wanted(snapshot, folder)}
            tables = [
                TableEntry(
                    table.name, table.version, sum(file.rows for file in table.data_files), len(table.data_files)
                )
                for table in snapshot.tables
            ]
            return [state, *(entry for path, entry in copied.items() if path in wanted)], tables
        raise BackupFailed(
            f"files of {folder} were cleared away {_ROUNDS} times before they could be copied; "
            "raise store.lease_minutes, or write to a faster disk"
        )

    def _copy_all(self, wanted: Sequence[tuple[str, Path, int | None]], copied: dict[str, FileEntry]) -> None:
        waiting = []
        for path, file, size in wanted:
            if path in copied:
                continue
            known = self._known.get((path, size)) if size is not None else None
            if known is not None and size is not None and self._objects.has(known, size):
                copied[path] = FileEntry(path, size, known)
            else:
                waiting.append((path, file, size))
        self._progress.begin("series", sum(size or 0 for _path, _file, size in waiting))
        # A file that vanishes ends the round; what was copied until then counts for the next one.
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="backup")
        try:
            for path, stored in pool.map(self._copy, waiting):
                copied[path] = self._entry(path, stored)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _copy(self, wanted: tuple[str, Path, int | None]) -> tuple[str, Stored]:
        path, file, size = wanted
        stored = self._objects.put_file(file)
        if size is not None and stored.size_bytes != size:
            raise BackupFailed(
                f"{file} has {stored.size_bytes} bytes instead of {size}; restart the hub, which mends the table"
            )
        return path, stored

    def _small_files(self) -> list[FileEntry]:
        root = self._source.root
        paths = [root / name for name in _FILES]
        paths += [path for name in _FOLDERS if (root / name).is_dir() for path in sorted((root / name).rglob("*"))]
        return [
            self._entry(path.relative_to(root).as_posix(), self._objects.put_file(path))
            for path in paths
            if path.is_file()
        ]

    def _registry(self, snapshot: str, taken_us: int) -> RegistryEntry:
        self._progress.begin("registry")
        path = self._objects.folder / f"unfinished-{snapshot}.dump"
        keys = PersonKeys(self._source.registry, self._now_us)
        try:
            for _ in range(_DUMPS):
                self._directory.storage.write_file(path, b"")
                path.chmod(0o600)
                dumped = write_dump(self._source.registry, path, snapshot)
                # Keys that somebody else drew meanwhile (a backup into another folder) count: then once more with them.
                added = keys.add(dumped.fresh_keys, taken_us)
                self._lost_keys += [dumped.fresh_keys[subject] for subject in added.refused]
                if not added.conflicts:
                    stored = self._objects.put_file(path)
                    self._count(stored)
                    return RegistryEntry(dumped.schema_version, stored.size_bytes, stored.sha256, dict(dumped.rows))
                self._directory.storage.unlink(path)
        finally:
            self._directory.storage.unlink(path)
        raise BackupFailed("another backup of this registry goes on at the same time; try again when it is done")

    def _entry(self, path: str, stored: Stored) -> FileEntry:
        self._count(stored)
        return FileEntry(path, stored.size_bytes, stored.sha256)

    def _count(self, stored: Stored) -> None:
        self._copied_files += 1
        self._added_bytes += stored.size_bytes if stored.new else 0
        self._progress.add(stored.size_bytes)

    def _what_is_left_out(self) -> dict[str, str]:
        found = dict(self._left_out)
        registry = self._source.registry_file.name if self._source.registry_file else ""
        for name in sorted(path.name for path in self._source.root.iterdir()):
            whole = name.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
            if whole in LEFT_OUT:
                found[whole] = LEFT_OUT[whole]
            elif whole not in _PASSED_OVER and whole != registry:
                found[name] = "is not known to this program"
        found |= {f"registry: {table}": why for table, why in TABLES_LEFT_OUT.items()}
        return found


def _wanted(snapshot: SeriesSnapshot, folder: Path) -> list[tuple[str, Path, int | None]]:
    """Path, file and size of what a snapshot names; entries of logs are small and their sizes not written anywhere."""
    found: list[tuple[str, Path, int | None]] = []
    for table in snapshot.tables:
        found += [
            (f"{SERIES}/{table.name}/{file.name}", folder / table.name / file.name, file.size_bytes)
            for file in table.data_files
        ]
        found += [(_log_path(table.name, path), path, None) for path in table.log_files]
    return found


def _log_path(table: str, path: Path) -> str:
    return f"{SERIES}/{table}/{path.parent.name}/{path.name}"


def _journal_id(journal: Path) -> str:
    import msgspec  # noqa: PLC0415 - one small file

    try:
        fields = msgspec.json.decode((journal / JOURNAL_IDENTITY).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return ""
    return str(fields.get("journal", "")) if isinstance(fields, dict) else ""


def paths_below(files: Iterable[FileEntry], folder: str) -> list[FileEntry]:
    """The files of a snapshot below a folder."""
    return [file for file in files if file.path.startswith(f"{folder}/")]
