"""What a broker can be told: its limits and its listeners."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def option(default: Any, doc: str, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field with the sentence and range that whoever makes settings of it may show and check (both inclusive)."""
    return dataclasses.field(default=default, metadata={"doc": doc, "minimum": minimum, "maximum": maximum})


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Every limit of a broker. Names are those of the settings; 0 means "no limit" only where the text says so."""

    # For trials, never for a fleet.
    allow_anonymous: bool = option(False, "accept unknown clients, with every right below `$`")
    # 3.1.1 has no way to tell a client a lower value: there the client's own stands.
    max_keep_alive_s: int = option(
        300, "longest keep alive, told to 5.0 clients that ask for more; 0: no limit", 0, 65535
    )
    # Answers come with the commit each 250 ms, so this caps a client at four times its value a second.
    receive_maximum: int = option(500, "QoS 1 and 2 messages a client may have unanswered", 1, 65535)
    # A module uses a handful of topics.
    topic_alias_maximum: int = option(16, "topic aliases a 5.0 client may set", 0, 65535)
    # A reading has 200 bytes, a catch-up of 1,000 readings fits.
    max_packet_size: int = option(256 * KIB, "largest packet taken, bytes", KIB, 256 * MIB)
    # Bounds what strangers can make the broker hold.
    max_connect_size: int = option(16 * KIB, "largest CONNECT, bytes", 256, MIB)
    # Slow senders can not fill the memory together.
    max_partial_bytes: int = option(128 * MIB, "bytes of incomplete packets over all connections", MIB, 16 * GIB)
    # A Linux process here may open 20,000 files; the hub needs some for itself.
    max_connections: int = option(19_000, "connections at once", 1, 1_000_000)
    # Keeps room for the data of those already there while a whole fleet comes back.
    connects_per_second: int = option(8_000, "new connections answered a second; the rest waits in turn", 1, 1_000_000)
    # Above the modules that may stand behind one router or mobile gateway.
    connects_per_second_per_address: int = option(6_000, "the same for one address; 0: no limit", 0, 1_000_000)
    half_open_s: float = option(5.0, "a connection without CONNECT is closed after this", 0.1, 600)
    max_inflight: int = option(100, "QoS 1 and 2 messages on their way to one client", 1, 65535)
    max_queued_messages: int = option(1_000, "QoS 1 and 2 messages waiting for one session; then dropped", 0, 1_000_000)
    max_queued_bytes: int = option(4 * MIB, "the same in bytes", 0, GIB)
    # Two fleet messages of the live feed.
    max_unsent_bytes: int = option(1 * MIB, "bytes unsent to a client above which it loses QoS 0 messages", KIB, GIB)
    max_subscriptions: int = option(200, "subscriptions of one session", 1, 100_000)
    max_topic_levels: int = option(32, "levels of a topic or filter", 1, 1000)
    # A public test-suite asks for one.
    refuse_subscribe: tuple[str, ...] = option((), "filters that nobody may subscribe to")
    # A week outlives a holiday; the queue of a module holds commands, which have an expiry of their own.
    session_expiry_max_s: int = option(7 * 86_400, "longest life of a session without a connection", 0, 2**32 - 2)
    max_sessions: int = option(100_000, "persistent sessions, connected or not", 0, 10_000_000)
    # Two for each of 48,000 modules and room.
    max_retained_messages: int = option(200_000, "retained messages", 0, 10_000_000)
    max_retained_bytes: int = option(128 * MIB, "the same in bytes", 0, 16 * GIB)
    max_will_delay_s: int = option(86_400, "longest delay of a last will", 0, 2**32 - 1)
    tls_workers: int = option(0, "processes that terminate TLS; 0: in the hub's own", 0, 64)
    tls_handshake_s: float = option(10.0, "a TLS handshake that takes longer is dropped", 0.5, 600)
    # A storm is queued there first.
    backlog: int = option(4_096, "connections the system may hold ready to be accepted", 1, 65535)


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """Files of a TLS listener (PEM). With `client_ca` every client must show a certificate signed by it."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """One port. With port 0 the system chooses, the same for every host."""

    name: str
    port: int
    # IPv4 and IPv6; a host whose family this machine lacks is left out.
    hosts: tuple[str, ...] = ("0.0.0.0", "::")  # noqa: S104 - modules come from the network
    tls: Tls | None = None
    # Whether `BrokerOptions.allow_anonymous` holds here: never on the operators' listener.
    anonymous: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Upstream:
    """A broker somebody else runs, and how this hub is its client."""

    host: str
    port: int
    # Of every consumer, with its number behind it; a session of that name waits at the broker.
    client_id: str
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    tls: bool = False
    # PEM; None: the system's own authorities.
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    consumers: int = 1
    # Name of a shared subscription; empty: none.
    shared_group: str = ""
    session_expiry_s: int = 7 * 86_400
    keep_alive_s: int = 60

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
