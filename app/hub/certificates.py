"""The server certificate of the hub's TLS listeners: from its own local CA, or the utility's by setting."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import itertools
import logging
import os
import re
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.domain.errors import EnvironmentFault
from app.hub.certificate_files import CertificateError, key_pem, read_certificates, read_key, write_whole

_log = logging.getLogger(__name__)

# Modules keep the CA's certificate for their lifetime in the field.
CA_DAYS = 3653
# The longest that Apple's and other current clients accept of a private CA (https://support.apple.com/HT210176).
SERVER_DAYS = 825
# The certificate of a hub that runs on is renewed this long before it ends: time enough to notice when that fails.
RENEW_DAYS = 30
# Modules whose clock is somewhat slow shall accept a certificate that was made today.
BACKDATE = dt.timedelta(days=1)

# No clock of a machine that runs this program is right before this day.
CLOCK_BEGINS = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

# Forward secrecy and authenticated encryption only; TLS 1.3 has its own list, all of it sound. Modules with an
# ESP32-class chip do ECDHE with AES-GCM.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_CA_CERTIFICATE = "ca.crt"
_CA_KEY = "ca.key"
# Certificate and key in one file: they are replaced by one rename and can never be of two different pairs.
_SERVER = "server.pem"

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")

Clock = Callable[[], dt.datetime]


class CertificateFolderFault(EnvironmentFault):
    """The folder of certificates can not be read or written."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}; check the owner and permissions, and that the disk has room")


@dataclasses.dataclass(frozen=True, slots=True)
class ServerTls:
    """Files of a server certificate (chain) and its key, PEM; both may be one file. Other processes may get it.

    `ca` is what clients must trust; None for the utility's own certificate, whose CA they know already.
    """

    certificate: Path
    key: Path
    ca: Path | None
    not_after: dt.datetime

    def context(self) -> ssl.SSLContext:
        """A context for a listener: TLS 1.2 or later, session tickets on. Raises CertificateError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        # A module that comes back resumes its session without a signature of ours; one ticket is enough for that.
        context.options &= ~ssl.OP_NO_TICKET
        context.num_tickets = 1
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a context use these files from its next handshake on (after a renewal). Raises CertificateError."""
        try:
            # A callback, so that OpenSSL never asks for a passphrase on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except OSError as error:
            raise CertificateError(self.certificate, f"OpenSSL refuses it: {error.strerror or error}") from error


def server_tls(folder: Path, certificate: str = "", key: str = "") -> ServerTls:
    """The server certificate by the settings: the utility's own files, or with empty paths the local CA in `folder`.

    Raises:
        CertificateError: see `own_certificate` and `LocalAuthority.ensure`; also when one path of the two is empty.
        CertificateFolderFault: the folder can not be read or written.
    """
    if bool(certificate) != bool(key):
        raise CertificateError(Path(certificate or key), "tls.certificate and tls.key are set together, or neither")
    if certificate:
        return own_certificate(Path(certificate), Path(key))
    return LocalAuthority(folder).ensure()


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def local_names() -> list[str]:
    """The names and addresses by which this machine may be reached, `localhost` first."""
    names = ["localhost", "127.0.0.1", "::1"]
    host = socket.gethostname()
    if _HOST_NAME.fullmatch(host) and host != "localhost":
        # `.local` is how devices in a home find it, by multicast DNS.
        names += [host] if "." in host else [host, f"{host}.local"]
    for interface in psutil.net_if_addrs().values():
        for entry in interface:
            if entry.family in {socket.AF_INET, socket.AF_INET6}:
                address = ipaddress.ip_address(entry.address.partition("%")[0])
                if not address.is_link_local:
                    names.append(str(address))
    return list(dict.fromkeys(names))


