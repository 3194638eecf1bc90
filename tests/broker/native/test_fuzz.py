"""Whatever a client sends, its connection ends or goes on; nothing raises, nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.native.connection import CLOSED, Connection
from broker.options import Listener
from broker.packets import V5, Connect, Properties, Will, encode
from tests.helpers.mqtt_peer import running_broker
from tests.helpers.packet_strategies import packets, versions

LISTENER = Listener("test", 0)


class NullTransport(asyncio.Transport):
    """Takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.written = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += len(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """A version, and a stream of good and damaged packets in chunks."""
    version = draw(versions)
    parts = []
    for packet in draw(st.lists(packets(version), max_size=8)):
        data = bytearray(encode(packet, version))
        if draw(st.integers(0, 3)) == 0:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        parts.append(bytes(data))
    if draw(st.booleans()):
        parts.append(draw(st.binary(max_size=50)))
    stream = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return version, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@settings(max_examples=300, deadline=None)
@given(streams(), st.booleans(), st.booleans())
def test_any_stream_of_bytes(stream, clean, manual):
    version, chunks = stream

    async def run_it() -> None:
        async with running_broker(listeners=(), session_expiry_max_s=50) as run:
            run.sink.manual = manual
            core = run.core
            connection = Connection(core, LISTENER)
            transport = NullTransport()
            connection.connection_made(transport)
            fields: dict[str, Any] = {"properties": Properties(session_expiry_s=20)} if version == V5 else {}
            connection.data_received(
                encode(
                    Connect(
                        client_id="c",
                        version=version,
                        clean_start=clean,
                        will=Will(topic="keep/will", payload=b"x"),
                        **fields,
                    ),
                    version,
                )
            )
            for chunk in chunks:
                connection.data_received(chunk)
                assert core.partial_bytes <= 1000
                await asyncio.sleep(0)
                if connection.state == CLOSED:
                    break
            core.inbox.flush()
            for batch in run.sink.batches:
                batch.acknowledge()
            connection.connection_lost(None)
            await asyncio.sleep(0)
            assert core.partial_bytes == 0
            assert not core.connections
            run.advance(60)
            assert not core.sessions.by_id
            assert core.subscriptions.count == 0
            assert core.subscriptions._root.empty
            assert len(core.wheel) == 0

    asyncio.run(run_it())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.integers(1, 20))
def test_any_bytes_instead_of_a_connect(noise, size):
    async def run_it() -> None:
        async with running_broker(listeners=()) as run:
            connection = Connection(run.core, LISTENER)
            connection.connection_made(NullTransport())
            for start in range(0, len(noise), size):
                connection.data_received(noise[start : start + size])
            connection.connection_lost(None)
            assert not run.core.connections
            assert run.core.partial_bytes == 0

    asyncio.run(run_it())
