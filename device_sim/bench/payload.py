"""The golden `tele` example as a template in which only time and sequence change, at fixed places."""

from __future__ import annotations

import dataclasses
import re

# 2001-09-09 to 2286-11-20 has thirteen digits in milliseconds; sequence numbers start where they have seven.
TIME_DIGITS = 13
SEQ_DIGITS = 7
FIRST_SEQ = 10 ** (SEQ_DIGITS - 1)
LAST_SEQ = 10**SEQ_DIGITS - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """A payload with two numbers of fixed width in it; `%` of a bytes pattern is the cheapest way to write them."""

    pattern: bytes
    time_first: bool
    """The order in which the pattern takes its two numbers."""

    @classmethod
    def of_json(cls, example: bytes, *, time_field: str = "time_ms", seq_field: str = "seq") -> Template:
        """Find both members in a JSON example. Raises ValueError unless each occurs exactly once, as an integer."""
        pattern = example.replace(b"%", b"%%")
        for field, digits in ((time_field, TIME_DIGITS), (seq_field, SEQ_DIGITS)):
            member = re.compile(rb'("' + re.escape(field.encode()) + rb'"\s*:\s*)\d+')
            found = member.findall(pattern)
            if len(found) != 1:
                raise ValueError(f"the example has {len(found)} members {field!r}")
            pattern = member.sub(rb"\g<1>%%0%dd" % digits, pattern)
        time_at, seq_at = (pattern.index(b'"' + field.encode() + b'"') for field in (time_field, seq_field))
        return cls(pattern, time_at < seq_at)

    def fill(self, time_ms: int, seq: int) -> bytes:
        """The payload of one reading. `seq` must have exactly seven digits: JSON knows no leading zeros."""
        return self.pattern % ((time_ms, seq) if self.time_first else (seq, time_ms))

    @property
    def size(self) -> int:
        """Length in bytes of every payload."""
        return len(self.fill(10 ** (TIME_DIGITS - 1), FIRST_SEQ))
