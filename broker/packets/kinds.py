"""The numbers of the packet kinds and of the protocol versions."""

from __future__ import annotations

from typing import Final

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15
# No packet of its own: the properties of a will inside CONNECT.
WILL: Final = 0

# Protocol levels in CONNECT: MQTT 3.1.1 and MQTT 5.0.
V311: Final = 4
V5: Final = 5
