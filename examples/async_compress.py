"""Compress every object of a bucket into another bucket, many at a time, with asyncio.

    python examples/async_compress.py [SOURCE TARGET]

SOURCE and TARGET are names of buckets of the cluster at AIS_ENDPOINT, which may be `local:`. Without them the example makes a bucket on a
cluster of its own first.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from typing import TYPE_CHECKING

from aistore import AsyncClient, LocalCluster

if TYPE_CHECKING:
    from aistore.aio import AsyncBucket, AsyncObject

AT_A_TIME = 16


async def compress(obj: AsyncObject, target: AsyncBucket) -> tuple[int, int]:
    """Store one object compressed; returns its size before and after."""
    content = await obj.get_reader().read_all()
    # Compressing keeps a processor busy: in a thread the other objects go on meanwhile.
    packed = await asyncio.to_thread(gzip.compress, content)
    metadata = {"original-size": str(len(content))}
    await target.object(f"{obj.name}.gz").get_writer().put_content(packed, custom_metadata=metadata)
    return len(content), len(packed)


async def compress_all(source: AsyncBucket, target: AsyncBucket) -> None:
    """Store all objects of a bucket compressed, and print what came of it."""
    began = time.perf_counter()
    free = asyncio.Semaphore(AT_A_TIME)

    async def one(obj: AsyncObject) -> tuple[int, int]:
        async with free:
            return await compress(obj, target)

    sizes = await asyncio.gather(*[one(obj) async for obj in source.list_all_objects_iter(props="name")])
    before, after = (sum(column) for column in zip((0, 0), *sizes, strict=True))
    print(f"{len(sizes)} objects, {before:,} bytes, compressed to {after:,} in {time.perf_counter() - began:.2f} s")


async def make_up(bucket: AsyncBucket) -> None:
    """Fill a bucket with some text."""
    await bucket.create()
    lines = [f"{n} green bottles, hanging on the wall\n".encode() * 1000 for n in range(200)]
    await asyncio.gather(*(bucket.object(f"{n:03}.txt").get_writer().put_content(text) for n, text in enumerate(lines)))


async def main(endpoint: str | None, names: list[str]) -> None:
    """Run the example against an endpoint, None for that of the environment."""
    async with AsyncClient(endpoint) as client:
        source, target = (client.bucket(name) for name in names or ("bottles", "bottles-packed"))
        if not names:
            await make_up(source)
        await target.create(exist_ok=True)
        await compress_all(source, target)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(main(None, sys.argv[1:]))
    elif len(sys.argv) == 1:
        with LocalCluster() as cluster:
            asyncio.run(main(cluster.url, []))
    else:
        sys.exit(__doc__)
