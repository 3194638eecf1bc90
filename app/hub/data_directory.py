"""One data directory, one hub: its layout, and the lock that says who runs it and where it listens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from app.client.directory_lock import is_held, take
from app.domain.errors import EnvironmentFault, OperatorInputError
from app.protocol.hub_file import FILE_NAME, LOCK_NAME, ApiFacts, HubFile, decode_hub_file, encode_hub_file

# Asking whether a hub runs takes its lock for an instant: a hub that starts just then tries again.
_TAKE_TRIES = 3
_TAKE_AGAIN_S = 0.05
# A hub that starts can not be told before it listens.
_HUB_STARTS_S = 10.0


class DirectoryInUse(OperatorInputError):
    """Another hub runs on this data directory."""

    def __init__(self, directory: Path, process_id: int | None) -> None:
        self.directory = directory
        self.process_id = process_id
        who = f" (process {process_id})" if process_id else ""
        super().__init__(f"another hub{who} already runs on {directory}; stop it, or choose another with --data")


class DirectoryUnusable(EnvironmentFault):
    """The data directory can not be made or written."""


class DirectoryUnfinished(OperatorInputError):
    """A restore into this directory was interrupted: what it holds is not whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        super().__init__(f"a restore into {directory} was interrupted; remove the folder, then restore again")


class DirectoryNotSimulated(OperatorInputError):
    """A demonstration on a data directory that holds other data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        super().__init__(f"{directory} holds data that are not simulated; name a new directory with --data")


def default_directory() -> Path:
    """Where a user's data are when nothing is said."""
    return Path(platformdirs.user_data_dir("wattdeck", appauthor=False))


class DataDirectory:
    """Paths below one data directory. Everything the hub keeps is here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = root / "registry.sqlite"
        self.journal = root / "journal"
        self.series = root / "series"
        self.broker = root / "broker"
        self.tls = root / "tls"
        self.quarantine = root / "quarantine.sqlite"
        self.events = root / "events.sqlite"
        self.serial = root / "serial.json"
        self.settings = root / "wattdeck.toml"
        self.jobs = root / "jobs"
        self.imports = root / "imports"
        self.logs = root / "logs"
        self.access_head = root / "access-log.head"
        self.lock = root / LOCK_NAME
        self.status = root / FILE_NAME
        # There when what is kept here is made up: once so, always so.
        self.simulated = root / "simulated"
        # There while a backup is being restored.
        self.unfinished = root / "restore.unfinished"

    @property
    def is_simulated(self) -> bool:
        """Whether what is kept here is made up."""
        return self.simulated.exists()

    def mark_simulated(self) -> None:
        """Say for good that what is kept here is made up. Raises DirectoryNotSimulated where real data may be."""
        if self.is_simulated:
            return
        if self.registry.exists():
            raise DirectoryNotSimulated(self.root)
        self.simulated.write_text("What is kept here is simulated.\n", encoding="utf-8")

    def make(self) -> None:
        """Make it, readable by its owner alone, as all that this process will make in it.

        Raises DirectoryUnusable, DirectoryUnfinished.
        """
        os.umask(0o077)
        if self.unfinished.exists():
            raise DirectoryUnfinished(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if os.name == "posix" and self.root.stat().st_uid == os.getuid():
                self.root.chmod(0o700)
        except OSError as error:
            raise DirectoryUnusable(
                f"{self.root} can not be used as data directory: {error.strerror}; name another with --data"
            ) from error


class HubLock:
    """Held while a hub runs; the operating system lets go of it when the process dies, however that happens."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._file = -1

    def take(self) -> None:
        """Raises DirectoryInUse, or DirectoryUnusable."""
        try:
            self._file = os.open(self._directory.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DirectoryUnusable(f"{self._directory.root} can not be written: {error.strerror}") from error
        if not self._taken():
            os.close(self._file)
            status = read_status(self._directory)
            raise DirectoryInUse(self._directory.root, None if status is None else status.pid)
        # What a hub said that was killed: its process id may be another program's by now.
        self._directory.status.unlink(missing_ok=True)

    def say(self, addresses: Mapping[str, tuple[str, int]], api: ApiFacts | None = None) -> None:
        """Write who we are, where we listen and how the API is spoken to, for consoles that attach."""
        fresh = self._directory.status.with_suffix(".new")
        fresh.write_bytes(encode_hub_file(HubFile(os.getpid(), addresses, api or ApiFacts("http"))))
        fresh.replace(self._directory.status)

    def release(self) -> None:
        """Let go; another hub may start."""
        self._directory.status.unlink(missing_ok=True)
        os.close(self._file)

    def _taken(self) -> bool:
        for number in range(_TAKE_TRIES):
            if number:
                time.sleep(_TAKE_AGAIN_S)
            try:
                take(self._file)
            except OSError:
                continue
            return True
        return False


def read_status(directory: DataDirectory) -> HubFile | None:
    """What the running (or last) hub said of itself; None when there is nothing readable."""
    try:
        return decode_hub_file(directory.status.read_bytes())
    except OSError:
        return None


def tell_running_hub(directory: DataDirectory) -> bool:
    """Have the hub that runs on this directory read the registry anew; True also when none runs.

    Waits for a hub that is starting: it may have read the registry before it changed.
    """
    give_up = time.monotonic() + _HUB_STARTS_S
    while is_held(directory.lock):
        status = read_status(directory)
        if status is not None and _told(status.pid):
            return True
        if not hasattr(signal, "SIGHUP") or time.monotonic() > give_up:
            return False
        time.sleep(_TAKE_AGAIN_S)
    return True


def _told(process_id: int) -> bool:
    if not hasattr(signal, "SIGHUP"):
        return False
    try:
        os.kill(process_id, signal.SIGHUP)
    except OSError:
        return False
    return True
