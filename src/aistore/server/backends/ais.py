"""Buckets of another AIStore cluster, through the asyncio transport of the SDK."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Optional, TypeVar
from urllib.parse import quote

import msgspec

from aistore.server.backends import errors
from aistore.server.backends.base import PIECE, SOURCE, RemoteObject, RemotePage, opened, own_pairs, size_of
from aistore.server.backends.errors import RemoteError, RemoteKind
from aistore.transport.aio import AsyncTransport
from aistore.transport.request import Request, Timeout
from aistore.wire import actions, headers, listing
from aistore.wire.custom import parse_lines
from aistore.wire.errors import ERROR_HEADER
from aistore.wire.messages import encode_action
from aistore.wire.names import BucketId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import tenacity
    import urllib3

    from aistore.server.backends.base import Content
    from aistore.server.backends.options import ClusterAccess
    from aistore.transport.aio import AsyncResponse
    from aistore.transport.retry import ColdGetRules

__all__ = ["RemoteCluster", "ask_map"]

_TIMEOUT: Final = Timeout(3.0, 60.0)
# The other cluster may have to fetch what it is asked for from a backend of its own.
_MAP_TIMEOUT: Final = Timeout(2.0, 5.0)
_LISTED: Final = "name,size,checksum,version,custom"
# A page of names of 8 KiB with custom metadata; what another cluster says is held in memory.
_DOCUMENT_MAX: Final = 128 << 20
_PIECE: Final = 1 << 20
_MESSAGE_MAX: Final = 2000
_length: Final = re.compile(r"[0-9]{1,18}", re.ASCII).fullmatch


T = TypeVar("T")


class _Namespace(msgspec.Struct):
    name: str = ""
    uuid: str = ""


class _Bucket(msgspec.Struct):
    name: str
    namespace: _Namespace | None = None


_buckets: Final = msgspec.json.Decoder(Optional[list[_Bucket]])  # noqa: UP045
_pages: Final = msgspec.msgpack.Decoder(listing.Page)


@dataclass
class _Patience:
    """How often a request is repeated before whoever waits for it is told."""

    http_retry: urllib3.Retry | None
    network_retry: tenacity.Retrying | None
    cold_get_conf: ColdGetRules | None = None


def _patience() -> _Patience:
    import tenacity
    import urllib3

    from aistore.transport.errors import TransportError

    return _Patience(
        urllib3.Retry(
            total=3, connect=0, read=0, backoff_factor=0.3, status_forcelist=(429, 502, 503, 504), raise_on_status=False
        ),
        tenacity.Retrying(
            stop=tenacity.stop_after_attempt(2),
            wait=tenacity.wait_fixed(0.2),
            retry=tenacity.retry_if_exception_type(TransportError),
            reraise=True,
        ),
    )


async def ask_map(url: str, access: ClusterAccess) -> dict[str, object] | None:
    """The cluster map that a cluster answers with; None if nobody does."""
    transport = AsyncTransport(url, timeout=_MAP_TIMEOUT, retry=_patience, token=access.token, tls=access.tls)
    try:
        answer = await transport.exchange(Request("GET", "daemon", "what=smap"))
        found = msgspec.json.decode(answer.content) if answer.status == 200 else None
    except (OSError, ValueError):
        return None
    finally:
        await transport.close()
    return found if isinstance(found, dict) and found.get("uuid") else None


class RemoteCluster:
    """An attached cluster. Buckets are named by its uuid; there they are its own."""

    page_size = listing.DEFAULT_PAGE

    def __init__(self, uuid: str, alias: str, url: str, access: ClusterAccess) -> None:
        self.uuid = uuid
        self.endpoint = url
        self._label = f"remote-cluster[{uuid}/@{alias}]"
        self._transport = AsyncTransport(
            url, timeout=_TIMEOUT, retry=_patience, token=access.token, tls=access.tls, pool_size=32
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    # -- buckets -----------------------------------------------------------------------------------------------

    async def check_bucket(self, bucket: BucketId) -> None:
        """Raise unless the bucket exists there."""
        await self._ask(bucket, Request("HEAD", _path("buckets", bucket), _query(bucket)))

    async def list_buckets(self) -> list[BucketId]:
        """The other cluster's own buckets."""
        nowhere = BucketId("ais", self.uuid, "", "")
        request = Request("GET", "buckets", "provider=ais", body=encode_action(actions.LIST), stream=True)
        found = await self._document(nowhere, request, _buckets.decode)
        return [
            BucketId("ais", self.uuid, one.namespace.name if one.namespace else "", one.name)
            for one in found or []
            if not (one.namespace and one.namespace.uuid)
        ]

    async def create_bucket(self, bucket: BucketId, props: object) -> None:
        """Make a bucket there."""
        body = encode_action(actions.CREATE_BUCKET, value=props)
        await self._ask(bucket, Request("POST", _path("buckets", bucket), _query(bucket), body=body))

    async def destroy_bucket(self, bucket: BucketId) -> None:
        """Destroy a bucket there."""
        body = encode_action(actions.DESTROY_BUCKET)
        await self._ask(bucket, Request("DELETE", _path("buckets", bucket), _query(bucket), body=body))

    # -- objects -----------------------------------------------------------------------------------------------

    async def head(self, bucket: BucketId, name: str) -> RemoteObject:
        """An object's attributes."""
        answer = await self._ask(bucket, Request("HEAD", _path("objects", bucket, name), _query(bucket)))
        size = answer.headers.get("Content-Length", "0")
        if not _length(size):
            raise errors.broken(bucket.object_cname(name), self.endpoint, "the answer does not tell the object's size")
        return _described(name, answer, int(size))

    async def open(
        self,
        bucket: BucketId,
        name: str,
        *,
        start: int = 0,
        length: int | None = None,
        same: RemoteObject | None = None,
    ) -> _Reader:
        """Read an object or a range of it."""
        lines: tuple[tuple[str, str], ...] = ()
        if start or length is not None:
            end = "" if length is None else str(start + length - 1)
            lines = (("Range", f"bytes={start}-{end}"),)
        request = Request("GET", _path("objects", bucket, name), _query(bucket), lines, stream=True)
        # The reference looks at an object before it reads it, and its refusals show that.
        answer = await self._ask(bucket, request, shown="HEAD")
        total = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
        if not _length(total):
            answer.close()
            raise errors.broken(bucket.object_cname(name), self.endpoint, "the answer does not tell the object's size")
        found = _described(name, answer, int(total))
        if same is not None and (found.version, found.checksum, found.size) != (same.version, same.checksum, same.size):
            answer.close()
            raise errors.changed(bucket.object_cname(name), self.endpoint)
        return _Reader(found, answer, bucket, self.endpoint)

    async def put(self, bucket: BucketId, name: str, content: Content, custom: Mapping[str, str]) -> RemoteObject:
        """Store an object there."""
        lines = tuple((headers.CUSTOM_MD, f"{key}={value}") for key, value in own_pairs(custom).items())
        path, query = _path("objects", bucket, name), _query(bucket)
        if isinstance(content, bytes):
            answer = await self._ask(bucket, Request("PUT", path, query, lines, content))
            return _described(name, answer, len(content))
        with opened(content) as file:
            answer = await self._ask(bucket, Request("PUT", path, query, lines, file))
        return _described(name, answer, size_of(content))

    async def delete(self, bucket: BucketId, name: str) -> None:
        """Delete an object there."""
        await self._ask(bucket, Request("DELETE", _path("objects", bucket, name), _query(bucket)))

    async def list(self, bucket: BucketId, prefix: str, token: str, limit: int, *, recursive: bool) -> RemotePage:
        """A page of its listing."""
        flags = 0 if recursive else listing.NO_RECURSION
        value = {
            "prefix": prefix,
            "continuation_token": token,
            "pagesize": limit,
            "props": _LISTED,
            "flags": str(flags),
        }
        request = Request(
            "GET",
            _path("buckets", bucket),
            _query(bucket),
            (("Accept", headers.MSGPACK),),
            encode_action(actions.LIST, value=value),
            stream=True,
        )
        page = await self._document(bucket, request, _pages.decode)
        if page.token and (page.token == token or not page.entries):
            raise errors.broken(bucket.cname, self.endpoint, "the listing does not go on")
        if any(entry.size < 0 for entry in page.entries):
            raise errors.broken(bucket.cname, self.endpoint, "the listing has an object of less than no bytes")
        return RemotePage([_listed(entry) for entry in page.entries], page.token)

    # -- one exchange ------------------------------------------------------------------------------------------

    async def _ask(self, bucket: BucketId, request: Request, shown: str = "") -> AsyncResponse:
        try:
            answer = await self._transport.exchange(request)
        except OSError as error:
            raise errors.unreachable(bucket, self.endpoint, str(error)) from error
        if answer.status < 300:
            return answer
        raise self._refusal(bucket, request, answer, shown)

    async def _document(self, bucket: BucketId, request: Request, decode: Callable[[bytearray], T]) -> T:
        """What a streamed answer says."""
        content = bytearray()
        async with await self._ask(bucket, request) as answer:
            try:
                while piece := await answer.read(_PIECE):
                    content += piece
                    if len(content) > _DOCUMENT_MAX:
                        raise errors.broken(bucket.cname, self.endpoint, "the answer is too long")
            except OSError as error:
                raise errors.broken(bucket.cname, self.endpoint, str(error)) from error
        try:
            return decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise errors.broken(
                bucket.cname, self.endpoint, f"the answer is not what was asked for: {error}"
            ) from error

    def _refusal(self, bucket: BucketId, request: Request, answer: AsyncResponse, shown: str) -> RemoteError:
        text = (
            answer.headers.get(ERROR_HEADER, "")
            if request.method == "HEAD"
            else answer.content.decode(errors="replace")
        )
        try:
            document = json.loads(text)
            message, tcode = str(document["message"]), str(document.get("tcode", ""))
        except (ValueError, KeyError, TypeError):
            message, tcode = text or answer.reason, ""
        message, status = message[:_MESSAGE_MAX], answer.status
        if status in (401, 403):
            return errors.forbidden(bucket, self.endpoint, message)
        if status in (429, 503):
            return errors.throttled(bucket, self.endpoint, message)
        kind: RemoteKind = "failed" if status >= 500 else "refused"
        if status == 404:
            kind = "bucket" if tcode in ("ErrBckNotFound", "ErrRemoteBckNotFound") else "object"
        call = (shown or request.method, f"/v1/{request.path}")
        return RemoteError(kind, status, f"{self._label}: {message}", tcode, call)


