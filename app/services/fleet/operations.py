"""What people do to modules and their pairings: the registry's parts, and an event for each change of a pairing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.domain.credentials import is_serial
from app.domain.errors import OperatorInputError
from app.domain.events import Event, EventKind, EventSink
from app.domain.keys import CollectionLevel
from app.services.fleet.import_file import ImportFile, read_import
from app.stores.registry.admission import Admission, Admitted, NewModule
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.module_edits import BulkAction, ModuleEdits, ModuleFile, Outcome
from app.stores.registry.pairing_edits import CurrentSupply, PairingEdits, PairingFile
from app.stores.registry.records import PairedAs, Provisioned
from app.stores.registry.registry import Registry

# A change of pairing may be told a little ahead of its time, by a clock that is ahead of ours.
_MOST_AHEAD_US = 300_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class When:
    """Which channel, and from which moment on (UTC microseconds; None: now)."""

    channel: int
    at_us: int | None


class FleetOperations:
    """Every method blocks. `actor` is who does it. Each raises UnknownNameError for a module that is not there."""

    def __init__(self, registry: Registry, events: EventSink, *, now_us: Callable[[], int]) -> None:
        self._events = events
        self._now_us = now_us
        self._edits = ModuleEdits(registry, now_us=now_us)
        self._pairings = PairingEdits(registry, now_us=now_us)
        self._admission = Admission(registry, now_us=now_us)

    def one(self, serial: str) -> ModuleFile:
        """A module."""
        return self._edits.one(_checked(serial))

    def edit(self, actor: str, serial: str, version: int, values: Mapping[str, Any]) -> ModuleFile:
        """Change a module's note, collection or period. Raises VersionConflict."""
        return self._edits.edit(actor, _checked(serial), version, values)

    def set_tags(self, actor: str, serial: str, version: int, tags: Sequence[str]) -> ModuleFile:
        """Put these tags in place of a module's. Raises VersionConflict, OperatorInputError."""
        return self._edits.set_tags(actor, _checked(serial), version, tags)

    def rekey(self, actor: str, serial: str) -> Provisioned:
        """A new secret, told this once. Raises RefusedChangeError."""
        return self._edits.rekey(actor, _checked(serial))

    def block(self, actor: str, serial: str) -> ModuleFile:
        """Refuse a module and end its session; one that is blocked stays so. Raises RefusedChangeError."""
        return self._switch(actor, serial, BulkAction.BLOCK)

    def unblock(self, actor: str, serial: str) -> ModuleFile:
        """Let a module in again. Raises RefusedChangeError."""
        return self._switch(actor, serial, BulkAction.UNBLOCK)

    def plan(self, serials: Sequence[str], action: BulkAction, tag: str | None) -> Outcome:
        """Whom a bulk action would change."""
        return self._edits.plan(serials, action, tag)

    def act(
        self, actor: str, serials: Sequence[str], action: BulkAction, tag: str | None, *, job_id: str | None = None
    ) -> Outcome:
        """Do something to many modules, all in one transaction; `job_id` is the job that they are a part of."""
        return self._edits.act(actor, serials, action, tag, job_id=job_id)

    # New modules

    def create(self, actor: str, module: NewModule, *, period_ms: int | None, level: CollectionLevel) -> Provisioned:
        """Register a module. Raises NameTakenError, UnknownNameError for its site, OperatorInputError."""
        admitted = self._admission.admit(actor, [module], period_ms=period_ms, level=level)
        self._note_paired([module])
        return admitted.credentials[0]

    def check_import(self, raw: bytes) -> ImportFile:
        """Read a file of modules. Raises OperatorInputError for what is none."""
        return read_import(raw, taken=self._admission.taken, sites_at=self._admission.sites_at)

    def admit(self, actor: str, file: ImportFile, *, level: CollectionLevel) -> Admitted:
        """Register the modules of a file without mistakes. Raises NameTakenError: somebody was faster."""
        admitted = self._admission.admit(actor, file.modules, level=level)
        self._note_paired(file.modules)
        return admitted

    # Pairings

    def pairings(self, serial: str) -> list[PairingFile]:
        """The pairings of a module's channels, oldest first."""
        return self._pairings.pairings(_checked(serial))

    def supplies(self, serial: str) -> list[CurrentSupply]:
        """Whose the readings of a module's channels are now."""
        return self._pairings.supplies(_checked(serial))

    def supplies_of_many(self, serials: Sequence[str]) -> dict[str, CurrentSupply]:
        """The first channel's of each module."""
        return self._pairings.supplies_of_many(serials)

    def pair(self, actor: str, serial: str, when: When, paired: PairedAs, *, new_holder: bool) -> ModuleFile:
        """Pair a channel with a site. Raises RefusedChangeError."""
        at_us = self._moment(when)
        self._pairings.pair(actor, _checked(serial), when.channel, at_us, paired, new_holder=new_holder)
        self._note([serial], EventKind.PAIRED, {"site_id": paired.site_id, "channel": when.channel}, at_us)
        return self.one(serial)

    def unpair(self, actor: str, serial: str, when: When, level: CollectionLevel) -> ModuleFile:
        """End a pairing. Raises RefusedChangeError."""
        at_us = self._moment(when)
        self._pairings.unpair(actor, _checked(serial), when.channel, at_us, level)
        self._note([serial], EventKind.UNPAIRED, {"channel": when.channel}, at_us)
        return self.one(serial)

    def change_meter(self, actor: str, serial: str, when: When, meter_serial: str | None) -> ModuleFile:
        """The site has a new meter. Raises RefusedChangeError."""
        at_us = self._moment(when)
        self._pairings.change_meter(actor, _checked(serial), when.channel, at_us, meter_serial)
        self._note([serial], EventKind.METER_CHANGED, {"channel": when.channel}, at_us)
        return self.one(serial)

    def change_holder(
        self, actor: str, serial: str, when: When, *, holder: str | None, new_holder: bool, level: CollectionLevel
    ) -> ModuleFile:
        """The site has a new holder. That is no event of the module: its time line says nothing of persons."""
        self._pairings.change_holder(
            actor,
            _checked(serial),
            when.channel,
            self._moment(when),
            holder=holder,
            level=level,
            new_holder=new_holder,
        )
        return self.one(serial)

    def _switch(self, actor: str, serial: str, action: BulkAction) -> ModuleFile:
        found = self.one(serial)
        if found.credential == "none":
            raise RefusedChangeError(f"{serial} has no credential that could be blocked")
        outcome = self.act(actor, [serial], action, None)
        return self.one(serial) if outcome.affected else found

    def _moment(self, when: When) -> int:
        now_us = self._now_us()
        if when.at_us is None:
            return now_us
        if when.at_us > now_us + _MOST_AHEAD_US:
            raise OperatorInputError("a pairing can not be changed ahead of its time")
        return when.at_us

    def _note_paired(self, modules: Sequence[NewModule]) -> None:
        # The number of a new site is in the registry; an event without it says as much as a time line needs.
        for module in modules:
            if module.site is not None:
                facts = {"site_id": module.site, "channel": 1} if isinstance(module.site, int) else {"channel": 1}
                self._note([module.serial], EventKind.PAIRED, facts)

    def _note(
        self, serials: Sequence[str], kind: EventKind, details: Mapping[str, Any], at_us: int | None = None
    ) -> None:
        at_us = self._now_us() if at_us is None else at_us
        for serial in serials:
            self._events.note(Event(serial, at_us, kind, details))


def _checked(serial: str) -> str:
    """The serial. What can be none is not there, and no database is asked for it."""
    if not is_serial(serial):
        raise UnknownNameError("module", repr(serial[:40]))
    return serial
