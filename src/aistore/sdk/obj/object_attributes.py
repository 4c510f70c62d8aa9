"""Attributes of objects, parsed from the headers of an answer when they are asked for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aistore.wire import headers

__all__ = ["ChunksInfo", "ECInfo", "ObjectAttributes"]

_EC_GENERATION = "ais-ec-generation"
_EC_DATA = "ais-ec-data"
_EC_PARITY = "ais-ec-parity"
_EC_REPLICATED = "ais-ec-replicated"
_CHECKSUM_TYPE = headers.CHECKSUM_TYPE.lower()
_CHECKSUM_VALUE = headers.CHECKSUM_VALUE.lower()
_ATIME = headers.ATIME.lower()
_VERSION = headers.VERSION.lower()
_CUSTOM_MD = headers.CUSTOM_MD.lower()
_LOCATION = headers.LOCATION.lower()
_PRESENT = headers.PRESENT.lower()
_MIRROR_COPIES = headers.MIRROR_COPIES.lower()
_MIRROR_PATHS = headers.MIRROR_PATHS.lower()
_CHUNKS_COUNT = headers.CHUNKS_COUNT.lower()
_CHUNKS_MAX_SIZE = headers.CHUNKS_MAX_CHUNK_SIZE.lower()


@dataclass(frozen=True)
class ECInfo:
    """How an erasure-coded object is stored."""

    generation: int = 0
    data_slices: int = 0
    parity_slices: int = 0
    is_ec_copy: bool = False
    """Stored as full copies, because it is small."""


@dataclass(frozen=True)
class ChunksInfo:
    """How an object is stored that came in parts; sizes in bytes."""

    chunk_count: int = 0
    max_chunk_size: int = 0


class ObjectAttributes(Mapping[str, str]):
    """Attributes of an object, and the headers that carry them as a read-only mapping (names without regard to case).

    An attribute whose header is missing or malformed has its default: empty text, 0, None, or an empty container.
    """

    __slots__ = ("_fields", "_lines")

    def __init__(self, response_headers: Mapping[str, str]) -> None:
        self._fields = {str(name).lower(): str(value) for name, value in response_headers.items()}
        # Repeated headers of an answer, apart: only there a comma in custom metadata is no separator.
        lines: Callable[[str], list[str]] | None = getattr(response_headers, "lines", None)
        self._lines = lines(_CUSTOM_MD) if lines is not None else None

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self._int("content-length")

    @property
    def checksum_type(self) -> str:
        """Type of the checksum: `xxhash2`, `md5`, `crc32c`, ..."""
        return self._fields.get(_CHECKSUM_TYPE, "")

    @property
    def checksum_value(self) -> str:
        """The checksum in hexadecimal digits."""
        return self._fields.get(_CHECKSUM_VALUE, "")

    @property
    def access_time(self) -> str:
        """Time of the last access: Unix nanoseconds, as text."""
        return self._fields.get(_ATIME, "")

    @property
    def obj_version(self) -> str:
        """Version; for buckets of the cluster itself a number that grows with every write."""
        return self._fields.get(_VERSION, "")

    @property
    def custom_metadata(self) -> dict[str, str]:
        """Custom metadata: keys and values that users gave the object, and some of the system's."""
        if self._lines is not None and len(self._lines) > 1:
            pairs = self._lines
        else:
            # One line may hold several pairs, folded; a piece without "=" is the rest of a value with a comma.
            pairs = re.split(r",(?=[^,]*=)", self._fields.get(_CUSTOM_MD, ""))
        found = {}
        for pair in pairs:
            key, equals, value = pair.strip().partition("=")
            if equals:
                found[_as_utf8(key)] = _as_utf8(value)
        return found

    @property
    def present(self) -> bool:
        """Whether the object is in the cluster; answers to reads do not tell."""
        return self._fields.get(_PRESENT) == "true"

    @property
    def location(self) -> str:
        """Target and mountpath: `t[id]:mp[path, disk]`."""
        return self._fields.get(_LOCATION, "")

    @property
    def mirror_paths(self) -> list[str]:
        """Mountpaths of the copies."""
        return re.findall(r"[^\s,]+", self._fields.get(_MIRROR_PATHS, "").strip("[]"))

    @property
    def mirror_copies(self) -> int:
        """Number of copies."""
        return self._int(_MIRROR_COPIES)

    @property
    def ec(self) -> ECInfo | None:
        """How the object is erasure-coded; None if it is not."""
        if not any(name in self._fields for name in (_EC_GENERATION, _EC_DATA, _EC_PARITY, _EC_REPLICATED)):
            return None
        replicated = self._fields.get(_EC_REPLICATED) == "true"
        return ECInfo(self._int(_EC_GENERATION), self._int(_EC_DATA), self._int(_EC_PARITY), replicated)

    @property
    def chunks(self) -> ChunksInfo | None:
        """How the object is split into chunks; None if it is not."""
        if _CHUNKS_COUNT not in self._fields and _CHUNKS_MAX_SIZE not in self._fields:
            return None
        return ChunksInfo(self._int(_CHUNKS_COUNT), self._int(_CHUNKS_MAX_SIZE))

    @property
    def last_modified(self) -> str:
        """Time of the last change, as in HTTP."""
        return self._fields.get("last-modified", "")

    @property
    def etag(self) -> str:
        """Entity tag, without its quotes."""
        return self._fields.get("etag", "").strip('"')

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __bool__(self) -> bool:
        # Attributes of an object, even if none is known, are not "nothing".
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._fields!r})"

    def _int(self, name: str) -> int:
        try:
            return int(self._fields.get(name, ""))
        except ValueError:
            return 0

    def lines(self, name: str) -> list[str]:
        """Values of a header, one for each line in which it came."""
        if self._lines is not None and name.lower() == _CUSTOM_MD:
            return self._lines
        value = self.get(name)
        return [] if value is None else [value]


if TYPE_CHECKING:
    ObjectAttributesV2 = ObjectAttributes
else:

    def __getattr__(name: str) -> object:
        if name == "ObjectAttributesV2":  # what `Object.head_v2` returned
            warnings.warn("ObjectAttributesV2 is deprecated: use ObjectAttributes", DeprecationWarning, stacklevel=2)
            return ObjectAttributes
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _as_utf8(text: str) -> str:
    """Header bytes arrive as Latin-1; what was meant is UTF-8, if it can be that."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
