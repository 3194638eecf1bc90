"""A snapshot back into a fresh data directory, without what was erased since."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pyarrow as pa
import tomlkit
import tomlkit.exceptions

from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupDamaged, BackupFailed, BackupRefused
from app.stores.backup.making import JOURNAL, SERIES
from app.stores.backup.manifest import ErasureList, FileEntry, KeyRing, Manifest
from app.stores.backup.progress import Progress, Report, silent
from app.stores.backup.registry_load import DumpDamaged, Loaded, load_dump, put_latest, schema_version
from app.stores.backup.sealing import Opener
from app.stores.journal.journal import Journal, rebirth
from app.stores.registry.erasures import Erased
from app.stores.registry.faults import faults_of
from app.stores.registry.migrating import bring_up_to_date, make_at_version
from app.stores.registry.opening import connect, locate
from app.stores.registry.registry import Registry
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.series.rollup import KeyFacts
from app.stores.series.schema import INGESTED
from app.stores.storage import Storage

# In the data directory while it is not whole: a hub refuses to start on it.
UNFINISHED = "restore.unfinished"
SETTINGS_FILE = "wattdeck.toml"
_THREADS = 2

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where to. `registry`: a path below the folder, or the URL of an empty database."""

    root: Path
    registry: str | Path
    # What roll-ups must know of the keys of a registry.
    facts: Callable[[Registry], Callable[[], KeyFacts]]


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    manifest: Manifest
    journal_id: str
    loaded: Loaded
    erased_keys: int
    erased_rows: int
    replayed_segments: int
    # The snapshot's settings named a database on a server, which was not touched.
    registry_url_dropped: bool
    seconds: float
    verify_seconds: float


def restore_backup(
    directory: BackupDirectory,
    snapshot: str | None,
    target: Target,
    *,
    now_us: Callable[[], int],
    report: Report = silent,
) -> Restored:
    """Restore a snapshot (None: the newest). What could not be finished is removed again.

    Raises NotABackup, BackupRefused for a folder that holds something, BackupDamaged, BackupFailed, RegistryFault,
    RegistryNotEmpty, StoreDamaged, StoreUnavailable.
    """
    manifest = directory.manifest(snapshot or directory.newest())
    _check_empty(target.root)
    try:
        with directory.locked(make=False):
            keyring, erasures = directory.read_keyring(), directory.read_erasures()
            _check_latest(directory)
            return _Restorer(directory, manifest, target, now_us, Progress(report)).restore(keyring, erasures)
    except BaseException as problem:
        _remove(target.root)
        if isinstance(problem, OSError):
            where = problem.filename or target.root
            raise BackupFailed(f"not restored: {where}: {problem.strerror or problem}") from problem
        raise


