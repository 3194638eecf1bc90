"""MQTT credentials of sources and services as they travel; a module's comes with the module."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from app.protocol.api.common import TimeUs

Username = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$",
        description="unique, also among the serials of modules",
        examples=["shelly"],
    ),
]
# A filter may be longer by the rules of MQTT; nobody types one.
TopicFilter = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="+ and # fill a level, # is the last one",
        examples=["shellies/#"],
    ),
]
TopicFilters = Annotated[list[TopicFilter], msgspec.Meta(max_length=64)]
Note = Annotated[str, msgspec.Meta(max_length=500, pattern=r"^[^\x00]*$")]


class AccountKind(enum.StrEnum):
    """Who holds a credential: a gateway or the account that foreign devices share; a program of the utility."""

    SOURCE = "source"
    SERVICE = "service"


class MqttCredential(msgspec.Struct, frozen=True):
    """A user name at the broker and what it may do, without its secret. Null: not blocked, never used."""

    username: str
    kind: AccountKind
    publish: list[str]
    subscribe: list[str]
    note: str
    blocked_us: int | None
    created_us: TimeUs
    used_us: int | None


class NewMqttCredential(msgspec.Struct, frozen=True):
    """A credential to be made. To subscribe, its maker must have `readings:read`."""

    username: Username
    kind: AccountKind
    publish: TopicFilters = []
    subscribe: TopicFilters = []
    note: Note = ""


class MqttCredentialEdit(msgspec.Struct, frozen=True):
    """What is to be changed; what is null or left out stays. A change of
    topics and a block end the open connections of the name.
    """

    publish: TopicFilters | None = None
    subscribe: TopicFilters | None = None
    note: Note | None = None
    blocked: bool | None = None


class MqttCredentialSecret(msgspec.Struct, frozen=True):
    """A credential with its secret, which is told this once."""

    credential: MqttCredential
    secret: str
