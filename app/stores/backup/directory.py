"""A backup directory: its layout, its lock, its snapshots, and the latest copies of keys and erasures."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from app.stores.backup.errors import BackupDamaged, BackupRefused, NotABackup
from app.stores.backup.manifest import FORMAT, ErasureList, KeyRing, Manifest, Verified, decode, encode
from app.stores.backup.objects import Objects
from app.stores.storage import Storage

_MARK = "wattdeck-backup.json"
_SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
SNAPSHOT_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$"

Latest = TypeVar("Latest", KeyRing, ErasureList)

log = logging.getLogger(__name__)


class BackupDirectory:
    """Paths below one backup directory, and what stands in its small files."""

    def __init__(self, root: Path, storage: Storage | None = None) -> None:
        self.root = root
        self.storage = storage or Storage()
        self.objects = Objects(root / "objects", self.storage)
        self.snapshots = root / "snapshots"
        self.keyring = root / "keyring.json"
        self.erasures = root / "erasures.json"
        self._mark = root / _MARK
        self._lock = root / "backup.lock"

    def make(self) -> None:
        """Make it, for its owner's eyes only. Raises BackupRefused for a folder that holds something else, OSError."""
        if self.root.exists() and not self._mark.exists():
            if not self.root.is_dir():
                raise BackupRefused(f"{self.root} is no folder")
            if any(path.name not in {"lost+found", "backup.lock"} for path in self.root.iterdir()):
                raise BackupRefused(
                    f"{self.root} holds something that is no backup; name an empty folder, or one that holds backups"
                )
        for folder in (self.root, self.objects.folder, self.snapshots):
            self.storage.make_directory(folder)
            folder.chmod(0o700)
        if not self._mark.exists():
            self._write(self._mark, msgspec.json.encode({"format": FORMAT, "what": "backups of a Wattdeck hub"}))

    @contextlib.contextmanager
    def locked(self, *, make: bool = True, wait_s: float = 0.0) -> Iterator[None]:
        """Nobody else makes or removes backups here meanwhile.

        Raises BackupRefused when somebody still does after `wait_s`.
        """
        if make:
            self.make()
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            latest = time.monotonic() + wait_s
            while not (is_ours := _lock(descriptor)) and time.monotonic() < latest:
                time.sleep(0.05)
            if not is_ours:
                raise BackupRefused(f"another backup into {self.root} is running; try again when it is done")
            yield
        finally:
            os.close(descriptor)

    def remove_unfinished(self) -> int:
        """Remove what an interrupted backup left, under the lock; how many files."""
        left = [path for folder in (self.root, self.snapshots) for path in folder.glob("*.new")]
        for path in left:
            self.storage.unlink(path)
        return len(left) + self.objects.remove_unfinished()

    @property
    def is_one(self) -> bool:
        """Whether backups have been made here."""
        return self._mark.exists()

    def check(self) -> None:
        """Raises NotABackup when there are no backups here."""
        if not self._mark.exists() or not self.snapshots.is_dir():
            raise NotABackup(self.root, "holds no backups of a hub")

    def new_snapshot_name(self, taken_us: int) -> str:
        """Names sort by time."""
        moment = dt.datetime.fromtimestamp(taken_us // 1_000_000, dt.UTC)
        return f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"

    def names(self) -> list[str]:
        """Every snapshot that was finished, oldest first."""
        found = (path.stem for path in self.snapshots.glob("*.json")) if self.snapshots.is_dir() else iter(())
        return sorted(name for name in found if _SNAPSHOT.fullmatch(name))

    def manifest(self, name: str) -> Manifest:
        """What a snapshot is. Raises NotABackup when there is none of this name, BackupDamaged."""
        path = self.snapshots / f"{name}.json"
        try:
            data = path.read_bytes() if _SNAPSHOT.fullmatch(name) else None
        except FileNotFoundError:
            data = None
        if data is None:
            have = ", ".join(self.names()[-5:]) or "none"
            raise NotABackup(self.root, f"has no snapshot {name!r}; the newest are: {have}")
        try:
            found = decode(data, Manifest)
        except ValueError as problem:
            raise BackupDamaged(self.root, [f"snapshots/{name}.json {problem}"]) from None
        if found.snapshot != name:
            raise BackupDamaged(self.root, [f"snapshots/{name}.json says that it is {found.snapshot}"])
        return found

    def sound_manifests(self) -> list[Manifest]:
        """Those that can be read, oldest first; a damaged one is an ERROR line."""
        found = []
        for name in self.names():
            try:
                found.append(self.manifest(name))
            except BackupDamaged as damage:
                log.error("%s", damage)
        return found

    def newest(self) -> str:
        """The name of the newest snapshot. Raises NotABackup."""
        self.check()
        names = self.names()
        if not names:
            raise NotABackup(self.root, "holds no finished snapshot")
        return names[-1]

    def write_manifest(self, manifest: Manifest) -> None:
        """The last step of a backup: from here on the snapshot is there."""
        self._write(self.snapshots / f"{manifest.snapshot}.json", encode(manifest))

    def remove_snapshot(self, name: str) -> None:
        """Its objects stay until they are collected."""
        self.storage.unlink(self.snapshots / f"{name}.json")
        self.storage.unlink(self.snapshots / f"{name}.verified")
        self.storage.sync_directory(self.snapshots)

    def read_keyring(self) -> KeyRing:
        """The latest copy of the persons' keys; empty before the first backup. Raises BackupDamaged."""
        found = self._read(self.keyring, KeyRing)
        return KeyRing(FORMAT, {}) if found is None else found

    def read_erasures(self) -> ErasureList:
        """The latest copy of the erasures; empty before the first backup. Raises BackupDamaged."""
        found = self._read(self.erasures, ErasureList)
        return ErasureList(FORMAT, [], []) if found is None else found

    def write_latest(self, keyring: KeyRing, erasures: ErasureList) -> None:
        """Replace both. The erasures first: a key that is gone must be known as gone."""
        self._write(self.erasures, encode(erasures))
        self._write(self.keyring, encode(keyring))

    def verified(self, name: str) -> Verified | None:
        """When a snapshot was verified last; None when it never was."""
        try:
            return msgspec.json.decode((self.snapshots / f"{name}.verified").read_bytes(), type=Verified)
        except (OSError, msgspec.MsgspecError):
            return None

    def note_verified(self, name: str, verified: Verified) -> None:
        """Remember it beside the manifest, where the disk can be written."""
        with contextlib.suppress(OSError):
            self._write(self.snapshots / f"{name}.verified", msgspec.json.encode(verified))

    def _read(self, path: Path, kind: type[Latest]) -> Latest | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decode(data, kind)
        except ValueError as problem:
            raise BackupDamaged(self.root, [f"{path.name} {problem}"]) from None

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.new")
        self.storage.unlink(temporary)
        self.storage.write_file(temporary, data)
        temporary.chmod(0o600)
        self.storage.rename(temporary, path)
        self.storage.sync_directory(path.parent)


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt  # noqa: PLC0415 - Windows only

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
