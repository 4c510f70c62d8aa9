"""Signatures of requests, AWS Signature Version 4: in a header or in the query, and those of the chunks of a body. No I/O.

What is signed is made again from the request as it came: method, path and query byte for byte but for their escapes, the headers that the
client named, and what the client says of its body. There is one region, whatever the client calls it; the service is `s3`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aistore.http1.message import split_target
from aistore.server.api.s3.errors import invalid, not_built
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from aistore.http1.message import BytesLike
    from aistore.http1.server import Request

__all__ = ["CONTENT_SHA256", "ChunkSignatures", "Signature", "signature_of"]

CONTENT_SHA256: Final = "x-amz-content-sha256"
ALGORITHM: Final = "AWS4-HMAC-SHA256"
SKEW: Final = 15 * 60
LONGEST: Final = 7 * 24 * 3600
"""Seconds that a presigned URL may be good for."""
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_CHUNKS: Final = f"STREAMING-{ALGORITHM}-PAYLOAD"
_CHUNKS_TRAILER: Final = f"{_CHUNKS}-TRAILER"
_PAYLOADS: Final = frozenset({_UNSIGNED, _CHUNKS, _CHUNKS_TRAILER, f"STREAMING-{_UNSIGNED}-TRAILER"})
# What of the path clients take for a part of the host's name: most nothing, s3cmd that of the endpoint.
_BASES: Final = ("", "/s3")
_EMPTY: Final = hashlib.sha256().hexdigest()
_hex64: Final = re.compile(r"[0-9a-f]{64}").fullmatch
_moment: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z").fullmatch
_scope: Final = re.compile(r"([0-9]{8})/([!-.0-~]{1,64})/s3/aws4_request").fullmatch
_seconds: Final = re.compile(r"[0-9]{1,9}").fullmatch
_blanks: Final = re.compile(r"[ \t]+")


class Signature(NamedTuple):
    """What a request says of its signature."""

    key_id: str
    scope: str
    """Day, region, service."""
    moment: str
    """When it was signed, `20261122T103000Z`."""
    names: tuple[str, ...]
    """The headers that are signed."""
    given: str
    payload: str
    """The SHA-256 of the body in hex, or how else it is signed."""
    in_query: bool

    def check(self, request: Request, secret: str) -> None:
        """Compare with what the owner of the secret would have signed; `request.proof` is what the chunks of its body have to show, then.

        Raises `ApiError` 403.
        """
        key = f"AWS4{secret}".encode()
        for part in self.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        if not any(self._is_by(key, request, base) for base in _BASES):
            host = request.headers.get("host", "")
            text = (
                "the signature is not that of this request by this key: check the secret, and that nothing between "
                f"changes the request (it came as {request.method} for host {host!r})"
            )
            raise ApiError(403, text, "SignatureDoesNotMatch")
        if self.payload in (_CHUNKS, _CHUNKS_TRAILER):
            has_trailer = self.payload == _CHUNKS_TRAILER
            request.proof = ChunkSignatures(key, self.moment, self.scope, self.given, has_trailer=has_trailer)

    def _is_by(self, key: bytes, request: Request, base: str) -> bool:
        canonical = hashlib.sha256(self._canonical(request, base)).hexdigest()
        expected = _sign(key, f"{ALGORITHM}\n{self.moment}\n{self.scope}\n{canonical}")
        return hmac.compare_digest(expected, self.given)

    def _canonical(self, request: Request, base: str) -> bytes:
        pairs = [(_escaped(name), _escaped(value)) for name, value in _pairs(request.query)]
        if self.in_query:
            pairs = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
        path = quote_from_bytes(unquote_to_bytes(split_target(request.head.target)[1]), safe="/").removeprefix(base)
        headers = "".join(f"{name}:{_value(request, name)}{base * (name == 'host')}\n" for name in self.names)
        query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
        lines = (request.method, path, query, headers, ";".join(self.names), self.payload)
        return "\n".join(lines).encode("latin-1")


def _value(request: Request, name: str) -> str:
    return ",".join(_blanks.sub(" ", line) for line in request.lines(name))


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (item.partition("=") for item in query.split("&") if item)]


def _escaped(text: str) -> str:
    """A name or value of a query, escaped as it is in what is signed, whichever way the client wrote it."""
    return quote_from_bytes(unquote_to_bytes(text.replace("+", " ").encode("latin-1")), safe="")


def _sign(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("latin-1"), "sha256").hex()


# -- what a request says -------------------------------------------------------------------------------------------


def signature_of(request: Request, now: float) -> Signature | None:
    """The signature of a request, at a time when it may be used; None where there is none. Raises `ApiError` 400, 403."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    params = request.params
    if scheme == ALGORITHM:
        found = _of_header(request, text)
        if abs(now - _seconds_of(found.moment)) > SKEW:
            raise ApiError(
                403, "the time of the request and that of the server are too far apart", "RequestTimeTooSkewed"
            )
    elif params.get("X-Amz-Algorithm") == ALGORITHM:
        found = _of_query(request)
        age = now - _seconds_of(found.moment)
        if age < -SKEW:
            raise ApiError(403, "the URL is not valid yet", "AccessDenied")
        if age > int(params["X-Amz-Expires"]):
            raise ApiError(403, "the URL has expired", "AccessDenied")
    elif scheme == "AWS" or "AWSAccessKeyId" in params or "X-Amz-Algorithm" in params:
        text = (
            f"this way to sign is not supported: use {ALGORITHM} (signature version 4, boto3: signature_version='s3v4')"
        )
        raise ApiError(400, text, "InvalidRequest")
    else:
        return None
    _check_names(request, found.names)
    return found


