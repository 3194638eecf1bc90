"""Texts and numbers that requests carry, with their bounds: what is longer or holds control characters is refused."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

# PostgreSQL refuses NUL; no other control character means anything in a line of text.
# The look ahead is for Python, whose $ lets a newline pass at the end.
LINE = r"^(?![\s\S]*\n)[^\x00-\x1f\x7f-\x9f]*$"
# No blank and no |: in a filter, | stands between values.
_TAG = r"^(?![\s\S]*\n)[^\x00-\x20\x7f-\xa0|,;]+$"
_SERIAL = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
LATEST_US = 253_370_764_800_000_000

Serial = Annotated[
    str, Meta(min_length=1, max_length=32, pattern=_SERIAL, description="a module's serial", examples=["WD00001"])
]
Note = Annotated[
    str, Meta(max_length=500, pattern=LINE, description="free text of operators; nothing personal belongs here")
]
Tag = Annotated[
    str, Meta(min_length=1, max_length=40, pattern=_TAG, description="a word without blanks", examples=["pilot"])
]
City = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE, examples=["Lyon"])]
Zone = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=LINE, description="IANA time zone", examples=["Europe/Paris"])
]
Street = Annotated[str, Meta(max_length=200, pattern=LINE, examples=["12 rue des Lilas"])]
Postcode = Annotated[str, Meta(max_length=20, pattern=LINE, examples=["69003"])]
DeliveryPoint = Annotated[
    str, Meta(max_length=40, pattern=LINE, description="PDL, EAN or MPAN", examples=["09141234567890"])
]
MeterSerial = Annotated[str, Meta(min_length=1, max_length=64, pattern=LINE, examples=["021875001234"])]
HolderToken = Annotated[str, Meta(max_length=12, pattern=r"^c-[0-9A-Z]{10}$", examples=["c-7K2M9QX4TB"])]
PeriodMs = Annotated[int, Meta(ge=100, le=86_400_000, description="time between two readings")]
SiteNumber = Annotated[int, Meta(ge=1, le=2**62)]
ChannelNumber = Annotated[int, Meta(ge=1, le=100)]
AtUs = Annotated[int, Meta(ge=0, le=LATEST_US, description="UTC microseconds since 1970; now when it is left out")]

# In answers, where nothing is checked: what stands in a registry may be older than a rule.
SerialTold = Annotated[str, Meta(examples=["WD00001"])]
CityTold = Annotated[str, Meta(examples=["Lyon"])]
TagsTold = Annotated[list[str], Meta(examples=[["pilot"]])]
SecretTold = Annotated[str, Meta(description="told this once", examples=["pIcqRzdkdv7yBk0yfcGN2iX3nxJTofUD"])]
NameTold = Annotated[str, Meta(examples=["claire"])]
