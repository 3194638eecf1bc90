"""A Storage that knows what a loss of power would leave, and can make that as a folder of its own."""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from app.stores.journal import identity
from app.stores.storage import Storage


class PowerCut(BaseException):
    """The machine is off: no handler of ours may run on."""


class Kept(enum.Enum):
    """What the disk holds after the cut."""

    # Nothing after the last sync: neither bytes nor names.
    SYNCED = "synced"
    # Every name as it was at the cut, but of the bytes only synced ones; the rest of each file is zeros.
    NAMES = "names"
    # Everything (kill -9).
    ALL = "all"


class RecordingStorage(Storage):
    """Remembers each file's bytes at its last sync and each folder's names at its last sync.

    `cut_before` counts the operations that change the disk: that one and all later ones raise PowerCut.
    """

    def __init__(self, root: Path, cut_before: int | None = None) -> None:
        self.root = root
        self.operations = 0
        self.off = False
        self._cut_before = cut_before
        self._bytes: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int]] = {}
        self._paths: dict[int, Path] = {}
        self._held: dict[int, int] = {}

    def release(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def cut(self) -> None:
        self.off = True
        raise PowerCut

    def create(self, path: Path) -> int:
        self._step()
        descriptor = super().create(path)
        self._hold(path)
        self._paths[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        self._paths.pop(descriptor, None)
        super().close(descriptor)

    def write_some(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        self._step()
        return super().write_some(descriptor, buffers)

    def truncate(self, descriptor: int, length: int) -> None:
        self._step()
        super().truncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)
        path = self._paths.get(descriptor)
        if path is not None:
            self._bytes[self._hold(path)] = path.read_bytes()

    def sync_file(self, path: Path) -> None:
        self._step()
        super().sync_file(path)
        self._bytes[self._hold(path)] = path.read_bytes()

    def sync_directory(self, path: Path) -> None:
        self._step()
        super().sync_directory(path)
        self._names[path] = {entry.name: self._hold(path / entry.name) for entry in os.scandir(path)}

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def put_if_absent(self, temporary: Path, target: Path) -> None:
        self._step()
        super().put_if_absent(temporary, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def leave(self, target: Path, kept: Kept) -> Path:
        """Makes what the disk would hold now; the journal's identity stays valid, as on the same disk."""
        if kept is Kept.ALL:
            shutil.copytree(self.root, target)
        else:
            target.mkdir()
            self._leave_folder(self.root, target, kept)
        for copied in target.rglob(identity.FILE_NAME):
            original = self.root / copied.relative_to(target)
            data = copied.read_bytes()
            if original.exists():
                old, new = original.stat().st_ino, copied.stat().st_ino
                copied.write_bytes(data.replace(f'"inode":{old}'.encode(), f'"inode":{new}'.encode()))
        return target

    def _leave_folder(self, source: Path, target: Path, kept: Kept) -> None:
        names = self._names.get(source, {})
        if kept is Kept.NAMES:
            names = {entry.name: entry.inode() for entry in os.scandir(source)} if source.is_dir() else {}
        for name, inode in names.items():
            live = source / name
            if live.is_dir() or (live in self._names):
                (target / name).mkdir()
                self._leave_folder(live, target / name, kept)
                continue
            data = self._bytes.get(inode, b"")
            if kept is Kept.NAMES:
                data += bytes(max(0, live.stat().st_size - len(data)))
            (target / name).write_bytes(data)

    def _step(self) -> None:
        if self.off:
            raise PowerCut
        self.operations += 1
        if self._cut_before is not None and self.operations >= self._cut_before:
            self.cut()

    def _hold(self, path: Path) -> int:
        """Keeps the inode from being used again; returns it."""
        inode = path.stat().st_ino
        if inode not in self._held and path.is_file():
            self._held[inode] = os.open(path, os.O_RDONLY)
        return inode
