"""Who has failed to log in how often: by name, whether there is such an operator or not, and by address."""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from app.domain.errors import TooManyAttempts

# Names that nobody has are remembered too, so that the answers are the same; the oldest are forgotten first.
MOST_UNKNOWN_NAMES = 10_000
MOST_ADDRESSES = 10_000
# A control room shares one address: so many failures at once are looked at, then one every half minute.
FAILURES_OF_ADDRESS = 30
_FORGET_ONE_EACH_US = 30_000_000
_SECOND_US = 1_000_000

_Attempts = tuple[int, int | None]
_NONE: _Attempts = (0, None)


class LockOuts:
    """Locks a name for a fixed time after each `attempts` failures in a row. Any thread may call."""

    def __init__(self, attempts: Callable[[], int], lock_us: Callable[[], int], now_us: Callable[[], int]) -> None:
        self._attempts = attempts
        self._lock_us = lock_us
        self._now_us = now_us
        self._known: dict[str, _Attempts] = {}
        self._unknown: OrderedDict[str, _Attempts] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, rows: Iterable[tuple[str, int, int | None]]) -> None:
        """What the registry knows: name, failures, end of the lock."""
        with self._lock:
            self._known = {name.casefold(): (failed, until_us) for name, failed, until_us in rows}

    def check(self, name: str) -> None:
        """Raises TooManyAttempts while a name is locked."""
        folded = name.casefold()
        with self._lock:
            _failed, until_us = self._known.get(folded) or self._unknown.get(folded, _NONE)
        left_us = 0 if until_us is None else until_us - self._now_us()
        if left_us > 0:
            raise TooManyAttempts(math.ceil(left_us / _SECOND_US))

    def failed(self, name: str, *, is_known: bool) -> tuple[int, int | None]:
        """Count a failure; how many there are now, and until when the name is locked."""
        folded = name.casefold()
        with self._lock:
            names = self._known if is_known else self._unknown
            failed = names.get(folded, _NONE)[0] + 1
            until_us = self._now_us() + self._lock_us() if failed % self._attempts() == 0 else None
            names[folded] = (failed, until_us)
            while len(self._unknown) > MOST_UNKNOWN_NAMES:
                self._unknown.popitem(last=False)
        return failed, until_us

    def forget(self, name: str) -> None:
        """A good log-in, a new password or a new operator: nothing is held against the name."""
        with self._lock:
            self._known.pop(name.casefold(), None)
            self._unknown.pop(name.casefold(), None)


class AddressThrottle:
    """Slows down who tries one password on many names. In memory only; any thread may call."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        # Failures that are held against an address, and at what time.
        self._held: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raises TooManyAttempts for an address with too many failures."""
        with self._lock:
            over = self._now(_network(address)) - FAILURES_OF_ADDRESS + 1
        if over > 0:
            raise TooManyAttempts(math.ceil(over * _FORGET_ONE_EACH_US / _SECOND_US))

    def failed(self, address: str) -> None:
        """Hold a failure against an address."""
        network = _network(address)
        with self._lock:
            self._held[network] = (self._now(network) + 1, self._now_us())
            self._held.move_to_end(network)
            while len(self._held) > MOST_ADDRESSES:
                self._held.popitem(last=False)

    def _now(self, network: str) -> float:
        held, at_us = self._held.get(network, (0.0, 0))
        # A clock that was set back forgives nothing and punishes nobody.
        return max(0.0, held - max(0, self._now_us() - at_us) / _FORGET_ONE_EACH_US)


def _network(address: str) -> str:
    """An IPv6 customer has 2^64 addresses: they count as one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
