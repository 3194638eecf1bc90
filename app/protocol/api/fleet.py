"""Modules as the API answers with them and takes them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.protocol.api.common import TimeUs
from app.protocol.api.texts import (
    AtUs,
    ChannelNumber,
    City,
    CityTold,
    DeliveryPoint,
    HolderToken,
    MeterSerial,
    Note,
    PeriodMs,
    Postcode,
    SecretTold,
    Serial,
    SerialTold,
    SiteNumber,
    Street,
    Tag,
    TagsTold,
    Zone,
)

State = Annotated[
    Literal["live", "late", "silent", "offline", "never"],
    Meta(
        description="live: fresh readings; late: the mean gap of the last half minute is above 1.5 periods; silent: a "
        "session, but nothing for 3 s or 3 periods; offline: no session; never: nothing was ever heard of it"
    ),
]
CollectionWord = Literal["active", "paused", "retired"]
LevelWord = Annotated[
    Literal["none", "daily", "ten_minutes", "second"],
    Meta(description="how finely readings may be kept, from the customer's consent"),
]
MOST_AT_ONCE = 10_000


class ModuleRow(msgspec.Struct, frozen=True):
    """A module in a list; unknown is null. `age_s` is since its newest reading arrived at this hub's run."""

    serial: SerialTold
    kind: Annotated[str, Meta(examples=["module"])]
    dialect: Annotated[str, Meta(examples=["wattdeck"])]
    hardware: Annotated[str | None, Meta(examples=["wd-2"])]
    firmware: Annotated[str | None, Meta(examples=["2.4.1"])]
    period_ms: Annotated[int | None, Meta(examples=[1000])]
    collection: CollectionWord
    city: CityTold | None
    site_id: Annotated[int | None, Meta(examples=[12])]
    tags: TagsTold
    blocked: bool | None
    created_us: TimeUs
    connected: bool
    state: State
    last_us: TimeUs | None
    age_s: Annotated[float | None, Meta(examples=[0.4])]
    rssi_dbm: Annotated[int | None, Meta(examples=[-61])]
    frame_gap_ms: Annotated[int | None, Meta(examples=[998])]
    received: Annotated[int, Meta(description="readings since the hub started", examples=[86399])]
    version: Annotated[int, Meta(examples=[3])]


class ModulePower(msgspec.Struct, frozen=True):
    """A home's power now: `power` is what `power_kind` says. A Linky's is VA and never W."""

    serial: SerialTold
    state: State
    last_us: TimeUs | None
    power: Annotated[float | None, Meta(examples=[1840.0])]
    power_kind: Literal["W", "VA"] | None


class ChannelNow(msgspec.Struct, frozen=True):
    """A channel of a module and the site it is paired with now, if any."""

    channel: int
    site_id: int | None
    city: str | None
    zone: str | None
    paired_us: TimeUs | None


class LiveNow(msgspec.Struct, frozen=True):
    """How a module is doing now. Null without readings since the hub started."""

    state: State
    connected: bool
    last_us: TimeUs | None
    age_s: float | None
    rssi_dbm: int | None
    frame_gap_ms: int | None
    received: int


class ModuleFacts(msgspec.Struct, frozen=True):
    """All of a module but what is personal."""

    serial: SerialTold
    kind: Annotated[str, Meta(examples=["module"])]
    dialect: Annotated[str, Meta(examples=["wattdeck"])]
    period_ms: Annotated[int | None, Meta(examples=[1000])]
    firmware: Annotated[str | None, Meta(examples=["2.4.1"])]
    hardware: Annotated[str | None, Meta(examples=["wd-2"])]
    collection: CollectionWord
    created_us: TimeUs
    note: str
    tags: TagsTold
    credential: Literal["active", "blocked", "none"]
    blocked_us: TimeUs | None
    last_used_us: TimeUs | None
    channels: list[ChannelNow]
    # Null for the moment between its registration and its first row in the fleet's table.
    live: LiveNow | None
    version: Annotated[int, Meta(examples=[3])]


class ChannelPersonal(msgspec.Struct, frozen=True):
    """Who is behind a channel now."""

    channel: int
    meter_serial: str | None
    holder: str | None
    level: LevelWord
    site_id: int | None
    city: str | None
    street: str | None
    postcode: str | None
    delivery_point: str | None


class ModulePersonal(msgspec.Struct, frozen=True):
    """What is personal of a module."""

    serial: str
    # As the meter itself told the module.
    meter_serial: str | None
    channels: list[ChannelPersonal]


