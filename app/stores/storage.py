"""Durable file operations: the one seam through which journal and Delta tables reach the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

# The most buffers one writev may carry (IOV_MAX on Linux and macOS).
_MAX_BUFFERS = 1024


class Storage:
    """The operating system's calls; a test overrides them to see what would survive a loss of power.

    Nothing is durable before its own sync: a file's bytes by `sync` or `sync_file`, a name (made, renamed, unlinked) by
    `sync_directory` of its folder. Errors are OSError.
    """

    def make_directory(self, path: Path) -> None:
        """Makes the folder and its parents, and syncs each parent that got a new entry."""
        missing = []
        current = path
        while not current.is_dir():
            missing.append(current)
            current = current.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self.sync_directory(folder.parent)

    def create(self, path: Path) -> int:
        """A new file's descriptor, to write at its end; fails when the name is taken."""
        # O_BINARY: Windows would change line ends.
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o640)

    def append(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        """Writes all buffers at the end; returns their length."""
        total = 0
        waiting = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        while waiting:
            written = self.write_some(descriptor, waiting[:_MAX_BUFFERS])
            total += written
            done = 0
            while done < len(waiting) and written >= len(waiting[done]):
                written -= len(waiting[done])
                done += 1
            del waiting[:done]
            if written:
                waiting[0] = waiting[0][written:]
        return total

    def write_some(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        if hasattr(os, "writev"):
            return os.writev(descriptor, buffers)
        return os.write(descriptor, buffers[0])

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Bytes and length of an open file; macOS's fsync alone leaves them in the drive's cache."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)
            return
        try:
            import fcntl  # noqa: PLC0415 - not on Windows
        except ImportError:
            os.fsync(descriptor)
            return
        full_sync: int | None = getattr(fcntl, "F_FULLFSYNC", None)
        if full_sync is None:
            os.fsync(descriptor)
        else:
            fcntl.fcntl(descriptor, full_sync)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def sync_file(self, path: Path) -> None:
        """For files that a library wrote."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        if os.name == "nt":
            return  # NTFS journals its names; a folder can not be opened there.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def write_file(self, path: Path, data: bytes | memoryview) -> None:
        """A new file with synced bytes; its name still wants `sync_directory`. Leaves nothing behind when it fails."""
        descriptor = self.create(path)
        try:
            self.append(descriptor, [data])
            self.sync(descriptor)
        except OSError:
            self.unlink(path)
            raise
        finally:
            self.close(descriptor)

    def put_if_absent(self, temporary: Path, target: Path) -> None:
        """Gives a written file its name; raises FileExistsError when the name is taken."""
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:
            # No hard links here (FAT, some network shares): one writer makes look-then-rename safe enough.
            if target.exists():
                raise FileExistsError(target) from None
            self.rename(temporary, target)
            return
        self.unlink(temporary)

    def link(self, source: Path, target: Path) -> None:
        """A second name of a file, or a copy where there are no hard links."""
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
            self.sync_file(target)

    def replace_file(self, path: Path, data: bytes) -> None:
        """Old bytes or new ones, never a mixture, durable on return."""
        temporary = path.with_name(path.name + ".new")
        self.unlink(temporary)
        self.write_file(temporary, data)
        self.rename(temporary, path)
        self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)


class ReadOnlyStorage(Storage):
    """Does nothing where something would be changed: recovery then mends only what it has in memory."""

    def make_directory(self, path: Path) -> None:
        pass

    def write_file(self, path: Path, data: bytes | memoryview) -> None:
        pass

    def put_if_absent(self, temporary: Path, target: Path) -> None:
        pass

    def replace_file(self, path: Path, data: bytes) -> None:
        pass

    def rename(self, source: Path, target: Path) -> None:
        pass

    def unlink(self, path: Path) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass
