"""Looks through backups: every byte against its hash, and whether it could be restored."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupDamaged
from app.stores.backup.making import JOURNAL, SERIES
from app.stores.backup.manifest import ErasureList, FileEntry, KeyRing, Manifest, Verified
from app.stores.backup.progress import Progress, Report, silent
from app.stores.backup.registry_load import DumpDamaged, read_dump
from app.stores.backup.sealing import Opener
from app.stores.errors import StoreDamaged
from app.stores.journal import segment_format
from app.stores.journal.segment_format import Damage, NotASegment
from app.stores.series.delta.log import FOLDER as LOG_FOLDER
from app.stores.series.delta.log import DeltaLog, LogState
from app.stores.series.delta.recovery import recover
from app.stores.storage import ReadOnlyStorage

_THREADS = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """What was looked through; `problems` by snapshot ("" for what all of them share), each a sentence with a name."""

    snapshots: tuple[str, ...]
    objects: int
    size_bytes: int
    problems: Mapping[str, list[str]]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.problems.values())


def verify_backup(
    directory: BackupDirectory,
    names: Sequence[str] | None = None,
    *,
    now_us: Callable[[], int],
    report: Report = silent,
) -> Looked:
    """Look through some snapshots, or all. Writes nothing but when it was done. Raises NotABackup, BackupRefused."""
    directory.check()
    if names is None and not directory.names():
        directory.newest()
    with directory.locked(make=False):
        return _verify(directory, directory.names() if names is None else names, now_us, Progress(report))


def _verify(directory: BackupDirectory, names: Sequence[str], now_us: Callable[[], int], progress: Progress) -> Looked:
    problems: dict[str, list[str]] = {"": []}
    manifests: list[Manifest] = []
    for name in names:
        problems[name] = []
        try:
            manifests.append(directory.manifest(name))
        except BackupDamaged as damage:
            problems[name] += damage.problems
    try:
        keyring, erasures = directory.read_keyring(), directory.read_erasures()
    except BackupDamaged as damage:
        problems[""] += damage.problems
        keyring = None
    objects = {sha256: size for manifest in manifests for sha256, size in manifest.objects().items()}
    bad = _check_objects(directory, objects, progress)
    looked: dict[str, str | None] = {}
    for manifest in manifests:
        found = problems[manifest.snapshot]
        for sha256, what, path in _named(manifest):
            if sha256 in bad:
                found.append(f"objects/{sha256[:2]}/{sha256} ({what or path}) {bad[sha256]}")
        found += _check_series(directory, manifest, bad)
        found += _check_contents(directory, manifest, bad, looked, progress)
        if keyring is not None and manifest.registry.sha256 not in bad:
            found += _check_registry(directory, manifest, keyring, erasures)
    at_us = now_us()
    for manifest in manifests:
        directory.note_verified(
            manifest.snapshot, Verified(at_us, (problems[""] + problems[manifest.snapshot])[:_PROBLEMS_KEPT])
        )
    return Looked(tuple(names), len(objects), sum(objects.values()), problems)


# Beside each snapshot; the command names all.
_PROBLEMS_KEPT = 20


def _check_objects(directory: BackupDirectory, objects: Mapping[str, int], progress: Progress) -> dict[str, str]:
    progress.begin("hashes", sum(objects.values()))

    def check(item: tuple[str, int]) -> tuple[str, str | None]:
        problem = directory.objects.check(*item)
        progress.add(item[1])
        return item[0], problem

    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="verify")
    try:
        return {sha256: problem for sha256, problem in pool.map(check, objects.items()) if problem is not None}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _named(manifest: Manifest) -> list[tuple[str, str, str]]:
    return [(manifest.registry.sha256, "the registry's dump", ""), *((f.sha256, "", f.path) for f in manifest.files)]


def _check_contents(
    directory: BackupDirectory,
    manifest: Manifest,
    bad: Mapping[str, str],
    looked: dict[str, str | None],
    progress: Progress,
) -> list[str]:
    """Files whose bytes are as written, but may never have been what they should be. `looked`: by object, so far."""
    files = [file for file in manifest.files if file.sha256 not in bad]
    progress.begin("contents", sum(file.size_bytes for file in files if file.sha256 not in looked))
    for file in files:
        if file.sha256 not in looked:
            looked[file.sha256] = _content_problem(directory, file)
            progress.add(file.size_bytes)
    return [f"{file.path} {problem}" for file in files if (problem := looked[file.sha256])]


def _content_problem(directory: BackupDirectory, file: FileEntry) -> str | None:
    path = directory.objects.path(file.sha256)
    if file.path.endswith(".parquet"):
        try:
            with pq.ParquetFile(path) as parquet:
                rows = sum(batch.num_rows for batch in parquet.iter_batches())
                if rows != parquet.metadata.num_rows:
                    return f"holds {rows} rows instead of {parquet.metadata.num_rows}"
        except (pa.ArrowException, OSError, ValueError) as problem:
            return f"can not be read: {problem}"
    elif file.path.startswith(f"{JOURNAL}/"):
        data = path.read_bytes()
        try:
            header = segment_format.decode_header(data)
        except NotASegment as problem:
            return f"is no segment: {problem}"
        if any(isinstance(found, Damage) for found in segment_format.frames(data, header.end, len(data))):
            return "has a damaged stretch"
    return None


def _check_series(directory: BackupDirectory, manifest: Manifest, bad: Mapping[str, str]) -> list[str]:
    """Whether each table's log, put together again, names just the files that are here."""
    problems = []
    for table in manifest.tables:
        prefix = f"{SERIES}/{table.name}/"
        files = [file for file in manifest.files if file.path.startswith(prefix)]
        logs = [file for file in files if file.path.startswith(f"{prefix}{LOG_FOLDER}/")]
        if any(file.sha256 in bad for file in logs):
            continue
        try:
            state = _state(directory, logs)
        except (StoreDamaged, OSError) as problem:
            problems.append(f"{prefix}{LOG_FOLDER} can not be put together: {problem}")
            continue
        here = {file.path.removeprefix(prefix): file.size_bytes for file in files if file not in logs}
        named = {file.name: file.size_bytes for file in state.files()}
        if state.version != table.version or here != named:
            problems.append(f"{prefix[:-1]} has {len(here)} files at version {table.version}, its log says otherwise")
    return problems


def _state(directory: BackupDirectory, logs: Sequence[FileEntry]) -> LogState:
    with tempfile.TemporaryDirectory(prefix="wattdeck-verify-") as folder:
        table = Path(folder)
        (table / LOG_FOLDER).mkdir()
        for file in logs:
            directory.objects.copy_out(file.sha256, table / LOG_FOLDER / Path(file.path).name)
        storage = ReadOnlyStorage()
        return recover(table, DeltaLog(table, storage), storage, look_at_files=False).state


def _check_registry(
    directory: BackupDirectory, manifest: Manifest, keyring: KeyRing, erasures: ErasureList
) -> list[str]:
    known_lost = set(erasures.lost_keys)
    rows: dict[str, int] = {}
    strange = 0
    try:
        for row in read_dump(directory.objects.path(manifest.registry.sha256), Opener(keyring.keys)):
            rows[row.table.table] = rows.get(row.table.table, 0) + 1
            strange += any(name not in known_lost for name in row.lost)
    except (DumpDamaged, OSError) as problem:
        return [f"the registry's dump: {problem}"]
    problems = []
    if strange:
        problems.append(f"the registry's dump: {strange} rows do not open, and nobody they speak of was erased")
    if rows != {name: count for name, count in manifest.registry.rows.items() if count}:
        problems.append("the registry's dump has other rows than its manifest says")
    return problems
