"""What an X.509 certificate says, as far as a server tells it: `ssl` decodes none that it has not verified (RFC 5280 4.1)."""

from __future__ import annotations

import ipaddress
import ssl
import time
from calendar import timegm
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BadCertificate", "Certificate", "read_certificate"]

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_SUBJECT_ALT_NAME: Final = bytes.fromhex("0603551d11")
_COMMON_NAME: Final = bytes.fromhex("550403")
_DNS, _ADDRESS = 0x82, 0x87


class BadCertificate(ValueError):
    """A file does not begin with a certificate that can be read."""


class Certificate(NamedTuple):
    """One certificate. Times are seconds since the epoch; `names` are the host names and addresses that it is for."""

    der: bytes
    version: int
    serial: int
    subject: str
    issuer: str
    not_before: float
    not_after: float
    names: tuple[str, ...]

    def fits(self, host: str) -> bool:
        """Whether clients take it for that of a host."""
        if host in self.names:
            return True
        _, dot, domain = host.partition(".")
        return bool(dot) and f"*.{domain}" in self.names


def read_certificate(pem: str) -> Certificate:
    """The first certificate of a PEM file. Raises `BadCertificate`."""
    begin, end = pem.find(_BEGIN), pem.find(_END)
    if not 0 <= begin < end:
        raise BadCertificate("it has no certificate in PEM form")
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[begin : end + len(_END)])
        return _parse(der)
    except (ValueError, IndexError, StopIteration) as error:
        raise BadCertificate("its certificate cannot be read") from error


def _parse(der: bytes) -> Certificate:
    ((_, body),) = _items(der)
    fields = iter(list(_items(next(_items(body))[1])))
    tag, content = next(fields)
    version = 1
    if tag == _VERSION:
        version = int.from_bytes(next(_items(content))[1], "big") + 1
        tag, content = next(fields)
    serial = int.from_bytes(content, "big", signed=True)
    next(fields)  # the algorithm that it is signed with
    issuer = _name(next(fields)[1])
    not_before, not_after = (_time(tag, value) for tag, value in _items(next(fields)[1]))
    subject = _name(next(fields)[1])
    names = next((_names(content) for tag, content in fields if tag == _EXTENSIONS), ())
    return Certificate(der, version, serial, subject, issuer, not_before, not_after, names)


def _items(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element (X.690 8.1)."""
    at = 0
    while at < len(der):
        tag, size = der[at], der[at + 1]
        at += 2
        if size >= 0x80:
            digits = size & 0x7F
            size = int.from_bytes(der[at : at + digits], "big")
            at += digits
        if at + size > len(der):
            raise ValueError("element is cut")
        yield tag, der[at : at + size]
        at += size


def _name(content: bytes) -> str:
    """The common name, or else all that a name has."""
    found = []
    for _, pair_set in _items(content):
        for _, pair in _items(pair_set):
            (_, kind), (_, value) = _items(pair)
            text = value.decode("utf-8", "replace")
            if kind == _COMMON_NAME:
                return text
            found.append(text)
    return ", ".join(found)


def _time(tag: int, value: bytes) -> float:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: until 2049 (RFC 5280 4.1.2.5.1)
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return float(timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))


def _names(content: bytes) -> tuple[str, ...]:
    names = []
    for _, extension in _items(next(_items(content))[1]):
        if not extension.startswith(_SUBJECT_ALT_NAME):
            continue
        value = list(_items(extension))[-1][1]
        for tag, name in _items(next(_items(value))[1]):
            if tag == _DNS:
                names.append(name.decode("ascii"))
            elif tag == _ADDRESS:
                names.append(str(ipaddress.ip_address(name)))
    return tuple(names)
