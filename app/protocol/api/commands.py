"""Shapes of remote commands on the API."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from app.domain.commands import DEFAULT_EXPIRY_S, LONGEST_EXPIRY_S, SHORTEST_EXPIRY_S
from app.protocol.api.common import Page, TimeUs
from app.protocol.messages import Parameters

# A fleet of the size we are made for, and a little more.
MOST_SERIALS = 100_000

CommandName = Annotated[
    str, Meta(min_length=1, max_length=40, description="see /v1/command-kinds", examples=["reboot"])
]
ExpiresIn = Annotated[
    int,
    Meta(ge=SHORTEST_EXPIRY_S, le=LONGEST_EXPIRY_S, description="seconds until it expires when the module has not it"),
]
ListedSerial = Annotated[str, Meta(min_length=1, max_length=64, examples=["WD00001"])]


class NewCommandBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command to one module."""

    name: CommandName
    arguments: Parameters = {}
    expires_in_s: ExpiresIn = DEFAULT_EXPIRY_S


class ModuleFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of all modules: those that meet every condition given."""

    tag: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    city: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    firmware: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class BulkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command to many modules: to `serials`, or with `all` to every module that meets `filter`."""

    name: CommandName
    arguments: Parameters = {}
    serials: Annotated[list[ListedSerial], Meta(min_length=1, max_length=MOST_SERIALS)] | None = None
    all: bool = False
    filter: ModuleFilter | None = None
    expires_in_s: ExpiresIn = DEFAULT_EXPIRY_S
    preview: Annotated[bool, Meta(description="only say who would get it; nothing is sent")] = False


class CommandResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the module answered; `result` is its word: accepted, done, failed, refused, expired, unknown, ..."""

    result: str | None = None
    detail: str | None = None
    took_ms: int | None = None
    data: Parameters | None = None
    data_left_out: Annotated[bool, Meta(description="its data were too long to be kept")] = False


class CommandInfo(msgspec.Struct, frozen=True):
    """A command. States: queued, sent, acknowledged, failed, expired, cancelled.

    `sent_us` is when the module took it, null while that is not known.
    """

    id: str
    module: str
    name: str
    arguments: Parameters
    state: str
    sent_by: str
    bulk_id: str | None
    created_us: TimeUs
    expires_us: TimeUs
    sent_us: TimeUs | None
    done_us: TimeUs | None
    result: CommandResult | None


class ArgumentInfo(msgspec.Struct, frozen=True):
    """One parameter of a command; `kind` is int, bool or str."""

    name: str
    kind: str
    description: str
    required: bool
    minimum: int | None
    maximum: int | None
    choices: list[str]


class CommandKindInfo(msgspec.Struct, frozen=True):
    """A command that can be sent. `repeated`: sent again when the module comes back without having answered."""

    name: str
    description: str
    arguments: list[ArgumentInfo]
    scope: Annotated[str, Meta(description="the right of who may send it")]
    repeated: bool


class LeftOut(msgspec.Struct, frozen=True):
    """Modules that do not get a command, and why."""

    reason: str
    text: str
    count: int
    serials: list[str]


class BulkAnswer(msgspec.Struct, frozen=True):
    """Who gets a bulk command; `bulk_id` is null in a preview.

    With a `job_id`, the commands are queued by this job, step by step: see /v1/jobs.
    """

    bulk_id: str | None
    job_id: str | None
    now_count: int
    when_back_count: int
    left_out_count: int
    now: Annotated[list[str], Meta(description="these listen: they get it at once")]
    when_back: Annotated[list[str], Meta(description="these get it when they connect")]
    left_out: list[LeftOut]


class BulkInfo(msgspec.Struct, frozen=True):
    """How a bulk goes: commands by state, and a page of them."""

    bulk_id: str
    counts: dict[str, int]
    commands: Page[CommandInfo]
