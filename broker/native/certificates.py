"""Our own certificate authority and server certificate, made at the first start."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.options import Tls

# Modules hold the authority's certificate in their firmware: it outlives them.
_AUTHORITY_DAYS = 20 * 365
# Below the 825 days that operating systems accept of a server.
_SERVER_DAYS = 800
# A server certificate with less than this left is made anew at the start.
_RENEW_DAYS = 60
# Clocks of other machines may be behind.
_BACKDATE = dt.timedelta(days=1)

AUTHORITY = "ca.pem"
AUTHORITY_KEY = "ca.key"
SERVER = "server.pem"
SERVER_KEY = "server.key"


def ensure_certificates(directory: Path, names: Sequence[str], now: dt.datetime) -> Tls:
    """The server's files below `directory`, made where missing, for other `names`, or soon to expire.

    `names` are host names and IP addresses that clients use; `now` is aware UTC. Blocks for some milliseconds. Raises
    OSError when the directory can not be written and ValueError when a file in it is no certificate or key.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority_key, authority = _authority(directory, now)
    server = directory / SERVER
    if not _is_good(server, directory / SERVER_KEY, authority, names, now):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder("Wattdeck broker", key, now, _SERVER_DAYS)
            .issuer_name(authority.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        _write_key(directory / SERVER_KEY, key)
        server.write_bytes(_pem(certificate) + _pem(authority))
    return Tls(certificate=server, key=directory / SERVER_KEY)


def _authority(directory: Path, now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, file = directory / AUTHORITY_KEY, directory / AUTHORITY
    if key_file.exists() and file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file} is not a key of ours")
        return key, x509.load_pem_x509_certificate(file.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Wattdeck local authority", key, now, _AUTHORITY_DAYS)
    certificate = (
        builder.issuer_name(_name("Wattdeck local authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)
    file.write_bytes(_pem(certificate))
    return key, certificate


def _builder(common_name: str, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _is_good(server: Path, key: Path, authority: x509.Certificate, names: Sequence[str], now: dt.datetime) -> bool:
    if not server.exists() or not key.exists():
        return False
    certificate = x509.load_pem_x509_certificate(server.read_bytes())
    if certificate.issuer != authority.subject:
        return False
    if certificate.not_valid_after_utc < now + dt.timedelta(days=_RENEW_DAYS):
        return False
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(extension.value) == set(_alternatives(names))


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.unlink(missing_ok=True)
    # Never readable by others, not even for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
