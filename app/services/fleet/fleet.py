"""Keeps the fleet's table and search index in step with the registry, and answers lists from them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.errors import EnvironmentFault, WattdeckError
from app.domain.listing import Listing
from app.ingest.live import LiveState
from app.services.fleet.columns import chosen
from app.services.fleet.live_columns import LiveColumns, OpenSessions, UsualGaps, live_columns
from app.services.fleet.search import SearchIndex, SearchTexts
from app.services.fleet.table import FleetTable, FleetTableBuilder
from app.stores.registry.fleet_rows import FleetRows
from app.stores.registry.records import Change, CredentialsChanged, ModulesChanged, SitesChanged

log = logging.getLogger(__name__)

# Changes are gathered this long: a fleet that comes back tells of hundreds of births a second.
REBUILD_EACH_S = 0.25
RETRY_S = 2.0
# Modules or sites that are read and put at once: a few milliseconds of the interpreter, then the loop has its turn.
_AT_ONCE = 200
_PAUSE_S = 0.0005


@dataclasses.dataclass(frozen=True, slots=True)
class FleetState:
    """What lists and searches are answered from."""

    table: FleetTable
    index: SearchIndex


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Rows of the table that were asked for, of `total` that meet the conditions, with their columns at that instant.

    `live_rows` are the places of the same rows in the live columns.
    """

    table: FleetTable
    live: LiveColumns
    rows: npt.NDArray[np.intp]
    live_rows: npt.NDArray[np.intp]
    total: int

    def values(self, name: str) -> list[Any]:
        """A column of these rows."""
        if name in self.table.columns:
            return self.table.columns[name].values(self.rows)
        return self.live.all[name].values(self.live_rows)


@dataclasses.dataclass(slots=True)
class _Changed:
    serials: set[str] = dataclasses.field(default_factory=set)
    sites: set[int] = dataclasses.field(default_factory=set)
    everything: bool = False


class FleetNotReadYet(EnvironmentFault):
    """The hub has only just started."""

    def __init__(self) -> None:
        super().__init__("the hub has just started and still reads the fleet; try again in a few seconds")