class LocalAuthority:
    """A certificate authority of this hub alone, and the server certificate it signs, in one folder.

    Files: `ca.crt` (give it to clients), `ca.key` and `server.pem` (mode 0600). The CA is made once and never replaced,
    since modules in the field trust it. The server certificate is renewed as needed.
    """

    def __init__(
        self, folder: Path, *, now: Clock = _utc_now, names: Callable[[], Iterable[str]] = local_names
    ) -> None:
        self._folder = folder
        self._now = now
        self._names = names

    def ensure(self) -> ServerTls:
        """The server certificate; made or renewed when it is missing, ends soon, or lacks a name of this machine.

        Raises:
            CertificateError: a file is damaged, or the CA has ended; nothing is overwritten.
            CertificateFolderFault: the folder can not be read or written.
        """
        with self._faults():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            ca, ca_key = self._authority()
            names = list(self._names())
            path = self._folder / _SERVER
            server = _own_server(path) if path.exists() else None
            reason = self._renewal_reason(server, ca, names)
            if reason is not None:
                if ca_key is None:
                    raise CertificateError(
                        self._folder / _CA_KEY, f"is missing, and the server certificate must be renewed ({reason})"
                    )
                server = self._issue(path, ca, ca_key, names)
                _log.info("server certificate made (%s), valid until %s", reason, server.not_valid_after_utc.date())
            assert server is not None
            return ServerTls(path, path, self._folder / _CA_CERTIFICATE, server.not_valid_after_utc)

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey | None]:
        certificate_path, key_path = self._folder / _CA_CERTIFICATE, self._folder / _CA_KEY
        if not certificate_path.exists():
            # A key alone is what an interrupted first start leaves; nobody trusts it yet, so it may be used.
            key = _own_key(key_path) if key_path.exists() else ec.generate_private_key(ec.SECP256R1())
            if self._now() < CLOCK_BEGINS:
                raise CertificateError(
                    certificate_path,
                    f"not made: this machine's clock says {self._now().date()}; set it first, the dates would be wrong",
                )
            certificate = _ca_certificate(key, self._now())
            write_whole(key_path, key_pem(key), 0o600)
            write_whole(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
            _log.info("local CA made, valid until %s", certificate.not_valid_after_utc.date())
            return certificate, key
        (certificate, *_) = read_certificates(certificate_path)
        if certificate.not_valid_after_utc <= self._now():
            raise CertificateError(
                certificate_path,
                f"the local CA ended on {certificate.not_valid_after_utc.date()}, and it is {self._now().date()}; "
                "move the folder away to make a new one, and give its ca.crt to every module",
            )
        if not key_path.exists():
            return certificate, None
        key = _own_key(key_path)
        if key.public_key() != certificate.public_key():
            raise CertificateError(key_path, f"is not the key of {certificate_path.name}; restore both from one backup")
        return certificate, key

    def _renewal_reason(
        self, server: x509.Certificate | None, ca: x509.Certificate, names: Iterable[str]
    ) -> str | None:
        if server is None:
            return "first start"
        try:
            server.verify_directly_issued_by(ca)
        except (ValueError, TypeError, InvalidSignature):
            return "of another CA"
        # Close to the end of the CA there is no later date to be had.
        ends = min(server.not_valid_after_utc, ca.not_valid_after_utc)
        if self._now() >= ends - dt.timedelta(days=RENEW_DAYS) and server.not_valid_after_utc < ca.not_valid_after_utc:
            return "ends soon"
        if self._now() < server.not_valid_before_utc:
            return "made under a wrong clock"
        if not set(_alternative_names(names)) <= set(_alternative_names_of(server)):
            return "new names"
        return None

    def _issue(
        self, path: Path, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, names: Iterable[str]
    ) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        begins = self._now() - BACKDATE
        # Both ends count, so a second less than the days.
        ends = min(begins + dt.timedelta(days=SERVER_DAYS, seconds=-1), ca.not_valid_after_utc)
        certificate = (
            _builder("Wattdeck hub", ca.subject, key.public_key(), begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        write_whole(path, certificate.public_bytes(serialization.Encoding.PEM) + key_pem(key), 0o600)
        return certificate

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CertificateFolderFault(self._folder, error.strerror or type(error).__name__) from error


def own_certificate(certificate: Path, key: Path, *, now: Clock = _utc_now) -> ServerTls:
    """The utility's own server certificate, checked before a client finds out what is wrong with it.

    `certificate` holds the server's certificate first, then those between it and its CA. Raises CertificateError.
    """
    chain = read_certificates(certificate)
    server = chain[0]
    private_key = read_key(key)
    if private_key.public_key() != server.public_key():
        raise CertificateError(key, f"is not the key of the first certificate in {certificate}")
    today = now()
    if server.not_valid_after_utc <= today:
        raise CertificateError(certificate, f"ended on {server.not_valid_after_utc.date()}; ask your CA for a new one")
    if server.not_valid_before_utc > today:
        raise CertificateError(
            certificate, f"begins on {server.not_valid_before_utc.date()} only; is this machine's clock right?"
        )
    _check_purpose(certificate, server)
    for issued, issuer in itertools.pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateError(
                certificate, "the chain is broken: each certificate must be followed by that of its issuer"
            ) from error
    if os.name == "posix" and key.stat().st_mode & 0o077:
        _log.warning("the private key %s can be read by other users of this machine; chmod 600 it", key)
    if server.not_valid_after_utc - today < dt.timedelta(days=RENEW_DAYS):
        _log.warning("the server certificate %s ends on %s", certificate, server.not_valid_after_utc.date())
    tls = ServerTls(certificate, key, None, server.not_valid_after_utc)
    tls.context()
    return tls


def _check_purpose(path: Path, server: x509.Certificate) -> None:
    if not _alternative_names_of(server):
        raise CertificateError(path, "names no host (subject alternative names); clients will refuse it")
    with contextlib.suppress(x509.ExtensionNotFound):
        if server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise CertificateError(
                path, "is the certificate of a CA, not of a server; put the server's certificate first"
            )
    with contextlib.suppress(x509.ExtensionNotFound):
        usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
            raise CertificateError(path, "is not meant for servers (extended key usage)")


def _ca_certificate(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    # The name tells one hub's CA from another's in a client's list; it says nothing about whose it is.
    name = f"Wattdeck local CA {secrets.token_hex(4)}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = now - BACKDATE
    return (
        _builder(name, subject, key.public_key(), begins, begins + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    common_name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, begins: dt.datetime, ends: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _alternative_names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _own_server(path: Path) -> x509.Certificate | None:
    """Our server certificate, or None when the file is not whole: it is made again, nothing else depends on it."""
    try:
        certificate, *_ = read_certificates(path)
        matches = read_key(path).public_key() == certificate.public_key()
    except CertificateError as error:
        _log.warning("%s; it is made again", error.text())
        return None
    return certificate if matches else None


def _own_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = read_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(path, "is no key of the local CA, which has an elliptic curve")
    return key
