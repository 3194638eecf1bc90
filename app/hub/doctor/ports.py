"""Whether the ports are free, or our own hub's."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence

import psutil

from app.domain.settings import DERIVED_PORT, Settings
from app.hub.doctor.patient import Patient, failed, ok, warning
from app.hub.engines import OPERATORS_PORT_OFFSET, TLS_PORT_OFFSET
from app.protocol.api.doctor import Finding
from app.protocol.hub_file import HubFile

_CONNECT_S = 2.0


def check_ports(patient: Patient) -> Iterator[Finding]:
    """Of a running hub, whether each listener accepts; otherwise whether it could listen."""
    if patient.hub is not None:
        for name in patient.hub.listen:
            yield _own(patient.hub, name)
        return
    if patient.is_locked:
        yield warning("ports", "a hub is starting, or does not say where it listens", "ask again in a minute")
        return
    for name, hosts, port, gives_way, key in _wanted(patient.settings):
        yield _free(name, hosts, port, gives_way=gives_way, key=key)


def _own(hub: HubFile, name: str) -> Finding:
    host, port = hub.address(name)
    where = f"{hub.listen[name][0]} port {port}, held by our own hub (process {hub.pid})"
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except OSError as error:
        return failed(f"ports.{name}", f"{where}, does not accept: {error}", "look into logs/hub.log; restart the hub")
    return ok(f"ports.{name}", where)


def _wanted(settings: Settings) -> Iterator[tuple[str, Sequence[str], int, bool, str]]:
    """Name, hosts, port, whether another is taken instead of a taken one, and the setting."""
    listen = settings.listen
    # An external broker has its own ports, perhaps these very ones.
    serves_modules = settings.hub.engine != "external"
    if serves_modules:
        yield "mqtt", listen.mqtt_hosts, listen.mqtt_port, False, "listen.mqtt_port"
    derived = [("operators", listen.operators_hosts, listen.operators_port, OPERATORS_PORT_OFFSET)]
    if settings.tls.enabled and serves_modules:
        derived.insert(0, ("mqtts", listen.mqtt_hosts, listen.mqtts_port, TLS_PORT_OFFSET))
    for name, hosts, port, offset in derived:
        gives_way = port == DERIVED_PORT
        if gives_way:
            port = listen.mqtt_port + offset if listen.mqtt_port else 0  # noqa: PLW2901 - the one it comes to
        yield name, hosts, port, gives_way, f"listen.{name}_port"
    yield "api", [listen.api_host], listen.api_port, False, "listen.api_port"


def _free(name: str, hosts: Sequence[str], port: int, *, gives_way: bool, key: str) -> Finding:
    check = f"ports.{name}"
    if port == 0:
        return ok(check, "a free port is taken")
    for host in hosts:
        refusal = _refusal(host, port)
        if refusal is None:
            continue
        if refusal.errno == errno.EADDRINUSE:
            measured = f"{host} port {port} is taken{_by_whom(port)}"
            if gives_way:
                return warning(check, measured, f"a free port is used instead; {key} sets one")
            return failed(check, measured, f"stop that program, or choose another port with {key}")
        return failed(check, f"{host} port {port}: {refusal.strerror}", f"choose another address or {key}")
    return ok(check, f"{', '.join(hosts)} port {port}, free")


def _refusal(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
            # Binding beside another that listens is allowed on some systems.
            probe.listen(1)
    except OSError as error:
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} and host in {"::", "::1"}:
            # No IPv6 here: the hub goes on without it.
            return None
        return error
    return None


def _by_whom(port: int) -> str:
    """As far as this user may see it."""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return f" by process {one.pid} ({psutil.Process(one.pid).name()})"
    return ""
