"""Certificates for development: a CA of a data folder's own, and a server's certificate that it vouches for.

Needs `cryptography`, which comes with the extra `[tls]` (and `[authn]`).
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING, Final

from aistore.server.certificate import BadCertificate, read_certificate
from aistore.server.settings import CA, SELF_SIGNED, SettingsError
from aistore.server.store.sync import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["make_files"]

_CA_KEY: Final = "tls/ca.key"
_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 90
_RENEW_DAYS: Final = 30
_DAY: Final = 86400.0
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")


def make_files(data_dir: Path, names: Iterable[str]) -> None:
    """Make CA and certificate in a data folder where there are none, or none for these names and the next 30 days.

    Names are host names and addresses, beside `localhost` and loopback. Keys are for their owner to read (0600). Raises `SettingsError`
    without `cryptography`.
    """
    wanted = tuple(dict.fromkeys((*_ALWAYS, *(name for name in names if name))))
    ca_is_good = (data_dir / _CA_KEY).exists() and _lasts(data_dir / CA, _SERVER_DAYS)
    if ca_is_good and _lasts(data_dir / SELF_SIGNED, _RENEW_DAYS, wanted):
        return
    try:
        from cryptography import x509  # noqa: F401  looked for before anything is written
    except ImportError as error:
        raise SettingsError(
            "a certificate of one's own needs the package cryptography: pip install 'aistore-py[tls]', or give one with tls_cert"
        ) from error
    (data_dir / CA).parent.mkdir(mode=0o700, exist_ok=True)
    if not ca_is_good:
        _make_ca(data_dir)
    _make_server(data_dir, wanted)


def _lasts(path: Path, days: float, names: tuple[str, ...] = ()) -> bool:
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    try:
        one = read_certificate(path.read_text(encoding="ascii"))
    except (FileNotFoundError, BadCertificate):
        return False
    return one.not_after - now > days * _DAY and set(names) <= set(one.names)


def _make_ca(data_dir: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"AIStore development CA of {data_dir.name}"[:64])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = _unsigned(name, name, key, _CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    write_whole(data_dir / _CA_KEY, _pem_of_key(key))
    write_whole(data_dir / CA, _signed(builder, key))


def _make_server(data_dir: Path, names: tuple[str, ...]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    ca = x509.load_pem_x509_certificate((data_dir / CA).read_bytes())
    ca_key = load_pem_private_key((data_dir / _CA_KEY).read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _unsigned(_named("AIStore development server"), ca.subject, key, _SERVER_DAYS)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    write_whole(data_dir / SELF_SIGNED, _signed(builder, ca_key) + _pem_of_key(key))


def _named(name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of clients differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, ca_key: EllipticCurvePrivateKey) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = builder.add_extension(authority, critical=False).sign(ca_key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
