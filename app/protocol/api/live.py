"""Grants of the live feed as the API asks and answers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from app.protocol.api.common import TimeUs
from app.protocol.api.texts import SecretTold
from app.protocol.live import LiveScope

Serial = Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]
Username = Annotated[str, msgspec.Meta(max_length=64, description="user name of the grant whose time is to go on")]


class GrantWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody wants to listen to. `fleet` and `module` show consumption: they need the header Wattdeck-Purpose.

    With `renews` the grant of that name gets a new token and more time, and its connection stays; where it has ended
    meanwhile, a new one is made.
    """

    scope: LiveScope
    serial: Annotated[Serial | None, msgspec.Meta(description="with scope 'module' alone")] = None
    renews: Username = ""


class GrantShape(msgspec.Struct, frozen=True):
    """How to listen: MQTT with this user name and token as password, for these topics, until `expires_us`.

    The client id is left empty, or is the user name, or the user name, `/` and anything.
    """

    username: Annotated[str, msgspec.Meta(examples=["live:1a2b3c4d5e6f7a8b9c0d1e2f"])]
    token: SecretTold
    topics: Annotated[list[str], msgspec.Meta(examples=[["wd/v1/live/states"]])]
    host: Annotated[str, msgspec.Meta(examples=["127.0.0.1"])]
    port: Annotated[int, msgspec.Meta(examples=[8884])]
    expires_us: TimeUs
