"""What a simulated module is, and what may be done to its messages on the way."""

from __future__ import annotations

import dataclasses
import ssl

from device_sim.modules.outbox import CAPACITY


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A module as it left the factory and was put up."""

    serial: str
    secret: str
    city: str = ""
    street: str = ""
    home: str = ""
    firmware: str = "2.4.1"
    hardware: str = "wd-m1-c"
    period_ms: int = 1000
    # Of readings; what was kept back is always sent with QoS 1.
    qos: int = 1
    keep_alive_s: int = 60
    # Checks the server's certificate when the broker is asked with TLS, and that of a firmware's server.
    tls: ssl.SSLContext | None = None
    # Of those who sign firmware, ed25519, 32 bytes.
    public_key: bytes | None = None
    capacity: int = CAPACITY
    drift_ppm: float = 20.0
    clock_can_be_set: bool = True
    seed: int = 0


@dataclasses.dataclass(slots=True)
class WireFaults:
    """What happens to readings between the module's mind and the wire. A share is of all readings."""

    duplicate_share: float = 0.0
    garbage_share: float = 0.0
    # So many readings are held back and sent in another order; 0: none.
    shuffled: int = 0
    uplink_bytes_per_s: float | None = None
    broker_unreachable: bool = False


@dataclasses.dataclass(slots=True)
class Tally:
    """What a module knows of itself; counts run over reboots."""

    measured: int = 0
    sent: int = 0
    acknowledged: int = 0
    resent: int = 0
    # Gone with the memory at a power cut or reboot.
    forgotten: int = 0
    garbage: int = 0
    connects: int = 0
    refused: int = 0
    boots: int = 0
    # Times, in its own clock's milliseconds, of what the broker has acknowledged: what must be in the store. None: not
    # kept.
    ledger: set[int] | None = None
