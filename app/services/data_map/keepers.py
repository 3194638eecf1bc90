"""What looks into one place of the data map, and erases there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.data_map import DataSubject, Erased, Held
from app.domain.errors import EnvironmentFault
from app.services.jobs.jobs import Jobs
from app.stores.registry.erasures import note_erasing
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.holdings import FORGET, count_of
from app.stores.registry.registry import Registry
from app.stores.series.interface import StoreSize

# Tables of which rows may be left, and why that is right.
_LEFT = {
    "sites": "somebody is still supplied there by what the registry knows",
    "holders": "somebody is still supplied there by what the registry knows",
    "modules": "the module stays in the fleet, without what was personal in its row",
}
_GOES_ON = "{count} supply periods go on; end them first, since what comes would have nowhere to go"


class Keeper(Protocol):
    """One place. Everything blocks: for worker threads."""

    def find(self, subject: DataSubject) -> Held:
        """What it holds."""
        ...

    def erase(self, subject: DataSubject) -> Erased:
        """Erase what can be erased there."""
        ...


class KeyStore(Protocol):
    """A series store that can be asked what it holds of keys."""

    def held(self, keys: Any) -> Mapping[str, int]:
        """Rows by table, and removed files that are still kept under "removed"."""
        ...

    def sizes(self) -> Mapping[str, StoreSize]:
        """What each table takes."""
        ...

    def delete_key(self, key: int) -> int:
        """See SeriesStore."""
        ...


class TableKeeper:
    """A table of the registry."""

    def __init__(self, registry: Registry, table: str) -> None:
        self._registry = registry
        self._table = table

    def find(self, subject: DataSubject) -> Held:
        """See Keeper."""
        with self._registry.reading() as connection:
            return Held(count_of(connection, self._table, subject))

    def erase(self, subject: DataSubject) -> Erased:
        """See Keeper."""
        with self._registry.writing() as connection:
            count = FORGET[self._table](connection, subject)
            note_erasing(connection)
            left = count_of(connection, self._table, subject)
        return Erased(count, _LEFT.get(self._table, "") if left else "")


class KeysKeeper(TableKeeper):
    """Whose a key is, and the pairings that only it needed."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, "keys")

    def erase(self, subject: DataSubject) -> Erased:
        """See Keeper."""
        count = 0
        for key in subject.ended_keys:
            try:
                self._registry.erase_key(key)
            except UnknownNameError:
                continue
            except RefusedChangeError as error:
                return Erased(count, error.text())
            count += 1
        return Erased(count, _going_on(subject))


class SeriesKeeper:
    """A table of the series store; erasing one erases all."""

    def __init__(self, store: KeyStore, table: str) -> None:
        self._store = store
        self._table = table

    def find(self, subject: DataSubject) -> Held:
        """See Keeper."""
        rows = self._store.held([held.key for held in subject.keys])[self._table]
        if self._table == "removed":
            return Held(rows, None, "files that hold rows of theirs among others")
        size = self._store.sizes()[self._table]
        return Held(rows, size.live_bytes * rows // size.rows if size.rows else 0)

    def erase(self, subject: DataSubject) -> Erased:
        """See Keeper."""
        return Erased(sum(self._store.delete_key(key) for key in subject.ended_keys), _going_on(subject))


class FolderKeeper:
    """Files of which nobody can tell whose they are: all of them, or none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, subject: DataSubject) -> Held:
        """See Keeper."""
        del subject
        files = [path for path in self._folder.rglob("*") if path.is_file()] if self._folder.is_dir() else []
        return Held(None if files else 0, sum(path.stat().st_size for path in files), f"{len(files)} files of anybody")

    def erase(self, subject: DataSubject) -> Erased:
        """See Keeper."""
        del subject
        files = [path for path in self._folder.rglob("*") if path.is_file()] if self._folder.is_dir() else []
        for path in files:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise EnvironmentFault(f"{path} can not be removed: {error.strerror}") from error
        return Erased(len(files))


class FindOnly:
    """A place that others erase, or nobody."""

    def __init__(self, find: Callable[[DataSubject], Held]) -> None:
        self.find = find

    def erase(self, subject: DataSubject) -> Erased:
        """See Keeper."""
        del subject
        return Erased(0, "this place is not erased by itself")


class Calls:
    """A place of which somebody else knows both."""

    def __init__(self, find: Callable[[DataSubject], Held], erase: Callable[[DataSubject], Erased]) -> None:
        self.find = find
        self.erase = erase


def journal_keeper(batches: Callable[[str], list[pa.RecordBatch]], tables: tuple[str, ...]) -> FindOnly:
    """Readings on their way to the series store."""

    def find(subject: DataSubject) -> Held:
        wanted = pa.array([held.key for held in subject.keys], pa.int64())
        count, size = 0, 0
        for table in tables:
            for batch in batches(table):
                rows = int(pc.sum(pc.is_in(batch.column("key"), value_set=wanted)).as_py() or 0)
                count += rows
                size += batch.nbytes * rows // max(batch.num_rows, 1)
        return Held(count, size)

    return FindOnly(find)


def jobs_keeper(jobs: Jobs) -> Calls:
    """Jobs that name a module or holder, with the files they made."""

    def find(subject: DataSubject) -> Held:
        # As a JSON text of its own: WD1 is no part of WD10.
        found = [(job, size) for job, size in jobs.naming(_quoted(subject)) if size]
        return Held(len(found), sum(size for _job, size in found))

    def erase(subject: DataSubject) -> Erased:
        count = jobs.forget_subject(_quoted(subject))
        left = len(jobs.naming(_quoted(subject)))
        return Erased(count, f"{left} jobs are at work; cancel them first" if left else "")

    return Calls(find, erase)


def live_keeper(
    slot_of: Callable[[str], int | None],
    recent: Callable[[int], Any],
    known: Callable[[int], bool],
    forget: Callable[[int], None],
) -> Calls:
    """Live state, by slot."""

    def find(subject: DataSubject) -> Held:
        count, size = 0, 0
        for serial in subject.serials:
            slot = slot_of(serial)
            if slot is not None:
                seconds = int(np.count_nonzero(~np.isnan(recent(slot))))
                count += seconds + int(known(slot))
                size += 4 * seconds
        return Held(count, size)

    def erase(subject: DataSubject) -> Erased:
        before = find(subject).count or 0
        for serial in subject.serials:
            slot = slot_of(serial)
            if slot is not None:
                forget(slot)
        return Erased(before)

    return Calls(find, erase)


def imports_keeper(folder: Path, read_keys: Callable[[Path], list[int] | None]) -> FindOnly:
    """Copies of series; one without a list of keys may hold anybody's. `read_keys` raises what is no copy."""

    def find(subject: DataSubject) -> Held:
        keys = {held.key for held in subject.keys}
        folders = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        count, size, unknown = 0, 0, 0
        for path in folders:
            listed = read_keys(path)
            if listed is not None and not keys & set(listed):
                continue
            count += 1
            unknown += listed is None
            size += sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        return Held(count, size, f"{unknown} of them may hold anybody's" if unknown else "")

    return FindOnly(find)


def _quoted(subject: DataSubject) -> str:
    return f'"{subject.name}"'


def _going_on(subject: DataSubject) -> str:
    count = len(subject.keys) - len(subject.ended_keys)
    return _GOES_ON.format(count=count) if count else ""
