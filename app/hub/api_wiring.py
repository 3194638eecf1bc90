"""The API's server as the settings want it: plain on loopback or HTTPS, its names, its limits."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from litestar import Litestar

from app.api.connection import ConnectionLimits
from app.api.counters import ApiCounters
from app.api.server import ApiServer
from app.domain.hosts import HostNames, is_loopback
from app.domain.settings import Settings
from app.hub.certificate_files import read_certificates
from app.hub.certificates import ServerTls, local_names, server_tls
from app.protocol.hub_file import ApiFacts


@dataclasses.dataclass(frozen=True, slots=True)
class ServedApi:
    """A server that listens."""

    address: tuple[str, int]
    facts: ApiFacts
    server: ApiServer


async def serve_api(
    app: Litestar, settings: Settings, tls_folder: Path, counters: ApiCounters, most_connections: Callable[[], int]
) -> ServedApi:
    """Listen; `most_connections` is asked anew for each.

    Raises WattdeckError: the port is taken, the certificate can not be used, no TLS where there must be.
    """
    listen = settings.listen
    facts = ApiFacts("http")
    context = None
    names = [*settings.api.names, *local_names()]
    if listen.api_tls == "always" or not is_loopback(listen.api_host):
        # Whether MQTT has TLS is another question.
        tls = await asyncio.to_thread(server_tls, tls_folder, settings.tls.certificate, settings.tls.key)
        facts, certified = await asyncio.to_thread(_facts_of, tls)
        names += certified
        context = tls.context()
        context.set_alpn_protocols(["http/1.1"])
    server = ApiServer(
        app,
        listen.api_host,
        listen.api_port,
        context,
        names=HostNames(names),
        limits=ConnectionLimits(most_connections),
        counters=counters,
    )
    return ServedApi(await server.start(), facts, server)


def _facts_of(tls: ServerTls) -> tuple[ApiFacts, list[str]]:
    """What consoles pin, and the names in the certificate."""
    server = read_certificates(tls.certificate)[0]
    authority = None if tls.ca is None else read_certificates(tls.ca)[0]
    try:
        alternative = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternative.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    return ApiFacts("https", _fingerprint(server), None if authority is None else _fingerprint(authority)), names


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
