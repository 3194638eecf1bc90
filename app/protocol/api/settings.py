"""Settings as they travel over HTTP."""

from __future__ import annotations

from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=1000)]
# JSON has one kind of number.
Value = bool | float | str | list[str] | None
# What a setting is set to; null is back to the default.
NewValue = bool | float | Text | Annotated[list[Text], msgspec.Meta(max_length=100)] | None
NewValues = dict[Annotated[str, msgspec.Meta(max_length=100)], NewValue]


class Setting(msgspec.Struct, frozen=True):
    """A setting. `source` is default, file, environment, flag, --set or program; what is above the file stays so.

    `live`: holds at once when it is changed. `needs_restart`: `next_value` holds after a restart of the hub.
    """

    key: str
    value: Value
    default: Value
    doc: str
    allowed: str
    minimum: float | None
    maximum: float | None
    choices: list[str] | None
    source: str
    live: bool
    needs_restart: bool
    next_value: Value


class Settings(msgspec.Struct, frozen=True):
    """Every setting. `problem`: the file was edited by hand and can not be read as it is now."""

    items: list[Setting]
    problem: str
