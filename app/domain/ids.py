"""Identifiers for what is made often and named in addresses: 26 characters that rise with time."""

from __future__ import annotations

import re
import secrets

# Crockford's base 32: no letter that is taken for a digit.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_DIGITS = 10
_RANDOM_DIGITS = 16
ID_PATTERN = re.compile(f"[{_ALPHABET}]{{26}}\\Z", re.ASCII)


def new_id(now_us: int) -> str:
    """A new identifier (a ULID): milliseconds, then 80 random bits."""
    number = ((now_us // 1000) & (2**48 - 1)) << 80 | secrets.randbits(80)
    digits = []
    for _ in range(_TIME_DIGITS + _RANDOM_DIGITS):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def is_id(text: str) -> bool:
    """Whether this may be one of ours."""
    return ID_PATTERN.match(text) is not None