class NewSiteOfModule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site that is made with its module."""

    city: City
    zone: Zone = "Europe/Paris"
    street: Street | None = None
    postcode: Postcode | None = None
    delivery_point: DeliveryPoint | None = None


class NewModule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module to be registered; with a site that exists (`site_id`), a new one (`site`), or none."""

    serial: Serial
    site_id: SiteNumber | None = None
    site: NewSiteOfModule | None = None
    tags: Annotated[list[Tag], Meta(max_length=16)] = []
    note: Note = ""
    period_ms: PeriodMs | None = 1000
    level: LevelWord = "second"


class NewCredential(msgspec.Struct, frozen=True):
    """A module's credential. The secret is told this once."""

    serial: SerialTold
    username: SerialTold
    secret: SecretTold


class ModuleEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be changed of a module; what is left out stays."""

    note: Note | UnsetType = UNSET
    collection: CollectionWord | UnsetType = UNSET
    period_ms: PeriodMs | UnsetType | None = UNSET


class TagSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tags of a module."""

    tags: Annotated[list[Tag], Meta(max_length=16)]


class BulkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done to modules: those named, or those that meet every filter (as in the list)."""

    what: Literal["block", "unblock", "tag", "untag", "rekey"]
    serials: Annotated[list[Serial], Meta(max_length=MOST_AT_ONCE)] | None = None
    filter: (
        Annotated[
            list[Annotated[str, Meta(max_length=300)]],
            Meta(min_length=1, max_length=20, examples=[["state:eq:silent", "city:eq:Lyon"]]),
        ]
        | None
    ) = None
    tag: Tag | None = None
    # Say who would be affected, and do nothing.
    preview: bool = True


class LeftOut(msgspec.Struct, frozen=True):
    """A module that a bulk action leaves as it is, and why."""

    serial: str
    reason: str


class BulkReport(msgspec.Struct, frozen=True):
    """Whom a bulk action has changed, or would change.

    With a `job_id`, this job changes those `affected` step by step: see /v1/jobs.
    """

    what: str
    preview: bool
    job_id: str | None
    affected: list[str]
    left_out: list[LeftOut]


class ImportProblem(msgspec.Struct, frozen=True):
    """What is wrong in an imported file; line 1 is its header, column the name there."""

    line: int
    column: str
    message: str


class ImportReport(msgspec.Struct, frozen=True):
    """What an import has done, or would do (`dry_run`). The secrets are told this once."""

    dry_run: bool
    modules: int
    new_sites: int
    known_sites: int
    problems: list[ImportProblem]
    credentials: list[NewCredential]


class Count(msgspec.Struct, frozen=True):
    """A tag or a city, and how many modules have it."""

    name: str
    modules: int


class PairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A channel is to be paired with a site; `new_holder` makes a holder for it."""

    site_id: SiteNumber
    channel: ChannelNumber = 1
    meter_serial: MeterSerial | None = None
    holder: HolderToken | None = None
    new_holder: bool = False
    level: LevelWord = "second"
    at_us: AtUs | None = None


class UnpairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pairing is to end; `level` is what is kept of readings that belong to nobody."""

    channel: ChannelNumber = 1
    level: LevelWord = "none"
    at_us: AtUs | None = None


class MeterChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The site has a new meter."""

    meter_serial: MeterSerial | None
    channel: ChannelNumber = 1
    at_us: AtUs | None = None


class HolderChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The site has a new holder, with a consent of their own."""

    level: LevelWord
    holder: HolderToken | None = None
    new_holder: bool = False
    channel: ChannelNumber = 1
    at_us: AtUs | None = None


class PairingRow(msgspec.Struct, frozen=True):
    """A pairing of one of a module's channels; `to_us` null: it goes on."""

    channel: int
    site_id: int
    city: str
    meter_serial: str | None
    from_us: TimeUs
    to_us: TimeUs | None


class SearchHit(msgspec.Struct, frozen=True):
    """A module, or a site that has none. `matched` says which attribute fits, `fit` how: exact, prefix or inside."""

    matched: Literal["serial", "meter_serial", "delivery_point", "site_id", "holder", "postcode", "street", "city"]
    fit: Literal["exact", "prefix", "inside"]
    serial: str | None
    state: State | None
    site_id: int | None
    city: str | None
    street: str | None
    postcode: str | None
    delivery_point: str | None
    meter_serial: str | None
    holder: str | None


class SearchAnswer(msgspec.Struct, frozen=True):
    """The best hits; `more`: there may be others."""

    hits: list[SearchHit]
    more: bool
