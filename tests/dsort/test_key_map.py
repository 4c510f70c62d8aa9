"""External key maps: which records go into which shards (protocol/40 B5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aistore.sdk.dsort import DsortFramework, DsortShardsGroup, ExternalKeyMap
from aistore.sdk.multiobj import ObjectNames, ObjectRange
from archives import tar
from shards import DEADLINE, merged

if TYPE_CHECKING:
    from shards import Places

MEMBERS = [(f"{kind}{i}.jpg", b"%d" % i * 200) for i in range(6) for kind in ("dog", "cat")]


def stored(places: Places, content: bytes, name: str = "map") -> dict[str, Any]:
    """Store a map in the cluster; what a specification says of it."""
    places.source.object(name).get_writer().put_content(content)
    url = f"{places.cluster.url}/v1/objects/{places.source.name}/{name}?provider=ais"
    return {"ekm_file": url, "output_shard_size": "1KB", "output_format": ""}


@pytest.fixture
def shard(places: Places) -> Places:
    places.put({"in-0.tar": tar(MEMBERS[:7]), "in-1.tar": tar(MEMBERS[7:])})
    return places


def test_as_the_sdk_sends_it(shard: Places) -> None:
    ekm = ExternalKeyMap()
    for kind in ("cat", "dog"):
        ekm[f"{kind}s-%d.tar"] = ObjectNames([f"{kind}{i}.jpg" for i in range(6)])
    job = shard.client.dsort()
    job.start(
        DsortFramework(
            DsortShardsGroup(shard.source.as_model(), "input", ObjectRange("in-", 0, 1), ".tar"),
            DsortShardsGroup(shard.target.as_model(), "output", ekm, ".tar"),
            output_shard_size="1KB",
        )
    )
    assert job.wait(DEADLINE, verbose=False)
    names = sorted(entry.name for entry in shard.target.list_all_objects())
    assert names == [f"{kind}s-{i}.tar" for kind in ("cat", "dog") for i in range(3)]
    # A shard is ended by the record with which it has more than that: with its headers 712 bytes each, so two.
    assert merged(shard.made(shard.target)) == sorted(MEMBERS)


def test_a_map_in_lines_of_text(shard: Places) -> None:
    more = stored(shard, b"cat[0-9]|dog[0-2]\tone-{0..9}.tar\r\n\ndog[345]\ttwo-{0..9}.tar\n")
    made = shard.sorted(**more)
    assert sorted(merged(made)) == sorted(MEMBERS)
    names = [entry.name for entry in shard.target.list_all_objects() if entry.name.startswith("two")]
    assert len(names) == 2
    more = stored(shard, b"cat,one-{0..9}.tar\ndog,two-{0..9}.tar")
    assert shard.sort(**more, ekm_file_sep=",")[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"cat\tc-%d.tar", "matches no key"),
        (b"cat\tc-%d.tar\ndog\td-%d.tar\n[a-z]og\te-%d.tar", "more than one"),
        (b"cat\tc-%d.tar\nmalformed\ndog\td-%d.tar", "malformed line"),
        (b"cat\tc-%d.tar\ncat\td-%d.tar\ndog\td-%d.tar", "listed twice"),
        (b"cat\tc.tar\ndog\td-%d.tar", "has no range"),
        (b"(cat\tc-%d.tar", "missing"),
        (b"\xff\xfe", "neither JSON nor text"),
        (b"cat\tc-{0..1}.tar\ndog\td-%d.tar", "exceeds expected number of shards (2)"),
        (b"cat\tx-{0..9}.tar\ndog\tx-%d.tar", "two output shards"),
    ],
)
def test_maps_that_end_the_job(shard: Places, content: bytes, says: str) -> None:
    assert says in shard.failed(**stored(shard, content))
    assert shard.made(shard.target) == [] or "two output" in says


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"a-%d": "x"}', b'{"a-%d": [1]}', b"[" * 100_000])
def test_a_bad_json_file_ends_the_job(shard: Places, content: bytes) -> None:
    assert "no JSON object" in shard.failed(**stored(shard, content, "map.json"))


def test_records_without_a_key_are_left_out_as_asked(shard: Places) -> None:
    more = stored(shard, b"cat\tcats-%d.tar\nmalformed\n")
    config = {"ekm_missing_key": "warn", "ekm_malformed_line": "warn"}
    result, infos = shard.sort(**more, Config=config)
    assert result
    assert merged(shard.made(shard.target)) == sorted(MEMBERS)[:6]
    warnings = next(iter(infos.values())).metrics.warnings or []
    assert len(warnings) == 7
    assert shard.sort(**more, Config=dict.fromkeys(config, "ignore"))[0]


def test_the_key_of_a_sort_by_content_is_matched(shard: Places) -> None:
    more = stored(shard, json.dumps({"low-%d.tar": ["^[0-2]"], "high-%d.tar": ["^[3-5]"]}).encode(), "map.json")
    shard.put({"in-0.tar": tar([(f"{i}.key", b"%d" % i) for i in range(6)]), "in-1.tar": tar([])})
    algorithm = {"kind": "content", "extension": ".key", "content_key_type": "int", "decreasing": True}
    made = shard.sorted(**more, algorithm=algorithm)
    assert [name for name, _ in merged(made)] == ["5.key", "4.key", "3.key", "2.key", "1.key", "0.key"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/map", "not a public one"),
        ("http://localhost:9/map", "not a public one"),
        ("http://10.0.0.1/map", "not a public one"),
        ("http://169.254.169.254/latest/meta-data", "not a public one"),
        ("http://[::1]:9/map", "not a public one"),
        ("http://[::ffff:127.0.0.1]:9/map", "not a public one"),
        ("http://224.0.0.1/map", "not a public one"),
        ("http://[64:ff9b::7f00:1]/map", "not a public one"),
        ("http://[2002:7f00:1::]/map", "not a public one"),
        ("http://0.0.0.0:9/map", "not a public one"),
        ("file:///etc/passwd", "http://"),
        ("map", "http://"),
        ("http://[x/", "is none"),
        ("http://x:99999/", "is none"),
        ("{}/v1/cluster?what=smap", "not that of an object"),
        ("{}/v1/objects/nowhere/map", "does not exist"),
        ("{}/v1/objects/{}/nothing", "does not exist"),
    ],
)
def test_where_a_map_is_not_fetched_from(shard: Places, url: str, says: str) -> None:
    url = url.format(shard.cluster.url, shard.source.name)
    assert says in shard.failed(ekm_file=url, output_shard_size="1KB")
