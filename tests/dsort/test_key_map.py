"""External key maps: which records go into which shards (protocol/40 B5)."""

from __future__ import annotations

import json
import socket
import threading
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistore.sdk.dsort import DsortFramework, DsortShardsGroup, ExternalKeyMap
from aistore.sdk.multiobj import ObjectNames, ObjectRange
from aistore.server.api import key_map
from aistore.server.archive.regexp import Regexp
from aistore.server.dsort.key_map import KeyMap, parse_map
from aistore.wire.errors import ApiError
from aistore.wire.template import parse_counter
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
        ("http://[64:ff9b:1::7f00:1]/map", "not a public one"),
        ("http://[fec0::1]/map", "not a public one"),
        ("http://[::7f00:1]/map", "not a public one"),
        ("{}/v1/cluster?what=smap", "not that of an object"),
        ("{}/v1/objects/nowhere/map", "does not exist"),
        ("{}/v1/objects/{}/nothing", "does not exist"),
    ],
)
def test_where_a_map_is_not_fetched_from(shard: Places, url: str, says: str) -> None:
    url = url.format(shard.cluster.url, shard.source.name)
    assert says in shard.failed(ekm_file=url, output_shard_size="1KB")


# -- hostile maps --


def found_by(found: KeyMap, name: str) -> int:
    """What a map finds, searched to its end."""
    search = found.find(name)
    while True:
        try:
            next(search)
        except StopIteration as end:
            return int(end.value)


@given(key=st.text("ab.\n", max_size=6), name=st.text("abc\n", max_size=12))
def test_names_match_as_the_expressions_that_they_are(key: str, name: str) -> None:
    template = parse_counter("x-%d")
    assert template is not None
    assert (found_by(KeyMap([template], [(key, 0)]), name) == 0) is Regexp(key).search(name)


def test_a_search_gives_others_their_turn() -> None:
    found = parse_map(b"".join(b"key%d\tx-%%d\n" % i for i in range(1000)), "/map", "\t", "abort", print)
    assert sum(1 for _ in found.find("key")) > 10
    expressions = parse_map(b"(a*)*b\tx-%d\nc*d\tx-%d", "/map", "\t", "abort", print)
    assert sum(1 for _ in expressions.find("aaa")) == 2


def test_templates_have_a_limit() -> None:
    text = b"".join(b"key%d\tx%d-%%d\n" % (i, i) for i in range(100_001))
    with pytest.raises(ApiError, match="100000 templates"):
        parse_map(text, "/map", "\t", "abort", print)


def test_expressions_have_a_limit_together() -> None:
    text = b"".join(b"(.?){900}%d\tx-%%d\n" % i for i in range(1000))
    with pytest.raises(ApiError, match="too large"):
        parse_map(text, "/map", "\t", "abort", print)


@pytest.mark.parametrize(
    "content", [b'{"x-%d": [' + b'"a",' * 3_000_000 + b'"b"]}', b"\n" * 20_000_000], ids=["keys", "lines"]
)
def test_the_memory_for_a_map_is_bounded(content: bytes) -> None:
    tracemalloc.start()
    try:
        with suppress(ApiError):
            parse_map(content, "/map.json" if content[:1] == b"{" else "/map", "\t", "abort", print)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


class Host:
    """Answers every connection with the same bytes, and keeps it open if told so."""

    def __init__(self, answer: bytes, *, stay: bool = False) -> None:
        self._answer = answer
        self._stay = stay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/map"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        with self._listener.accept()[0] as client:
            client.recv(65536)
            client.sendall(self._answer)
            while self._stay and client.recv(65536):
                pass

    def __enter__(self) -> str:
        self._thread.start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()


def fetched(url: str) -> bytes:
    split = urlsplit(url)
    assert split.port is not None
    return key_map._fetch(split, split.port)


@pytest.fixture
def everything_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_map, "_is_public", lambda _: True)


@pytest.mark.usefixtures("everything_public")
def test_a_map_is_fetched_from_elsewhere() -> None:
    with Host(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd") as url:
        assert fetched(url) == b"abcd"


@pytest.mark.usefixtures("everything_public")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncat\tc-%d",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ncat\tc-%d\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        b"no HTTP",
        b"",
    ],
)
def test_half_a_map_is_none(answer: bytes) -> None:
    with Host(answer) as url, pytest.raises(ApiError, match="cannot be fetched"):
        fetched(url)


@pytest.mark.usefixtures("everything_public")
@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\ncat", b"HTTP/1.1 100 Continue\r\n\r\n", b""])
def test_a_host_that_takes_its_time_is_left(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(key_map, "_SECONDS", 0.5)
    # Each of its bytes comes in time.
    monkeypatch.setattr(socket.socket, "settimeout", lambda *_: None)
    with Host(answer, stay=True) as url, pytest.raises(ApiError, match="cannot be fetched"):
        fetched(url)


def test_a_name_in_a_map_leads_to_no_other_path(shard: Places) -> None:
    url = f"{shard.cluster.url}/v1/objects/{shard.source.name}/a/%2e%2e/%2e%2e/in-0.tar"
    assert "invalid object name" in shard.failed(ekm_file=url, output_shard_size="1KB")
