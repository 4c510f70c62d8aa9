"""What tokens are signed with: a secret that clusters share, or a pair of keys of which they know the public half."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = [
    "AuthnMissing",
    "KeyRefused",
    "PublicKey",
    "check_secret",
    "new_private_key",
    "public_half",
    "read_public_key",
]

SECRET_MIN: Final = 32
RSA_BITS: Final = 2048


class AuthnMissing(RuntimeError):
    """The libraries of AuthN are not installed."""

    def __init__(self, missing: ImportError) -> None:
        super().__init__(f'AuthN needs {missing.name}: pip install "aistore-py[authn]"')


class KeyRefused(ValueError):
    """A secret or a key that cannot be used; the message does not show it."""


class PublicKey(NamedTuple):
    """The public half of a pair, with its thumbprint (RFC 7638) as id."""

    kid: str
    key: RSAPublicKey

    @property
    def pem(self) -> str:
        """As PEM (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def jwk(self) -> dict[str, str]:
        """As a member of a JWKS (RFC 7517)."""
        return {"alg": "RS256", **_jwk(self.key), "kid": self.kid, "use": "sig"}


def check_secret(secret: str) -> str:
    """The secret, if it is long enough for HS256 (RFC 7518 3.2). Raises `KeyRefused`."""
    if len(secret.encode()) < SECRET_MIN:
        raise KeyRefused(
            f"the secret of AuthN has {len(secret.encode())} bytes: tokens signed with fewer than {SECRET_MIN} can be "
            "forged by trying secrets; make one with: openssl rand -hex 32"
        )
    return secret


def new_private_key() -> str:
    """A new pair, as PEM (PKCS#8)."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_half(private: str) -> PublicKey:
    """The public half of a pair in PEM."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(private.encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return _named(key.public_key())


def read_public_key(text: str) -> PublicKey:
    """A public key in PEM, or in base64 of DER (protocol/60 13.1). Raises `KeyRefused`."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

    try:
        if "-----BEGIN" in text:
            key = load_pem_public_key(text.encode())
        else:
            key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, TypeError) as error:
        raise KeyRefused(f"the public key of AuthN is neither PEM nor base64 of DER: {error}") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS:
        raise KeyRefused(f"the public key of AuthN is no RSA key of at least {RSA_BITS} bits")
    return _named(key)


def read_jwks(document: bytes) -> list[PublicKey]:
    """The RSA keys of a JWKS that are for signatures. Raises `KeyRefused`."""
    import jwt

    try:
        keys = [jwt.PyJWK(one) for one in json.loads(document)["keys"] if one.get("kty") == "RSA" and "d" not in one]
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise KeyRefused(f"the JWKS of AuthN cannot be read: {error}") from None
    return [_named(one.key) for one in keys if one.key.key_size >= RSA_BITS]


def _named(key: RSAPublicKey) -> PublicKey:
    digest = hashlib.sha256(json.dumps(_jwk(key), separators=(",", ":"), sort_keys=True).encode()).digest()
    return PublicKey(_base64url(digest), key)


def _jwk(key: RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"e": _of_number(numbers.e), "kty": "RSA", "n": _of_number(numbers.n)}


def _of_number(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
