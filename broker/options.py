"""What a broker can be told: its limits and its listeners."""

from __future__ import annotations

import dataclasses
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerOptions:
    """Every limit of a broker. Names are those of the settings; 0 means "no limit" only where the comment says so."""

    # Accept a client whatever name and password it gives, with every right below `$`. For trials, never for a fleet.
    allow_anonymous: bool = False
    # A dead connection is noticed after 1.5 times this. A 5.0 client that asks for more (or for none) is told this
    # value; 3.1.1 has no way to tell, there the client's own value stands. 0: no limit.
    max_keep_alive_s: int = 300
    # QoS 1 and 2 messages a client may have unanswered. Answers come with the commit each 250 ms, so this caps a client
    # at four times its value a second.
    receive_maximum: int = 500
    # Topic aliases a 5.0 client may set. A module uses a handful of topics.
    topic_alias_maximum: int = 16
    # Largest packet either way. A reading has 200 bytes; the live feed's fleet message 400 kB for 48,000 modules goes
    # out, not in.
    max_packet_size: int = 256 * KIB
    # Largest CONNECT: bounds what strangers can make the broker hold.
    max_connect_size: int = 16 * KIB
    # Bytes of incomplete packets over all connections: slow senders can not fill the memory together.
    max_partial_bytes: int = 128 * MIB
    # Connections at once. A Linux process here may open 20,000 files; the hub needs some for itself.
    max_connections: int = 19_000
    # New connections answered per second; the rest waits in the storm queue, nobody is refused. Keeps room for the
    # data of those already there while a whole fleet comes back.
    connects_per_second: int = 8_000
    # The same for one address; above the modules that may stand behind one router or mobile gateway. 0: no limit.
    connects_per_second_per_address: int = 6_000
    # A connection that sends no CONNECT within this time is closed.
    half_open_s: float = 5.0
    # QoS 1 and 2 messages on their way to one client (its own receive maximum may be lower).
    max_inflight: int = 100
    # QoS 1 and 2 messages that wait for one session. When full, new ones are dropped.
    max_queued_messages: int = 1_000
    max_queued_bytes: int = 4 * MIB
    # Bytes written to a client and not yet taken by the network; above it QoS 0 messages to it are dropped. Two fleet
    # messages of the live feed.
    max_unsent_bytes: int = 1 * MIB
    # Subscriptions of one session.
    max_subscriptions: int = 200
    # Levels of a topic or filter.
    max_topic_levels: int = 32
    # Filters that get a failure code whatever the rights (a public test-suite asks for one).
    refuse_subscribe: tuple[str, ...] = ()
    # Longest life of a session after its connection; also that of an MQTT 3.1.1 session, which knows none. A week
    # outlives a holiday; the queue of a module holds commands, which have an expiry of their own.
    session_expiry_max_s: int = 7 * 86_400
    # Persistent sessions, connected or not.
    max_sessions: int = 100_000
    # Retained messages: two for each of 48,000 modules and room.
    max_retained_messages: int = 200_000
    max_retained_bytes: int = 128 * MIB
    # Longest wait of a will for its client's return.
    max_will_delay_s: int = 86_400
    # Processes that terminate TLS, for each TLS listener; 0: TLS in this process.
    tls_workers: int = 0
    # A TLS handshake that takes longer is dropped.
    tls_handshake_s: float = 10.0
    # Connections the system may hold ready for `accept`: a storm is queued there first.
    backlog: int = 4_096


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
