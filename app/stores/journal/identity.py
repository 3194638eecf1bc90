"""Who a journal is: its random id, and the segment numbers it may use without asking the disk again."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import msgspec

from app.stores.storage import Storage

FILE_NAME = "journal.json"

# Numbers must never be used twice, also when all segments are gone; reserving many makes this one small write in hours.
_RESERVED_AT_ONCE = 4096


class _Fields(msgspec.Struct, frozen=True):
    journal: str
    reserved_until: int
    # A copy of the file has another inode: the copy must not go on under the original's id.
    inode: int


class Identity:
    """The journal's id and its unused numbers; what it hands out is durable first."""

    def __init__(self, directory: Path, storage: Storage) -> None:
        self._path = directory / FILE_NAME
        self._storage = storage
        fields = _load(self._path)
        self.journal_id = fields.journal if fields else uuid.uuid4().hex
        # What was reserved before is never used again: it costs nothing, and nobody knows what of it was.
        self._next = self._reserved_until = fields.reserved_until if fields else 1

    def rise_above(self, number: int) -> None:
        """Numbers up to this one are taken (segments found on disk)."""
        if self._next <= number:
            self._next = self._reserved_until = number + 1

    def next_number(self) -> int:
        """A number never handed out before under this id; raises OSError, then nothing is used up."""
        if self._next >= self._reserved_until:
            self.save(self._next + _RESERVED_AT_ONCE)
        self._next += 1
        return self._next - 1

    def save(self, reserved_until: int) -> None:
        temporary = self._path.with_name(FILE_NAME + ".new")
        self._storage.unlink(temporary)
        descriptor = self._storage.create(temporary)
        try:
            fields = _Fields(self.journal_id, reserved_until, os.fstat(descriptor).st_ino)
            self._storage.append(descriptor, [msgspec.json.encode(fields)])
            self._storage.sync(descriptor)
        finally:
            self._storage.close(descriptor)
        self._storage.rename(temporary, self._path)
        self._storage.sync_directory(self._path.parent)
        self._reserved_until = reserved_until


def rebirth(directory: Path, storage: Storage | None = None) -> str:
    """Gives a restored journal a new id, so that its numbers never meet labels of its earlier life; returns it.

    Segments already there keep the id they were written under. Not while a Journal is open on the directory.
    """
    storage = storage or Storage()
    storage.make_directory(directory)
    storage.unlink(directory / FILE_NAME)
    identity = Identity(directory, storage)
    identity.save(1)
    return identity.journal_id


def _load(path: Path) -> _Fields | None:
    """None when there is none, when it is garbage, or when it was copied here from elsewhere."""
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=_Fields)
        inode = path.stat().st_ino
    except (OSError, msgspec.MsgspecError):
        return None
    return fields if fields.inode == inode and fields.reserved_until > 0 else None
