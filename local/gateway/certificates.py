"""Certificate and key: read from their files, checked before they are used, and read again when they change."""

from __future__ import annotations

import contextlib
import logging
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from domain.clock import Clock
from local.gateway.tls import CERTIFICATE, KEY, Certificate, Files, invalid
from orchestrator_runtime.contract.errors import BadInput

logger = logging.getLogger("gateway.certificates")

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: those with forward secrecy and authenticated encryption
WARN_BEFORE = timedelta(days=14)  # of the end of a certificate: a renewal that fails shows while there is time
WARN_EVERY = timedelta(days=1)


def load(files: Files, *, now: datetime) -> Certificate:
    """Read, check and make ready. Raises `BadInput` (`tls_invalid`) naming the variable and what is wrong."""
    certificate = _certificate(_read(files.certificate, CERTIFICATE), now=now)
    try:
        key = load_pem_private_key(_read(files.key, KEY), password=None)
    except TypeError as error:  # what the library says of a key that is encrypted
        raise invalid(KEY, f"the key in {files.key} is encrypted; give it without a passphrase") from error
    except ValueError as error:
        raise invalid(KEY, f"there is no private key in PEM form in {files.key}") from error
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*spki) != certificate.public_key().public_bytes(*spki):
        raise invalid(KEY, f"the key in {files.key} does not belong to the certificate in {files.certificate}")
    context = _context()
    try:
        context.load_cert_chain(files.certificate, files.key, password="")  # never ask a terminal
    except (OSError, ValueError) as error:  # such as a key that is too short for this OpenSSL
        raise invalid(CERTIFICATE, f"OpenSSL does not take it: {error}") from error
    return Certificate(context, _names(certificate), certificate.not_valid_after_utc)


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid(variable, f"{path} cannot be read: {error.strerror}") from error


def _certificate(pem: bytes, *, now: datetime) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise invalid(CERTIFICATE, "there is no certificate in PEM form in this file") from error
    if now < certificate.not_valid_before_utc:
        raise invalid(CERTIFICATE, f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    if now > certificate.not_valid_after_utc:
        raise invalid(CERTIFICATE, f"it has expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    return certificate


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise invalid(
            CERTIFICATE, "it names no host (subjectAltName), so nobody could verify that it is ours"
        ) from error
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*found.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class Renewed:
    """The certificate as its files have it now."""

    def __init__(self, files: Files, *, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._state: tuple[tuple[int, int, int], ...] = ()
        with contextlib.suppress(OSError):  # `load` says which file, and why
            self._state = files.state()
        self.current = load(files, now=clock.now())
        self._warned: datetime | None = None

    def look(self) -> None:
        """Take over what was written since. Files that are wrong are logged, and the certificate stays what it is."""
        try:
            state = self._files.state()
        except OSError as error:
            self._once(f"The certificate's files cannot be read: {error}", state=())
            return
        if state != self._state:
            self._replace(state)
        self._warn_of_end()

    def _replace(self, state: tuple[tuple[int, int, int], ...]) -> None:
        try:
            self.current = load(self._files, now=self._clock.now())
        except BadInput as problem:
            self._once(f"The certificate is not replaced: {problem.detail}", state=state)
            return
        self._state = state
        self._warned = None
        logger.info("The certificate was replaced; the new one is valid until %s", self.current.expires)

    def _once(self, message: str, *, state: tuple[tuple[int, int, int], ...]) -> None:
        if state != self._state:
            self._state = state
            logger.error("%s", message)

    def _warn_of_end(self) -> None:
        now = self._clock.now()
        if self.current.expires - now < WARN_BEFORE and (self._warned is None or now - self._warned > WARN_EVERY):
            self._warned = now
            logger.warning("The certificate expires on %s", self.current.expires)
