from __future__ import annotations

import json

import msgspec
import pytest

from aistore.wire import listing
from aistore.wire.listing import Entry, Page, Wanted, wanted_fields

# The example of protocol/10 18.1.
EXAMPLE = bytes.fromhex(
    "84 a455554944 a94e4d51463673 4a3978 b1436f6e74696e756174696f6e546f6b656e a0 a7456e7472696573 91 83a16ea161a17305a16640 a5466c61677300"
)


def test_page_in_msgpack_byte_for_byte() -> None:
    page = Page("NMQF6sJ9x", "", [Entry("a", size=5, flags=64)])
    assert listing.encode_page(page) == EXAMPLE
    assert msgspec.msgpack.decode(EXAMPLE, type=Page) == page


def test_entry_fields_in_order_and_omitted_when_empty() -> None:
    full = Entry("a", "cs", "at", "1", "t[x]", "[k:v]", 5, 1, 64)
    assert list(msgspec.msgpack.decode(msgspec.msgpack.encode(full))) == ["n", "cs", "a", "v", "t", "m", "s", "c", "f"]
    assert msgspec.to_builtins(Entry("a")) == {"n": "a"}


def test_page_in_json() -> None:
    document = json.loads(
        listing.encode_page_json(Page("u", "b", [Entry("a", size=5, custom="[k:v]", flags=64), Entry("b")]))
    )
    entries = [{"name": "a", "custom-md": "[k:v]", "size": "5", "flags": 64}, {"name": "b"}]
    assert document == {"uuid": "u", "continuation_token": "b", "entries": entries, "flags": 0}
    assert list(document) == ["uuid", "continuation_token", "entries", "flags"]
    assert json.loads(listing.encode_page_json(Page("u")))["entries"] is None


@pytest.mark.parametrize(
    ("props", "flags", "wanted"),
    [
        ("", 0, Wanted(size=True)),
        ("", listing.CACHED, Wanted(size=True, checksum=True, atime=True)),
        ("", listing.ARCH_DIR, Wanted(size=True)),
        ("name", 0, Wanted()),
        ("name,size", 0, Wanted(size=True)),
        ("name,version", 0, Wanted(version=True)),
        ("name,version", listing.NAME_SIZE, Wanted(size=True, version=True)),
        ("names-and-sizes", 0, Wanted(size=True)),
        ("bogus", 0, Wanted()),
        ("name,size,checksum", listing.NAME_ONLY, Wanted()),
        ("name,size,checksum,atime,version,location,custom,copies", 0, Wanted(*[True] * 7)),
    ],
)
def test_props(props: str, flags: int, wanted: Wanted) -> None:
    assert wanted_fields(props, flags)[0] == wanted


def test_archives_imply_cached() -> None:
    assert wanted_fields("", listing.ARCH_DIR)[1] & listing.CACHED
