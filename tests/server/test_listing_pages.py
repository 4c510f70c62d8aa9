"""Pages of listings: what they hold is bounded in bytes too, and nothing is lost where one is cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aistore.sdk import ListObjectFlag
from aistore.server.api import listing
from aistore.server.store.scan import Bounds, Row, Scanner
from calling import Caller
from store_truth import make_bucket, opened

if TYPE_CHECKING:
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.sdk import Bucket

LONG = "/".join(["d" * 1000] * 7)
PAGE = 16 << 20


def test_a_page_of_long_names_ends_before_it_gets_large(cluster: LocalCluster, bucket: Bucket) -> None:
    names = [f"{number:04}/{LONG}" for number in range(3600)]
    with Caller(cluster.url) as call:
        for name in names:
            assert call.put(bucket.name, name, b"").status == 200
    for props in ("name", "name,size", "name,size,custom"):
        page = bucket.list_objects(props=props)
        assert page.continuation_token == page.entries[-1].name
        assert sum(len(entry.name) for entry in page.entries) < 1.6 * PAGE
        assert [entry.name for entry in bucket.list_objects_iter(props=props)] == names


def test_custom_metadata_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            bucket = await make_bucket(store)
            names = [f"{number:05}" for number in range(2000)]
            pairs = {"key": "x" * 12_000}
            await asyncio.gather(*(store.put(bucket, name, b"", "none", "", custom=pairs) for name in names))
            scanner = Scanner(store.catalog)

            def scan(start: str, limit: int) -> list[Row]:
                return scanner.rows(bucket.bid, Bounds("", start, inclusive=not start), ", size, custom", limit)

            found: list[str] = []
            more, pages = True, 0
            while more:
                start = found[-1] if found else ""
                rows, more = await scanner.run(lambda: listing._rows_of_page(scan, start, 10_000, listing._LONG_SLICE))  # noqa: B023 (awaited)
                assert sum(len(row[-1]) for row in rows) < PAGE + listing._LONG_SLICE * 12_100
                found += [row[0] for row in rows]
                pages += 1
            assert found == names
            assert pages == 2
            scanner.close()

    asyncio.run(run())


def test_parts_are_told_where_directories_hide_more_than_are_shown(bucket: Bucket) -> None:
    upload = bucket.object("a").multipart_upload().create()
    upload.add_part(1).put_content(b"part")
    upload.complete()
    for name in ("z", *(f"d/{number}" for number in range(1100))):
        bucket.object("a").copy(bucket.object(name))
    bucket.object("m").get_writer().put_content(b"whole")
    listed = bucket.list_all_objects(flags=[ListObjectFlag.NO_RECURSION])
    chunked = [(entry.name, bool(entry.flags & 1 << 13)) for entry in listed]
    assert chunked == [("a", True), ("d/", False), ("m", False), ("z", True)]
