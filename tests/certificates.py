"""Certificates for tests: of any names and times, in PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from pathlib import Path

DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A CA in a folder."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        made = _builder(self._name, self._name, self._key, 0, 365).add_extension(basic, critical=True)
        self.path = folder / f"{name.replace(' ', '-')}.pem"
        self.path.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(
        self, file: str, *names: str, begins: float = -1, ends: float = 90, serial: int = 0, client: bool = False
    ) -> Pair:
        """A certificate for these names, valid between two days from now; for a client, or for a server only."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, file)])
        kinds = x509.oid.ExtendedKeyUsageOID
        made = _builder(subject, self._name, key, begins, ends, serial).add_extension(
            x509.ExtendedKeyUsage([kinds.CLIENT_AUTH if client else kinds.SERVER_AUTH]), critical=False
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pair.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return pair


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: float,
    ends: float,
    serial: int = 0,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
    )