def _of_header(request: Request, text: str) -> Signature:
    fields = {name.strip(): value.strip() for name, _, value in (field.partition("=") for field in text.split(","))}
    headers = request.headers
    payload = headers.get(CONTENT_SHA256)
    if payload is None:
        raise ApiError(400, f"the header {CONTENT_SHA256} is missing", "InvalidRequest")
    try:
        credential, names, given = fields["Credential"], fields["SignedHeaders"], fields["Signature"]
    except KeyError as missing:
        raise _malformed(False, f"{missing} is missing") from None
    moment = headers.get("x-amz-date") or _from_http(headers.get("date", ""))
    return _parsed(credential, names, given, moment, payload, in_query=False)


def _of_query(request: Request) -> Signature:
    params = request.params
    try:
        credential, names, given = params["X-Amz-Credential"], params["X-Amz-SignedHeaders"], params["X-Amz-Signature"]
        moment, expires = params["X-Amz-Date"], params["X-Amz-Expires"]
    except KeyError as missing:
        raise _malformed(True, f"{missing} is missing") from None
    if not _seconds(expires) or not 0 < int(expires) <= LONGEST:
        raise _malformed(True, f"X-Amz-Expires is no number from 1 to {LONGEST}")
    if params.get("X-Amz-Content-Sha256", _UNSIGNED) != _UNSIGNED:
        raise not_built("a presigned URL with the checksum of the content")
    payload = request.headers.get(CONTENT_SHA256, _UNSIGNED)
    return _parsed(credential, names, given, moment, payload, in_query=True)


def _parsed(credential: str, names: str, given: str, moment: str, payload: str, *, in_query: bool) -> Signature:
    key_id, _, scope = credential.partition("/")
    day = _scope(scope)
    if day is None:
        raise _malformed(in_query, "the credential is not KEY/YYYYMMDD/REGION/s3/aws4_request")
    if not _moment(moment):
        raise ApiError(403, "the request does not say when it was signed (X-Amz-Date)", "AccessDenied")
    if day[1] != moment[:8]:
        raise _malformed(in_query, "the day of the credential is not that of the request")
    signed = tuple(names.split(";"))
    if not names.isascii() or list(signed) != sorted({name.lower() for name in signed}):
        raise _malformed(in_query, "the signed headers are not in lower case and sorted")
    if payload not in _PAYLOADS and not _hex64(payload):
        raise invalid(f"{CONTENT_SHA256} is neither a SHA-256 in hex nor one of {', '.join(sorted(_PAYLOADS))}")
    # `compare_digest` takes ASCII only.
    return Signature(key_id, scope, moment, signed, given if _hex64(given) else "", payload, in_query)


def _check_names(request: Request, names: tuple[str, ...]) -> None:
    """What changes a call has to be signed: else whoever sees a request adds to it."""
    loose = sorted(name for name in request.headers if name.startswith("x-amz-") and name not in names)
    if "host" not in names:
        loose.insert(0, "host")
    if loose:
        raise ApiError(403, f"there are headers that are not signed: {', '.join(loose)}", "AccessDenied")


def _from_http(text: str) -> str:
    try:
        return parsedate_to_datetime(text).astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, TypeError, OverflowError):
        return text


def _seconds_of(moment: str) -> float:
    found = _moment(moment)
    assert found is not None
    try:
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise ApiError(403, "the request does not say when it was signed (X-Amz-Date)", "AccessDenied") from None


def _malformed(in_query: bool, why: str) -> ApiError:
    code = "AuthorizationQueryParametersError" if in_query else "AuthorizationHeaderMalformed"
    return ApiError(400, f"the signature cannot be read: {why}", code)


# -- chunks of a body ----------------------------------------------------------------------------------------------


class ChunkSignatures:
    """Checks the signatures of a body's chunks, each of which covers the one before, and that of the trailers, if there is to be one."""

    __slots__ = ("_about", "_hash", "_key", "_last", "has_trailer")

    def __init__(self, key: bytes, moment: str, scope: str, seed: str, *, has_trailer: bool) -> None:
        self._key = key
        self._about = f"{moment}\n{scope}"
        self._last = seed
        self._hash = hashlib.sha256()
        self.has_trailer = has_trailer

    def update(self, piece: BytesLike) -> None:
        """Take bytes of a chunk."""
        self._hash.update(piece)

    def end(self, given: str) -> None:
        """The chunk has ended. Raises `ApiError` 403 unless its signature is right."""
        found, self._hash = self._hash.hexdigest(), hashlib.sha256()
        self._compare(f"{ALGORITHM}-PAYLOAD\n{self._about}\n{self._last}\n{_EMPTY}\n{found}", given)

    def check_trailers(self, trailers: dict[str, str], given: str) -> None:
        """The same for trailers, in their order."""
        text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        found = hashlib.sha256(text.encode("latin-1")).hexdigest()
        self._compare(f"{ALGORITHM}-TRAILER\n{self._about}\n{self._last}\n{found}", given)

    def _compare(self, text: str, given: str) -> None:
        expected = _sign(self._key, text)
        if not hmac.compare_digest(expected.encode(), given.encode()):  # a trailer may hold any character
            raise ApiError(403, "the signature of a chunk, or of the trailers, is not right", "SignatureDoesNotMatch")
        self._last = expected
