"""paho's client as the external engine uses it: driven by somebody else's loop, on a socket that buffers."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.external_socket import BufferedSocket
from broker.options import Upstream

# What MQTT 5 allows at most: the broker goes on sending while a commit is under way.
RECEIVE_MAXIMUM = 65_535


class BufferedClient(paho.Client):
    """paho with a socket of ours between it and the system."""

    def buffered(self) -> BufferedSocket | None:
        """The socket, None without a connection."""
        sock = self.socket()
        return sock if isinstance(sock, BufferedSocket) else None

    def _create_socket(self) -> Any:
        return BufferedSocket(super()._create_socket())  # type: ignore[arg-type]


def make_client(upstream: Upstream, client_id: str, version: int, *, keeps: bool) -> BufferedClient:
    """A client that `keeps` its session, or has none. Raises OSError for files that can not be used."""
    client = BufferedClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion(version),
        manual_ack=True,
        reconnect_on_failure=False,
        # A word of 3.1.1; with 5 it is said when connecting.
        clean_session=None if version == paho.MQTTv5 else not keeps,
    )
    if upstream.username is not None:
        client.username_pw_set(upstream.username, upstream.password)
    if upstream.tls:
        client.tls_set_context(_tls_context(upstream))
    # Tells paho that somebody else watches the socket: it writes only when asked to.
    client.on_socket_register_write = lambda _client, _userdata, _sock: None
    return client


def connect(client: BufferedClient, upstream: Upstream, version: int, *, keeps: bool) -> None:
    """Open a connection and ask to be let in. Raises OSError, ValueError (a certificate's name)."""
    if version != paho.MQTTv5:
        client.connect(upstream.host, upstream.port, upstream.keep_alive_s)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    if keeps:
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.SessionExpiryInterval = upstream.session_expiry_s
    client.connect(upstream.host, upstream.port, upstream.keep_alive_s, clean_start=not keeps, properties=properties)


def close_client(client: BufferedClient) -> None:
    """DISCONNECT where it can be sent; the session stays."""
    with contextlib.suppress(OSError, ValueError):
        client.disconnect()
        client.loop_write()


def _tls_context(upstream: Upstream) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=upstream.ca_file)
    if upstream.certificate is not None:
        context.load_cert_chain(upstream.certificate, upstream.key)
    return context