class _Restorer:
    def __init__(
        self,
        directory: BackupDirectory,
        manifest: Manifest,
        target: Target,
        now_us: Callable[[], int],
        progress: Progress,
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._target = target
        self._now_us = now_us
        self._progress = progress
        self._storage = Storage()

    def restore(self, keyring: KeyRing, erasures: ErasureList) -> Restored:
        began = time.monotonic()
        root = self._target.root
        self._storage.make_directory(root)
        root.chmod(0o700)
        self._storage.write_file(root / UNFINISHED, b"a restore began here and did not end\n")
        self._storage.sync_directory(root)
        self._copy_files()
        dropped = self._without_registry_url()
        loaded = self._load_registry(keyring, erasures)
        journal_id = rebirth(root / JOURNAL, self._storage)
        began_verifying = time.monotonic()
        erased = loaded.erased_keys | {
            int(each.subject.removeprefix("key:"))
            for each in erasures.erased
            if each.subject.startswith("key:") and each.subject.removeprefix("key:").isdecimal()
        }
        replayed, rows = self._settle_series(erased)
        self._storage.unlink(root / UNFINISHED)
        self._storage.sync_directory(root)
        ended = time.monotonic()
        return Restored(
            self._manifest,
            journal_id,
            loaded,
            len(erased),
            rows,
            replayed,
            dropped,
            ended - began,
            ended - began_verifying,
        )

    def _copy_files(self) -> None:
        root = self._target.root
        files = self._manifest.files
        self._progress.begin("files", sum(file.size_bytes for file in files))
        folders = {root}
        for file in files:
            _check_path(self._directory, file)
            folder = root.joinpath(*PurePosixPath(file.path).parts[:-1])
            while folder not in folders:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folders.add(folder)
                folder = folder.parent
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="restore")
        try:
            problems = [problem for problem in pool.map(self._copy, files) if problem]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if problems:
            raise BackupDamaged(self._directory.root, problems)
        for folder in sorted(folders):
            self._storage.sync_directory(folder)

    def _copy(self, file: FileEntry) -> str | None:
        target = self._target.root.joinpath(*PurePosixPath(file.path).parts)
        try:
            size = self._directory.objects.copy_out(file.sha256, target)
        except FileNotFoundError:
            return f"objects/{file.sha256[:2]}/{file.sha256} ({file.path}) is missing"
        except ValueError as problem:
            return f"objects/{file.sha256[:2]}/{file.sha256} ({file.path}): {problem}"
        target.chmod(0o600)
        self._progress.add(size)
        return None

    def _without_registry_url(self) -> bool:
        """The settings of then may name the database that is live now: nobody writes to it because of a restore."""
        path = self._target.root / SETTINGS_FILE
        url = self._target.registry
        try:
            document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
        except (tomlkit.exceptions.TOMLKitError, UnicodeDecodeError):
            # No hub could start with it: somebody will look at it.
            log.warning("%s is no TOML; mend it before the hub starts, and look at registry.url", path)
            return False
        section = document.get("registry")
        had = isinstance(section, dict) and bool(section.pop("url", ""))
        if isinstance(url, str):
            if not isinstance(section, dict):
                section = document["registry"] = tomlkit.table()
            section["url"] = url
        if had or isinstance(url, str):
            self._storage.replace_file(path, tomlkit.dumps(document).encode())
            path.chmod(0o600)
        return had

    def _load_registry(self, keyring: KeyRing, erasures: ErasureList) -> Loaded:
        self._progress.begin("registry")
        entry = self._manifest.registry
        path = self._directory.objects.path(entry.sha256)
        problem = self._directory.objects.check(entry.sha256, entry.size_bytes)
        if problem:
            raise BackupDamaged(
                self._directory.root, [f"objects/{entry.sha256[:2]}/{entry.sha256} (the registry's dump) {problem}"]
            )
        location = locate(self._target.registry)
        erased = {each.subject: each.at_us for each in erasures.erased}
        try:
            make_at_version(location, schema_version(path))
            engine = connect(location, "write")
            try:
                with faults_of(location.place), engine.begin() as connection:
                    loaded = load_dump(connection, path, Opener(keyring.keys), erased, self._manifest.taken_us)
            finally:
                engine.dispose()
            bring_up_to_date(location)
            engine = connect(location, "write")
            try:
                with faults_of(location.place), engine.begin() as connection:
                    latest = [Erased(each.subject, each.at_us) for each in erasures.erased]
                    put_latest(connection, keyring.keys, latest, self._now_us())
            finally:
                engine.dispose()
        except DumpDamaged as problem_found:
            raise BackupDamaged(self._directory.root, [f"the registry's dump: {problem_found}"]) from problem_found
        return loaded

    def _settle_series(self, erased: set[int]) -> tuple[int, int]:
        """Replays what only the journal had, deletes what was erased, and has the store look at all of it."""
        root = self._target.root
        self._progress.begin("series store")
        replayed = rows = 0
        with Registry.open(self._target.registry) as registry:
            store = DeltaSeriesStore(
                root / SERIES, facts=self._target.facts(registry), now_us=self._now_us, storage=self._storage
            )
            try:
                self._check_tables(store)
                store.forget_keys(erased)
                journal = Journal.open(root / JOURNAL, INGESTED, storage=self._storage)
                for segment in journal.pending():
                    tables: dict[str, list[pa.RecordBatch]] = {}
                    for name, batch in journal.read(segment):
                        tables.setdefault(name, []).append(batch)
                    appended = {name: pa.Table.from_batches(batches) for name, batches in tables.items()}
                    store.append(SegmentLabel(segment.journal_id, segment.number), appended)
                    journal.remove(segment)
                    replayed += 1
                if journal.counters.damaged_segments:
                    raise BackupDamaged(self._directory.root, ["a journal segment could not be read back whole"])
                journal.close()
                rows = store.delete_keys(erased)
            finally:
                store.close()
        return replayed, rows

    def _check_tables(self, store: DeltaSeriesStore) -> None:
        """What opening had to mend was not whole."""
        problems = store.mended()
        expected = {table.name: table.version for table in self._manifest.tables}
        versions = store.versions()
        problems += [
            f"table {name} came back at version {versions.get(name)} instead of {version}"
            for name, version in expected.items()
            # A newer program may have added a column.
            if versions.get(name, -1) < version
        ]
        if problems:
            raise BackupDamaged(self._directory.root, problems)


def _check_latest(directory: BackupDirectory) -> None:
    if not (directory.keyring.exists() and directory.erasures.exists()):
        # Without them nobody knows who was erased, and nothing personal can be read.
        raise BackupDamaged(directory.root, ["keyring.json and erasures.json must both be there"])


def _check_path(directory: BackupDirectory, file: FileEntry) -> None:
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or "\\" in file.path or ":" in file.path or not path.parts:
        raise BackupDamaged(directory.root, [f"a file of it would be written outside the data directory: {file.path}"])


def _check_empty(root: Path) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise BackupRefused(f"{root} is no folder; a backup is restored into a fresh folder only")
    inside = [path.name for path in root.iterdir() if path.name != "lost+found"]
    if UNFINISHED in inside:
        raise BackupRefused(f"{root} holds a restore that was interrupted; remove the folder, then restore again")
    if inside:
        raise BackupRefused(f"{root} is not empty; a backup is restored into a fresh folder only")


def _remove(root: Path) -> None:
    """What we made, and only that: the folder was empty or not there."""
    if (root / UNFINISHED).exists():
        for path in root.iterdir():
            if path.name in {"lost+found", UNFINISHED}:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        with contextlib.suppress(OSError):
            (root / UNFINISHED).unlink()
            root.rmdir()
