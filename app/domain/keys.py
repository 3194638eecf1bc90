"""Series keys: supply periods of a channel, and which of them a moment belongs to."""

from __future__ import annotations

import bisect
import dataclasses
import enum
import itertools
import secrets
from collections.abc import Iterable

# Crockford's base 32: no I, L, O, U, so that a token survives being read out on the phone.
TOKEN_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # noqa: S105 - an alphabet
TOKEN_PREFIX = "c-"  # noqa: S105 - what a token starts with
TOKEN_LENGTH = 10

# The first period of a channel has no beginning: whatever a module kept from before it was registered belongs to it.
BEGINNING_US = 0


class CollectionLevel(enum.IntEnum):
    """How finely a home's readings may be kept, from the customer's consent; a higher level keeps more."""

    NONE = 0
    DAILY = 1
    TEN_MINUTES = 2
    SECOND = 3


@dataclasses.dataclass(frozen=True, slots=True)
class SupplyPeriod:
    """One key: the readings of a channel from `from_us` up to, not including, `to_us` (None: it goes on).

    Times are UTC microseconds since 1970, by the module's clock. `assigned` is false while the channel has no site.
    """

    key: int
    from_us: int
    to_us: int | None
    level: CollectionLevel
    assigned: bool

    def covers(self, time_us: int) -> bool:
        """Whether a moment belongs to this period."""
        return self.from_us <= time_us and (self.to_us is None or time_us < self.to_us)


class SupplyPeriods:
    """The periods of one channel as sorted, disjoint intervals; immutable."""

    __slots__ = ("_starts", "periods")

    def __init__(self, periods: Iterable[SupplyPeriod]) -> None:
        # A period that ended where it began (two changes at one instant) covers nothing.
        kept = sorted((p for p in periods if p.to_us is None or p.to_us > p.from_us), key=lambda p: p.from_us)
        for earlier, later in itertools.pairwise(kept):
            if earlier.to_us is None or earlier.to_us > later.from_us:
                raise ValueError("supply periods of one channel overlap")
        self.periods = tuple(kept)
        self._starts = [period.from_us for period in kept]

    def at(self, time_us: int) -> SupplyPeriod | None:
        """The period a moment belongs to; None where a period was erased or no key was ever given."""
        position = bisect.bisect_right(self._starts, time_us) - 1
        if position < 0:
            return None
        period = self.periods[position]
        return period if period.to_us is None or time_us < period.to_us else None

    @property
    def current(self) -> SupplyPeriod | None:
        """The period that goes on, if there is one."""
        return self.periods[-1] if self.periods and self.periods[-1].to_us is None else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SupplyPeriods) and self.periods == other.periods

    def __hash__(self) -> int:
        return hash(self.periods)

    def __repr__(self) -> str:
        return f"SupplyPeriods({list(self.periods)!r})"


def draw_keys(count: int) -> list[int]:
    """Random positive int64 keys, different from each other; that none was given before is for the ledger to say."""
    drawn: set[int] = set()
    while len(drawn) < count:
        missing = count - len(drawn)
        raw = secrets.token_bytes(8 * missing)
        drawn.update(
            key for at in range(0, 8 * missing, 8) if (key := int.from_bytes(raw[at : at + 8], "little") >> 1) != 0
        )
    return list(drawn)


def draw_token() -> str:
    """A random token for a person, such as `c-7K2M9QX4TB`; that none was given before is for the ledger to say."""
    return TOKEN_PREFIX + "".join(secrets.choice(TOKEN_ALPHABET) for _ in range(TOKEN_LENGTH))
