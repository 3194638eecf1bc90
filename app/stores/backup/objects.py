"""Bytes by their SHA-256: written once, shared by every snapshot that has the same file."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.stores.storage import Storage

# Few calls, and both threads' buffers still fit into the cache of a core.
CHUNK_BYTES = 1 << 20
_TEMPORARY = "unfinished-"
_NAME = re.compile(r"[0-9a-f]{64}")


class Stored(NamedTuple):
    """An object: what was put, and whether it was new."""

    sha256: str
    size_bytes: int
    new: bool


class Objects:
    """Any thread may put. An object has its name only when its bytes are synced; the names are by `sync`."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder = folder
        self._storage = storage
        self._lock = threading.Lock()
        self._unsynced: set[Path] = set()

    def path(self, sha256: str) -> Path:
        """Where an object is."""
        return self.folder / sha256[:2] / sha256

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether an object is there with its size; its bytes are not looked at."""
        try:
            return self.path(sha256).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def put_file(self, source: Path) -> Stored:
        """Copy a file that does not change. Raises OSError; leaves nothing behind then."""
        with source.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size <= CHUNK_BYTES:
                return self.put(file.readall())
            return self._put(_chunks(file.fileno()))

    def put(self, data: bytes) -> Stored:
        """Keep some bytes; nothing is written when they are there."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.has(sha256, len(data)):
            return Stored(sha256, len(data), new=False)
        return self._put(iter([memoryview(data)]))

    def sync(self) -> None:
        """Makes the names of what was put durable."""
        with self._lock:
            folders, self._unsynced = self._unsynced, set()
        for folder in folders:
            self._storage.sync_directory(folder)

    def remove_unfinished(self) -> int:
        """Remove what an interrupted backup left; how many files."""
        left = list(self.folder.glob(f"{_TEMPORARY}*"))
        for path in left:
            self._storage.unlink(path)
        return len(left)

    def names(self) -> Iterator[str]:
        """The SHA-256 of every object there."""
        for path in self.folder.glob("*/*"):
            if _NAME.fullmatch(path.name):
                yield path.name

    def remove(self, sha256: str) -> int:
        """Remove an object that no snapshot needs; the bytes freed."""
        path = self.path(sha256)
        size = path.stat().st_size
        self._storage.unlink(path)
        return size

    def copy_out(self, sha256: str, target: Path) -> int:
        """Write an object's bytes to a new file, synced; its folder is the caller's to sync.

        Raises ValueError when they are not what was put, OSError.
        """
        digest = hashlib.sha256()
        written = 0
        descriptor = self._storage.create(target)
        try:
            with self.path(sha256).open("rb", buffering=0) as file:
                for chunk in _chunks(file.fileno()):
                    digest.update(chunk)
                    written += self._storage.append(descriptor, [chunk])
            self._storage.sync(descriptor)
        finally:
            self._storage.close(descriptor)
        if digest.hexdigest() != sha256:
            raise ValueError("its bytes have changed since they were written")
        return written

    def check(self, sha256: str, size_bytes: int) -> str | None:
        """What is wrong with an object, None for nothing; reads all of it."""
        digest = hashlib.sha256()
        found = 0
        try:
            with self.path(sha256).open("rb", buffering=0) as file:
                for chunk in _chunks(file.fileno()):
                    digest.update(chunk)
                    found += len(chunk)
        except FileNotFoundError:
            return "is missing"
        except OSError as problem:
            return f"can not be read: {problem.strerror}"
        if found != size_bytes:
            return f"has {found} bytes instead of {size_bytes}"
        return None if digest.hexdigest() == sha256 else "has other bytes than were written (SHA-256 is wrong)"

    def _put(self, chunks: Iterator[memoryview]) -> Stored:
        temporary = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        digest = hashlib.sha256()
        size = 0
        descriptor = self._storage.create(temporary)
        try:
            try:
                for chunk in chunks:
                    digest.update(chunk)
                    size += self._storage.append(descriptor, [chunk])
                sha256 = digest.hexdigest()
                new = not self.has(sha256, size)
                if new:
                    self._storage.sync(descriptor)
            finally:
                self._storage.close(descriptor)
            if new:
                temporary.chmod(0o600)
                self._name(temporary, sha256)
            else:
                self._storage.unlink(temporary)
        except BaseException:
            self._storage.unlink(temporary)
            raise
        return Stored(sha256, size, new)

    def _name(self, temporary: Path, sha256: str) -> None:
        target = self.path(sha256)
        if not target.parent.is_dir():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            with self._lock:
                self._unsynced.add(self.folder)
        self._storage.rename(temporary, target)
        with self._lock:
            self._unsynced.add(target.parent)


def _chunks(descriptor: int) -> Iterator[memoryview]:
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while count := _read_into(descriptor, view):
        yield view[:count]


def _read_into(descriptor: int, view: memoryview) -> int:
    if hasattr(os, "readv"):
        return os.readv(descriptor, [view])
    data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)
