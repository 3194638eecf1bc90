"""Reading the access log, which is itself written down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from app.domain.access_chain import Entry
from app.domain.listing import Found, Listing
from app.domain.people import Principal
from app.services.access_verification import Verification, verify
from app.stores.access_head import AccessHead
from app.stores.registry.access_entries import AccessEntries
from app.stores.registry.faults import RefusedChangeError

# A look through a long log computes for seconds; the loop gets its turn between the pieces.
_PAUSE_S = 0.002


class AccessAudit:
    """Blocks on the database. Each method writes an action first: without it nothing is shown."""

    def __init__(self, entries: AccessEntries, head: AccessHead, now_us: Callable[[], int]) -> None:
        self._entries = entries
        self._head = head
        self._now_us = now_us
        self._one_at_a_time = threading.Lock()

    def page(self, by: Principal, listing: Listing) -> Found[Entry]:
        """Some entries."""
        self._record(by, "read", listing)
        return self._entries.page(listing)

    def each(self, by: Principal, listing: Listing) -> Iterator[Entry]:
        """Every entry that meets the conditions."""
        self._record(by, "export", listing)
        return self._entries.each(listing, pause=_pause)

    def verify(self, by: Principal) -> Verification:
        """Read the whole chain. Raises RefusedChangeError while another does."""
        if not self._one_at_a_time.acquire(blocking=False):
            raise RefusedChangeError("the log is being verified already; wait for it to end")
        try:
            self._record(by, "verify", None)
            return verify(self._head.read, self._entries.each(pause=_pause))
        finally:
            self._one_at_a_time.release()

    def _record(self, by: Principal, what: str, listing: Listing | None) -> None:
        # What was looked for may name a person; the columns do not.
        filters = [] if listing is None else sorted({one.column for one in listing.conditions})
        self._entries.record_reading(by.name, what, {"filters": filters}, self._now_us())


def _pause() -> None:
    time.sleep(_PAUSE_S)
