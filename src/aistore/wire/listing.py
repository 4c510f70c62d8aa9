"""Listing of objects: request, flags, and pages in both encodings (protocol/10 17, 18).

`Entry` and `Page` are what a server encodes as msgpack; JSON has structs of its own, because its keys differ and sizes are strings. A
client decodes msgpack into entries that users see (`aistore.sdk._listing`).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from aistore.wire.messages import BadMessage

DEFAULT_PAGE = 10_000

# flags of a request
CACHED = 1 << 0
MISSING = 1 << 1
DELETED = 1 << 2
ARCH_DIR = 1 << 3
NAME_ONLY = 1 << 4
NAME_SIZE = 1 << 5
BCK_PRESENT = 1 << 6
DONT_HEAD_REMOTE = 1 << 7
DONT_ADD_REMOTE = 1 << 8
NOT_CACHED = 1 << 9
ONLY_REMOTE_PROPS = 1 << 10
NO_RECURSION = 1 << 11
DIFF = 1 << 12
NO_DIRS = 1 << 13
IS_S3 = 1 << 14
INVENTORY = 1 << 15

_FLAG_NAMES = (
    "cached", "missing", "deleted", "archdir", "nameonly", "namesize", "bck-present", "dont-head-remote", "dont-add-remote",
    "not-cached", "only-remote-props", "no-recursion", "diff", "no-dirs", "is-s3", "nbi",
)  # fmt: skip

# flags of an entry; the low five bits are a status, 0 is fine
ENTRY_CACHED = 1 << 6
ENTRY_IN_ARCHIVE = 1 << 7
ENTRY_DIRECTORY = 1 << 8
ENTRY_ARCHIVE = 1 << 9
ENTRY_VERSION_CHANGED = 1 << 10
ENTRY_VERSION_REMOVED = 1 << 11
ENTRY_HEAD_FAILED = 1 << 12
ENTRY_CHUNKED = 1 << 13


def flag_names(flags: int) -> list[str]:
    """How list flags are printed."""
    return [name for bit, name in enumerate(_FLAG_NAMES) if flags >> bit & 1]


class ListRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Value of `list`. `flags` is a decimal string on the wire; see `flag_bits`."""

    prefix: str = ""
    pagesize: int = 0
    uuid: str = ""
    continuation_token: str = ""
    props: str = ""
    flags: str = "0"
    target: str = ""
    start_after: str = ""
    time_format: str = ""
    hdr: dict[str, list[str]] = {}

    def flag_bits(self) -> int:
        """The flags as a number; raises BadMessage."""
        text = self.flags
        if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) >> 64:
            raise BadMessage(f"apc.LsoMsg.Flags: readUint64: unexpected character or overflow in {text[:32]!r}")
        return int(text)


class Wanted(NamedTuple):
    """Which fields of an entry to fill (its flags always are)."""

    size: bool = False
    checksum: bool = False
    atime: bool = False
    version: bool = False
    location: bool = False
    custom: bool = False
    copies: bool = False


def wanted_fields(props: str, flags: int) -> tuple[Wanted, int]:
    """Apply the rules of protocol/10 17.2: which fields, and the flags as they are after them."""
    if not props:
        if flags & CACHED:
            props = "name,size,checksum,atime"
        else:
            props, flags = "name,size,cached", flags | NAME_SIZE
    elif props == "name":
        flags |= NAME_ONLY
    elif props == "name,size":
        flags |= NAME_SIZE
    if flags & ARCH_DIR:
        flags |= CACHED
    if flags & NAME_ONLY:
        return Wanted(), flags
    # By substring, as the reference does: `names-and-sizes` asks for sizes.
    wanted = Wanted(*(field in props for field in Wanted._fields))
    return wanted._replace(size=True) if flags & NAME_SIZE else wanted, flags


class Entry(msgspec.Struct, omit_defaults=True, gc=False):
    """One object (or virtual directory) of a page."""

    name: str = msgspec.field(name="n")
    checksum: str = msgspec.field(default="", name="cs")
    atime: str = msgspec.field(default="", name="a")
    version: str = msgspec.field(default="", name="v")
    location: str = msgspec.field(default="", name="t")
    custom: str = msgspec.field(default="", name="m")
    size: int = msgspec.field(default=0, name="s")
    copies: int = msgspec.field(default=0, name="c")
    flags: int = msgspec.field(default=0, name="f")


class Page(msgspec.Struct):
    """One page; an empty token says it is the last."""

    uuid: str = msgspec.field(name="UUID")
    token: str = msgspec.field(default="", name="ContinuationToken")
    entries: list[Entry] = msgspec.field(default_factory=list, name="Entries")
    flags: int = msgspec.field(default=0, name="Flags")


class _JsonEntry(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    checksum: str = ""
    atime: str = ""
    version: str = ""
    location: str = ""
    custom: str = msgspec.field(default="", name="custom-md")
    size: str = ""
    copies: int = 0
    flags: int = 0


class _JsonPage(msgspec.Struct):
    uuid: str
    continuation_token: str
    entries: list[_JsonEntry] | None
    flags: int


_msgpack = msgspec.msgpack.Encoder()


def encode_page(page: Page) -> bytes:
    """The page as msgpack."""
    return _msgpack.encode(page)


def encode_page_json(page: Page) -> bytes:
    """The page as JSON; an empty one has `null` entries."""
    entries = [
        _JsonEntry(
            e.name,
            e.checksum,
            e.atime,
            e.version,
            e.location,
            e.custom,
            str(e.size) if e.size else "",
            e.copies,
            e.flags,
        )
        for e in page.entries
    ]
    return msgspec.json.encode(_JsonPage(page.uuid, page.token, entries or None, page.flags))
