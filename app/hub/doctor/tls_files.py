"""Certificates and keys: their ends, their names, who may read them."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from app.hub.certificate_files import CertificateError, read_certificates, read_key
from app.hub.certificates import RENEW_DAYS, local_names
from app.hub.doctor.patient import Patient, failed, ok, warning
from app.protocol.api.doctor import Finding

_CA_WARNS_DAYS = 365


def check_certificates(patient: Patient) -> Iterator[Finding]:
    """The utility's own files, or those of the hub's authority."""
    tls = patient.settings.tls
    folder = patient.directory.tls
    if tls.certificate or tls.key:
        yield from _server(Path(tls.certificate), Path(tls.key), "ask your CA for a new one, and restart the hub")
        yield from _key_is_private(Path(tls.key))
        return
    if not (folder / "ca.crt").exists():
        yield ok("tls", "the hub's own authority is made when TLS is first needed")
        return
    yield from _authority(folder)
    if (folder / "server.pem").exists():
        yield from _server(folder / "server.pem", folder / "server.pem", "restart the hub, which renews it")
        yield from _key_is_private(folder / "server.pem")


def _authority(folder: Path) -> Iterator[Finding]:
    try:
        ca = read_certificates(folder / "ca.crt")[0]
        key = read_key(folder / "ca.key") if (folder / "ca.key").exists() else None
    except CertificateError as error:
        yield failed("tls.ca", error.text(), "restore the folder tls from a backup: every module trusts this authority")
        return
    yield _end("tls.ca", ca, _CA_WARNS_DAYS, "plan for a new authority: its ca.crt must reach every module before")
    if key is None:
        yield warning("tls.ca_key", "ca.key is not there", "bring it back before the server's must be renewed")
    elif key.public_key() != ca.public_key():
        yield failed("tls.ca_key", "ca.key is not the key of ca.crt", "restore both from one backup")
    else:
        yield from _key_is_private(folder / "ca.key")


def _server(certificate: Path, key: Path, renewal: str) -> Iterator[Finding]:
    try:
        server = read_certificates(certificate)[0]
        fits = read_key(key).public_key() == server.public_key()
    except CertificateError as error:
        yield failed("tls.server", error.text(), renewal)
        return
    if not fits:
        yield failed("tls.server", f"{key.name} is not the key of {certificate.name}", renewal)
        return
    yield _end("tls.server", server, RENEW_DAYS, renewal)
    names = _names(server)
    missing = [name for name in local_names() if name not in names]
    if missing:
        yield warning(
            "tls.names",
            f"{len(names)} names; not among them: {', '.join(missing)}",
            f"clients that use these names refuse it; {renewal}",
        )
    else:
        yield ok("tls.names", ", ".join(sorted(names)))


def _end(check: str, certificate: x509.Certificate, warn_days: int, renewal: str) -> Finding:
    ends = certificate.not_valid_after_utc
    days = (ends - dt.datetime.now(dt.UTC)).days
    if days < 0:
        return failed(check, f"ended on {ends:%Y-%m-%d}", renewal)
    measured = f"ends on {ends:%Y-%m-%d}, in {days:,} days"
    return warning(check, measured, renewal) if days < warn_days else ok(check, measured)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def _key_is_private(path: Path) -> Iterator[Finding]:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        yield failed("tls.key_permissions", f"{path} can be read by other users", f"chmod 600 {path}")
