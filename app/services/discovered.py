"""What people do with devices of others that were heard: look, adopt, ignore."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.domain.errors import OperatorInputError
from app.domain.events import Event, EventKind, EventSink
from app.domain.listing import DEFAULT_LIMIT, Found, Listing, parse_listing
from app.stores.registry.faults import RefusedChangeError
from app.stores.registry.foreign_devices import COLUMNS, DeviceRecord, DevicesMoved, ForeignDevices
from app.stores.registry.registry import Registry

# One transaction of so many takes a few tenths of a second in which nobody else writes.
CHANGED_AT_ONCE = 1000


class Discovered:
    """Every method blocks."""

    def __init__(self, registry: Registry, events: EventSink, now_us: Callable[[], int]) -> None:
        self._devices = ForeignDevices(registry, now_us=now_us)
        self._events = events
        self._now_us = now_us

    def page(self, listing: Listing) -> Found[DeviceRecord]:
        """Some of them."""
        return self._devices.page(listing)

    def chosen(self, ids: Sequence[int] | None, filters: Sequence[str] | None) -> Sequence[int]:
        """The devices of a request. Raises OperatorInputError, RefusedChangeError for more than are changed at once."""
        if (ids is None) == (filters is None):
            raise OperatorInputError("give ids or filter, one of them")
        if filters is None:
            return ids or ()
        listing = parse_listing(COLUMNS, offset=0, limit=DEFAULT_LIMIT, sort="", filters=filters)
        found = self._devices.chosen(listing, CHANGED_AT_ONCE + 1)
        if len(found) > CHANGED_AT_ONCE:
            raise RefusedChangeError(f"more than {CHANGED_AT_ONCE} devices meet the filters; add one, or name some")
        return found

    def adopt(self, actor: str, ids: Sequence[int], site_id: int | None, tags: Sequence[str]) -> DevicesMoved:
        """Make devices modules. Raises UnknownNameError for the site."""
        done = self._devices.adopt(actor, ids, site_id=site_id, tags=tags)
        at_us = self._now_us()
        for device in done.moved:
            assert device.serial is not None
            about = {} if site_id is None else {"site_id": site_id}
            self._events.note(Event(device.serial, at_us, EventKind.ADOPTED, {"dialect": device.dialect, **about}))
            if site_id is not None:
                self._events.note(Event(device.serial, at_us, EventKind.PAIRED, {"channel": 1, "site_id": site_id}))
        return done

    def ignore(self, actor: str, ids: Sequence[int], *, named: bool) -> DevicesMoved:
        """Say that devices are none of ours; modules among them only where they were `named`, not met by a filter."""
        return self._devices.ignore(actor, ids, adopted_too=named)

    def restore(self, actor: str, ids: Sequence[int]) -> DevicesMoved:
        """Take ignored devices back."""
        return self._devices.restore(actor, ids)
