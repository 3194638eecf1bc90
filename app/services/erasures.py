"""What follows an erasure at once: the backups' keys, and what SQLite's log of changes still has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.domain.errors import EnvironmentFault, WattdeckError
from app.stores.backup.directory import BackupDirectory
from app.stores.registry.erasures import newest_erasures
from app.stores.registry.registry import Registry

log = logging.getLogger(__name__)

# Another process may have erased somebody: what is behind is looked for this often.
_LOOK_EACH_S = 600.0
# While something could not be done: a backup has the folder, or its disk is away. At first after the shorter one.
_SOON_S, _AGAIN_S = 1.0, 30.0
# The keys of a fleet take seconds.
_PROCESS_S = 120.0


class ErasuresNotTold(EnvironmentFault):
    """The backups could not be told of an erasure; the sentence is its process's."""


def in_a_process(words: Sequence[str], environment: Mapping[str, str]) -> Callable[[Path], None]:
    """Tells a folder of backups by a command of ours: the keys of a fleet would keep the hub's interpreter busy.

    What comes back blocks, and raises ErasuresNotTold, OSError.
    """

    def tell(folder: Path) -> None:
        try:
            done = subprocess.run(
                [*words, str(folder)],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROCESS_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ErasuresNotTold(f"it took longer than {_PROCESS_S:.0f} s") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ErasuresNotTold(last.removeprefix("wattdeck: "))

    return tell


class ErasureFollower:
    """`run` is a lasting task of the loop on which this is made; `erased` is for any thread.

    `folder` is where the backups are now; None, or a folder without backups: nothing is to be done there.
    """

    def __init__(
        self,
        registry: Registry,
        folder: Callable[[], Path | None],
        tell: Callable[[Path], None],
        *,
        again_s: float = _AGAIN_S,
        look_each_s: float = _LOOK_EACH_S,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._tell = tell
        self._again_s = again_s
        self._look_each_s = look_each_s
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        # The folder, and how many erasures it knows for certain up to which time.
        self._told: tuple[Path, int, int] | None = None
        self._behind = 0
        self._failures = 0
        self._failing: set[str] = set()

    def erased(self) -> None:
        """Somebody or something was erased."""
        # A loop that is closed has nobody to wake; the next hub looks at its start.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._asked.set)

    def statistics(self) -> dict[str, float]:
        """For the hub's statistics."""
        return {"erasures_behind": self._behind, "erasure_failures": self._failures}

    async def run(self) -> None:
        """Now, after each erasure, and now and then."""
        again_s = _SOON_S
        while True:
            self._asked.clear()
            if await asyncio.to_thread(self.follow):
                again_s, wait_s = _SOON_S, self._look_each_s
            else:
                # Mostly a backup that is just ending: soon, then later and later.
                again_s, wait_s = min(2 * again_s, self._again_s), min(again_s, self._again_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), wait_s)

    def follow(self) -> bool:
        """Do what an erasure leaves to be done; False when something of it failed. Blocks."""
        told = self._tried("an erasure has not reached the backups yet", self._tell_backups)
        cleared = self._tried("erased data may still stand in the registry's log of changes", self._clear_log)
        return told and cleared

    def _tried(self, what: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except (WattdeckError, OSError) as error:
            self._failures += 1
            if what not in self._failing:
                log.error("%s, it is tried again: %s", what, error)
            self._failing.add(what)
            return False
        if what in self._failing:
            log.info("no longer so: %s", what)
        self._failing.discard(what)
        return True

    def _clear_log(self) -> None:
        self._registry.overwrite_erased()

    def _tell_backups(self) -> None:
        folder = self._folder()
        with self._registry.reading() as connection:
            count, newest_us = newest_erasures(connection)
        if folder is None or not count or not BackupDirectory(folder).is_one:
            self._behind = 0
            return
        known = self._told[1] if self._told is not None and self._told[0] == folder else 0
        if self._told == (folder, count, newest_us):
            return
        # Who was erased once more is one, too.
        self._behind = max(1, count - known)
        self._tell(folder)
        log.info("the backups in %s know %d erasures", folder, count)
        self._told, self._behind = (folder, count, newest_us), 0
