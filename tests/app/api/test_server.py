"""The API's server over real sockets: TLS, names, bounds, deadlines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
import warnings

import httpx
import pytest

from app.api.connection import ConnectionLimits
from app.api.counters import ApiCounters
from app.api.server import ApiServer
from app.domain.errors import EnvironmentFault, OperatorInputError
from app.domain.hosts import HostNames
from app.hub.certificates import server_tls

WAIT_S = 15
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope, receive, send):
    """Reads the body, and answers what the path asks for."""
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/never":
        await asyncio.Event().wait()
    status = 404 if scope["path"] == "/404" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    if scope["path"] == "/endless":
        for _ in range(300):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def tls(tmp_path):
    return server_tls(tmp_path / "tls")


@contextlib.asynccontextmanager
async def served(host="127.0.0.1", tls=None, app=hello, **limits):
    counters = ApiCounters()
    names = HostNames(["hub.example.org"])
    context = tls and tls.context()
    server = ApiServer(app, host, 0, context, names=names, limits=ConnectionLimits(**limits), counters=counters)
    _host, port = await server.start()
    try:
        yield port, counters
    finally:
        await server.stop()


async def eventually(true, what="it"):
    give_up = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < give_up, f"{what} did not happen"
        await asyncio.sleep(0.01)


async def ended(reader):
    """Whether the server closes the connection."""
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), WAIT_S)
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_plain_http_is_refused_on_a_network(host):
    server = ApiServer(hello, host, 0)

    with pytest.raises(OperatorInputError, match="not served without TLS"):
        await server.start()
    await server.stop()


async def test_a_taken_port_is_said(tls):
    async with served() as (port, _counters):
        with pytest.raises(EnvironmentFault, match="--api-port"):
            await ApiServer(hello, "127.0.0.1", port).start()


async def test_https_with_the_hubs_own_authority(tls):
    trusting = ssl.create_default_context(cafile=tls.ca)
    async with (
        served("0.0.0.0", tls) as (port, counters),
        httpx.AsyncClient(verify=trusting) as client,
        httpx.AsyncClient() as stranger,
    ):
        answer = await client.get(f"https://localhost:{port}/")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
        assert "server" not in answer.headers
        with pytest.raises(httpx.ConnectError):
            await stranger.get(f"https://localhost:{port}/")
        with pytest.raises(httpx.TransportError):
            await stranger.get(f"http://localhost:{port}/")
        assert (await client.get(f"https://127.0.0.1:{port}/")).text == "hello"
    assert counters.now()["requests_2xx"] == 2


async def test_tls_before_1_2_is_refused(tls):
    async with served("127.0.0.1", tls) as (port, _counters):
        for version, works in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            # This side would have it.
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings(action="ignore"):
                context.minimum_version = context.maximum_version = version
            connecting = asyncio.open_connection("127.0.0.1", port, ssl=context)
            if works:
                _reader, writer = await connecting
                writer.close()
            else:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await connecting


async def test_ipv6_alone_and_every_address(tls):
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    async with served("::1") as (port, _counters), httpx.AsyncClient() as client:
        assert (await client.get(f"http://[::1]:{port}/")).text == "hello"
    trusting = ssl.create_default_context(cafile=tls.ca)
    async with served("::", tls) as (port, _counters), httpx.AsyncClient(verify=trusting) as client:
        assert (await client.get(f"https://[::1]:{port}/")).text == "hello"
        assert (await client.get(f"https://127.0.0.1:{port}/")).text == "hello"


async def test_requests_for_a_foreign_name_are_refused():
    async with served() as (port, counters), httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/"
        foreign = await client.get(url, headers={"Host": f"attacker.example:{port}"})
        ours = await client.get(url, headers={"Host": "hub.example.org"})

    assert (foreign.status_code, foreign.json()["type"]) == (421, "urn:wattdeck:problem:wrong-host")
    assert foreign.headers["content-type"] == "application/problem+json"
    assert ours.status_code == 200
    assert counters.now()["refused_host"] == 1


async def test_above_the_bound_requests_get_503_and_far_above_connections_are_closed():
    async with served(most_connections=lambda: 2) as (port, counters):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await eventually(lambda: counters.connections == 2)
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["type"] == "urn:wattdeck:problem:busy"
        await eventually(lambda: counters.connections == 2)
        more = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await ended(more[-1][0])
        for reader, writer in idle + more:
            writer.close()
            await ended(reader)
        await eventually(lambda: counters.connections == 0)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200
    found = counters.now()
    assert (found["refused_busy"], found["refused_connections"], found["requests_5xx"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("sent", "limits"),
    [
        (b"", {"head_s": 0.1}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", {"head_s": 0.1}),
        (GET + b"GET / HTTP/1.1\r\nHo", {"head_s": 0.1}),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", {"body_pause_s": 0.1}),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", {"body_s": 0.1}),
    ],
)
async def test_a_client_that_sends_slowly_is_closed(sent, limits):
    async with served(**limits) as (port, counters):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await ended(reader)
        writer.close()
        await eventually(lambda: counters.now()["closed_slow"] == 1)


async def test_a_body_that_trickles_does_not_outlive_its_deadline():
    async with served(body_s=0.3) as (port, counters):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        closed = asyncio.create_task(ended(reader))
        give_up = time.monotonic() + WAIT_S
        while not closed.done():
            assert time.monotonic() < give_up
            with contextlib.suppress(ConnectionError):
                writer.write(b"x")
                await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()
    assert counters.now()["closed_slow"] == 1


async def test_a_client_that_never_reads_is_closed():
    async with served(unread_s=0.2) as (port, counters):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(GET.replace(b"/ ", b"/endless "))
        await eventually(lambda: counters.now()["closed_slow"] == 1)
        writer.close()


async def test_a_tls_handshake_has_a_deadline(tls):
    async with served("127.0.0.1", tls, handshake_s=0.2) as (port, counters):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await ended(reader)
        writer.close()
        assert counters.connections == 0


async def test_connections_are_kept_and_requests_may_follow_at_once():
    async with served() as (port, counters):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET * 3)
        for _ in range(3):
            await asyncio.wait_for(reader.readuntil(b"hello"), WAIT_S)
        assert counters.connections == 1
        writer.write(GET.replace(b"/ ", b"/404 "))
        await asyncio.wait_for(reader.readuntil(b"hello"), WAIT_S)
        writer.close()
    found = counters.now()
    assert (found["requests_2xx"], found["requests_4xx"]) == (3, 1)
    assert 0 < found["latency_p50_ms"] <= found["latency_p99_ms"] < WAIT_S * 1000


async def test_an_idle_connection_is_closed_in_its_time_and_not_as_slow():
    async with served(keep_alive_s=0.3, head_s=0.1) as (port, counters):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b"hello"), WAIT_S)
        answered = time.monotonic()
        assert await ended(reader)
        assert time.monotonic() - answered > 0.25, "the deadline of a head does not run between requests"
        writer.close()
    assert counters.now()["closed_slow"] == 0


async def test_garbage_is_answered_and_counted():
    async with served() as (port, counters):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert b"400" in await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
    assert counters.now()["refused_invalid"] == 1


async def test_the_end_takes_two_seconds_at_most_whatever_clients_do(tls):
    counters = ApiCounters()
    server = ApiServer(hello, "127.0.0.1", 0, tls.context(), counters=counters)
    _host, port = await server.start()
    context = ssl.create_default_context(cafile=tls.ca)
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1]]
    for request in (b"", GET, GET.replace(b"/ ", b"/never "), GET.replace(b"/ ", b"/endless ")):
        _reader, writer = await asyncio.open_connection("localhost", port, ssl=context, limit=1000)
        writer.write(request)
        writers.append(writer)
    await eventually(lambda: counters.connections == 4)
    began = time.monotonic()
    await server.stop()
    took = time.monotonic() - began
    for writer in writers:
        writer.transport.abort()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert counters.now()["requests_unanswered"] >= 1
    assert took < 2.5, "two seconds, and what a busy machine adds"


async def test_a_hub_counts_its_requests(trial):
    async with trial.anonymous() as client:
        await client.get("/v1/health")
        await client.get("/v1/statistics")
    found = (await (await trial.client()).get("/v1/statistics")).json()

    assert (found["api.requests_2xx"], found["api.requests_4xx"], found["api.requests_5xx"]) == (1, 1, 0)
    assert found["api.connections"] >= 1
    assert json.dumps(found, allow_nan=False)


async def test_a_small_answer_does_not_wait_for_an_acknowledgement():
    accepted = []

    async def looked(scope, receive, send):
        accepted.extend(
            connection.transport.get_extra_info("socket") for connection in server._server.server_state.connections
        )
        await hello(scope, receive, send)

    server = ApiServer(
        looked, "127.0.0.1", 0, None, names=HostNames([]), limits=ConnectionLimits(), counters=ApiCounters()
    )
    _host, port = await server.start()
    try:
        async with httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{port}/")
        assert [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0 for one in accepted] == [True]
    finally:
        await server.stop()
