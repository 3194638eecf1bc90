"""Chance that is the same for the same seed."""

from __future__ import annotations

import hashlib
import random


def seeded(*parts: object) -> random.Random:
    """A generator of its own for each thing that has a name; stable over runs and machines."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - a simulation
