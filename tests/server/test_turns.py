"""Long work of many requests lets short ones pass."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from aistore.http1.turns import Turns
from aistore.server.api.batch_reading import BatchReader, Wanted
from aistore.server.node import Node
from aistore.server.settings import ServerSettings
from calling import Caller

if TYPE_CHECKING:
    from pathlib import Path


def test_one_step_of_one_request_in_each_pass_of_the_loop() -> None:
    steps: list[tuple[int, int]] = []

    async def main() -> None:
        turns = Turns()
        passes = 0
        over = False

        def tick() -> None:
            nonlocal passes
            passes += 1
            if not over:
                asyncio.get_running_loop().call_soon(tick)

        async def work(number: int) -> None:
            for _ in range(5):
                await turns.next()
                steps.append((passes, number))

        tick()
        requests = [asyncio.ensure_future(work(number)) for number in range(20)]
        given_up = [asyncio.ensure_future(work(number)) for number in (98, 99)]
        await asyncio.sleep(0)
        for one in given_up:
            one.cancel()
        await asyncio.gather(*requests)
        over = True
        await turns.next()  # it goes on when nobody has waited for a while

    asyncio.run(main())
    assert len(steps) == 100
    assert len({passed for passed, _ in steps}) == 100  # never two in one pass
    # Who comes first need not wait for the first turn; from then on it goes round.
    assert [number for _, number in steps] == [0, *list(range(20)) * 4, *range(1, 20)]


def test_a_step_of_a_batch_has_an_end_however_small_the_objects_are(tmp_path: Path) -> None:
    count = 1000

    def fill(node: Node) -> None:
        with Caller(node.url) as call:
            call.make_bucket("b")
            assert call.put("b", "0", b"x").status == 200
            for i in range(1, count):
                assert call.put("b", str(i), b"x").status == 200
            got = call("GET", "/v1/ml/moss/b", json.dumps({"in": [{"objname": str(i)} for i in range(count)]}).encode())
            assert got.status == 200

    async def main() -> None:
        node = Node(ServerSettings(tmp_path, durability="relaxed", etl=False))
        await node.start()
        try:
            await asyncio.to_thread(fill, node)
            bucket = next(bucket for bucket in node.store.buckets() if bucket.id.name == "b")
            reader = BatchReader(node, [Wanted(bucket, str(i), "", 0, 0) for i in range(count)])
            assert reader.take_now() is not None  # what the first tells of the bucket holds for the next ones
            taken = reader.take_run(64 << 10)
            assert 0 < len(taken) <= 128
            reader.close()
        finally:
            await node.stop()

    asyncio.run(main())
