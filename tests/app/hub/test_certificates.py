"""Certificates of the hub: made, renewed, refused with a reason, and good enough for a real TLS client."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import logging
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.hub.certificates import (
    CertificateError,
    CertificateFolderFault,
    LocalAuthority,
    ServerTls,
    local_names,
    own_certificate,
    server_tls,
)

# TLS libraries check dates against the real clock, so the tests' days are counted from the real one, read once.
TODAY = dt.datetime.now(dt.UTC).replace(microsecond=0)
NAMES = ["localhost", "127.0.0.1", "::1", "hub.example"]


def authority(folder: Path, *, days: float = 0, names: list[str] | None = None) -> LocalAuthority:
    """The folder's authority as it is some days from today."""
    return LocalAuthority(folder, now=lambda: TODAY + dt.timedelta(days=days), names=lambda: names or NAMES)


def certificate_of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


async def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str = "127.0.0.1", session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """One real connection over loopback; the client's side of it, after it read a byte."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    port = listener.sockets[0].getsockname()[1]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname=host, session=session)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for step in (tls.do_handshake, lambda: tls.read(1)):
            while True:
                try:
                    step()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    received = await reader.read(65536)
                    incoming.write(received) if received else incoming.write_eof()
                    continue
                writer.write(outgoing.read())
                break
    finally:
        writer.close()
        listener.close()
    return tls


def client_for(tls: ServerTls) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.ca))


class TestLocalAuthority:
    def test_a_first_start_makes_a_ca_and_a_server_certificate(self, tmp_path: Path):
        folder = tmp_path / "data" / "tls"

        tls = authority(folder).ensure()

        ca, server = certificate_of(folder / "ca.crt"), certificate_of(tls.certificate)
        server.verify_directly_issued_by(ca)
        assert tls.ca == folder / "ca.crt"
        assert 3650 <= (ca.not_valid_after_utc - TODAY).days <= 3653
        assert (
            dt.timedelta(days=820) < server.not_valid_after_utc - server.not_valid_before_utc < dt.timedelta(days=825)
        )
        assert tls.not_after == server.not_valid_after_utc
        for certificate in (ca, server):
            assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
            assert certificate.not_valid_before_utc < TODAY
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost", "hub.example"]
        assert names.get_values_for_type(x509.IPAddress) == [
            ipaddress.ip_address(name) for name in ("127.0.0.1", "::1")
        ]
        constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)

    def test_keys_are_for_their_owner_alone(self, tmp_path: Path):
        folder = tmp_path / "tls"
        authority(folder).ensure()

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}

        assert modes == {"ca.key": 0o600, "server.pem": 0o600, "ca.crt": 0o644}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_second_start_changes_nothing(self, tmp_path: Path):
        authority(tmp_path).ensure()
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}

        authority(tmp_path, days=700).ensure()

        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_the_server_certificate_is_renewed_before_it_ends_and_the_ca_stays(self, tmp_path: Path):
        first = authority(tmp_path).ensure()
        ca = (tmp_path / "ca.crt").read_bytes()

        later = authority(tmp_path, days=800).ensure()

        assert later.not_after > first.not_after
        assert (tmp_path / "ca.crt").read_bytes() == ca
        certificate_of(later.certificate).verify_directly_issued_by(certificate_of(tmp_path / "ca.crt"))

    def test_no_server_certificate_outlives_the_ca(self, tmp_path: Path):
        authority(tmp_path).ensure()
        ca_ends = certificate_of(tmp_path / "ca.crt").not_valid_after_utc

        near_the_end = authority(tmp_path, days=3600).ensure()
        assert near_the_end.not_after == ca_ends
        content = near_the_end.certificate.read_bytes()

        # There is no later date to be had, so it is not made again at each start.
        assert authority(tmp_path, days=3640).ensure().certificate.read_bytes() == content

    def test_a_ca_that_ended_is_said_and_not_replaced(self, tmp_path: Path):
        authority(tmp_path).ensure()
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}

        with pytest.raises(CertificateError, match="local CA ended"):
            authority(tmp_path, days=3700).ensure()

        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_new_name_of_this_machine_gets_into_the_certificate(self, tmp_path: Path):
        first = authority(tmp_path).ensure().certificate.read_bytes()

        assert authority(tmp_path, names=["localhost"]).ensure().certificate.read_bytes() == first
        second = authority(tmp_path, names=[*NAMES, "192.0.2.7"]).ensure()
        assert b"192.0.2.7" not in first
        names = certificate_of(second.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert ipaddress.ip_address("192.0.2.7") in names.get_values_for_type(x509.IPAddress)

    @pytest.mark.parametrize(
        "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    def test_a_torn_server_certificate_is_made_again(self, tmp_path: Path, content: bytes):
        path = authority(tmp_path).ensure().certificate
        path.write_bytes(content)

        authority(tmp_path).ensure().context()

    def test_a_first_start_that_was_interrupted_goes_on(self, tmp_path: Path):
        """The CA's key is written first; without the certificate nobody knows it yet."""
        authority(tmp_path).ensure()
        (tmp_path / "ca.crt").unlink()

        tls = authority(tmp_path).ensure()

        certificate_of(tls.certificate).verify_directly_issued_by(certificate_of(tmp_path / "ca.crt"))

    @pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
    def test_a_damaged_ca_is_said_and_left_alone(self, tmp_path: Path, name: str):
        authority(tmp_path).ensure()
        (tmp_path / name).write_bytes(b"garbage")

        with pytest.raises(CertificateError, match=name):
            authority(tmp_path).ensure()

        assert (tmp_path / name).read_bytes() == b"garbage"

    def test_a_key_of_another_ca_is_refused(self, tmp_path: Path):
        authority(tmp_path / "a").ensure()
        authority(tmp_path / "b").ensure()
        (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())

        with pytest.raises(CertificateError, match="is not the key"):
            authority(tmp_path / "a").ensure()

    def test_a_ca_whose_key_was_put_away_serves_until_a_renewal_is_due(self, tmp_path: Path):
        first = authority(tmp_path).ensure()
        (tmp_path / "ca.key").unlink()

        assert authority(tmp_path).ensure() == first
        with pytest.raises(CertificateError, match=r"ca\.key: is missing"):
            authority(tmp_path, days=810).ensure()

    def test_a_machine_without_a_clock_makes_no_certificates(self, tmp_path: Path):
        lost = LocalAuthority(tmp_path, now=lambda: dt.datetime(1970, 1, 2, tzinfo=dt.UTC), names=lambda: NAMES)

        with pytest.raises(CertificateError, match="clock says 1970-01-02"):
            lost.ensure()

        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_can_not_be_made(self, tmp_path: Path):
        (tmp_path / "file").write_bytes(b"")

        with pytest.raises(CertificateFolderFault, match="file"):
            authority(tmp_path / "file" / "tls").ensure()

    def test_no_key_is_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.DEBUG)
        authority(tmp_path).ensure()
        (tmp_path / "server.pem").write_bytes(b"garbage")
        authority(tmp_path).ensure()

        body = "".join((tmp_path / "ca.key").read_text().splitlines()[1:-1])
        assert caplog.text
        assert body[:20] not in caplog.text
        assert "PRIVATE" not in caplog.text

    def test_names_of_this_machine(self):
        names = local_names()

        assert names[:3] == ["localhost", "127.0.0.1", "::1"]
        assert len(set(names)) == len(names)
        assert not any("%" in name or name.lower().startswith("fe80") for name in names)


