"""Buckets and selected objects through an ETL, by jobs (protocol/50 14: 48-63)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from calling import Caller
from etl_rest import Etl, acting
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

HTTP, FAST = "HTTPMultiThreadedServer", "FastAPIServer"


@pytest.fixture
def dst(src: str) -> str:
    """A bucket that does not exist yet."""
    return f"{src}-dst"


def read(etl: Etl, bucket: str) -> dict[str, bytes]:
    return {name: etl.call.get(bucket, name).body for name in etl.call.names(bucket)}


@pytest.mark.parametrize(("kind", "comm"), [(HTTP, "hpush"), (FAST, "hpull"), (FAST, "ws")])
def test_a_bucket(shared: Callable[..., Etl], src: str, dst: str, kind: str, comm: str) -> None:
    etl = shared(kind, comm)
    etl.call.put(src, "large", b"x" * 100_000)
    job = etl.bucket(src, dst, request_timeout="5m", pipeline=None)
    said = etl.wait(job)
    assert (said["kind"], said["err"], said["aborted"]) == ("etl-bck", "", False)
    assert read(etl, dst) == {
        "a.txt": b"CONTENT OF A.TXT",
        "b.txt": b"CONTENT OF B.TXT",
        "dir/c.txt": b"CONTENT OF DIR/C.TXT",
        "large": b"X" * 100_000,
    }
    stats = etl.state(job.body.decode())["stats"]
    assert (stats["loc-objs"], stats["loc-bytes"]) == ("4", str(100_052))


def test_names_of_what_is_made(shared: Callable[..., Etl], src: str, dst: str) -> None:
    etl = shared()
    etl.call.put(src, "dir/no-ext", b"x")
    etl.call.put(src, "dir/c.txt.png", b"x")
    etl.wait(etl.bucket(src, dst, prefix="dir/*", prepend="out/", ext={"txt": "..md", "c": "no"}))
    assert etl.call.names(dst) == ["out/dir/c.md", "out/dir/c.txt.png", "out/dir/no-ext"]


def test_a_dry_run_writes_nothing(shared: Callable[..., Etl], src: str, dst: str) -> None:
    etl = shared()
    for target in (dst, src):
        job = etl.bucket(src, target, dry_run=True)
        assert etl.wait(job)["err"] == ""
        assert etl.state(job.body.decode())["stats"]["loc-objs"] == "3"
    assert etl.call("GET", f"/v1/objects/{dst}/a.txt").error["message"] == f'bucket "ais://{dst}" does not exist'
    assert read(etl, src)["a.txt"] == b"content of a.txt"


def test_what_exists_is_overwritten_without_its_custom_metadata(shared: Callable[..., Etl], src: str, dst: str) -> None:
    etl = shared()
    etl.call.make_bucket(dst)
    etl.call.put(dst, "a.txt", b"old", {"Ais-Custom-Md": "k=v"})
    etl.wait(etl.bucket(src, dst))
    got = etl.call.get(dst, "a.txt")
    assert (got.body, got.headers["Ais-Custom-Md"]) == (b"CONTENT OF A.TXT", None)


@pytest.mark.parametrize(
    ("value", "status", "text"),
    [
        ({"id": "no-such-etl"}, 404, "ETL no-such-etl doesn't exist"),
        ({"id": ""}, 404, "ETL  doesn't exist"),
        ({"pipeline": ["no-such-etl"]}, 404, "ETL no-such-etl doesn't exist"),
        ({"prepend": "x", "synchronize": True}, 400, "is incompatible with the request to synchronize buckets"),
        ({"num-workers": -2}, 400, "invalid num-workers"),
        ({"unknown": 1}, 400, "unknown"),
        ({"prefix": "../"}, 400, "invalid prefix"),
    ],
)
def test_requests_that_are_refused(
    shared: Callable[..., Etl], src: str, dst: str, value: dict[str, Any], status: int, text: str
) -> None:
    etl = shared()
    got = etl.bucket(src, dst, **value)
    assert (got.status, text in str(got.error["message"])) == (status, True)
    assert "etl job" not in str(got.error["message"])
    many = etl.many(src, dst, objnames=["a.txt"], **value)
    assert many.status in ((status, 200) if "prefix" in value else (400, 404))
    if "prefix" not in value:
        assert f"{dst}" not in etl.call("GET", "/v1/buckets", b'{"action":"list"}').body.decode()


def test_buckets_that_are_refused(shared: Callable[..., Etl], src: str) -> None:
    etl = shared()
    onto = etl.bucket(src, src)
    assert (onto.status, onto.error["message"]) == (400, f'cannot etl-bck bucket "ais://{src}" onto itself')
    assert etl.bucket("no-such-bucket", src).status == 404
    missing = etl.call.action("POST", f"/v1/buckets/{src}", "etl-bck", {"id": etl.name})
    assert (missing.status, missing.error["message"]) == (400, 'missing "bck_to" query parameter')


def test_an_etl_that_does_not_run(etl: Etl, src: str, dst: str) -> None:
    etl.started(acting(HTTP))
    etl.ask("POST", "/stop")
    got = etl.bucket(src, dst)
    assert got.status == 404
    assert str(got.error["message"]).endswith(f": {etl.name} does not exist")


@pytest.mark.parametrize("dry", [False, True])
def test_going_on_after_errors(etl: Etl, src: str, dst: str, dry: bool) -> None:
    etl.started(acting(HTTP))
    etl.call.put(src, "b2", b"bad")
    etl.call.put(src, "b1", b"bad" + b"x" * 30_000)
    job = etl.bucket(src, dst, coer=True, dry_run=dry)
    said = etl.wait(job)
    assert not said["aborted"]
    assert "bad object" in said["err"]
    errors = etl.errors(job.body.decode())
    assert sorted((one["obj_name"], one["ecode"]) for one in errors) == [
        (f"ais://{src}/b1", 500),
        (f"ais://{src}/b2", 500),
    ]
    assert all(one["msg"].startswith("ETL error: ") for one in errors)
    assert etl.errors() == etl.errors("no-such-job") == []
    if not dry:
        assert etl.call.names(dst) == ["a.txt", "b.txt", "dir/c.txt"]


def test_the_first_error_ends_the_job(etl: Etl, src: str, dst: str) -> None:
    etl.started(acting(HTTP))
    etl.call.make_bucket(dst)
    etl.call.put(src, "a", b"bad")
    job = etl.bucket(src, dst, **{"num-workers": -1})
    said = etl.wait(job)
    assert said["aborted"]
    assert "bad object" in said["err"]
    assert etl.call.names(dst) == []
    assert [one["obj_name"] for one in etl.errors(job.body.decode())] == [f"ais://{src}/a"]


@pytest.mark.parametrize("selection", [{"objnames": ["a.txt", "dir/c.txt"]}, {"template": "a.txt"}, {"template": ""}])
def test_selected_objects(shared: Callable[..., Etl], src: str, dst: str, selection: dict[str, Any]) -> None:
    etl = shared()
    got = etl.many(src, dst, **selection, ext={"txt": "up"}, pipeline=None, coer=False)
    assert got.status == 200
    assert got.body.startswith(b"tco-")
    expected = {"objnames": ["a.up", "dir/c.up"]}.get(
        next(iter(selection)), ["a.up"] if selection.get("template") else ["a.up", "b.up", "dir/c.up"]
    )
    until(lambda: etl.call.names(dst) == expected)
    assert etl.call.get(dst, "a.up").body == b"CONTENT OF A.TXT"


def test_selected_objects_of_a_range(shared: Callable[..., Etl], src: str, dst: str) -> None:
    etl = shared()
    for i in range(12):
        etl.call.put(src, f"n{i:02d}", b"x")
    assert etl.many(src, dst, template="n{03..07..2}").status == 200
    until(lambda: etl.call.names(dst) == ["n03", "n05", "n07"])


def test_selected_objects_onto_themselves(shared: Callable[..., Etl], src: str) -> None:
    etl = shared()
    assert etl.many(src, src, template="", prepend="made/").status == 200
    until(lambda: len(etl.call.names(src)) == 6)
    assert etl.call.get(src, "made/a.txt").body == b"CONTENT OF A.TXT"
    assert etl.many(src, src, objnames=["a.txt"]).status == 200
    until(lambda: etl.call.get(src, "a.txt").body == b"CONTENT OF A.TXT")


def test_selected_objects_that_fail(etl: Etl, src: str, dst: str) -> None:
    etl.started(acting(HTTP))
    etl.call.put(src, "bad", b"bad")
    got = etl.many(src, dst, objnames=["bad", "nothing", "a.txt"], coer=True)
    job = got.body.decode()
    until(lambda: etl.call.names(dst) == ["a.txt"])
    until(lambda: len(etl.errors(job)) == 2)
    assert sorted((one["obj_name"], one["msg"][:10], one["ecode"]) for one in etl.errors(job)) == [
        (f"ais://{src}/bad", "ETL error:", 500),
        (f"ais://{src}/nothing", "object not", 404),
    ]
    stopping = etl.many(src, f"{dst}", objnames=["bad"], coer=False)
    said = etl.wait(stopping)
    assert said["aborted"]
    assert "bad object" in said["err"]


def test_inspecting_changes_nothing(etl: Etl, src: str) -> None:
    etl.started(acting(HTTP))
    etl.call.put(src, "bad", b"bad")
    before = read(etl, src)
    jobs = [
        etl.bucket(src, src, dry_run=True, coer=True),
        etl.many(src, src, template="", dry_run=True, coer=True),
    ]
    etl.wait(jobs[0])
    for job in jobs:
        until(lambda: [one["obj_name"] for one in etl.errors(job.body.decode())] == [f"ais://{src}/bad"])  # noqa: B023 (at once)
        until(lambda: etl.state(job.body.decode())["stats"]["loc-objs"] == "3")  # noqa: B023
    assert read(etl, src) == before


def test_stages_of_a_job(shared: Callable[..., Etl], etl: Etl, src: str, dst: str) -> None:
    assert etl.init({"runtime": {"image": "aistorage/transformer_md5"}}).status == 200
    first = shared(FAST, "ws")
    first.wait(first.bucket(src, dst, pipeline=[etl.name]))
    assert etl.call.get(dst, "a.txt").body == hashlib.md5(b"CONTENT OF A.TXT").hexdigest().encode()


@pytest.mark.parametrize("how", ["stop", "abort", "delete"])
def test_a_job_that_is_cut_off_leaves_nothing(etl: Etl, src: str, dst: str, how: str) -> None:
    etl.started(acting(HTTP))
    etl.call.make_bucket(dst)
    etl.call.put(src, "a0", b"a0")
    for i in range(20):
        etl.call.put(src, f"s{i}", b"slow" + b"x" * 20_000)
    job = etl.bucket(src, dst, **{"num-workers": 2})
    until(lambda: etl.call.names(dst) != [])
    if how == "abort":
        etl.call.action("PUT", "/v1/cluster", "stop", {"id": job.body.decode()})
    else:
        etl.ask(*(("POST", "/stop") if how == "stop" else ("DELETE",)))
    assert etl.wait(job)["aborted"]
    made = read(etl, dst)
    assert len(made) < 24
    assert all(
        data in (b"SLOW" + b"X" * 20_000, b"A0", b"CONTENT OF A.TXT", b"CONTENT OF B.TXT", b"CONTENT OF DIR/C.TXT")
        for data in made.values()
    )
    assert etl.stage == {"stop": "Aborted", "abort": "Running", "delete": ""}[how]


def test_remote_buckets() -> None:
    """From another cluster, what is cached or all of it, and into it."""
    with (
        LocalCluster() as far,
        LocalCluster(backends={"ais": {"far": far.url}}) as near,
        Caller(far.url) as there,
        Caller(near.url) as here,
        Etl(here) as etl,
    ):
        there.make_bucket("src")
        there.make_bucket("out")
        for name, size in (("a.txt", 10), ("b.txt", 3_000_000), ("dir/c.txt", 100)):
            assert there.put("src", name, b"x" * size).status == 200
        etl.started(acting(HTTP))
        far_away = "namespace=@far"
        assert here("GET", f"/v1/objects/src/a.txt?{far_away}&etl_name={etl.name}").body == b"X" * 10
        for presence, names in (("", ["a.txt"]), ("&presence=0", ["a.txt", "b.txt", "dir/c.txt"])):
            to = f"bck_to=ais%2F%40%23%2Fhere{len(names)}%2F"
            job = here.action("POST", f"/v1/buckets/src?{far_away}&{to}{presence}", "etl-bck", {"id": etl.name})
            assert etl.wait(job)["err"] == ""
            assert here.names(f"here{len(names)}") == names
        out = {"name": "out", "provider": "ais", "namespace": {"uuid": "far", "name": ""}}
        value = {"id": etl.name, "template": "", "tobck": out}
        job = here.action("POST", "/v1/buckets/here3", "etl-listrange", value)
        assert job.status == 200, job.body
        until(lambda: there.names("out") == ["a.txt", "b.txt", "dir/c.txt"])
        assert there.get("out", "b.txt").body == b"X" * 3_000_000
        to = "object_to=ais%2F%40far%23%2Fout%2Fcopy"
        assert here("PUT", f"/v1/objects/here3/a.txt?{to}&etl_name={etl.name}").status == 200
        assert there.get("out", "copy").body == b"X" * 10
        env = json.loads(here("GET", f"/v1/objects/src/a.txt?{far_away}&etl_name={etl.name}&etl_args=env").body)
        hook = urlsplit(env["AIS_TARGET_URL"]).path
        assert here("PUT", f"{hook}/ais%2F@far%23%2Fout%2Fput", b"by the transformer").status == 200
        assert there.get("out", "put").body == b"by the transformer"


def test_synchronizing_removes_what_is_gone(shared: Callable[..., Etl], src: str, dst: str) -> None:
    etl = shared()
    etl.call.make_bucket(dst)
    etl.call.put(dst, "gone.txt", b"x")
    etl.wait(etl.bucket(src, dst, synchronize=True))
    assert etl.call.names(dst) == ["a.txt", "b.txt", "dir/c.txt"]


def test_a_bucket_that_was_made_for_an_aborted_job_goes(etl: Etl, src: str, dst: str) -> None:
    etl.started(acting(HTTP))
    etl.call.put(src, "zz", b"bad")
    assert etl.wait(etl.bucket(src, dst))["aborted"]
    assert dst not in etl.call("GET", "/v1/buckets", b'{"action":"list"}').body.decode()
