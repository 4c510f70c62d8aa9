"""Bodies as clients of S3 send them: in chunks of their own framing (`aws-chunked`), and with checksums before or behind the content.

Content is checked while it is read: a reader gets the end of a body only if every checksum that came with it is right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from aistore.http1.incoming import Body
from aistore.server.api.s3.signature import CONTENT_SHA256, ChunkSignatures
from aistore.server.store.content import in_thread
from aistore.wire.crc32c import Crc32c
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.http1.message import BytesLike
    from aistore.http1.server import Request

__all__ = ["AwsChunked", "expect_checked"]

_CHECKSUM: Final = "x-amz-checksum-"
_LENGTH: Final = "x-amz-decoded-content-length"
_TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"
_BLOCK: Final = 256 << 10
_AT_ONCE: Final = 64 << 10  # more is hashed in a thread
_LINE_MAX: Final = 1024
_TRAILERS_MAX: Final = 8 << 10
_CRUMB: Final = 64  # bytes of a chunk, below which taking chunks apart costs more than all else
_CRUMBS_MAX: Final = 10_000
_SIGNED_MIN: Final = 8 << 10  # of chunks before the last one, as in S3: each costs a signature
_chunk_line: Final = re.compile(rb"([0-9a-fA-F]{1,12})(?:;(?:chunk-signature=([0-9a-f]{64})|[\x21-\x7e]*))?").fullmatch
_number: Final = re.compile(r"[0-9]{1,15}", re.ASCII).fullmatch
_hex64: Final = re.compile(r"[0-9a-fA-F]{64}").fullmatch


class _Hash(Protocol):
    def update(self, data: BytesLike, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: BytesLike, /) -> None:
        self._crc = zlib.crc32(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(4, "big")


# Not CRC-64: in Python it takes longer than sending the content.
_HASHES: Final[dict[str, Callable[[], _Hash]]] = {
    "crc32": _Crc32,
    "crc32c": Crc32c,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": lambda: hashlib.sha256(usedforsecurity=False),
}


class _Check:
    """A checksum that the content has to have; `expected` is None until the trailers have come."""

    __slots__ = ("expected", "hash", "name")

    def __init__(self, name: str, make: Callable[[], _Hash], expected: bytes | None) -> None:
        self.name = name
        self.hash = make()
        self.expected = expected


class AwsChunked:
    """Decoder of `aws-chunked`, incremental: chunks, each with its signature where they are to be checked, then trailers. No I/O."""

    __slots__ = ("_crumbs", "_ends", "_given", "_left", "_line", "_short", "_size", "done", "signatures", "trailers")

    def __init__(self, signatures: ChunkSignatures | None = None) -> None:
        self.signatures = signatures
        self._crumbs = 0  # chunks that were tiny
        self._given = ""  # the chunk's signature
        self._short = False  # the chunk before was too short for any but the last one
        self._line = b""
        self._left = 0  # of the chunk's content
        self._ends = False  # an empty line follows the content
        self._size = 0  # of trailers
        self.done = False
        self.trailers: dict[str, str] | None = None
        """Trailers by lower-case names, once the last chunk was seen."""

    def feed(self, data: BytesLike) -> list[memoryview]:
        """Take bytes; the pieces of content among them. Raises `ApiError` 400."""
        data, at = bytes(data), 0
        view = memoryview(data)
        pieces: list[memoryview] = []
        while at < len(view):
            if self.done:
                raise _broken("there are bytes behind its end")
            if self._left:
                piece = view[at : at + self._left]
                pieces.append(piece)
                if self.signatures is not None:
                    self.signatures.update(piece)
                at += len(piece)
                self._left -= len(piece)
                self._ends = not self._left
                continue
            line, at = self._take_line(data, at)
            if line is not None:
                self._take(line)
        return pieces

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The next line if all of it is there, and how far the bytes are used."""
        end = data.find(b"\n", at, at + _LINE_MAX) + 1
        self._line += data[at : end or at + _LINE_MAX]
        if len(self._line) > _LINE_MAX:
            raise _broken("a line is too long")
        if not end:
            return None, min(at + _LINE_MAX, len(data))
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise _broken("a line does not end in CR LF")
        return line[:-2], end

    def _take(self, line: bytes) -> None:
        if self._ends:
            if line:
                raise _broken("a chunk is longer than it says")
            self._ends = False
            if self.signatures is not None:
                self.signatures.end(self._given)
        elif self.trailers is None:
            self._take_chunk(line)
        elif line:
            name, colon, value = line.decode("latin-1").partition(":")
            self._size += len(line)
            if not colon or self._size > _TRAILERS_MAX:
                raise _broken("its trailers are malformed or too long")
            self.trailers[name.strip().lower()] = value.strip()
        else:
            if self.signatures is not None:
                self._check_trailers(self.signatures, self.trailers)
            self.done = True

    def _take_chunk(self, line: bytes) -> None:
        found = _chunk_line(line)
        if found is None:
            raise _broken("the line before a chunk is not its length")
        self._left = int(found[1], 16)
        if 0 < self._left < _CRUMB:
            self._crumbs += 1
            if self._crumbs > _CRUMBS_MAX:
                raise ApiError(
                    400, f"more than {_CRUMBS_MAX} chunks are shorter than {_CRUMB} bytes", "InvalidChunkSizeError"
                )
        if self.signatures is not None:
            if found[2] is None:
                raise _broken("a chunk has no signature")
            self._given = found[2].decode()
            if self._left and self._short:
                raise ApiError(
                    403, f"only the last chunk may be shorter than {_SIGNED_MIN} bytes", "InvalidChunkSizeError"
                )
            self._short = self._left < _SIGNED_MIN
            if not self._left:
                self.signatures.end(self._given)
        if not self._left:
            self.trailers = {}

    @staticmethod
    def _check_trailers(signatures: ChunkSignatures, trailers: dict[str, str]) -> None:
        if signatures.has_trailer:
            signatures.check_trailers(trailers, trailers.pop(_TRAILER_SIGNATURE, ""))
        elif trailers:
            raise _broken("its trailers are not signed")


