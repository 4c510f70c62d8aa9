"""Buckets of S3, Google Cloud Storage and Azure, through obstore (the extra `cloud`)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError

from aistore.server.backends import errors
from aistore.server.backends.base import PIECE, SOURCE, RemoteObject, RemotePage, own_pairs, size_of
from aistore.server.backends.bucket_lists import azure_containers, s3_buckets
from aistore.server.backends.errors import RemoteError
from aistore.server.backends.options import client_options, cloud_config
from aistore.server.settings import SettingsError
from aistore.server.store.content import in_thread
from aistore.server.store.scan import successor
from aistore.wire.errors import ApiError
from aistore.wire.names import BucketId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from datetime import timedelta

    from obstore import ListStream, ObjectMeta
    from obstore.store import ObjectStore

    from aistore.server.backends.base import Content
    from aistore.wire.props import Extra

__all__ = ["CloudBackend", "obstore_missing"]

logger = logging.getLogger(__name__)

# Entries of a page (protocol/10 19.2).
_PAGE_SIZES: Final = {"aws": 1000, "gcp": 1000, "azure": 5000}
_DEFAULT_ENDPOINTS: Final = {"aws": "AWS", "gcp": "Google Cloud Storage", "azure": "Azure"}
# How long a request is repeated, throttled ones with growing waits, before whoever waits for it is told.
_RETRIES: Final = 4
_RETRY_SECONDS: Final = 30
_THROTTLED_PAUSES: Final = (1.0, 2.0)
_OPEN_LISTINGS: Final = 64
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z]+)</Code>")
_NO_BUCKET: Final = (
    "NoSuchBucket",
    "ContainerNotFound",
    "The specified bucket does not exist",
    "ContainerBeingDeleted",
)
_MD5: Final = re.compile(r"[0-9a-f]{32}")
# Attributes that every backend sets by itself.
_STANDARD: Final = frozenset(
    ("Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Cache-Control", "Storage-Class")
)


def obstore_missing() -> str:
    """Why cloud buckets cannot be used; empty if they can."""
    try:
        import obstore  # noqa: F401 (whether it is there)
    except ImportError as error:
        return f"cloud buckets need the package obstore: pip install 'aistore-py[cloud]' ({error})"
    return ""


class CloudBackend:
    """One provider with one configuration: all its buckets that have the same `extra` properties."""

    def __init__(self, provider: str, table: Mapping[str, str], extra: Extra) -> None:
        if missing := obstore_missing():
            raise ApiError(501, missing, "ErrMissingBackend")
        self.provider = provider
        self.page_size = extra.aws.max_pagesize or _PAGE_SIZES[provider] if provider == "aws" else _PAGE_SIZES[provider]
        try:
            self._config = cloud_config(provider, table, extra)
            self._client = client_options(table)
        except SettingsError as error:
            raise ApiError(
                400, f"the {provider} backend is not configured well: {error}", "ErrMissingBackend"
            ) from error
        self.endpoint = self._config.get("endpoint") or self._config.get("base_url") or _DEFAULT_ENDPOINTS[provider]
        self._stores: dict[str, ObjectStore] = {}
        # Listings under way: the next page goes on where the last one ended, without asking for what came before.
        self._listings: OrderedDict[tuple[str, str, str], _Listing] = OrderedDict()

    async def close(self) -> None:
        """Forget the stores; obstore ends their connections."""
        self._stores.clear()
        self._listings.clear()

    def _store(self, bucket: BucketId) -> ObjectStore:
        store = self._stores.get(bucket.name)
        if store is None:
            store = self._stores[bucket.name] = self._make(bucket.name)
        return store

    def _make(self, name: str) -> ObjectStore:
        from datetime import timedelta

        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, S3Store

        plain = self.endpoint.startswith("http://")
        client: Any = {
            "allow_http": plain,
            "timeout": "1d",
            "connect_timeout": "5s",
            "user_agent": "aistore-py",
            **self._client,
        }
        retry: Any = {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
            "backoff": _backoff(timedelta),
        }
        config: Any = dict(self._config)
        try:
            if self.provider == "aws":
                return S3Store(name, config=config, client_options=client, retry_config=retry)
            if self.provider == "gcp":
                if plain and not _GCP_CREDENTIALS & config.keys():
                    config["service_account_key"] = _emulated(self.endpoint)
                return GCSStore(name, config=config, client_options=client, retry_config=retry)
            return AzureStore(name, config=config, client_options=client, retry_config=retry)
        except (BaseError, ValueError) as error:
            why = str(error).partition("\n")[0]
            raise ApiError(
                400, f"the {self.provider} backend is not configured well: {why}", "ErrMissingBackend"
            ) from error

    # -- buckets -----------------------------------------------------------------------------------------------

    async def check_bucket(self, bucket: BucketId) -> None:
        """Raise unless the bucket exists and may be listed."""
        import obstore

        try:
            async for _ in obstore.list(self._store(bucket), chunk_size=1):
                return
        except Exception as error:
            raise self._error(bucket, "", error) from error

    async def list_buckets(self) -> list[BucketId]:
        """The account's buckets at S3 and Azure; none at Google."""
        ask = {"aws": s3_buckets, "azure": azure_containers}.get(self.provider)
        if ask is None:
            return []
        anywhere = BucketId(self.provider, "", "", "")
        client = {"allow_http": self.endpoint.startswith("http://"), **self._client}
        try:
            names = await in_thread(ask, self._config, client)
        except HTTPError as error:
            with error:
                if error.code in (401, 403):
                    raise errors.forbidden(anywhere, self.endpoint, f"status {error.code}") from error
                raise errors.broken(anywhere.cname, self.endpoint, f"status {error.code}") from error
        except OSError as error:
            raise errors.unreachable(anywhere, self.endpoint, str(error)) from error
        except Exception as error:
            raise self._error(anywhere, "", error) from error
        return [BucketId(self.provider, "", "", name) for name in names]

    # -- objects -----------------------------------------------------------------------------------------------

    async def head(self, bucket: BucketId, name: str) -> RemoteObject:
        """An object's attributes."""
        import obstore

        store = self._store(bucket)
        found = await self._patiently(bucket, name, lambda: obstore.get_async(store, name, options={"head": True}))
        return self._described(name, found.meta, found.attributes)

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
        import obstore

        options: Any = {}
        if length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}
        if same is not None and "ETag" in same.custom:
            options["if_match"] = f'"{same.custom["ETag"]}"'
        store = self._store(bucket)
        found = await self._patiently(bucket, name, lambda: obstore.get_async(store, name, options=options))
        described = self._described(name, found.meta, found.attributes)
        return _Reader(self, bucket, described, found.stream(min_chunk_size=PIECE).__aiter__())

    async def put(self, bucket: BucketId, name: str, content: Content, custom: Mapping[str, str]) -> RemoteObject:
        """Store an object."""
        import obstore

        kept = own_pairs(custom)
        store = self._store(bucket)

        def put() -> Awaitable[Any]:
            if not isinstance(content, (bytes, Path)):
                content.seek(0)
            return obstore.put_async(store, name, content, attributes=kept or None, max_concurrency=4)

        done = await self._patiently(bucket, name, put)
        return RemoteObject(
            name, size_of(content), done["version"] or "", {**kept, **self._system(done["e_tag"], done["version"])}
        )

    async def delete(self, bucket: BucketId, name: str) -> None:
        """Delete an object. One that is not there is no error in S3."""
        import obstore

        store = self._store(bucket)
        await self._patiently(bucket, name, lambda: obstore.delete_async(store, name))

    # -- listing -----------------------------------------------------------------------------------------------

    async def list(self, bucket: BucketId, prefix: str, token: str, limit: int, *, recursive: bool) -> RemotePage:
        """A page of a listing; its token is the name of its last entry."""
        try:
            if not recursive:
                return await self._list_level(bucket, prefix, token, limit)
            key = (bucket.name, prefix, token)
            under_way = self._listings.pop(key, None) or _Listing(self._store(bucket), prefix, token, self.page_size)
            found = await under_way.take(limit)
        except Exception as error:
            raise self._error(bucket, "", error) from error
        objects = [self._described(meta["path"], meta, {}) for meta in found]
        if len(found) < limit:
            return RemotePage(objects)
        last = found[-1]["path"]
        self._listings[bucket.name, prefix, last] = under_way
        while len(self._listings) > _OPEN_LISTINGS:
            self._listings.popitem(last=False)
        return RemotePage(objects, last)

    async def _list_level(self, bucket: BucketId, prefix: str, token: str, limit: int) -> RemotePage:
        import obstore

        folder, _, rest = prefix.rpartition("/")
        store = self._store(bucket)
        found = await obstore.list_with_delimiter_async(store, folder or None)
        if rest and any(f"{one}/" == f"{prefix}/" for one in found["common_prefixes"]):
            # It names a virtual directory (protocol/10 19.5).
            found = await obstore.list_with_delimiter_async(store, prefix)
            prefix += "/"
        entries = {f"{one}/": RemoteObject(f"{one}/", directory=True) for one in found["common_prefixes"]}
        entries.update({meta["path"]: self._described(meta["path"], meta, {}) for meta in found["objects"]})
        names = sorted(name for name in entries if name.startswith(prefix) and name > token)
        page = [entries[name] for name in names[:limit]]
        return RemotePage(page, names[limit - 1] if len(names) > limit else "")

    # -- what comes back, or does not --------------------------------------------------------------------------------------

    async def _patiently(self, bucket: BucketId, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """What `call` gives. After the attempts of obstore, which does not tell how long a throttled one asks to wait, some more."""
        for pause in (*_THROTTLED_PAUSES, None):
            try:
                return await call()
            except Exception as error:
                meant = self._error(bucket, name, error)
                if pause is None or not (isinstance(meant, RemoteError) and meant.kind == "throttled"):
                    raise meant from error
                logger.warning("%s; the next attempt is in %g s", meant.message, pause)
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _system(self, etag: str | None, version: str | None) -> dict[str, str]:
        custom = {SOURCE: self.provider}
        if version:
            custom["version"] = version
        if etag:
            custom["ETag"] = etag.strip('"')
        return custom

    def _described(self, name: str, meta: ObjectMeta, attributes: Mapping[str, str]) -> RemoteObject:
        custom = {key: value for key, value in attributes.items() if key not in _STANDARD}
        custom.update(self._system(meta["e_tag"], meta["version"]))
        custom["LastModified"] = meta["last_modified"].strftime("%Y-%m-%dT%H:%M:%SZ")
        etag = custom.get("ETag", "")
        checksum = ("md5", etag) if self.provider == "aws" and _MD5.fullmatch(etag) else ("", "")
        return RemoteObject(name, meta["size"], meta["version"] or "", custom, checksum)

    def _error(self, bucket: BucketId, name: str, error: Exception) -> RemoteError | Exception:
        """What an exception of obstore means."""
        from obstore import exceptions

        text = str(error).partition("\n\nDebug source")[0].strip()
        found = _STATUS.search(text)
        status = int(found[1]) if found else 0
        code = _CODE.search(text)
        why = code[1] if code else (f"status {status}" if status else text[-300:])
        cname = bucket.object_cname(name)
        if any(sign in text for sign in _NO_BUCKET) or (status == 404 and not name):
            return errors.bucket_missing(bucket, self.endpoint)
        if isinstance(error, FileNotFoundError) or status == 404:
            return errors.object_missing(self.endpoint, cname)
        if isinstance(error, exceptions.PreconditionError) or status == 412:
            return errors.changed(cname, self.endpoint)
        if status in (401, 403) or isinstance(
            error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        ):
            return errors.forbidden(bucket, self.endpoint, why)
        if status in (429, 503):
            return errors.throttled(bucket, self.endpoint, why)
        if 400 <= status < 500:
            return errors.refused(cname, self.endpoint, status, why)
        if isinstance(error, exceptions.BaseError):
            if not status and "error sending request" in text:
                return errors.unreachable(bucket, self.endpoint, _reason(text))
            if "non-partial response" in text:
                return errors.without_ranges(cname, self.endpoint, self.provider)
            return errors.broken(cname, self.endpoint, why)
        if isinstance(error, ValueError):  # a name that obstore does not take
            return ApiError(400, f"{cname}: {text}", "errInvalidPath")
        return error


_GCP_CREDENTIALS: Final = frozenset(
    ("service_account_key", "service_account", "service_account_path", "application_credentials", "skip_signature")
)


def _emulated(endpoint: str) -> str:
    """A key for emulators, which look at none."""
    return json.dumps(
        {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    )


def _backoff(delta: type[timedelta]) -> Any:
    return {"init_backoff": delta(milliseconds=100), "max_backoff": delta(seconds=5), "base": 2}


def _reason(text: str) -> str:
    return "it does not answer" if "error sending request" in text else text[-200:]


class _Listing:
    """A listing that is read page by page. obstore's prefixes end at slashes, those of the protocol anywhere."""

    def __init__(self, store: ObjectStore, prefix: str, token: str, page_size: int) -> None:
        import obstore

        folder = prefix.rpartition("/")[0]
        after = max(token, _before(prefix))
        self._prefix = prefix
        self._end = successor(prefix)
        self._left: list[ObjectMeta] = []
        self._over = False
        stream: ListStream[Any] = obstore.list(store, folder or None, offset=after or None, chunk_size=page_size)
        self._chunks: AsyncIterator[Any] = stream.__aiter__()

    async def take(self, limit: int) -> list[ObjectMeta]:
        """The next `limit` objects, fewer at the end."""
        while len(self._left) < limit and not self._over:
            try:
                chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                self._over = True
                break
            for meta in chunk:
                if self._end is not None and meta["path"] >= self._end:
                    self._over = True
                    break
                if meta["path"].startswith(self._prefix):
                    self._left.append(meta)
        found, self._left = self._left[:limit], self._left[limit:]
        return found


def _before(prefix: str) -> str:
    """A text that sorts before every name with this prefix, and close to the first."""
    if not prefix:
        return ""
    last = ord(prefix[-1])
    return prefix[:-1] + (chr(0xD7FF if last == 0xE000 else last - 1) + "\U0010ffff" if last else "")


class _Reader:
    """The body of a GET."""

    def __init__(self, backend: CloudBackend, bucket: BucketId, found: RemoteObject, stream: Any) -> None:
        self.object = found
        self._backend = backend
        self._bucket = bucket
        self._stream = stream

    async def read(self) -> memoryview:
        """The next piece."""
        try:
            return memoryview(await self._stream.__anext__())
        except StopAsyncIteration:
            return memoryview(b"")
        except Exception as error:
            raise self._backend._error(self._bucket, self.object.name, error) from error

    def close(self) -> None:
        """Give up the rest."""
        self._stream = None
