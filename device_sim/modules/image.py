"""Firmware images of simulated modules: a line that says what it is, then bytes; and how they are signed."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from device_sim.modules.chance import seeded

# What may be wrong with an image that is signed all the same.
NO_BOOT = "no_boot"
NO_WIFI = "no_wifi"
NO_METER = "no_meter"
_LONGEST_HEAD = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The first line of an image."""

    version: str
    hardware: str
    flaws: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class SignedImage:
    """An image and what a command to update must say of it."""

    content: bytes
    sha256: str
    signature: str


class ImageRefused(Exception):
    """An image that must not run; `word` is the `error` of the `fota` message."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail)
        self.word = word
        self.detail = detail


def make_image(version: str, hardware: str, *, size: int = 65_536, flaws: frozenset[str] = frozenset()) -> bytes:
    """An image of about this size; the same words give the same bytes."""
    head = json.dumps({"version": version, "hardware": hardware, "flaws": sorted(flaws)}).encode() + b"\n"
    return head + seeded("image", version, hardware).randbytes(max(0, size - len(head)))


def sign(image: bytes, key: Ed25519PrivateKey) -> SignedImage:
    """Sign an image: ed25519 over all of its bytes, base64; the hash is SHA-256 in hexadecimal."""
    signature = base64.b64encode(key.sign(image)).decode()
    return SignedImage(image, hashlib.sha256(image).hexdigest(), signature)


def examine(image: bytes, *, sha256: str, signature: str, public_key: bytes | None, hardware: str) -> Head:
    """Check an image before it may run: hash, signature, kind. Raises ImageRefused."""
    if hashlib.sha256(image).hexdigest() != sha256.lower():
        raise ImageRefused("download", "the hash of what was downloaded is another one")
    if public_key is None:
        raise ImageRefused("signature", "this module has no key to check with")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(signature, validate=True), image)
    except (InvalidSignature, ValueError) as error:
        raise ImageRefused("signature", "the signature does not fit") from error
    head = _head_of(image)
    if head.hardware != hardware:
        raise ImageRefused("version", f"this image is for {head.hardware}, this module is {hardware}")
    return head


def _head_of(image: bytes) -> Head:
    try:
        found = json.loads(image[:_LONGEST_HEAD].split(b"\n", 1)[0])
        return Head(str(found["version"]), str(found["hardware"]), frozenset(map(str, found["flaws"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ImageRefused("version", "this is no image of a module") from error