class _CheckedBody(Body):
    """A body that hands out its content decoded, and its end only if the content has the checksums that it should have."""

    __slots__ = ("_block", "_checks", "_coded", "_decoded", "_inner", "_over", "_read")

    def __init__(self, inner: Body, length: int | None, coded: AwsChunked | None, checks: list[_Check]) -> None:
        # The connection goes on to talk to the inner body: nothing of the base class's own state is used.
        self._inner = inner
        self.length = length
        self._coded = coded
        self._checks = checks
        self._over = False
        self._read = 0
        self._decoded = memoryview(b"")
        self._block = bytearray(inner.hold(_BLOCK, _AT_ONCE)) if coded is not None else bytearray()

    def hold(self, wanted: int, least: int) -> int:
        """Count memory, as the body that this one reads does."""
        return self._inner.hold(wanted, least)

    def release(self) -> None:
        """The handler has ended."""
        self._inner.release()

    @property
    def came(self) -> int:
        """Bytes that were received."""
        return self._inner.came

    @property
    def complete(self) -> bool:
        """Whether all of it was read and found right."""
        return self._over

    async def readinto(self, buffer: BytesLike) -> int:
        """Fill `buffer` unless the content ends before. Raises `ApiError` 400 besides what the inner body raises."""
        view = memoryview(buffer)
        if self._over or not view:
            return 0
        filled = await (self._inner.readinto(view) if self._coded is None else self._decode(self._coded, view))
        self._read += filled
        if filled:
            await self._hash(view[:filled])
        if self.length is not None and self._read < self.length:
            if filled < len(view):
                raise _incomplete(str(self._read), self.length)
        elif self.length is not None or filled < len(view):
            # Whoever knows the length does not come back to find the end.
            if self.length is not None and self._read > self.length:
                raise _incomplete("more", self.length)
            if self._coded is not None and (self._decoded or await self._decode(self._coded, memoryview(bytearray(1)))):
                raise _incomplete("more", self._read)
            self._finish(self._coded.trailers if self._coded is not None else None)
        return filled

    async def _decode(self, coded: AwsChunked, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            if not self._decoded:
                if coded.done and self._inner.complete:
                    break
                n = await self._inner.readinto(self._block)
                if not n:
                    break
                block = memoryview(self._block)[:n]
                is_slow = coded.signatures is not None and n > _AT_ONCE
                pieces = await in_thread(coded.feed, block) if is_slow else coded.feed(block)
                # Chunks may be of one byte: what came of a block is handed out as one.
                self._decoded = memoryview(b"".join(pieces))
                continue
            n = min(len(self._decoded), len(view) - filled)
            view[filled : filled + n] = self._decoded[:n]
            self._decoded = self._decoded[n:]
            filled += n
        if filled < len(view) and not coded.done:
            raise _broken("it ends early")
        return filled

    async def _hash(self, data: memoryview) -> None:
        if len(data) <= _AT_ONCE:
            _update(self._checks, data)
        elif self._checks:
            await in_thread(_update, self._checks, data)

    def _finish(self, trailers: dict[str, str] | None) -> None:
        _verify(self._checks, trailers)
        self._over = True


def expect_checked(request: Request) -> None:
    """From now on the request's body is its content: decoded, and compared with the checksums that the client sent (CRC-64 alone is passed over).

    A small body is checked at once, another one while it is read. Raises `ApiError` 400 (and a reader does), 411.
    """
    headers = request.headers
    sha256 = headers.get(CONTENT_SHA256, "")
    is_coded = sha256.startswith("STREAMING-") or "aws-chunked" in headers.get("content-encoding", "").lower()
    if (
        not is_coded
        and not sha256
        and "content-md5" not in headers
        and not any(n.startswith(_CHECKSUM) for n in headers)
    ):
        return
    checks = _checks(request)
    if not is_coded:
        if request.content is not None:
            _update(checks, request.content)
            _verify(checks, None)
        elif checks and request.body is not None:
            request.body = _CheckedBody(request.body, request.body.length, None, checks)
        return
    text = headers.get(_LENGTH, "")
    if not _number(text):
        raise ApiError(411, f"the length of the content ({_LENGTH}) is missing or no number", "MissingContentLength")
    signatures = request.proof if isinstance(request.proof, ChunkSignatures) else None
    length, coded = int(text), AwsChunked(signatures)
    if request.content is None:
        assert request.body is not None
        request.body = _CheckedBody(request.body, length, coded, checks)
        return
    content = b"".join(coded.feed(request.content))
    if not coded.done:
        raise _broken("it ends early")
    if len(content) != length:
        raise _incomplete(str(len(content)), length)
    _update(checks, content)
    _verify(checks, coded.trailers)
    request.content = content


def _checks(request: Request) -> list[_Check]:
    headers = request.headers
    checks = []
    if _hex64(headers.get(CONTENT_SHA256, "")):
        checks.append(_Check("sha256", _HASHES["sha256"], bytes.fromhex(headers[CONTENT_SHA256])))
    if "content-md5" in headers:
        expected = _decoded("Content-MD5", headers["content-md5"])
        checks.append(_Check("md5", lambda: hashlib.md5(usedforsecurity=False), expected))
    announced = {name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",")}
    for kind, make in _HASHES.items():
        name = _CHECKSUM + kind
        if name in headers:
            checks.append(_Check(kind, make, _decoded(name, headers[name])))
        elif name in announced:
            checks.append(_Check(kind, make, None))
    return checks


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{name}: {value[:128]!r} is not base64", "InvalidDigest") from None


def _update(checks: list[_Check], data: BytesLike) -> None:
    for check in checks:
        check.hash.update(data)


def _verify(checks: list[_Check], trailers: dict[str, str] | None) -> None:
    for check in checks:
        expected = check.expected
        if expected is None:
            name = _CHECKSUM + check.name
            if trailers is None or name not in trailers:
                raise ApiError(400, f"the trailer {name} that was announced is missing", "MalformedTrailerError")
            expected = _decoded(name, trailers[name])
        found = check.hash.digest()
        if found != expected:
            text = f"the {check.name} of the content is {_shown(found)}, expected {_shown(expected)}"
            raise ApiError(400, text, "XAmzContentSHA256Mismatch" if check.name == "sha256" else "BadDigest")


def _shown(digest: bytes) -> str:
    return base64.b64encode(digest).decode()[:128]


def _broken(why: str) -> ApiError:
    return ApiError(400, f"the aws-chunked body is malformed: {why}", "InvalidRequest")


def _incomplete(got: str, expected: int) -> ApiError:
    return ApiError(400, f"the body has {got} bytes of content where {expected} were announced", "IncompleteBody")