class TestContext:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "hub.example"])
    async def test_a_client_that_trusts_the_ca_connects(self, tmp_path: Path, host: str):
        tls = authority(tmp_path).ensure()

        client = await shake_hands(tls.context(), client_for(tls), host)

        assert client.version() == "TLSv1.3"

    async def test_a_client_that_does_not_is_safe(self, tmp_path: Path):
        tls = authority(tmp_path / "a").ensure()
        other = authority(tmp_path / "b").ensure()

        with pytest.raises(ssl.SSLCertVerificationError):
            await shake_hands(tls.context(), client_for(other))
        with pytest.raises(ssl.SSLCertVerificationError):
            await shake_hands(tls.context(), client_for(tls), "elsewhere.example")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_a_session_is_resumed(self, tmp_path: Path, version: ssl.TLSVersion):
        tls = authority(tmp_path).ensure()
        server, client = tls.context(), client_for(tls)
        client.minimum_version = client.maximum_version = version

        first = await shake_hands(server, client)
        second = await shake_hands(server, client, session=first.session)

        assert not first.session_reused
        assert second.session_reused

    async def test_old_versions_and_ciphers_are_refused(self, tmp_path: Path):
        tls = authority(tmp_path).ensure()
        client = client_for(tls)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("AES128-SHA:ECDHE-ECDSA-AES128-SHA")

        assert tls.context().minimum_version is ssl.TLSVersion.TLSv1_2
        assert all("GCM" in c["name"] or "CHACHA20" in c["name"] for c in tls.context().get_ciphers())
        with pytest.raises(ssl.SSLError):
            await shake_hands(tls.context(), client)

    async def test_a_renewed_certificate_is_used_without_a_new_listener(self, tmp_path: Path):
        tls = authority(tmp_path).ensure()
        context = tls.context()

        renewed = authority(tmp_path, names=[*NAMES, "new.example"]).ensure()
        renewed.load_into(context)

        await shake_hands(context, client_for(renewed), "new.example")


