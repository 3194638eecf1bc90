"""Certificates and private keys as PEM files: read with a sentence for what is wrong, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from app.domain.errors import OperatorInputError


class CertificateError(OperatorInputError):
    """A certificate or key can not be used; `path` is the file, the sentence says why. No key material is in it."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a file, at least one, in order. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise CertificateError(path, "holds no certificate in PEM form, or a damaged one") from error


def read_key(path: Path) -> CertificateIssuerPrivateKeyTypes:
    """The private key of a file, which may also hold certificates. Raises CertificateError."""
    pem = _read(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise CertificateError(path, "the private key has a passphrase; store it without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # The reason of the library may quote the file, which is a key.
        raise CertificateError(path, "holds no private key in PEM form, or a damaged one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise CertificateError(path, "the private key is of a kind TLS does not use; use elliptic curve or RSA")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(path, f"can not be read: {error.strerror}") from error


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as PEM, without a passphrase: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, and so that it survives power loss. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            # mkstemp made it for its owner alone.
            if os.name == "posix":
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
