"""The registry: the one object through which the platform asks and tells who and what there is."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from sqlalchemy import Connection

from app.domain.credentials import CredentialKind
from app.domain.events import EventKind
from app.domain.keys import CollectionLevel, SupplyPeriods, draw_keys, draw_token
from app.stores import wall_clock
from app.stores.registry import accounts, places, provisioning, supply
from app.stores.registry.erasures import ERASED
from app.stores.registry.faults import RegistryBusy, faults_of
from app.stores.registry.migrating import bring_up_to_date, check_up_to_date
from app.stores.registry.opening import BUSY_TIMEOUT_MS, CLEARING_TIMEOUT_MS, Location, connect, locate
from app.stores.registry.provisioning import Template
from app.stores.registry.records import (
    GIVEN,
    Change,
    Collection,
    CredentialRecord,
    CredentialRow,
    CredentialsChanged,
    KeyChange,
    KeyRecord,
    ModuleFacts,
    ModuleRecord,
    ModulesChanged,
    NewSite,
    PairedAs,
    PairingChanged,
    PairingRecord,
    Place,
    Provisioned,
    SiteRecord,
    SitesChanged,
)
from app.stores.registry.upgrading import copy_first

_log = logging.getLogger(__name__)


def wall_clock_us() -> int:
    """UTC microseconds since 1970."""
    return wall_clock.now_us()


class Registry:
    """Every method blocks on the database and may be called from any thread but the loop's; writes take turns.

    A method that writes is one transaction: when it raises, nothing changed; when it returns, the change survives power
    loss. Any method may raise `RegistryFault` (the environment failed); the other errors are named with each.
    """

    def __init__(
        self,
        location: Location,
        *,
        now_us: Callable[[], int] = wall_clock_us,
        draw_keys: supply.KeySource = draw_keys,
        draw_token: supply.TokenSource = draw_token,
    ) -> None:
        """Use `open`, which checks and migrates first."""
        self._location = location
        self._now_us = now_us
        self._draw_keys = draw_keys
        self._draw_token = draw_token
        self._writer = connect(location, "write")
        self._readers = connect(location, "read")
        self._write_lock = threading.Lock()
        self._listeners: list[Callable[[Change], None]] = []
        # Told after the commit of a transaction that has erased somebody or something, in its thread; must not raise.
        self.on_erased: list[Callable[[], None]] = []

    @classmethod
    def open(cls, url: str | Path, *, now_us: Callable[[], int] = wall_clock_us, upgrade_server: bool = False) -> Self:
        """Open a registry by its URL or the path of its SQLite file; make it when there is none, migrate an older one.

        An older SQLite file is copied first; an older database on a server is only migrated with `upgrade_server`.

        Raises:
            RegistryUrlError, RegistryTooNew, RegistryForeignError: it can not be the registry.
            RegistryUpgradeRefused: it is an older one on a server.
            RegistryDamaged, RegistryFault: it can not be used; it is left as it is.
        """
        location = locate(url)
        before = bring_up_to_date(location, before_migrating=copy_first(upgrade_server=upgrade_server))
        _log.info("registry %s opened, had version %d", location.place, before)
        registry = cls(location, now_us=now_us)
        try:
            # The first write of the day must not be what finds out that the disk is read-only.
            with registry._writing():
                pass
        except BaseException:
            registry.close()
            raise
        return registry

    @classmethod
    def open_to_read(cls, url: str | Path) -> Self:
        """Open a registry beside a hub, or on a disk that can not be written; its writing methods fail.

        Raises as `open`, and RegistryTooOld when a hub has to migrate it first.
        """
        location = locate(url)
        check_up_to_date(location)
        return cls(location)

    def close(self) -> None:
        """Close every connection; call it when no other method runs."""
        self._readers.dispose()
        self._writer.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The file or the URL without its password, for messages."""
        return self._location.place

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """Have a listener told of each change after its commit, in the thread that made it. It must not raise."""
        self._listeners.append(listener)

    # Modules

    def provision_many(self, serials: Sequence[str], template: Template | None = None) -> list[Provisioned]:
        """Register modules and give each a credential; all or none. The secrets are told this once.

        Raises:
            OperatorInputError: a serial that can be none, or twice in the list.
            NameTakenError: some are registered.
            UnknownNameError: a site of the template does not exist.
        """
        with self._writing() as connection:
            now_us = self._now_us()
            provisioning.register(connection, serials, template or Template(), now_us, self._draw_keys)
            given = provisioning.give_credentials(connection, serials, now_us)
        self._tell(ModulesChanged(tuple(serials)))
        self._tell(CredentialsChanged(tuple(serials), GIVEN))
        return given

    def provision(self, serial: str, template: Template | None = None) -> Provisioned:
        """Register one module; as `provision_many`."""
        (provisioned,) = self.provision_many([serial], template)
        return provisioned

    def ensure_modules(self, serials: Sequence[str], template: Template | None = None) -> list[str]:
        """Register those that are not, without credentials (meters on a serial port, foreign devices); the new ones.

        Raises OperatorInputError for a serial that can be none.
        """
        with self._writing() as connection:
            missing = provisioning.missing_modules(connection, serials)
            provisioning.register(connection, missing, template or Template(), self._now_us(), self._draw_keys)
        if missing:
            self._tell(ModulesChanged(tuple(missing)))
        return missing

    def give_credentials(self, serials: Sequence[str]) -> list[Provisioned]:
        """Give modules that were registered without one a credential. Raises NameTakenError, UnknownNameError."""
        with self._writing() as connection:
            given = provisioning.give_credentials(connection, serials, self._now_us())
        self._tell(CredentialsChanged(tuple(serials), GIVEN))
        return given

    def module(self, serial: str) -> ModuleRecord | None:
        """One module, or None."""
        with self._reading() as connection:
            return next(iter(places.modules(connection, [serial])), None)

    def modules(self, serials: Sequence[str] | None = None) -> list[ModuleRecord]:
        """Every module, or those of some serials that are registered, by serial."""
        with self._reading() as connection:
            return places.modules(connection, serials)

    def set_facts(
        self,
        serial: str,
        *,
        period_ms: int | None = None,
        firmware: str | None = None,
        hardware: str | None = None,
        meter_serial: str | None = None,
    ) -> None:
        """Write what a birth message or a meter says of itself; None leaves a fact as it was.

        Raises UnknownNameError.
        """
        facts = {"period_ms": period_ms, "firmware": firmware, "hardware": hardware, "meter_serial": meter_serial}
        with self._writing() as connection:
            places.set_facts(connection, serial, {name: fact for name, fact in facts.items() if fact is not None})
        self._tell(ModulesChanged((serial,)))

    def set_facts_of_many(self, facts: Mapping[str, ModuleFacts]) -> None:
        """`set_facts` for a fleet that comes back, in one transaction; unknown modules are passed over."""
        if not facts:
            return
        with self._writing() as connection:
            places.set_facts_of_many(connection, facts)
        self._tell(ModulesChanged(tuple(facts)))

    def set_collection(self, serial: str, collection: Collection) -> None:
        """Pause, retire or resume a module. Raises UnknownNameError."""
        with self._changing(serial) as connection:
            places.set_collection(connection, serial, collection)

    # Credentials

    def add_credential(
        self,
        username: str,
        kind: CredentialKind,
        *,
        publish: Sequence[str] = (),
        subscribe: Sequence[str] = (),
        note: str = "",
    ) -> str:
        """Add a source's, an operator's or a service's credential; its secret, told this once.

        Raises OperatorInputError for a name or pattern that can be none, NameTakenError.
        """
        with self._writing() as connection:
            secret = accounts.add(
                connection,
                username,
                kind,
                publish=publish,
                subscribe=subscribe,
                note=note,
                now_us=self._now_us(),
            )
        self._tell(CredentialsChanged((username,)))
        return secret

    def rotate_secret(self, username: str) -> str:
        """A new secret for a credential, told this once; the old one ends. Raises UnknownNameError."""
        with self._writing() as connection:
            secret = accounts.rotate(connection, username)
        self._tell(CredentialsChanged((username,), "re-keyed"))
        return secret

    def block(self, username: str) -> None:
        """Refuse a credential from now on. Raises UnknownNameError."""
        with self._writing() as connection:
            accounts.set_blocked(connection, username, self._now_us())
        self._tell(CredentialsChanged((username,), "blocked"))

    def unblock(self, username: str) -> None:
        """Accept a blocked credential again. Raises UnknownNameError."""
        with self._writing() as connection:
            accounts.set_blocked(connection, username, None)
        self._tell(CredentialsChanged((username,), "unblocked"))

    def remove_credential(self, username: str) -> None:
        """Remove a credential. Raises UnknownNameError."""
        with self._writing() as connection:
            accounts.remove(connection, username)
        self._tell(CredentialsChanged((username,), "removed"))

    def note_used(self, used_us: Mapping[str, int]) -> None:
        """Write when credentials were used last, by user name; call it now and then, not per CONNECT."""
        with self._writing() as connection:
            accounts.note_used(connection, used_us)

    def credentials(self) -> list[CredentialRecord]:
        """Every credential without its secret, by user name."""
        with self._reading() as connection:
            return accounts.records(connection)

    def credential_rows(self, usernames: Sequence[str] | None = None) -> list[CredentialRow]:
        """What the authenticator keeps in memory, of every credential or of some."""
        with self._reading() as connection:
            return accounts.rows(connection, usernames)

    # Sites, holders, pairings

    def add_sites(self, sites: Sequence[NewSite]) -> list[int]:
        """Add sites; their numbers, in order. Raises OperatorInputError for an unknown time zone."""
        with self._writing() as connection:
            numbers = places.add_sites(connection, sites, self._now_us())
        self._tell(SitesChanged(tuple(numbers)))
        return numbers

    def sites(self) -> list[SiteRecord]:
        """Every site, by number."""
        with self._reading() as connection:
            return places.sites(connection)

    def city_numbers(self) -> dict[str, int]:
        """The number of every city that ever had a site."""
        with self._reading() as connection:
            return places.city_numbers(connection)

    def add_holder(self) -> str:
        """A new holder; the token that stands for them."""
        with self._writing() as connection:
            return supply.give_token(connection, self._draw_token, self._now_us())

    def pair(self, serial: str, channel: int, at_us: int, paired: PairedAs) -> KeyChange:
        """Pair a channel with a site and meter from a moment on. Raises RefusedChangeError, UnknownNameError."""
        with self._changing(serial) as connection:
            row = supply.channel_id(connection, serial, channel)
            change = supply.pair(connection, row, at_us, paired, self._draw_keys)
        self._tell(PairingChanged(serial, channel, at_us, EventKind.PAIRED, paired.site_id))
        return change

    def unpair(
        self, serial: str, channel: int, at_us: int, *, level: CollectionLevel = CollectionLevel.NONE
    ) -> KeyChange:
        """End a pairing. Whose the readings are then is unknown, so nothing is kept of them unless `level` says so.

        Raises RefusedChangeError, UnknownNameError.
        """
        with self._changing(serial) as connection:
            row = supply.channel_id(connection, serial, channel)
            change = supply.unpair(connection, row, at_us, level, self._draw_keys)
        self._tell(PairingChanged(serial, channel, at_us, EventKind.UNPAIRED))
        return change

    def change_meter(self, serial: str, channel: int, at_us: int, meter_serial: str | None) -> KeyChange:
        """The site has a new meter from a moment on. Raises RefusedChangeError, UnknownNameError."""
        with self._changing(serial) as connection:
            row = supply.channel_id(connection, serial, channel)
            change = supply.change_meter(connection, row, at_us, meter_serial, self._draw_keys)
        self._tell(PairingChanged(serial, channel, at_us, EventKind.METER_CHANGED))
        return change

    def change_holder(
        self, serial: str, channel: int, at_us: int, holder: str | None, level: CollectionLevel
    ) -> KeyChange:
        """The site has a new holder, with a consent of their own, from a moment on.

        Raises RefusedChangeError, UnknownNameError.
        """
        with self._changing(serial) as connection:
            row = supply.channel_id(connection, serial, channel)
            return supply.change_holder(connection, row, at_us, holder=holder, level=level, draw=self._draw_keys)

    def pairings(self, serial: str, channel: int = 1) -> list[PairingRecord]:
        """The pairings of a channel, oldest first."""
        with self._reading() as connection:
            return supply.pairings_of(connection, serial, channel)

    # Keys

    def set_level(self, key: int, level: CollectionLevel) -> None:
        """The customer's consent changed. Raises UnknownNameError."""
        with self._writing() as connection:
            serial = supply.set_level(connection, key, level)
        self._tell(ModulesChanged((serial,)))

    def erase_key(self, key: int) -> None:
        """Forget whose an ended key was; its number is never given again, and a restored backup forgets it again.

        Raises RefusedChangeError when its period goes on, UnknownNameError.
        """
        with self._writing() as connection:
            serial = supply.erase_key(connection, key, self._now_us())
        self._tell(ModulesChanged((serial,)))

    def periods(self, serial: str, channel: int = 1) -> SupplyPeriods:
        """The supply periods of a channel; none when it is not registered."""
        with self._reading() as connection:
            return supply.periods_of(connection, serial, channel)

    def all_periods(self, serials: Sequence[str] | None = None) -> dict[tuple[str, int], SupplyPeriods]:
        """The supply periods of every channel, or of those of some modules, by serial and channel number."""
        with self._reading() as connection:
            return supply.all_periods(connection, serials)

    def places(self) -> dict[int, Place]:
        """City and time zone of every key that is or was assigned to a site."""
        with self._reading() as connection:
            return supply.places(connection)

    def key(self, key: int) -> KeyRecord | None:
        """Whose a key is; None when it was never given, or erased."""
        with self._reading() as connection:
            return supply.key_record(connection, key)

    # For the parts of the registry that stand in files of their own (operators, commands, jobs, ...)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: one at a time, durable when the block ends, undone when it raises."""
        with self._writing() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with; a write on it fails."""
        with self._reading() as connection:
            yield connection

    @contextlib.contextmanager
    def reading_at_one_moment(self) -> Iterator[Connection]:
        """As `reading`, and every statement sees the registry as it was at the first: for backups."""
        with self._reading() as connection:
            if not self._location.is_sqlite:
                # SQLite's transactions always do; a server's see each commit unless told.
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def overwrite_erased(self) -> None:
        """Have nothing left in an SQLite file's log of changes; a server looks after its own. Blocks.

        Raises RegistryBusy while somebody reads an older state; ask again then.
        """
        if not self._location.is_sqlite:
            return
        with self._write_lock, faults_of(self.place), self._writer.connect() as connection:
            # Not within a transaction of ours, which `begin` would make.
            raw = connection.connection.driver_connection
            assert raw is not None
            # Whoever reads an older state may do so for long, and writers wait for us meanwhile.
            raw.execute(f"PRAGMA busy_timeout = {CLEARING_TIMEOUT_MS}")
            try:
                busy, *_pages = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        if busy:
            raise RegistryBusy(self.place, "it is being read, so that erased data stay in its log of changes for now")

    def tell(self, change: Change) -> None:
        """Have the listeners told of a change that was made through `writing`, after its commit."""
        self._tell(change)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._write_lock, faults_of(self.place), self._writer.begin() as connection:
            try:
                yield connection
            finally:
                erased = connection.info.pop(ERASED, False)
        if erased:
            for listener in self.on_erased:
                listener()

    @contextlib.contextmanager
    def _changing(self, serial: str) -> Iterator[Connection]:
        with self._writing() as connection:
            yield connection
        self._tell(ModulesChanged((serial,)))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with faults_of(self.place), self._readers.connect() as connection:
            yield connection

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)
