"""What goes in and out of the registry: plain frozen data, no object of the database layer."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

from app.domain.credentials import CredentialKind
from app.domain.events import EventKind
from app.domain.keys import CollectionLevel, SupplyPeriod


class ModuleKind(enum.StrEnum):
    """What a module is."""

    # Speaks our protocol, has a credential of its own.
    MODULE = "module"
    # A meter on a serial port of a hub; nothing connects.
    METER = "meter"
    # A foreign device behind a source's credential.
    FOREIGN = "foreign"


class DeviceState(enum.StrEnum):
    """What became of a device of others."""

    # It was heard; its readings are dropped.
    DISCOVERED = "discovered"
    # It is a module.
    ADOPTED = "adopted"
    # Somebody said that it is none of ours.
    IGNORED = "ignored"


class Collection(enum.StrEnum):
    """Whether a module's readings are wanted at all, whatever its keys allow."""

    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


class Provisioned(NamedTuple):
    """A module's credential, told once: the registry keeps only a hash of the secret."""

    serial: str
    username: str
    secret: str


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleRecord:
    """A module as the registry knows it. Times are UTC microseconds since 1970; unknown is None."""

    serial: str
    kind: ModuleKind
    dialect: str
    period_ms: int | None
    firmware: str | None
    hardware: str | None
    meter_serial: str | None
    collection: Collection
    created_us: int
    channels: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A credential without its secret."""

    username: str
    kind: CredentialKind
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    module_serial: str | None
    blocked_us: int | None
    created_us: int
    last_used_us: int | None
    note: str


class CredentialRow(NamedTuple):
    """What the authenticator keeps of a credential in memory; patterns are empty for a module."""

    username: str
    kind: CredentialKind
    secret_sha256: bytes
    blocked: bool
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class NewSite:
    """A place to be registered. `zone` is an IANA time zone; the rest but the city is personal."""

    city: str
    zone: str = "Europe/Paris"
    street: str | None = None
    postcode: str | None = None
    delivery_point: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SiteRecord:
    """A place that is supplied."""

    id: int
    city: str
    zone: str
    street: str | None
    postcode: str | None
    delivery_point: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class PairingRecord:
    """A site's meter read by a channel, from - to (UTC microseconds; None: it goes on)."""

    site_id: int
    meter_serial: str | None
    from_us: int
    to_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRecord:
    """Whose a series key is."""

    period: SupplyPeriod
    serial: str
    channel: int
    site_id: int | None
    meter_serial: str | None
    holder: str | None


class Place(NamedTuple):
    """Where a key's readings come from, as far as roll-ups need it. `city_number` is 1 and on, for ever the same."""

    city: str
    city_number: int
    zone: str


class ModuleFacts(NamedTuple):
    """What a birth message or a meter says of itself; None says nothing."""

    period_ms: int | None = None
    firmware: str | None = None
    hardware: str | None = None
    meter_serial: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class KeyChange:
    """A supply period that ended and the one that began at the same instant."""

    closed: SupplyPeriod | None
    opened: SupplyPeriod


@dataclasses.dataclass(frozen=True, slots=True)
class PairedAs:
    """How a channel is paired: with which site and meter, for which holder, and what may be kept."""

    site_id: int
    level: CollectionLevel
    meter_serial: str | None = None
    holder: str | None = None


# A module's first credential.
GIVEN = "given"


@dataclasses.dataclass(frozen=True, slots=True)
class CredentialsChanged:
    """These user names were added, changed, blocked or removed; `by` is the word of the event, where it is known."""

    usernames: tuple[str, ...]
    by: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModulesChanged:
    """These modules, or the periods of their channels, are new or changed."""

    serials: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class SitesChanged:
    """These sites are new, changed or no more; `moved`: the city or time zone of one changed."""

    numbers: tuple[int, ...]
    moved: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PairingChanged:
    """A channel was paired, unpaired, or its site got a new meter, from `at_us` on; `kind` says which."""

    serial: str
    channel: int
    at_us: int
    kind: EventKind
    site_id: int | None = None


class DeviceStanding(NamedTuple):
    """What became of a device of others, and of which module's serial it is when it was adopted."""

    dialect: str
    device: str
    state: DeviceState
    serial: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class DevicesChanged:
    """These devices of others were adopted, ignored or restored."""

    standings: tuple[DeviceStanding, ...]


Change = CredentialsChanged | ModulesChanged | SitesChanged | PairingChanged | DevicesChanged
