"""`hub.json`: what a running hub says of itself to consoles on its machine, in its data directory."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

# In the data directory: held locked for as long as a hub runs on it, and what that hub says.
LOCK_NAME = "hub.lock"
FILE_NAME = "hub.json"

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


class ApiFacts(msgspec.Struct, frozen=True):
    """How the API is spoken to. The fingerprints are SHA-256 of the DER form, in hexadecimal; none with plain HTTP.

    `ca_sha256` is that of the hub's own authority; none where the utility has a certificate of its own.
    """

    scheme: str
    certificate_sha256: str | None = None
    ca_sha256: str | None = None


class HubFile(msgspec.Struct, frozen=True):
    """The whole file. `listen` has host and port of each listener by its name."""

    pid: int
    listen: Mapping[str, tuple[str, int]] = {}
    api: ApiFacts = ApiFacts("http")

    def address(self, listener: str) -> tuple[str, int]:
        """Where a program of this machine reaches a listener. Raises KeyError."""
        host, port = self.listen[listener]
        return _ANY.get(host, host), port


_decoder = msgspec.json.Decoder(HubFile)


def encode_hub_file(file: HubFile) -> bytes:
    """The bytes of the file."""
    return msgspec.json.encode(file)


def decode_hub_file(data: bytes) -> HubFile | None:
    """What a file says; None when it can not be one."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
