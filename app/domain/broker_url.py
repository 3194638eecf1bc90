"""The address of a broker as people write it: mqtt://[user[:password]@]host[:port]."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

SCHEMES = {"mqtt": 1883, "mqtts": 8883}
_FORM = "write mqtt://host or mqtts://host, with :port where it is another than 1883 or 8883"
# Everything between the scheme and the last @.
_USER = re.compile(r"(\w+://)[^/]*@")


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerUrl:
    """What such a text says."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)


def is_broker_url(text: str) -> bool:
    """Whether this is meant as one."""
    return "://" in text


def parse_broker_url(text: str) -> BrokerUrl:
    """Read it. Raises ValueError with a sentence that never holds what stood before the @."""
    if re.search(r"\s", text):
        raise ValueError(f"a URL has no space; {_FORM}")
    try:
        parts = urllib.parse.urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(f"{masked(text)!r} is no URL; {_FORM}") from None
    if parts.scheme not in SCHEMES or not host or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"{masked(text)!r} is no broker; {_FORM}")
    if parts.netloc.count("@") > 1:
        raise ValueError("an @ in a user name or password must be written %40")
    if port == 0:
        raise ValueError(f"{masked(text)!r} has no port to connect to; {_FORM}")
    username, password = (
        None if part is None else urllib.parse.unquote(part) for part in (parts.username, parts.password)
    )
    return BrokerUrl(host, port or SCHEMES[parts.scheme], parts.scheme == "mqtts", username or None, password or None)


def masked(text: str) -> str:
    """The text without a user and a password."""
    return _USER.sub(r"\1***@", text)
