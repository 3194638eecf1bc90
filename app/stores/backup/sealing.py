"""Personal values under the keys of everybody they speak of: without one of these keys they are noise."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES = 32
_NONCE_BYTES = 12

# What stands in a dump: the names of the keys, and what they all are needed for.
Sealed = tuple[list[str], bytes]


def key_name(secret: bytes) -> str:
    """What a key is called in a dump: says nothing of whose it is, and nothing at all once the key is gone."""
    return hashlib.sha256(b"wattdeck person key" + secret).hexdigest()[:24]


class Sealer:
    """Seals for a dump; draws keys for subjects that have none yet (`fresh`)."""

    def __init__(self, known: Mapping[str, bytes]) -> None:
        self.fresh: dict[str, bytes] = {}
        self._known = known
        self._ciphers: dict[str, tuple[str, AESGCM]] = {}

    def seal(self, subjects: Sequence[str], values: Sequence[Any], place: bytes) -> Sealed:
        """`place` says what the values are of; they can not be opened as anything else."""
        data = msgspec.msgpack.encode(list(values))
        names = []
        for subject in subjects:
            name, cipher = self._cipher(subject)
            nonce = os.urandom(_NONCE_BYTES)
            data = nonce + cipher.encrypt(nonce, data, place)
            names.append(name)
        return names, data

    def _cipher(self, subject: str) -> tuple[str, AESGCM]:
        found = self._ciphers.get(subject)
        if found is None:
            secret = self._known.get(subject) or self.fresh.get(subject)
            if secret is None:
                secret = self.fresh[subject] = secrets.token_bytes(SECRET_BYTES)
            found = self._ciphers[subject] = (key_name(secret), AESGCM(secret))
        return found


class Opener:
    """Opens what was sealed, with the keys that are left."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {key_name(secret): (subject, secret) for subject, secret in keys.items()}
        self._ciphers: dict[str, AESGCM] = {}

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names of the keys that are gone."""
        return [name for name in names if name not in self._keys]

    def subjects(self, names: Sequence[str]) -> list[str]:
        """Whose keys these are, as far as they are there."""
        return [self._keys[name][0] for name in names if name in self._keys]

    def open(self, sealed: Sealed, place: bytes) -> list[Any]:
        """The values. Raises ValueError when they were changed, KeyError when a key is gone."""
        names, data = sealed
        for name in reversed(names):
            cipher = self._ciphers.get(name)
            if cipher is None:
                cipher = self._ciphers[name] = AESGCM(self._keys[name][1])
            try:
                data = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place)
            except InvalidTag:
                raise ValueError("sealed values do not open with the key that is named") from None
        found: list[Any] = msgspec.msgpack.decode(data)
        return found
