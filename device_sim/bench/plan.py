"""What a bench and its load processes say to each other: JSON lines, commands on standard input, reports on output."""

from __future__ import annotations

from typing import Literal

import msgspec

# Half of the hub's default receive maximum: a module keeps some of its memory for itself.
DEFAULT_WINDOW = 100


class Plan(msgspec.Struct, frozen=True):
    """The first line: who connects where. Connections are numbered in the order of `credentials`."""

    host: str
    port: int
    credentials: list[tuple[str, str]]
    """(serial, secret); the serial is also the client id and the user name. An empty secret connects without both."""
    payload: str
    """The golden example; its `time_ms` and `seq` are overwritten."""
    topic: str = "wd/v1/m/{serial}/tele"
    ca_file: str | None = None
    """Connect with TLS and verify the server with this CA (PEM)."""
    window: int = DEFAULT_WINDOW
    """QoS 1 messages a connection may have without an acknowledgement."""
    keep_alive_s: int = 300
    connect_rate: float = 0.0
    """Connections begun per second, 0 for as many as `concurrency` lets through."""
    concurrency: int = 100
    """Connections under way at once while connecting; small enough for the shortest listen backlogs."""
    send_buffer: int = 0
    """Bytes of SO_SNDBUF, 0 for the system's choice. A module has a few kB: matters when the hub is overloaded."""
    tick_ms: int = 10
    """How often due readings are looked for."""
    age_s: float = 0.0
    """How old each reading says it is: late readings make a hub roll up again what was closed."""
    reconnect: bool = False
    """Connect again whenever a connection ends, and send what was not acknowledged once more (QoS 1)."""


class Connect(msgspec.Struct, frozen=True, tag_field="do", tag="connect"):
    """Connect every connection; answered by `Connected`."""

    timeout_s: float = 120.0
    progress_s: float = 0.0
    """How often to say `Progress`; 0: never."""


class Run(msgspec.Struct, frozen=True, tag_field="do", tag="run"):
    """Publish by schedule; answered by `Ran`. Readings get the sequence numbers that follow the last run's."""

    rate: float
    """Readings per second over this process's connections."""
    seconds: float
    qos: Literal[0, 1] = 0
    open_loop: bool = False
    """A reading that finds its socket full, or its connection down, is dropped and counted, never sent late."""
    reconnects_per_s: float = 0.0
    """Connections closed in good order and opened again, one after the other."""
    start_at: float = 0.0
    """Unix time of the start, common to several processes; 0 or past: at once."""
    progress_s: float = 0.0
    """How often to say `Progress`; 0: never."""


class Idle(msgspec.Struct, frozen=True, tag_field="do", tag="idle"):
    """Do nothing but keep alive until the next command; not answered."""


class Stop(msgspec.Struct, frozen=True, tag_field="do", tag="stop"):
    """End the present run early."""


class Finish(msgspec.Struct, frozen=True, tag_field="do", tag="finish"):
    """Send all that is still here, wait for acknowledgements, disconnect in good order; answered by `Finished`."""

    timeout_s: float = 60.0


Command = Connect | Run | Idle | Stop | Finish


class Progress(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """How far a phase is, of this process since its start."""

    connected: int
    sent: int
    acked: int
    late: int
    reconnects: int
    cpu_s: float


class Connected(msgspec.Struct, frozen=True, tag_field="event", tag="connected"):
    """All are connected, or time is up."""

    connected: int
    seconds: float
    """From the first SYN to the last CONNACK."""
    refused: dict[int, int] = {}
    """CONNACK codes other than 0, counted."""
    retries: int = 0
    cpu_s: float = 0.0


class Ran(msgspec.Struct, frozen=True, tag_field="event", tag="ran"):
    """What became of a run's readings at the moment its schedule ended."""

    first_seq: int
    last_seq: int
    """Inclusive; every connection was offered all of them."""
    offered: int
    sent: int
    """Handed to the operating system completely, or up to the last bytes of the newest."""
    unsent: int
    """Dropped by an open-loop run."""
    late: int
    """Still waiting when the schedule ended: full socket, full window, or lost connection."""
    seconds: float
    """What the run really took."""
    cpu_s: float
    acked: int = 0
    latency: dict[int, int] = {}
    """Send to PUBACK, `Histogram.buckets`."""
    reconnects: int = 0
    """Connections opened again, on purpose or because they were lost."""
    disconnected: int = 0
    """Connections that the other side ended."""
    worst_tick_ms: float = 0.0
    """The longest time between two looks at the schedule."""


class Finished(msgspec.Struct, frozen=True, tag_field="event", tag="finished"):
    """The end: what the readings of all runs became."""

    sent: list[int]
    """Readings sent, per connection."""
    unsent: dict[int, list[tuple[int, int]]]
    """Connection -> inclusive ranges of sequence numbers that were never sent."""
    acked: dict[int, list[tuple[int, int]]]
    """Connection -> inclusive ranges of sequence numbers acknowledged (QoS 1)."""
    unacked: int
    """QoS 1 readings sent whose acknowledgement never came."""
    unclosed: int
    """Connections that the hub did not close in time after DISCONNECT: their last readings may be under way still."""
    resent: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    """From the command to the last close."""
    acks_out_of_order: int = 0


class Failed(msgspec.Struct, frozen=True, tag_field="event", tag="failed"):
    """The process can not go on; it ends."""

    reason: str


Report = Progress | Connected | Ran | Finished | Failed
