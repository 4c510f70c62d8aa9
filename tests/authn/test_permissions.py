"""Every row of the table of rights: who has exactly those may, and who lacks one of them may not."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from access_page import PAGE, page_with_table
from aistore.server.authn import permissions
from aistore.server.authn.permissions import BUCKET, CLUSTER, DESTINATION, EACH, KEY_MAP, TABLE, TOKEN, Row
from aistore.wire import access, actions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guarding import Guarded

DENIED = (401, 403)


class Probe(NamedTuple):
    """A request; `{b}` is a bucket that is there, `{d}` one to write to, `{n}` a name that is free."""

    path: str
    message: object = None
    body: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


def act(action: str, value: object = None, name: str = "") -> dict[str, object]:
    return {"action": action, "name": name, "value": value}


TO = {"name": "{d}", "provider": "ais"}
OBJECT = "/v1/objects/{b}/o"
OF_BUCKET = "/v1/buckets/{b}"
NONE_OF = {"objnames": ["nothing"]}

OBJECTS = {
    ("GET", ""): Probe(OBJECT),
    ("HEAD", ""): Probe(OBJECT),
    ("PUT", ""): Probe("/v1/objects/{b}/new", body=b"1"),
    ("PUT", permissions.PART): Probe(OBJECT + "?uploadId=none&partNumber=1", body=b"1"),
    ("PUT", permissions.ARCHIVE): Probe("/v1/objects/{b}/a.tar?archpath=x", body=b"1"),
    ("PUT", permissions.APPEND): Probe("/v1/objects/{b}/app?append_type=append", body=b"1"),
    ("PUT", permissions.COPY): Probe(OBJECT + "?object_to=ais/@%23/{d}/copy"),
    ("DELETE", ""): Probe("/v1/objects/{b}/nothing"),
    ("PATCH", ""): Probe(OBJECT, act("", {"k": "v"})),
    ("POST", actions.PROMOTE): Probe("/v1/objects/{b}", act(actions.PROMOTE, {}, "/nothing")),
    ("POST", actions.RENAME_OBJECT): Probe("/v1/objects/{b}/nothing", act(actions.RENAME_OBJECT, None, "else")),
    ("POST", actions.BLOB_DOWNLOAD): Probe("/v1/objects/{b}", act(actions.BLOB_DOWNLOAD, {}, "nothing")),
    ("POST", actions.MULTIPART_UPLOAD): Probe(OBJECT, act(actions.MULTIPART_UPLOAD)),
    ("POST", actions.MULTIPART_COMPLETE): Probe(OBJECT + "?uploadId=none", act(actions.MULTIPART_COMPLETE, [])),
    ("POST", actions.MULTIPART_ABORT): Probe(OBJECT + "?uploadId=none", act(actions.MULTIPART_ABORT)),
    ("POST", actions.CHECK_LOCK): Probe(OBJECT, act(actions.CHECK_LOCK)),
}
BUCKETS = {
    ("HEAD", ""): Probe(OF_BUCKET),
    ("GET", actions.LIST): Probe(OF_BUCKET, act(actions.LIST, {"props": "name"})),
    ("GET", actions.SUMMARY): Probe(OF_BUCKET, act(actions.SUMMARY, {})),
    ("GET", actions.SHOW_INVENTORY): Probe(OF_BUCKET, act(actions.SHOW_INVENTORY)),
    ("POST", actions.CREATE_BUCKET): Probe("/v1/buckets/{n}", act(actions.CREATE_BUCKET)),
    ("POST", actions.MOVE_BUCKET): Probe(OF_BUCKET + "?bck_to=ais/@%23/{d}/", act(actions.MOVE_BUCKET)),
    ("POST", actions.COPY_BUCKET): Probe(
        OF_BUCKET + "?bck_to=ais/@%23/{d}/", act(actions.COPY_BUCKET, {"dry_run": True})
    ),
    ("POST", actions.TRANSFORM_BUCKET): Probe(
        OF_BUCKET + "?bck_to=ais/@%23/{d}/", act(actions.TRANSFORM_BUCKET, {"id": "x"})
    ),
    ("POST", actions.COPY_OBJECTS): Probe(
        OF_BUCKET, act(actions.COPY_OBJECTS, {**NONE_OF, "tobck": TO, "dry_run": True})
    ),
    ("POST", actions.TRANSFORM_OBJECTS): Probe(
        OF_BUCKET, act(actions.TRANSFORM_OBJECTS, {**NONE_OF, "tobck": TO, "id": "x"})
    ),
    ("POST", permissions.SYNCHRONIZE): Probe(
        OF_BUCKET, act(actions.COPY_OBJECTS, {**NONE_OF, "tobck": TO, "dry_run": True, "Synchronize": True})
    ),
    ("POST", actions.PREFETCH_OBJECTS): Probe(OF_BUCKET, act(actions.PREFETCH_OBJECTS, NONE_OF)),
    ("POST", actions.MAKE_COPIES): Probe(OF_BUCKET, act(actions.MAKE_COPIES, 1)),
    ("POST", actions.EC_ENCODE): Probe(OF_BUCKET, act(actions.EC_ENCODE)),
    ("POST", actions.RECHUNK): Probe(OF_BUCKET, act(actions.RECHUNK, {})),
    ("POST", actions.CREATE_INVENTORY): Probe(OF_BUCKET, act(actions.CREATE_INVENTORY, {})),
    ("POST", actions.INDEX_SHARD): Probe(OF_BUCKET, act(actions.INDEX_SHARD, {})),
    ("PUT", actions.ARCHIVE): Probe(OF_BUCKET, act(actions.ARCHIVE, {**NONE_OF, "tobck": TO, "archname": "x.tar"})),
    ("PATCH", actions.SET_PROPS): Probe(OF_BUCKET, act(actions.SET_PROPS, {"lru": {"enabled": False}})),
    ("PATCH", permissions.ACCESS): Probe(OF_BUCKET, act(actions.SET_PROPS, {"Access": str(access.ALL)})),
    ("PATCH", actions.RESET_PROPS): Probe(OF_BUCKET, act(actions.RESET_PROPS)),
    ("PATCH, POST", permissions.BACKEND): Probe(
        OF_BUCKET, act(actions.SET_PROPS, {"backend_bck": {"name": "x", "provider": "aws"}})
    ),
    ("DELETE", actions.DESTROY_BUCKET): Probe("/v1/buckets/{gone}", act(actions.DESTROY_BUCKET)),
    ("DELETE", actions.EVICT_BUCKET): Probe(OF_BUCKET, act(actions.EVICT_BUCKET)),
    ("DELETE", actions.DELETE_OBJECTS): Probe(OF_BUCKET, act(actions.DELETE_OBJECTS, NONE_OF)),
    ("DELETE", actions.EVICT_OBJECTS): Probe(OF_BUCKET, act(actions.EVICT_OBJECTS, NONE_OF)),
    ("DELETE", actions.DESTROY_INVENTORY): Probe(OF_BUCKET, act(actions.DESTROY_INVENTORY)),
}
VERSIONING = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
PROBES: dict[Row, Probe] = {
    **{Row(method, "/v1/objects/BUCKET/OBJECT", when): probe for (method, when), probe in OBJECTS.items()},
    **{Row(method, "/v1/buckets/BUCKET", when): probe for (method, when), probe in BUCKETS.items()},
    Row("GET", "/v1/ml/moss"): Probe(
        "/v1/ml/moss/{b}", {"in": [{"objname": "o"}, {"objname": "o", "bucket": "{d}"}], "strm": True}
    ),
    Row("GET", "/v1/buckets", actions.LIST): Probe("/v1/buckets", act(actions.LIST)),
    Row("GET", "/v1/buckets", permissions.SYSTEM): Probe("/v1/buckets?sys=true", act(actions.LIST)),
    Row("GET", "/v1/buckets", actions.SUMMARY): Probe("/v1/buckets", act(actions.SUMMARY, {})),
    Row("GET", "/v1/buckets", actions.SHOW_INVENTORY): Probe("/v1/buckets", act(actions.SHOW_INVENTORY)),
    Row("GET", "/v1/cluster"): Probe("/v1/cluster?what=smap"),
    Row("PUT", "/v1/cluster"): Probe("/v1/cluster", act(actions.STOP, {"kind": "lru"})),
    Row("GET", "/v1/daemon"): Probe("/v1/daemon?what=smap"),
    Row("PUT", "/v1/daemon"): Probe("/v1/daemon", act(actions.RESET_STATS)),
    Row("GET", "/v1/reverse/daemon"): Probe("/v1/reverse/daemon?what=snode", headers={"Ais-Node-Id": "nobody"}),
    Row("PUT", "/v1/reverse/daemon"): Probe("/v1/reverse/daemon", act("x"), headers={"Ais-Node-Id": "nobody"}),
    Row("GET", "/v1/etl"): Probe("/v1/etl"),
    Row("PUT", "/v1/etl"): Probe("/v1/etl", {}),
    Row("POST", "/v1/etl"): Probe("/v1/etl/x/stop"),
    Row("DELETE", "/v1/etl"): Probe("/v1/etl/x"),
    Row("GET", "/v1/sort"): Probe("/v1/sort"),
    Row("POST", "/v1/sort"): Probe(
        "/v1/sort",
        {
            "input_bck": {"name": "{b}"},
            "output_bck": {"name": "{d}"},
            "input_format": {"template": "s-{0..1}"},
            "output_format": "new-{0..9}",
            "input_extension": ".tar",
            "output_shard_size": "1KB",
            "ekm_file": "{url}/v1/objects/{m}/map",
        },
    ),
    Row("DELETE", "/v1/sort"): Probe("/v1/sort?uuid=srt-x"),
    Row("POST", "/v1/tokens"): Probe("/v1/tokens", {}),
    Row("DELETE", "/v1/tokens"): Probe("/v1/tokens", {"tokens": []}),
    Row("PUT", "/v1/access-keys"): Probe("/v1/access-keys", {"keys": []}),
    Row("GET", "/s3"): Probe("/s3"),
    Row("PUT", "/s3/BUCKET"): Probe("/s3/{n}"),
    Row("PUT", "/s3/BUCKET", "versioning"): Probe("/s3/{b}?versioning", body=VERSIONING),
    Row("DELETE", "/s3/BUCKET"): Probe("/s3/{gone}"),
    Row("HEAD", "/s3/BUCKET"): Probe("/s3/{b}"),
    Row("GET", "/s3/BUCKET"): Probe("/s3/{b}"),
    Row("GET", "/s3/BUCKET", "location, versioning"): Probe("/s3/{b}?location"),
    Row("GET", "/s3/BUCKET", "uploads"): Probe("/s3/{b}?uploads"),
    Row("POST", "/s3/BUCKET", "delete"): Probe(
        "/s3/{b}?delete", body=b"<Delete><Object><Key>nothing</Key></Object></Delete>"
    ),
    Row("GET", "/s3/BUCKET/KEY"): Probe("/s3/{b}/o"),
    Row("HEAD", "/s3/BUCKET/KEY"): Probe("/s3/{b}/o"),
    Row("PUT", "/s3/BUCKET/KEY"): Probe("/s3/{b}/new", body=b"1"),
    Row("PUT", "/s3/BUCKET/KEY", "x-amz-copy-source"): Probe("/s3/{d}/copied", headers={"x-amz-copy-source": "/{b}/o"}),
    Row("POST", "/s3/BUCKET/KEY", "uploads, uploadId"): Probe("/s3/{b}/new?uploads"),
    Row("DELETE", "/s3/BUCKET/KEY"): Probe("/s3/{b}/nothing"),
}


def test_there_is_a_probe_for_every_row() -> None:
    assert PROBES.keys() == TABLE.keys()


@pytest.fixture(scope="module")
def names(there: Guarded) -> Iterator[dict[str, str]]:
    """Buckets with an object each."""
    made = {short: f"{short}-{uuid.uuid4().hex[:8]}" for short in ("b", "d", "m")}
    with there.admin as root:
        for name in made.values():
            root.make_bucket(name)
            assert root.put(name, "o", b"content").status == 200
    yield {**made, "url": there.url}
    with there.admin as root:
        for name in made.values():
            root.action("DELETE", f"/v1/buckets/{name}", "destroy-bck")


def filled(probe: Probe, names: dict[str, str]) -> tuple[str, bytes | None, dict[str, str]]:
    def fill(text: str) -> str:
        return re.sub(r"\{(b|d|m|n|gone|url)\}", lambda found: names[found[1]], text)

    body = probe.body if probe.message is None else fill(json.dumps(probe.message)).encode()
    return fill(probe.path), body, {name: fill(value) for name, value in probe.headers.items()}


def rights_of(row: Row, names: dict[str, str]) -> tuple[int, dict[str, int]]:
    """What the table says: on the cluster, and on buckets."""
    on_cluster, on_buckets = 0, {"b": 0, "d": 0, "m": 0}
    of_s3_copy = row.when == "x-amz-copy-source"
    for need in TABLE[row]:
        if need.of in (CLUSTER, TOKEN):
            on_cluster |= need.bits
            continue
        where = {BUCKET: "d" if of_s3_copy else "b", DESTINATION: "d", EACH: "both", KEY_MAP: "m"}.get(need.of, "b")
        for name in ("b", "d") if where == "both" else (where,):
            on_buckets[name] |= need.bits & ~access.OF_CLUSTER
        on_cluster |= need.bits & access.OF_CLUSTER
    # These come on top of another row.
    if row.when == permissions.SYSTEM:
        on_cluster |= access.LIST_BUCKETS
    if row.when in (permissions.ACCESS, permissions.BACKEND):
        on_buckets["b"] |= access.PATCH
    if row.when == permissions.SYNCHRONIZE:
        on_buckets["b"] |= access.WRITE
        on_buckets["d"] |= access.PUT
    return on_cluster, {names[name]: mask for name, mask in on_buckets.items() if mask}


def ask(there: Guarded, row: Row, names: dict[str, str], on_cluster: int, on_buckets: dict[str, int]) -> int:
    named = {**names, "n": f"n-{uuid.uuid4().hex[:8]}"}
    path = PROBES[row].path
    with there.admin as root:
        if "{gone}" in path:
            named["gone"] = named["n"]
            root.make_bucket(named["gone"])
        with there.having(on_cluster, on_buckets) as user:
            path, body, headers = filled(PROBES[row], named)
            got = user(row.method.split(",")[0], path, body, headers)
        root.action("DELETE", f"/v1/buckets/{named['n']}", "destroy-bck")
    return got.status


def shown(row: Row) -> str:
    return f"{row.method} {row.path} {row.when}".strip()


@pytest.mark.parametrize("row", TABLE, ids=shown)
def test_exactly_the_rights_of_the_table_let_a_call_through(there: Guarded, names: dict[str, str], row: Row) -> None:
    on_cluster, on_buckets = rights_of(row, names)
    assert ask(there, row, names, on_cluster, on_buckets) not in DENIED


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][0].of != TOKEN], ids=shown)
def test_a_call_is_refused_without_any_one_of_its_rights(there: Guarded, names: dict[str, str], row: Row) -> None:
    on_cluster, on_buckets = rights_of(row, names)
    # All rights there are, but one.
    everything = dict.fromkeys((names["b"], names["d"], names["m"]), access.ALL)
    for bit in (1 << number for number in range(18)):
        if on_cluster & bit:
            assert ask(there, row, names, access.ALL & ~bit, everything) == 403, access.describe(bit)
        for name, mask in on_buckets.items():
            if mask & bit:
                less = {**everything, name: access.ALL & ~bit}
                assert ask(there, row, names, access.ALL, less) == 403, access.describe(bit)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("POST", "/v1/cluster"),
        ("GET", "/v1/download"),
        ("GET", "/nothing"),
        ("PUT", "/v1/buckets"),
        ("POST", "/s3"),
    ],
)
def test_a_call_that_the_table_does_not_know_is_for_administrators(there: Guarded, method: str, path: str) -> None:
    body = json.dumps(act("x")).encode()
    with there.having(access.ALL & ~access.ADMIN) as user, there.admin as root:
        assert user(method, path, body).status == 403
        assert root(method, path, body).status not in DENIED


def test_an_unknown_action_is_for_administrators(there: Guarded, names: dict[str, str]) -> None:
    with there.having(access.ALL & ~access.ADMIN) as user:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            assert user.action(method, f"/v1/buckets/{names['b']}", "x").status == 403, method


def test_every_action_of_the_wire_has_its_row() -> None:
    """Actions of buckets and objects; those of the cluster are all for administrators."""
    rows = {row.when for row in TABLE}
    of_cluster = {actions.START, actions.STOP, actions.GET_BATCH, actions.DSORT, actions.SUMMARY_SHARD}
    first_of_cluster = list(vars(actions)).index("SET_CONFIG")
    named = {
        value
        for number, (name, value) in enumerate(vars(actions).items())
        if name.isupper() and isinstance(value, str) and number < first_of_cluster
    }
    assert named - of_cluster - rows == set()


def test_page_shows_the_table() -> None:
    assert PAGE.read_text() == page_with_table(), "python tests/access_page.py renews it"


def test_page_is_in_the_navigation() -> None:
    assert "access.md" in (Path(PAGE).parents[1] / "mkdocs.yml").read_text()
