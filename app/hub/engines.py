"""Builds the broker engines from the settings: the modules' one by choice, the operators' always native."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from app.domain.errors import BugError
from app.domain.settings import DERIVED_PORT, ListenSettings, Settings, TlsSettings
from app.hub.certificates import ServerTls, server_tls
from app.hub.data_directory import DataDirectory
from app.hub.external_broker import external_engine
from app.protocol.live import LIVE_PREFIX
from app.sources.heard import HeardModules
from app.sources.mqtt import MqttSource
from app.stores.wall_clock import now_s
from broker.engine import Authenticator, Engine, Sink
from broker.native.server import NativeBroker
from broker.options import Listener, Tls

log = logging.getLogger(__name__)

# From the modules' plain port to the others, so that 1883 gives MQTT's registered 8883.
TLS_PORT_OFFSET = 7000
OPERATORS_PORT_OFFSET = 7001
OPERATORS = "operators"
_HIGHEST_PORT = 65535


def derived_port(configured: int, listen: ListenSettings, offset: int) -> int:
    """A listener's port: as configured, or from the plain port; 0 (a free one) where that one is taken."""
    if configured != DERIVED_PORT:
        return configured
    port = listen.mqtt_port + offset
    if listen.mqtt_port == 0 or port > _HIGHEST_PORT or port == listen.api_port:
        return 0
    if not _is_free(port):
        log.warning("port %d is taken, a free one is used instead; it can be set in [listen]", port)
        return 0
    return port


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listeners(listen: ListenSettings, certificate: ServerTls | None) -> list[Listener]:
    """The native engine's ports: modules plain and TLS, operators."""
    found = [Listener("mqtt", listen.mqtt_port, listen.mqtt_hosts)]
    if certificate is not None:
        port = derived_port(listen.mqtts_port, listen, TLS_PORT_OFFSET)
        tls = Tls(certificate.certificate, certificate.key)
        found.append(Listener("mqtts", port, listen.mqtt_hosts, tls))
    port = derived_port(listen.operators_port, listen, OPERATORS_PORT_OFFSET)
    found.append(Listener(OPERATORS, port, listen.operators_hosts, anonymous=False))
    return found


def server_certificate(tls: TlsSettings, folder: Path) -> ServerTls | None:
    """The certificate of the TLS listener, None when TLS is off. Raises CertificateError, CertificateFolderFault."""
    return server_tls(folder, tls.certificate, tls.key) if tls.enabled else None


def build_engine(settings: Settings, directory: DataDirectory, authenticator: Authenticator, sink: Sink) -> Engine:
    """The engine of the setting hub.engine. Raises CertificateError, CertificateFolderFault."""
    serves_modules = settings.hub.engine != "external"
    certificate = server_certificate(settings.tls, directory.tls) if serves_modules else None
    ports = listeners(settings.listen, certificate)
    if settings.hub.engine == "native":
        return NativeBroker(
            settings.broker, ports, authenticator, sink, data_dir=directory.broker, private=LIVE_PREFIX, now=now_s
        )
    modules = [port for port in ports if port.name != OPERATORS]
    # Whatever engine serves the modules, the operators' listener is ours, so that their rights are enforced here.
    operators = [port for port in ports if port.name == OPERATORS]
    beside = NativeBroker(
        settings.broker, operators, authenticator, sink, data_dir=directory.broker, private=LIVE_PREFIX, now=now_s
    )
    if settings.hub.engine == "external":
        return external_engine(settings.external, directory, sink, beside)
    # amqtt takes a second to import, and only who asks for it shall pay.
    from broker.amqtt_engine import AmqttEngine  # noqa: PLC0415

    return AmqttEngine(modules, authenticator, sink, beside=beside, private=LIVE_PREFIX)


def hear_modules(engine: Engine, source: MqttSource, heard: HeardModules) -> None:
    """Have modules come and go by what is heard of them, where the broker does not tell."""
    source.on_batch.append(heard.observe)
    from broker.external_engine import ExternalEngine  # noqa: PLC0415 - as above

    if isinstance(engine, ExternalEngine):
        engine.on_unrouted = heard.unrouted


def operators_broker(engine: Engine) -> NativeBroker:
    """The broker of the operators' listener: the live feed goes there and nowhere else."""
    found = engine if isinstance(engine, NativeBroker) else getattr(engine, "beside", None)
    if not isinstance(found, NativeBroker):
        raise BugError("an engine without a native broker for the operators' listener")
    return found
