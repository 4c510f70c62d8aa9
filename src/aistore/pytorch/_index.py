"""The objects of a dataset: listed once, in the process that makes it, and kept so that workers share it."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from xxhash import xxh3_64

from aistore.sdk._listing import BucketEntry
from aistore.sdk.ais_source import AISSource
from aistore.sdk.bucket import Bucket
from aistore.sdk.multiobj.object_group import ObjectGroup
from aistore.sdk.namespace import Namespace
from aistore.sdk.obj.object import Object

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    Sources: TypeAlias = AISSource | Sequence[AISSource]
    Prefixes: TypeAlias = Mapping[AISSource, str | Sequence[str] | None]

__all__ = ["Index", "checked_sources"]

_log = logging.getLogger("aistore.pytorch")

_UNKNOWN = -1


class Index:
    """Names and sizes of the objects of some sources, in the order of the sources and of their listings.

    Names lie one behind the other in one piece of memory, and no Python object belongs to any of them: workers that are forked share it
    for good (a list of strings is copied little by little, as its reference counts change), and others get it quickly.
    """

    def __init__(self, sources: Sequence[AISSource], prefixes: Prefixes) -> None:
        self._names = bytearray()
        self._ends = array("Q")
        self._sizes = array("q")
        # Buckets of objects that lie one after the other, and where those begin.
        self._buckets: list[Bucket] = []
        self._starts: list[int] = []
        self.source_ends: list[int] = []
        """Where the objects of each source end."""
        for source in sources:
            for prefix in _prefixes_of(source, prefixes):
                before = len(self)
                self._add(source, prefix)
                if len(self) == before:
                    which = f" whose names begin with {prefix!r}" if prefix else ""
                    _log.warning("%r has no objects%s: a dataset has no samples of it", source, which)
            self.source_ends.append(len(self))
        self._texts = bytes(self._names)
        del self._names

    def _add(self, source: AISSource, prefix: str) -> None:
        if type(source) is Bucket:
            self._begin(source)
            token = uuid = ""
            while True:
                page = source.list_objects(prefix, "name,size", uuid=uuid, continuation_token=token)
                for entry in page.entries:
                    self._append(entry.n, entry.s)
                uuid, token = page.uuid, page.continuation_token
                if not token:
                    return
        # The names of a group are known: nothing is asked about objects before they are read.
        found: Iterator[Object] = iter(
            source.list_all_objects_iter(prefix, None)
            if isinstance(source, ObjectGroup)
            else source.list_all_objects_iter(prefix)
        )
        before: Object | None = None
        for one in found:
            if before is None or one._ref != before._ref or one._client is not before._client:
                self._begin(_bucket_of(one))
            before = one
            props = one.props_cached
            self._append(one.name, props.size if props is not None else _UNKNOWN)

    def _begin(self, bucket: Bucket) -> None:
        self._buckets.append(bucket)
        self._starts.append(len(self))

    def _append(self, name: str, size: int) -> None:
        self._names += name.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._names))
        self._sizes.append(size)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, at: int) -> str:
        """Name of an object."""
        start = self._ends[at - 1] if at else 0
        return self._texts[start : self._ends[at]].decode("utf-8", "surrogateescape")

    def size(self, at: int) -> int:
        """Bytes of an object, as listed; asked for now if its source does not tell."""
        size = self._sizes[at]
        if size == _UNKNOWN:
            size = self._sizes[at] = self.object(at).head("name,size").size
        return size

    def bucket_of(self, at: int) -> Bucket:
        """The bucket that an object is of."""
        return self._buckets[bisect_right(self._starts, at) - 1]

    @property
    def bucket(self) -> Bucket | None:
        """The bucket, if all objects are of one."""
        return self._buckets[0] if len({id(one) for one in self._buckets}) == 1 else None

    @property
    def is_of_one_cluster(self) -> bool:
        """Whether one client reads all objects."""
        return len({id(one.client) for one in self._buckets}) <= 1

    def object(self, at: int) -> Object:
        """An object; nothing is sent."""
        bucket, name, size = self.bucket_of(at), self.name(at), self._sizes[at]
        return Object(bucket.client, bucket.ref, name, None if size == _UNKNOWN else BucketEntry(name, s=size))

    def digest_of_sizes(self) -> str:
        """What tells whether two indices have objects of the same sizes; those that sources do not tell are asked for."""
        return xxh3_64(array("q", map(self.size, range(len(self)))).tobytes()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """What tells whether two indices have the same objects, in the same order."""
        digest = xxh3_64(self._texts)
        digest.update(self._ends.tobytes())
        return f"{len(self)}-{digest.hexdigest()}"


def _bucket_of(obj: Object) -> Bucket:
    ref = obj._ref
    uuid, _, name = (ref.namespace or "").removeprefix("@").partition("#")
    return Bucket(ref.name, obj._client, ref.provider, Namespace(uuid=uuid, name=name) if ref.namespace else None)


def checked_sources(owner: object, sources: Sources | None, prefixes: Prefixes) -> list[AISSource]:
    """The sources as a list. Raises ValueError if there are none, and for prefixes of others; TypeError for what is no source."""
    name = type(owner).__name__
    if isinstance(sources, AISSource):
        found = [sources]
    elif not sources:
        raise ValueError(f"<{name}> ais_source_list must be provided")
    elif isinstance(sources, Iterable) and not isinstance(sources, str):
        found = list(sources)
    else:
        raise _no_source(name, sources)
    for one in found:
        if not isinstance(one, AISSource):
            raise _no_source(name, one)
    if not isinstance(prefixes, Mapping):
        raise TypeError(f"<{name}> prefix_map {prefixes!r} is no mapping: give {{bucket: {prefixes!r}}}")
    known = {id(one) for one in found}
    for one, chosen in prefixes.items():
        if id(one) not in known:
            raise ValueError(
                f"<{name}> prefix_map has prefixes of {one!r}, which is not in ais_source_list: its keys are the very objects of that list"
            )
        texts = () if chosen is None or isinstance(chosen, str) else chosen
        if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"<{name}> prefix_map {chosen!r} is no prefix, and no list of prefixes, of {one!r}")
    return found


def _no_source(name: str, given: object) -> TypeError:
    return TypeError(f"<{name}> {given!r} is no source: give a bucket or a group of objects, client.bucket('name')")


def _prefixes_of(source: AISSource, prefixes: Prefixes) -> list[str]:
    """The prefixes of a source, none of which begins with another one: no object is selected twice."""
    chosen = prefixes.get(source)
    if chosen is None:
        return [""]
    wanted = [chosen] if isinstance(chosen, str) else list(dict.fromkeys(chosen))
    return [one for one in wanted if not any(one != other and one.startswith(other) for other in wanted)]
