"""Signs receipts with the key this hub has anyway: that of its own server certificate."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.hub.certificate_files import CertificateError, read_certificates, read_key
from app.services.jobs.erasure_receipt import Sign, Signature

# Certificate and key in one file; its certificate is signed by ca.crt, so whoever has that can check a receipt.
_SERVER = "server.pem"


def signing_with(folder: Path) -> Sign:
    """`folder` is that of the local authority. Nothing is signed where there is no certificate of our own."""
    path = folder / _SERVER

    def sign(data: bytes) -> Signature | None:
        if not path.exists():
            return None
        try:
            key, certificate = read_key(path), read_certificates(path)[0]
        except CertificateError:
            # An erasure does not wait for somebody to mend a certificate; the doctor speaks of it.
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return None
        value = base64.b64encode(key.sign(data, ec.ECDSA(hashes.SHA256()))).decode()
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return Signature("ecdsa-p256-sha256", value, pem)

    return sign
