"""A certification authority of a test's own, and certificates from it as files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from local.gateway.tls import Files

DAY = timedelta(days=1)


def pem(key: EllipticCurvePrivateKey, *, passphrase: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:  # a name
        return x509.DNSName(name)


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates into `folder`; `file` is its own, for those who trust it."""

    folder: Path
    key: EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, folder: Path) -> Authority:
        key = generate_private_key(SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Tests {x509.random_serial_number():x}"[:40])])
        now = datetime.now(UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), 1, now - DAY, now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return cls(folder, key, certificate)

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(
        self, *names: str, start: datetime | None = None, end: datetime | None = None, file: str = "server"
    ) -> Files:
        """A certificate for these names and addresses, valid today unless told otherwise, and its key."""
        now = datetime.now(UTC)
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        builder = x509.CertificateBuilder(
            self.certificate.subject,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            start or now - DAY,
            end or now + 90 * DAY,
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False
            )
        certificate = builder.sign(self.key, hashes.SHA256())
        files = Files(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(pem(key))
        return files

    def trusting(self) -> ssl.SSLContext:
        """The context of a client that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.file))