class Fleet:
    """`state` is exchanged as a whole; any thread may read it. Answers lag behind the registry by a moment.

    Before the fleet was read for the first time whoever asks is told so: every question raises FleetNotReadYet.
    """

    def __init__(
        self,
        rows: FleetRows,
        find_slot: Callable[[str], int | None],
        live: LiveState,
        sessions: OpenSessions,
        *,
        now_us: Callable[[], int],
        rebuild_each_s: float = REBUILD_EACH_S,
    ) -> None:
        self._rows = rows
        self._find_slot = find_slot
        self._live = live
        self._sessions = sessions
        self._now_us = now_us
        self._rebuild_each_s = rebuild_each_s
        self.gaps = UsualGaps(live)
        self._builder = FleetTableBuilder(find_slot)
        self._texts = SearchTexts()
        self._state: FleetState | None = None
        # Set on the loop, once the fleet was read.
        self.loaded = asyncio.Event()
        self._lock = threading.Lock()
        self._changed = _Changed()
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def state(self) -> FleetState:
        """The state of now."""
        if self._state is None:
            raise FleetNotReadYet
        return self._state

    @property
    def table(self) -> FleetTable:
        """The table of now."""
        return self.state.table

    def follow(self, subscribe: Callable[[Callable[[Change], None]], None]) -> None:
        """From now on take over each change of the registry; call it on the loop, before anything is read."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        subscribe(self._on_change)

    def load(self) -> None:
        """Read everything; blocks, a second or two for 48,000 modules."""
        self._take(_Changed(everything=True))

    def reload(self) -> None:
        """Have everything read (anew: another process has changed the registry). On the loop."""
        with self._lock:
            self._changed.everything = True
        self.ask()

    def ask(self) -> None:
        """Modules may have got their slots, or something changed; on the loop."""
        if self._wake is not None:
            self._wake.set()

    async def run(self) -> None:
        """Take changes over until cancelled."""
        assert self._wake is not None
        failed = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._lock:
                changed, self._changed = self._changed, _Changed()
            try:
                await asyncio.to_thread(self._take, changed)
            except WattdeckError as error:
                with self._lock:
                    self._changed.serials |= changed.serials
                    self._changed.sites |= changed.sites
                    self._changed.everything |= changed.everything
                if not failed:
                    log.warning("the fleet's table can not be brought up to date, the old one holds: %s", error)
                failed = True
                self._wake.set()
                await asyncio.sleep(RETRY_S)
                continue
            failed = False
            if self._state is not None:
                self.loaded.set()
            await asyncio.sleep(self._rebuild_each_s)

    async def watch_gaps(self) -> None:
        """Look now and then at how far each module is, until cancelled."""
        while True:
            self.gaps.look(self._now_us())
            await asyncio.sleep(self.gaps.each_s)

    def select(self, listing: Listing) -> Selection:
        """A page of the fleet; a few milliseconds of numpy. Raises OperatorInputError."""
        table, live, rows = self._chosen(listing)
        page = rows[listing.offset : listing.offset + listing.limit]
        return Selection(table, live, page, page, len(rows))

    def select_serials(self, serials: Sequence[str]) -> Selection:
        """Some modules; those that the table does not know (yet) are left out."""
        table = self.state.table
        found = [row for serial in serials if (row := table.row(serial)) is not None]
        rows = np.array(found, np.intp)
        live = live_columns(table, rows, self._live, self._sessions, self.gaps, self._now_us())
        return Selection(table, live, rows, np.arange(len(rows)), len(rows))

    def select_all(self, listing: Listing) -> list[str]:
        """The serials of every module that meets a listing's conditions, in its order. Raises OperatorInputError."""
        table, _live, rows = self._chosen(listing)
        return [raw.decode() for raw in table.serials[rows].tolist()]

    def _chosen(self, listing: Listing) -> tuple[FleetTable, LiveColumns, npt.NDArray[np.intp]]:
        table = self.state.table
        live = live_columns(table, None, self._live, self._sessions, self.gaps, self._now_us())
        return table, live, chosen(listing, {**table.columns, **live.all}, table.by_serial)

    def _on_change(self, change: Change) -> None:
        # Called in whatever thread changed the registry.
        with self._lock:
            if isinstance(change, ModulesChanged):
                self._changed.serials.update(change.serials)
            elif isinstance(change, CredentialsChanged):
                # A module's user name is its serial; other names are no module's, which the reading finds out.
                self._changed.serials.update(change.usernames)
            elif isinstance(change, SitesChanged):
                self._changed.sites.update(change.numbers)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.ask)

    def _take(self, changed: _Changed) -> None:
        if changed.everything or self._state is None:
            self._take_all()
            return
        serials, sites = sorted(changed.serials), sorted(changed.sites)
        for begin in range(0, len(serials), _AT_ONCE):
            modules = self._rows.modules(serials[begin : begin + _AT_ONCE])
            self._texts.put_modules(modules, self._builder.put(modules))
            time.sleep(_PAUSE_S)
        for begin in range(0, len(sites), _AT_ONCE):
            wanted = sites[begin : begin + _AT_ONCE]
            found = self._rows.sites(wanted)
            self._texts.drop_sites(set(wanted) - {site.id for site in found})
            self._texts.put_sites(found)
            time.sleep(_PAUSE_S)
        self._state = self._publish()

    def _take_all(self) -> None:
        # Anew, and beside the old ones: a reading that fails half way leaves those as they are.
        builder, texts = FleetTableBuilder(self._find_slot), SearchTexts()
        for modules in self._rows.all_modules(_AT_ONCE):
            texts.put_modules(modules, builder.put(modules))
            time.sleep(_PAUSE_S)
        for sites in self._rows.all_sites(_AT_ONCE):
            texts.put_sites(sites)
            time.sleep(_PAUSE_S)
        self._builder, self._texts = builder, texts
        self._state = self._publish()

    def _publish(self) -> FleetState:
        table = self._builder.table()
        return FleetState(table, self._texts.index(table))