class _Reader:
    """The body of an answer."""

    def __init__(self, found: RemoteObject, answer: AsyncResponse, bucket: BucketId, endpoint: str) -> None:
        self.object = found
        self._answer = answer
        self._bucket = bucket
        self._endpoint = endpoint

    async def read(self) -> bytes:
        """The next piece."""
        try:
            return await self._answer.read(PIECE)
        except OSError as error:
            raise errors.broken(self._bucket.object_cname(self.object.name), self._endpoint, str(error)) from error

    def close(self) -> None:
        """Give up the rest."""
        self._answer.close()


def _path(resource: str, bucket: BucketId, name: str = "") -> str:
    return f"{resource}/{bucket.name}/{quote(name)}" if name else f"{resource}/{bucket.name}"


def _query(bucket: BucketId) -> str:
    return f"provider=ais&namespace={quote(f'@#{bucket.namespace}', safe='')}" if bucket.namespace else "provider=ais"


def _described(name: str, answer: AsyncResponse, size: int) -> RemoteObject:
    found = answer.headers
    # Heads are read as Latin-1; the values are UTF-8.
    lines = (line.encode("latin-1").decode("utf-8", "replace") for line in found.lines(headers.CUSTOM_MD))
    custom = parse_lines(line for line in lines if line.partition("=")[0] and "=" in line)
    checksum = found.get(headers.CHECKSUM_TYPE, ""), found.get(headers.CHECKSUM_VALUE, "")
    return RemoteObject(name, size, found.get(headers.VERSION, ""), {**custom, SOURCE: "ais"}, checksum)


def _listed(entry: listing.Entry) -> RemoteObject:
    if entry.flags & listing.ENTRY_DIRECTORY:
        return RemoteObject(entry.name, directory=True)
    checksum = ("", entry.checksum) if entry.checksum else ("", "")
    return RemoteObject(entry.name, entry.size, entry.version, {SOURCE: "ais"}, checksum)
