"""The file a job makes: written beside its name, and named when it is whole."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from app.stores.storage import Storage

PART = ".part"


class ResultFile:
    """Append only. `length` is what was written so far."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.length = 0
        self._path = folder / name
        self._part = folder / f"{name}{PART}"
        self._file: FileIO | None = None

    def open(self, length: int) -> bool:
        """Go on at a length, what is behind it cut off; False, and empty, when there is less."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
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

    def finish(self) -> None:
        """The file is whole: give it its name."""
        self.sync()
        self.close()
        self._part.replace(self._path)
        Storage().sync_directory(self._path.parent)

    def close(self) -> None:
        """Let go of the file, whole or not."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """There is no result."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
