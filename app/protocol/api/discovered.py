"""Devices of others as the API answers with them: what was recognised, without what is personal."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from app.protocol.api.common import TimeUs
from app.protocol.api.texts import SerialTold, SiteNumber, Tag

MOST_AT_ONCE = 1000

DeviceNumber = Annotated[int, Meta(ge=1, le=2**62)]
DeviceNumbers = Annotated[list[DeviceNumber], Meta(max_length=MOST_AT_ONCE, examples=[[1, 2, 3]])]
Filters = Annotated[
    list[Annotated[str, Meta(max_length=300)]],
    Meta(min_length=1, max_length=20, examples=[["dialect:eq:shelly", "model:has:3EM"]]),
]


class DiscoveredDevice(msgspec.Struct, frozen=True):
    """A device of others that was heard. Unknown is null; its Wi-Fi, addresses and meter's serial are not shown here.

    `link_quality` is Zigbee's, 0 to 255, and no signal in dBm.
    """

    id: int
    dialect: Annotated[str, Meta(examples=["tasmota"])]
    device: Annotated[str, Meta(description="its id in its dialect", examples=["shellyem3-485519D78A2F"])]
    state: Literal["discovered", "adopted", "ignored"]
    serial: SerialTold | None
    name: str | None
    maker: Annotated[str | None, Meta(examples=["Shelly"])]
    model: Annotated[str | None, Meta(examples=["SHEM-3"])]
    firmware: str | None
    hardware: str | None
    newer_firmware: str | None
    meter_kind: str | None
    channel: Annotated[int | None, Meta(description="of its Wi-Fi")]
    rssi_dbm: int | None
    link_quality: int | None
    period_ms: int | None
    power_kind: Annotated[Literal["W", "VA"] | None, Meta(description="what its newest reading measured")]
    messages: Annotated[int, Meta(description="messages heard of it, some seconds behind")]
    first_seen_us: TimeUs
    last_seen_us: Annotated[TimeUs, Meta(description="UTC microseconds since 1970, up to a minute behind")]
    changed_by: Annotated[str | None, Meta(description="who adopted, ignored or restored it last")]
    changed_us: TimeUs | None


class ChosenDevices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices by their numbers, or those that meet every filter (as in the list); one of the two."""

    ids: DeviceNumbers | None = None
    filter: Filters | None = None


class AdoptRequest(ChosenDevices, frozen=True, forbid_unknown_fields=True):
    """Devices that are to become modules, all at one site or none, with the same tags."""

    site_id: SiteNumber | None = None
    tags: Annotated[list[Tag], Meta(max_length=16)] = []


class MovedDevice(msgspec.Struct, frozen=True):
    """A device that took a new state, and the module that it is now, if so."""

    id: int
    dialect: str
    device: str
    serial: SerialTold | None


class DeviceLeftOut(msgspec.Struct, frozen=True):
    """A device that is left as it is, and why."""

    id: int
    reason: str


class DevicesReport(msgspec.Struct, frozen=True):
    """What became of each device that was named."""

    changed: list[MovedDevice]
    left_out: list[DeviceLeftOut]
