"""The file beside the database that knows the end of the access log."""

from __future__ import annotations

from pathlib import Path

import msgspec

from app.domain.access_chain import Anchor, ChainEnd, ErasedEntries
from app.domain.errors import EnvironmentFault
from app.stores.storage import Storage


class AccessHeadUnwritable(EnvironmentFault):
    """The end of the access log can not be written down beside the database."""


class AccessHeadDamaged(EnvironmentFault):
    """The file with the end of the access log can not be read."""


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int
    sha256: str


class _Erased(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: int
    sha256: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    committed: _End
    pending: _End | None = None
    breaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    erased: _Erased | None = None


class AccessHead:
    """Each write replaces the file at once and is durable on return."""

    def __init__(self, path: Path, storage: Storage | None = None) -> None:
        self._path = path
        self._storage = storage or Storage()

    def read(self) -> Anchor | None:
        """What it says; None when there is none. Raises AccessHeadDamaged."""
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
            committed = _end_of(file.committed)
            pending = None if file.pending is None else _end_of(file.pending)
            erased = None if file.erased is None else _erased_of(file.erased)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise AccessHeadDamaged(f"{self._path} can not be read: {type(error).__name__}") from error
        return Anchor(committed, pending, file.breaks, file.notes, erased)

    def write(self, anchor: Anchor) -> None:
        """Raises AccessHeadUnwritable."""
        erased = None if anchor.erased is None else _Erased(anchor.erased.count, anchor.erased.sha256.hex())
        file = _File(_file_end(anchor.committed), _pending(anchor), anchor.breaks, anchor.notes, erased)
        try:
            self._storage.replace_file(self._path, msgspec.json.encode(file))
        except OSError as error:
            raise AccessHeadUnwritable(f"{self._path} can not be written: {error.strerror or error}") from error


def _pending(anchor: Anchor) -> _End | None:
    return None if anchor.pending is None else _file_end(anchor.pending)


def _file_end(end: ChainEnd) -> _End:
    return _End(end.number, end.sha256.hex())


def _erased_of(erased: _Erased) -> ErasedEntries:
    return ErasedEntries(erased.count, bytes.fromhex(erased.sha256))


def _end_of(end: _End) -> ChainEnd:
    return ChainEnd(end.number, bytes.fromhex(end.sha256))
