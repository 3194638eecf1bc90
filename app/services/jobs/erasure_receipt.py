"""What is handed out when somebody was erased: what there was, what is left and why, and a seal over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

_CANONICAL = "SHA-256 over `receipt` as JSON in UTF-8, members sorted by name, without spaces"


class Signature(msgspec.Struct, frozen=True):
    """By a key this hub has anyway: `value` is base64 of the signature of the same bytes; PEM of its certificate."""

    algorithm: str
    value: str
    certificate: str


# Signs bytes; None where this hub has no key of its own.
Sign = Callable[[bytes], Signature | None]


class PlaceReceipt(msgspec.Struct, frozen=True):
    """One place of the data map. Counts are null where nobody can tell whose it is; `why` says why something is left.

    `erased` counts what the last run of this step found: after a kill the step is done again, and finds less.
    """

    place: str
    before: int | None
    before_bytes: int | None
    erased: int
    after: int | None
    why: str
    note: str


class Receipt(msgspec.Struct, frozen=True):
    """The whole erasure; times are UTC microseconds."""

    job: str
    subject: str
    asked_by: str
    began_us: int
    ended_us: int
    places: list[PlaceReceipt]
    # What each restored backup erases again.
    remembered: list[str]
    # Places by what the second look found: more than there should be, what is right to be left, what can not be told.
    still_found: list[str]
    left_with_reason: list[str]
    can_not_be_told: list[str]


def sealed(receipt: Receipt, sign: Sign) -> bytes:
    """The file: the receipt, its hash, and a signature where the hub can sign."""
    body = canonical(receipt)
    signature = sign(body)
    said = "signed with the key of the hub's own server certificate" if signature else "not signed: no key of its own"
    file = {
        "receipt": msgspec.to_builtins(receipt),
        "sha256": hashlib.sha256(body).hexdigest(),
        "sha256_is": _CANONICAL,
        "signature": None if signature is None else msgspec.to_builtins(signature),
        "signature_is": said,
    }
    return msgspec.json.format(msgspec.json.encode(file), indent=2)


def canonical(receipt: Receipt) -> bytes:
    """The bytes that are hashed and signed."""
    return msgspec.json.encode(receipt, order="sorted")


def verdict(receipt: Receipt) -> str:
    """The outcome in a sentence."""
    erased = sum(row.erased for row in receipt.places)
    if receipt.still_found:
        return f"NOT complete: still found at {', '.join(receipt.still_found)}; {erased} things were erased"
    words = [f"{erased} things were erased, and a second look found nothing that should be gone"]
    if receipt.left_with_reason:
        words.append(f"left with a reason: {', '.join(receipt.left_with_reason)}")
    if receipt.can_not_be_told:
        words.append(f"can not be told: {', '.join(receipt.can_not_be_told)}")
    return "; ".join(words)
