"""Which modules are connected now: by their MQTT sessions as the broker tells of them, foreign ones by their word."""

from __future__ import annotations

import collections
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from app.domain.credentials import CredentialKind
from app.sources.presence import ForeignPresence
from broker.engine import ClientInfo

# A module may keep several sessions: client ids "serial" and "serial/anything" (docs/operating.md).
_CLIENT_ID_SEPARATOR = "/"
_ANONYMOUS = "anonymous"


class Sessions:
    """Changes on the loop only; any thread may read `open_now` and `heard`, whose arrays are by module slot."""

    def __init__(self, find_slot: Callable[[str], int | None], foreign: ForeignPresence | None = None) -> None:
        self.foreign = foreign or ForeignPresence()
        self._find_slot = find_slot
        self._open: collections.Counter[str] = collections.Counter()
        # Connected before they had a slot: looked at again when modules were adopted.
        self._slotless: set[str] = set()
        self._open_now = np.zeros(1024, np.bool_)
        self._heard = np.zeros(1024, np.bool_)

    @property
    def count(self) -> int:
        """Modules with an open session."""
        return len(self._open)

    def is_open(self, serial: str) -> bool:
        """Whether a module has a session open."""
        return self._open[serial] > 0

    def open_now(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether each of the first `size` slots has a session open, or says that it is there; a copy."""
        return _first(self._open_now, size) | self.foreign.here(size)

    def heard(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether each of the first `size` slots had a session, or was heard, since the hub started; a copy."""
        return _first(self._heard, size) | self.foreign.heard(size)

    def gone(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether each of the first `size` slots, foreign devices all, says that it is gone; a copy."""
        return self.foreign.gone(size)

    def usual_us(self, size: int) -> npt.NDArray[np.int64]:
        """The usual time between two readings of foreign devices, 0 where it is not known; a copy."""
        return self.foreign.usual_us(size)

    def opened(self, client: ClientInfo) -> None:
        """A client was accepted."""
        self._count(client, 1)

    def closed(self, client: ClientInfo, _cause: str) -> None:
        """A client's connection ended."""
        self._count(client, -1)

    def adopted(self) -> None:
        """Modules may have got their slots by now."""
        for serial in list(self._slotless):
            self._show(serial)

    def _count(self, client: ClientInfo, step: int) -> None:
        serial = serial_of(client)
        if serial is None:
            return
        # An end may be told before the begin, when the first answer could not be sent: so below 0 for a moment.
        self._open[serial] += step
        if self._open[serial] == 0:
            del self._open[serial]
        self._show(serial)

    def _show(self, serial: str) -> None:
        slot = self._find_slot(serial)
        if slot is None:
            # A trial's clients may be called anything: what is gone again is forgotten.
            (self._slotless.add if serial in self._open else self._slotless.discard)(serial)
            return
        self._slotless.discard(serial)
        if slot >= len(self._open_now):
            more = max(slot + 1, 2 * len(self._open_now))
            self._open_now, self._heard = _first(self._open_now, more), _first(self._heard, more)
        self._open_now[slot] = self._open[serial] > 0
        self._heard[slot] = True


def serial_of(client: ClientInfo) -> str | None:
    """The module that a client is, by its credential; by its client id where anonymous clients are let in."""
    if client.access.kind == CredentialKind.MODULE:
        return client.access.subject
    if client.access.kind == _ANONYMOUS:
        return client.client_id.partition(_CLIENT_ID_SEPARATOR)[0]
    return None


def _first(array: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """The first `size` values, false where there are fewer."""
    found = np.zeros(size, np.bool_)
    part = array[:size]
    found[: len(part)] = part
    return found
