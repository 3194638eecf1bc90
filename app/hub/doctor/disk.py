"""The disk under the data directory: room, speed, kind, who may read it."""

from __future__ import annotations

import os
import shutil
import stat
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from app.hub.doctor.patient import Patient, failed, ok, unknown, warning
from app.protocol.api.doctor import Finding

_MEGABYTE = 1_000_000
# Twice what the hub leaves free: an evening of warning for a small fleet.
_ROOM_FACTOR = 2
# The journal syncs every 250 ms; a sync that takes a good part of that delays every acknowledgement.
_SLOW_SYNC_MS = 50.0
_SYNCS = 7
_SYNCED_BYTES = 4096
_FEW_NAMES = 1000
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs"})


def check_disk(patient: Patient) -> Iterator[Finding]:
    """Free space, time of a sync, file system."""
    ground = patient.ground
    yield _free_space(patient, ground)
    yield from _free_names(ground)
    yield _sync_time(ground)
    yield _file_system(ground)


def _free_space(patient: Patient, ground: Path) -> Finding:
    free = shutil.disk_usage(ground).free // _MEGABYTE
    least = patient.settings.ingest.minimum_free_mb
    measured = f"{free:,} MB free, {least:,} MB stay free for the registry (ingest.minimum_free_mb)"
    if free < least:
        return failed("disk.free", measured, "free some space: the journal takes no readings now")
    if free < least * _ROOM_FACTOR:
        return warning("disk.free", measured, "free some space before the journal stops taking readings")
    return ok("disk.free", measured)


def _free_names(ground: Path) -> Iterator[Finding]:
    if hasattr(os, "statvfs"):
        found = os.statvfs(ground)
        if found.f_files and found.f_favail < _FEW_NAMES:
            yield warning("disk.files", f"room for {found.f_favail} more files", "delete small files on this disk")


def _sync_time(ground: Path) -> Finding:
    took = []
    try:
        # Without a name where the system has that: it is gone when it is closed, however we end.
        with tempfile.TemporaryFile(dir=ground, buffering=0) as file:
            for _ in range(_SYNCS):
                began = time.perf_counter()
                file.write(bytes(_SYNCED_BYTES))
                os.fsync(file.fileno())
                took.append((time.perf_counter() - began) * 1000)
    except OSError as error:
        return failed(
            "disk.sync",
            f"{ground} can not be written: {error.strerror}",
            "check owner, permissions and free space, and whether the disk is mounted read-only",
        )
    measured = f"4 kB written and synced in {statistics.median(took):.2f} ms, {max(took):.2f} ms at most"
    if statistics.median(took) > _SLOW_SYNC_MS:
        return warning("disk.sync", measured, "use a faster disk: every acknowledgement waits for a sync")
    return ok("disk.sync", measured)


def _file_system(ground: Path) -> Finding:
    path = ground.resolve()
    best = None
    for one in psutil.disk_partitions(all=True):
        mount = Path(one.mountpoint)
        # Of two at one place the later one is seen.
        if path.is_relative_to(mount) and (best is None or len(str(mount)) >= len(best.mountpoint)):
            best = one
    if best is None or not best.fstype:
        return unknown("disk.type", "this system does not say which file system it is")
    measured = f"{best.fstype} at {best.mountpoint}"
    if best.fstype in _IN_MEMORY:
        return warning("disk.type", measured, "this is memory: everything is gone when the machine restarts")
    if best.fstype.casefold() in _NETWORK:
        return warning(
            "disk.type", measured, "use a local disk: locks and syncs of network ones are not to be relied on"
        )
    return ok("disk.type", measured)


def check_permissions(patient: Patient) -> Iterator[Finding]:
    """Nobody but the owner may read what says who lives where."""
    root = patient.directory.root
    if not root.exists():
        yield ok("data", f"{root} is made at the first start")
        return
    if os.name != "posix":
        yield unknown("data.permissions", "not looked at on this system")
        return
    mine = root.stat()
    if mine.st_uid != os.geteuid() and os.geteuid() != 0:
        yield failed("data.owner", f"{root} belongs to user {mine.st_uid}", "run the hub and its commands as that user")
    secret = [*root.glob("*.sqlite*"), *(root / "tls").glob("*.key"), *(root / "tls").glob("server.pem")]
    opened = [path for path in secret if path.stat().st_mode & 0o077]
    mode = stat.S_IMODE(mine.st_mode)
    if mode & 0o077:
        yield failed("data.permissions", f"{root} has mode {mode:04o}", f"chmod 700 {root}: it says who lives where")
    elif opened:
        yield warning(
            "data.permissions", f"{opened[0]} and {len(opened) - 1} more are readable by others", "chmod 600 them"
        )
    else:
        yield ok("data.permissions", f"{root} has mode {mode:04o}")
