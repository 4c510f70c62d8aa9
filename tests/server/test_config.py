from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from aistore.server.config import ClusterConfig, ConfigKeeper
from aistore.server.store.store import Store
from aistore.wire.errors import ApiError
from aistore.wire.messages import BadMessage
from aistore.wire.props import encode_wire

if TYPE_CHECKING:
    from pathlib import Path


def test_document_has_the_sections_that_tools_read() -> None:
    document = json.loads(encode_wire(ClusterConfig().document("uuid")))
    assert document["checksum"]["type"] == "xxhash2"
    assert document["versioning"]["enabled"] is True
    assert document["lru"]["dont_evict_time"] == "2h0m"
    assert (document["features"], document["config_version"], document["uuid"]) == ("0", "1", "uuid")
    assert isinstance(document["auth"], dict)


def test_new_buckets_take_the_sections_but_never_lru() -> None:
    config = ClusterConfig().changed({"checksum": {"type": "md5"}, "lru": {"enabled": True}, "LOG": {"level": "5"}})
    props = config.bucket_props()
    assert props.checksum.type == "md5"
    assert props.lru.enabled is False
    assert config.other["log"]["level"] == "5"
    assert config.version == 2


@pytest.mark.parametrize(
    "value",
    [
        {"nonsense": 1},
        {"log": {"nonsense": 1}},
        {"log": "verbose"},
        {"log": {"level": 5}},
        {"log": {"to_stderr": "yes"}},
        {"timeout": {"send_file_time": "soon"}},
        {"checksum": {"kind": "md5"}},
        {"net": {"http": {"use_https": 1}}},
        [],
    ],
)
def test_changes_refused(value: object) -> None:
    with pytest.raises(BadMessage):
        ClusterConfig().changed(value)


def test_kept_changes_survive_a_restart_and_transient_ones_do_not(tmp_path: Path) -> None:
    async def first() -> None:
        store = Store(tmp_path, "relaxed")
        await store.open()
        keeper = ConfigKeeper(store)
        await keeper.set({"chunks": {"chunk_size": "1.5GiB"}}, transient=False)
        await keeper.set({"mirror": {"burst_buffer": 7}, "log": {"level": "4"}}, transient=True)
        assert keeper.current.bucket.mirror.burst_buffer == 7
        keeper.reset()
        assert keeper.current.bucket.mirror.burst_buffer == 512
        await keeper.set({"mirror": {"burst_buffer": 7}}, transient=True)
        await store.close()

    async def second() -> None:
        store = Store(tmp_path, "relaxed")
        await store.open()
        current = ConfigKeeper(store).current
        assert current.bucket.chunks.chunk_size == 3 << 29
        assert current.bucket.mirror.burst_buffer == 512
        assert current.version == 2
        await store.close()

    asyncio.run(first())
    asyncio.run(second())


def test_sections_of_the_process_cannot_be_transient(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path, "relaxed")
        await store.open()
        keeper = ConfigKeeper(store)
        values: list[object] = [{"auth": {"enabled": True}}, {"net": {}}, {"timeout": {"max_keepalive": "4s"}}]
        for value in values:
            with pytest.raises(ApiError) as info:
                await keeper.set(value, transient=True)
            assert (info.value.status, info.value.tcode) == (501, "ErrUnsupp")
        with pytest.raises(ApiError, match=r"^501: "):  # there is no AuthN to enable
            await keeper.set({"auth": {"enabled": True}}, transient=False)
        assert keeper.from_query({"lru.enabled": "true", "net.http.use_https": "no", "space.lowwm": "60"}) == {
            "lru": {"enabled": True},
            "net": {"http": {"use_https": False}},
            "space": {"lowwm": 60},
        }
        for params in ({"no.such.key": "1"}, {"lru": "1"}, {"space.lowwm": "many"}, {"lru.enabled.x": "1"}):
            with pytest.raises(ApiError, match=r"^400: "):
                keeper.from_query(params)
        await store.close()

    asyncio.run(run())
