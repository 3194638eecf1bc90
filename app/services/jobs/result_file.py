"""The file a job makes: written beside its name, and named when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from app.stores.storage import Storage

PART = ".part"
# Rows on their way to a file that can not be appended to.
_SPOOL = ".spool"


class ResultFile:
    """Append only. `length` is what was written so far."""

    def __init__(self, folder: Path, name: str, *, spooled: bool = False) -> None:
        """`spooled`: what is appended is not the result, which `convert` makes of it."""
        self.name = name
        self.length = 0
        self._path = folder / name
        self._spool = folder / f"{name}{_SPOOL}{PART}"
        self._made = folder / f"{name}{PART}"
        self._part = self._spool if spooled else self._made
        self._file: FileIO | None = None

    def open(self, length: int) -> bool:
        """Go on at a length, what is behind it cut off; False, and empty, when there is less."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._part == self._made:
            # Named just before a crash, and not told to anybody yet.
            self._path.replace(self._part)
        self._file = FileIO(self._part, "r+" if self._part.exists() else "w+", opener=_for_us_alone)
        found = self._file.seek(0, os.SEEK_END)
        self.length = length if found >= length else 0
        self._file.truncate(self.length)
        self._file.seek(self.length)
        return found >= length

    def append(self, data: bytes) -> None:
        """Write at the end. Raises OSError; the file is as long as before, as far as anybody looks."""
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.length += len(data)

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        assert self._file is not None
        os.fsync(self._file.fileno())

    def convert(self, make: Callable[[Path, Path], None]) -> None:
        """Make the result (second path) of what was spooled (first); done from its beginning after a crash."""
        self.sync()
        self.close()
        make(self._spool, self._made)
        with self._made.open("rb") as made:
            os.fsync(made.fileno())
        self._part = self._made

    def finish(self) -> None:
        """The file is whole: give it its name."""
        if self._file is not None:
            self.sync()
            self.close()
        self._part.replace(self._path)
        Storage().sync_directory(self._path.parent)
        # Last: with it gone, a job that nobody knows to be done begins anew.
        self._spool.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, whole or not."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """There is no result."""
        self.close()
        for path in (self._spool, self._made, self._path):
            path.unlink(missing_ok=True)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