class Own:
    """A certificate of the utility, with what can be wrong about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
        self.begins = TODAY - dt.timedelta(days=1)
        self.ends = TODAY + dt.timedelta(days=90)
        self.names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        self.ca = False
        self.usage = ExtendedKeyUsageOID.SERVER_AUTH
        self.encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        self.ca_key = ec.generate_private_key(ec.SECP256R1())

    def _builder(self, name: str, key, ends: dt.datetime) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        return x509.CertificateBuilder(
            issuer, subject, key.public_key(), x509.random_serial_number(), self.begins, ends
        )

    def ca_certificate(self) -> x509.Certificate:
        builder = self._builder("ca", self.ca_key, TODAY + dt.timedelta(days=500))
        return builder.add_extension(x509.BasicConstraints(True, None), True).sign(self.ca_key, hashes.SHA256())

    def write(self, *, chain: list[x509.Certificate] | None = None) -> tuple[Path, Path]:
        builder = self._builder("own", self.key, self.ends)
        builder = builder.add_extension(x509.BasicConstraints(self.ca, None), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([self.usage]), False)
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(self.names), False)
        server = builder.sign(self.ca_key, hashes.SHA256())
        certificate, key = self.folder / "own.crt", self.folder / "own.key"
        pem = [each.public_bytes(serialization.Encoding.PEM) for each in [server, *(chain or [])]]
        certificate.write_bytes(b"".join(pem))
        key.write_bytes(
            self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, self.encryption)
        )
        key.chmod(0o600)
        return certificate, key


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


class TestOwnCertificate:
    @pytest.mark.parametrize("kind", ["ec", "rsa"])
    async def test_a_good_one_is_served_with_its_chain(self, own: Own, tmp_path: Path, kind: str):
        if kind == "rsa":
            own.key = rsa.generate_private_key(65537, 2048)
        ca = own.ca_certificate()
        certificate, key = own.write(chain=[ca])
        (tmp_path / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))

        tls = server_tls(tmp_path / "unused", str(certificate), str(key))

        assert tls == ServerTls(certificate, key, None, own.ends)
        assert not (tmp_path / "unused").exists()
        client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        await shake_hands(tls.context(), client, "localhost")

    def test_one_that_ended(self, own: Own):
        own.ends = TODAY - dt.timedelta(hours=1)
        certificate, key = own.write()

        with pytest.raises(CertificateError, match="ended on") as error:
            own_certificate(certificate, key)
        assert error.value.path == certificate

    def test_one_that_has_not_begun(self, own: Own):
        own.begins = TODAY + dt.timedelta(days=1)
        with pytest.raises(CertificateError, match="clock"):
            own_certificate(*own.write())

    def test_the_key_of_another(self, own: Own):
        _, key = own.write()
        of_another = key.read_bytes()
        own.key = ec.generate_private_key(ec.SECP256R1())
        certificate, key = own.write()
        key.write_bytes(of_another)

        with pytest.raises(CertificateError, match="is not the key"):
            own_certificate(certificate, key)

    def test_a_key_with_a_passphrase(self, own: Own):
        own.encryption = serialization.BestAvailableEncryption(b"secret")
        with pytest.raises(CertificateError, match="passphrase"):
            own_certificate(*own.write())

    def test_a_key_of_a_kind_without_tls(self, own: Own):
        certificate, key = own.write()
        strange = ed448.Ed448PrivateKey.generate()
        key.write_bytes(
            strange.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        with pytest.raises(CertificateError, match="of a kind"):
            own_certificate(certificate, key)

    def test_one_without_names(self, own: Own):
        own.names = []
        with pytest.raises(CertificateError, match="names no host"):
            own_certificate(*own.write())

    def test_one_for_clients(self, own: Own):
        own.usage = ExtendedKeyUsageOID.CLIENT_AUTH
        with pytest.raises(CertificateError, match="not meant for servers"):
            own_certificate(*own.write())

    def test_one_of_a_ca(self, own: Own):
        own.ca = True
        with pytest.raises(CertificateError, match="of a CA"):
            own_certificate(*own.write())

    def test_a_chain_in_the_wrong_order(self, own: Own):
        stranger = Own(own.folder).ca_certificate()
        with pytest.raises(CertificateError, match="chain is broken"):
            own_certificate(*own.write(chain=[stranger]))

    def test_files_that_are_not_there_or_hold_something_else(self, own: Own, tmp_path: Path):
        certificate, key = own.write()
        with pytest.raises(CertificateError, match="can not be read"):
            own_certificate(tmp_path / "gone.crt", key)
        with pytest.raises(CertificateError, match="can not be read"):
            own_certificate(certificate, tmp_path / "gone.key")
        with pytest.raises(CertificateError, match="no certificate"):
            own_certificate(key, key)
        with pytest.raises(CertificateError, match="no private key"):
            own_certificate(certificate, certificate)

    @pytest.mark.parametrize("given", [("a.crt", ""), ("", "a.key")])
    def test_both_paths_or_none(self, tmp_path: Path, given: tuple[str, str]):
        with pytest.raises(CertificateError, match="together"):
            server_tls(tmp_path, *given)

    def test_a_key_that_others_may_read_is_warned_of(self, own: Own, caplog: pytest.LogCaptureFixture):
        certificate, key = own.write()
        key.chmod(0o644)

        own_certificate(certificate, key)

        assert "chmod 600" in caplog.text
