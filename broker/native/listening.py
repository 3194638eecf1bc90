"""The sockets a listener needs: one per host, all on one port."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl

from broker.options import Listener, Tls

_log = logging.getLogger(__name__)

# Errors that say "this machine has no such address family", not "the port is taken".
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def bind(listener: Listener, *, reuse_port: bool = False) -> list[socket.socket]:
    """Bound sockets of a listener, not listening yet. Raises OSError when a port is taken or no host can be bound."""
    found: list[socket.socket] = []
    port = listener.port
    problem: OSError | None = None
    try:
        for host in listener.hosts:
            try:
                sock = _bind_one(host, port, reuse_port=reuse_port)
            except OSError as error:
                if error.errno not in _NO_FAMILY and not isinstance(error, socket.gaierror):
                    raise
                problem = error
                _log.info("listener %s: no %s on this machine", listener.name, host)
                continue
            found.append(sock)
            port = sock.getsockname()[1]
    except OSError:
        for sock in found:
            sock.close()
        raise
    if not found:
        raise problem or OSError(errno.EADDRNOTAVAIL, f"listener {listener.name} has no host")
    return found


def _bind_one(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _name, address = infos[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if os.name == "posix":
            # On Windows the option would let two programs share a port by accident.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"port {port} of {host}: {error.strerror}") from error
    return sock


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or newer with a listener's files. Raises OSError or ssl.SSLError when they do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
