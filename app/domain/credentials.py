"""What a credential is: its kind, its secret, and what its names and patterns may look like."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets

# 24 random bytes: 192 bits, so that SHA-256 without a salt or a slow hash is enough (docs/decisions/0005).
SECRET_BYTES = 24
# Longest secret that is looked at; ours have 32 characters, and nobody shall make us hash 64 kB per CONNECT.
MAX_SECRET_BYTES = 1024

# A serial is a level of a topic, the head of a client id, and may stand in a file name (docs/protocol.md).
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
# A user name of another kind is free text, but for control characters; MQTT allows 65,535 bytes, we need far less.
_USERNAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


class CredentialKind(enum.StrEnum):
    """Who holds a credential."""

    # One module of ours: publishes under its own prefix, reads its own commands.
    MODULE = "module"
    # A gateway, or the shared account of a foreign dialect.
    SOURCE = "source"
    # A console, on the operators' listener.
    OPERATOR = "operator"
    # A program of the utility: either listener.
    SERVICE = "service"


def is_serial(text: str) -> bool:
    """Whether this can be a module's serial: 1 to 32 of A-Z a-z 0-9 _ . - and not a sign first."""
    return _SERIAL.fullmatch(text) is not None


def is_username(text: str) -> bool:
    """Whether this can be the user name of a source, an operator or a service."""
    return _USERNAME.fullmatch(text) is not None


def new_secret() -> str:
    """A machine's secret: 192 random bits in 32 characters that need no escaping anywhere."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str | bytes) -> bytes:
    """SHA-256 of a secret, what the registry keeps."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


def secret_matches(secret: bytes, secret_sha256: bytes) -> bool:
    """Compare in a time that does not depend on where they differ."""
    if len(secret) > MAX_SECRET_BYTES:
        return False
    return hmac.compare_digest(hash_secret(secret), secret_sha256)


def is_topic_filter(text: str) -> bool:
    """Whether this is a filter by the rules of MQTT: `+` and `#` fill a level, `#` is the last."""
    if not 0 < len(text.encode()) <= 65535 or "\x00" in text:
        return False
    levels = text.split("/")
    for position, level in enumerate(levels):
        if level == "#" and position != len(levels) - 1:
            return False
        if level not in {"#", "+"} and ("#" in level or "+" in level):
            return False
    return True
