"""What a snapshot is, as data: the manifest that is written last and names everything."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

FORMAT = 1


class FileEntry(msgspec.Struct, frozen=True):
    """A file of the data directory: its path below it, and the object that holds its bytes."""

    path: str
    size_bytes: int
    sha256: str


class TableEntry(msgspec.Struct, frozen=True):
    """A series table at one version of its log."""

    name: str
    version: int
    rows: int
    files: int


class SegmentEntry(msgspec.Struct, frozen=True):
    """A journal segment that may not have been in the tables yet."""

    journal_id: str
    number: int


class RegistryEntry(msgspec.Struct, frozen=True):
    """The dump of the registry, and how many rows of each table it has."""

    schema_version: int
    size_bytes: int
    sha256: str
    rows: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot. Times are UTC microseconds; what was acknowledged before `taken_us` is in it."""

    format: int
    snapshot: str
    taken_us: int
    finished_us: int
    program: str
    journal_id: str
    segments: list[SegmentEntry]
    tables: list[TableEntry]
    registry: RegistryEntry
    files: list[FileEntry]
    # What of the data directory is not in it -> why.
    left_out: dict[str, str]
    # Bytes that no snapshot before had.
    added_bytes: int
    # Of this file with an empty text here.
    sha256: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of everything it names."""
        return self.registry.size_bytes + sum(file.size_bytes for file in self.files)

    def objects(self) -> dict[str, int]:
        """SHA-256 -> size of every object it needs."""
        return {file.sha256: file.size_bytes for file in self.files} | {self.registry.sha256: self.registry.size_bytes}


class KeyRing(msgspec.Struct, frozen=True):
    """The keys of all persons, as of the newest backup; of erased ones there is none."""

    format: int
    keys: dict[str, bytes]
    sha256: str = ""


class ErasureEntry(msgspec.Struct, frozen=True):
    """What was erased and when (UTC microseconds)."""

    subject: str
    at_us: int


class ErasureList(msgspec.Struct, frozen=True):
    """Everything that was erased, as of the newest backup; `lost_keys` are the names of the keys that went with it."""

    format: int
    erased: list[ErasureEntry]
    lost_keys: list[str]
    sha256: str = ""


class Verified(msgspec.Struct, frozen=True):
    """When a snapshot was looked through, and what was found."""

    at_us: int
    problems: list[str]


Signed = TypeVar("Signed", Manifest, KeyRing, ErasureList)


def encode(what: Signed) -> bytes:
    """The file's bytes, with their own checksum in them."""
    unsigned = msgspec.structs.replace(what, sha256="")
    signed = msgspec.structs.replace(what, sha256=_digest(unsigned))
    return msgspec.json.format(msgspec.json.encode(signed), indent=1)


def decode(data: bytes, kind: type[Signed]) -> Signed:
    """Raises ValueError for anything that `encode` did not write, or of another format."""
    try:
        found = msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as problem:
        raise ValueError(f"can not be read: {problem}") from None
    if found.format != FORMAT:
        raise ValueError(f"has format {found.format}, this program knows {FORMAT}")
    if found.sha256 != _digest(msgspec.structs.replace(found, sha256="")):
        raise ValueError("does not have the checksum it was written with")
    return found


def _digest(unsigned: Signed) -> str:
    return hashlib.sha256(msgspec.json.encode(unsigned)).hexdigest()
