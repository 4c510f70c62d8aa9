"""Tokens: signed by the service, checked by it and by the clusters (protocol/60 12)."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from aistore.wire.authn import BucketAcl, ClusterAcl, parse_mask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aistore.server.authn.keys import PublicKey

__all__ = ["BadToken", "Claims", "UnknownKey", "Verifier", "digest_of", "sign"]

TOKEN_MAX: Final = 16 << 10
_KID_MAX: Final = 256
_RSA: Final = ("RS256", "RS384", "RS512")


class BadToken(Exception):
    """A token that is not accepted. The message says why, and never shows it."""


class UnknownKey(BadToken):
    """One that is signed with a key that there is not, or not yet."""


class Claims(NamedTuple):
    """What a token says: whose it is, until when, and what it grants. Masks are by cluster id, and by (cluster id, provider, bucket)."""

    subject: str
    expires: int
    admin: bool = False
    clusters: dict[str, int] = {}  # noqa: RUF012  never changed
    buckets: dict[tuple[str, str, str], int] = {}  # noqa: RUF012  as above
    audience: tuple[str, ...] = ()
    is_of_key: bool = False
    """Whether it says what an access key may: then it is good for nothing else, and only where it was sent."""


class _Document(msgspec.Struct):
    sub: str = ""
    exp: float | None = None
    nbf: float | None = None
    aud: str | list[str] | None = None
    access_key: str = ""
    admin: bool = False
    clusters: list[ClusterAcl] | None = None
    buckets: list[BucketAcl] | None = None


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def sign(claims: dict[str, object], key: str, kid: str = "") -> str:
    """A token: by HS256 with a secret, or, where a key id is given, by RS256 with a private key in PEM."""
    import jwt

    if kid:
        return jwt.encode(claims, key, "RS256", {"kid": kid})
    return jwt.encode(claims, key, "HS256")


class Verifier:
    """Checks signatures with a secret, or with public keys; the algorithm has to be that of the key.

    With `any_key`, tokens need not name the one key that there is.
    """

    def __init__(self, secret: str = "", public_keys: Iterable[PublicKey] = (), *, any_key: bool = False) -> None:
        self._secret = secret
        self._any_key = any_key
        self._keys = {one.kid: one for one in public_keys}

    def __repr__(self) -> str:
        return f"<Verifier {'HS256' if self._secret else f'RS256, {len(self._keys)} keys'}>"

    def knows(self, kid: str) -> bool:
        """Whether there is a public key of this id."""
        return kid in self._keys

    def verify(self, token: str) -> Claims:
        """What a token says, if it is good now. Raises `BadToken`."""
        import jwt

        _check_form(token)
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid", "")
            if self._secret:
                if algorithm != "HS256":
                    raise BadToken(f"token is unverifiable: unexpected signing method: {str(algorithm)[:16]}")
                payload = _decode(token, self._secret, ["HS256"])
            else:
                if algorithm not in _RSA:
                    raise BadToken(f"token is unverifiable: unexpected signing method: {str(algorithm)[:16]}")
                found = self._keys.get(kid)
                if found is None and self._any_key:
                    (found,) = self._keys.values()
                if found is None:
                    raise UnknownKey("token is unverifiable: unknown key id")
                payload = _decode(token, found.key, list(_RSA))
        except jwt.InvalidSignatureError:
            raise BadToken("token signature is invalid: signature is invalid") from None
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise BadToken(f"token is malformed: {type(error).__name__}") from None
        return _claims_of(payload)


def key_id_of(token: str) -> str:
    """The id of the key that a token names, unverified; empty if there is none."""
    import jwt

    try:
        kid = jwt.get_unverified_header(token).get("kid", "")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return ""
    return kid if isinstance(kid, str) and len(kid) <= _KID_MAX else ""


def _check_form(token: str) -> None:
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("token is malformed: token contains an invalid number of segments")
    if len(token) > TOKEN_MAX:
        raise BadToken("token is malformed: it is too long")
    for part in parts:
        # Strictly: a revoked token must not come back with other bits where decoders look away.
        try:
            content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        except ValueError:
            raise BadToken("token is malformed: could not base64 decode") from None
        if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != part:
            raise BadToken("token is malformed: could not base64 decode")


def _decode(token: str, key: object, algorithms: list[str]) -> bytes:
    import jwt

    # Claims are checked here: PyJWT gives a leeway to some and a type of its own to others.
    payload = jwt.PyJWS().decode_complete(token, key, algorithms)["payload"]  # type: ignore[arg-type]  # str, or a public key
    assert isinstance(payload, bytes)
    return payload


def _claims_of(payload: bytes) -> Claims:
    try:
        found = msgspec.json.decode(payload, type=_Document)
        clusters: dict[str, int] = {}
        for cluster in found.clusters or ():
            clusters.setdefault(cluster.id, parse_mask(cluster.perm))
        buckets: dict[tuple[str, str, str], int] = {}
        for bucket in found.buckets or ():
            if not bucket.bck.namespace.name:
                name, provider, uuid, _ = bucket.bck.key
                buckets.setdefault((uuid, provider, name), parse_mask(bucket.perm))
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise BadToken(f"token is malformed: could not JSON decode claim: {error}") from None
    now = time.time()
    if found.exp is None:
        raise BadToken("token is missing required claim: exp claim is required")
    if not found.exp > now:
        raise BadToken("token expired")
    if found.nbf is not None and found.nbf > now:
        raise BadToken("token is not valid yet")
    if not found.sub:
        raise BadToken("missing 'sub' claim")
    # Beyond every clock: whole seconds that fit.
    audience = (found.aud,) if isinstance(found.aud, str) else tuple(found.aud or ())
    return Claims(
        found.sub, int(min(found.exp, 1 << 62)), found.admin, clusters, buckets, audience, bool(found.access_key)
    )
