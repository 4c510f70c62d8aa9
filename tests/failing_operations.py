"""What a server is asked whose calls fail, one after the other (`server/test_nth_failures.py`): each operation, on buckets of its own attempt."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

import archives
from faults import FAULTS
from serving import chunked, request
from store_truth import read
from waiting import DEADLINE

if TYPE_CHECKING:
    from aistore.server.node import Node

CHUNKED = "in chunks"
TRANSFORMER = "md5-of-it"
LARGE = b"x" * 20_000
TAR = archives.tar([("a.txt", b"alpha" * 3000), ("b.txt", b"bee")])


class Refused(Exception):
    """The client was told of a failure."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status


class Got(NamedTuple):
    status: int
    head: str
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header that is there."""
        lines = (line.partition(": ") for line in self.head.split("\r\n"))
        return next(value for key, _, value in lines if key.lower() == name)


class World:
    """A server, and the buckets of one attempt, whose names begin with its number."""

    def __init__(self, node: Node, number: int, far: str, test: str) -> None:
        self.node = node
        self.number = number
        self.b = f"n{number}-b"
        self.far = far
        """URL of the cluster that remote buckets live in."""
        self.far_bucket = f"n{number}-{zlib.crc32(test.encode()):x}"

    @property
    def proof(self) -> Path:
        """The file that shows that a client is the server's user."""
        return self.node.settings.data_dir / f"import-{self.number:032x}"

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "", url: str = "") -> Got:
        """An answer, whatever it is. Raises `Refused` if there is none, or only a part of it."""
        parts = urlsplit(url or self.node.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            if headers == CHUNKED:
                whole = chunked(method, path, [body[:9000], body[9000:]])
                writer.write(whole.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            else:
                writer.write(request(method, path, body, f"{headers}Connection: close\r\n"))
            answer = await asyncio.wait_for(reader.read(), DEADLINE)
        finally:
            writer.close()
            await writer.wait_closed()
        head, _, content = answer.partition(b"\r\n\r\n")
        if not head:
            raise Refused(0, "no answer")
        got = Got(int(head[9:12]), head.decode("latin-1"), content)
        length = "Content-Length" in got.head and method != "HEAD"
        if length and int(got.header("content-length")) != len(content):
            raise Refused(0, "the answer was cut")
        if "Transfer-Encoding: chunked" in got.head and not content.endswith(b"0\r\n\r\n"):
            raise Refused(0, "the answer was cut")
        return got

    async def __call__(self, method: str, path: str, body: bytes = b"", headers: str = "", url: str = "") -> Got:
        """A good answer. Raises `Refused`."""
        got = await self.ask(method, path, body, headers, url)
        if got.status >= 400:
            raise Refused(got.status, got.body.decode(errors="replace"))
        return got

    async def action(self, method: str, path: str, action: str, value: object = None, name: str = "") -> Got:
        return await self(method, path, json.dumps({"action": action, "name": name, "value": value}).encode())

    def at(self, name: str, bucket: str = "") -> str:
        return f"/v1/objects/{bucket or self.b}/{quote(name)}"

    async def job(self, got: Got) -> None:
        """Wait for the end of a job. Raises `Refused` if something of it failed."""
        job = self.node.control.jobs.find(got.body.decode().strip('"'))
        assert job is not None
        if job._requests is not None:
            job._requests.close()
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while job.running:
            assert asyncio.get_running_loop().time() < deadline, f"{job.status()} does not end"
            await asyncio.sleep(0.001)
        if job.status().err:
            raise Refused(0, job.status().err)

    def state(self) -> dict[str, object]:
        """All that is in its buckets, whose names are shown without the number."""
        self.node.store.clear_cache()
        seen: dict[str, object] = {}
        for bucket in self.node.store.buckets():
            name = bucket.id.name.partition("-")
            if name[0] != f"n{self.number}" or name[2] == "after":
                continue
            seen[name[2]] = self.node.props(bucket).ec.objsize_limit
            names = [
                one
                for (one,) in self.node.store.catalog.read("SELECT name FROM object WHERE bucket = ?", (bucket.bid,))
            ]
            for one in names:
                row = self.node.store.lookup(bucket, one)
                assert row is not None
                custom = {key: value for key, value in row.custom.items() if key == "k"}
                content: object = read(self.node.store, bucket, one)
                if one.endswith(".tar") and isinstance(content, bytes) and len(content) > 512:  # headers have times
                    content = archives.unpacked(".tar", content)
                seen[f"{name[2]}/{one}"] = (content, str(custom))
        return seen


# -- what is asked for ---------------------------------------------------------------------------------------------


async def put_small(w: World) -> None:
    await w("PUT", w.at("new"), b"small")


async def put_large(w: World) -> None:
    await w("PUT", w.at("new"), LARGE + b"new")


async def put_in_chunks(w: World) -> None:
    await w("PUT", w.at("new"), LARGE + b"chunked", CHUNKED)


async def overwrite_large(w: World) -> None:
    await w("PUT", w.at("large"), LARGE + b"over")


async def overwrite_small_by_large(w: World) -> None:
    await w("PUT", w.at("small"), LARGE + b"over")


async def delete_large(w: World) -> None:
    await w("DELETE", w.at("large"))


async def describe(w: World) -> None:
    await w("PATCH", w.at("small"), b'{"value": {"k": "new"}}')


async def append_and_flush(w: World) -> None:
    handle = ""
    for piece in (b"one" * 3000, b"two" * 3000):
        path = f"{w.at('large')}?append_type=append&append_handle={quote(handle)}"
        handle = (await w("PUT", path, piece)).header("ais-append-handle")
    await w("PUT", f"{w.at('large')}?append_type=flush&append_handle={quote(handle)}")


async def upload_in_parts(w: World) -> None:
    upload = (await w.action("POST", w.at("large"), "mpt-upload")).body.decode()
    for number, part in ((1, LARGE), (2, b"2" * 9000), (1, b"again" * 3000)):
        await w("PUT", f"{w.at('large')}?uploadId={upload}&partNumber={number}", part)
    value = [{"part-number": number} for number in (1, 2)]
    await w.action("POST", f"{w.at('large')}?uploadId={upload}", "mpt-complete", value)


async def give_an_upload_up(w: World) -> None:
    upload = (await w.action("POST", w.at("large"), "mpt-upload")).body.decode()
    await w("PUT", f"{w.at('large')}?uploadId={upload}&partNumber=1", LARGE)
    await w.action("POST", f"{w.at('large')}?uploadId={upload}", "mpt-abort")


async def copy_object(w: World) -> None:
    await w("PUT", f"{w.at('large')}?object_to={quote(f'ais/@#/{w.b}/copy', safe='')}")


async def rename_object(w: World) -> None:
    await w.action("POST", w.at("large"), "rename-obj", name="renamed")


async def put_by_s3(w: World) -> None:
    await w("PUT", f"/s3/{w.b}/new", LARGE + b"s3")


async def upload_in_parts_by_s3(w: World) -> None:
    body = (await w("POST", f"/s3/{w.b}/new?uploads")).body.decode()
    upload = body.partition("<UploadId>")[2].partition("<")[0]
    tag = (await w("PUT", f"/s3/{w.b}/new?uploadId={upload}&partNumber=1", LARGE)).header("etag")
    part = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    await w("POST", f"/s3/{w.b}/new?uploadId={upload}", document)


async def append_to_archive(w: World) -> None:
    await w("PUT", f"{w.at('a.tar')}?archpath=new.txt&archmime=.tar", LARGE, "Ais-Arch-Mime: .tar\r\n")


async def make_bucket(w: World) -> None:
    await w.action("POST", f"/v1/buckets/n{w.number}-new", "create-bck")


async def destroy_bucket(w: World) -> None:
    await w.action("DELETE", f"/v1/buckets/{w.b}", "destroy-bck")


async def rename_bucket(w: World) -> None:
    await w.job(await w.action("POST", f"/v1/buckets/{w.b}?bck_to={_uname(f'n{w.number}-new')}", "move-bck"))


async def set_properties(w: World) -> None:
    await w.action("PATCH", f"/v1/buckets/{w.b}", "set-bprops", {"ec": {"objsize_limit": 77}})


async def change_configuration(w: World) -> None:
    before = w.node.control.config.current
    try:
        await w("PUT", f"/v1/cluster/set-config?lru.dont_evict_time={w.number + 1}m")
    except Refused:
        assert w.node.control.config.current is before
        raise
    assert w.node.control.config.current.document("")["lru"] != before.document("")["lru"]


async def delete_many(w: World) -> None:
    value = {"objnames": ["small", "large", "a.tar"]}
    await w.job(await w.action("DELETE", f"/v1/buckets/{w.b}", "delete-listrange", value))


async def copy_bucket(w: World) -> None:
    await w.job(await w.action("POST", f"/v1/buckets/{w.b}?bck_to={_uname(f'n{w.number}-new')}", "copy-bck", {}))


async def copy_many(w: World) -> None:
    value = {"objnames": ["small", "large"], "tobck": {"name": w.b}, "prepend": "copies/"}
    await w.job(await w.action("POST", f"/v1/buckets/{w.b}", "copy-listrange", value))


async def make_archive(w: World) -> None:
    value = {"objnames": ["small", "large"], "tobck": {"name": w.b}, "archname": "new.tar"}
    await w.job(await w.action("PUT", f"/v1/buckets/{w.b}", "archive", value))


async def promote(w: World) -> None:
    folder = Path(w.node.settings.promote_root)
    got = await w.action("POST", f"/v1/objects/{w.b}", "promote", {"src": str(folder), "obj": "promoted/", "rcr": True})
    if got.body:
        await w.job(got)


async def sort(w: World) -> None:
    spec = {
        "input_bck": {"name": w.b}, "input_format": {"objnames": ["a.tar"]}, "input_extension": ".tar",
        "output_format": "out-{0..9}", "output_shard_size": "1KB", "algorithm": {"kind": "alphanumeric"},
    }  # fmt: skip
    await w.job(await w("POST", "/v1/sort", json.dumps(spec).encode()))


async def read_a_batch(w: World) -> None:
    """The archive is made before the answer, in a file that nobody else sees."""
    message = {"in": [{"objname": "large"}, {"objname": "a.tar", "archpath": "a.txt"}], "mime": ".tar", "strm": False}
    await w("GET", f"/v1/ml/moss/{w.b}", json.dumps(message).encode())


async def read_a_member(w: World) -> None:
    got = await w("GET", f"{w.at('a.tar')}?archpath=b.txt")
    assert got.body == b"bee"


async def read_large(w: World) -> None:
    assert (await w("GET", w.at("large"))).body == LARGE


async def index_archives(w: World) -> None:
    await w.job(await w.action("POST", f"/v1/buckets/{w.b}", "index-shard", {}))


async def import_a_file(w: World) -> None:
    """As `import_folder` does for each file: large enough to be a content file."""
    path = str(Path(w.node.settings.promote_root) / "one")
    value = {"src": path, "obj": "large", "ovw": True, "imp": "reflink", "proof": w.proof.name}
    await w.action("POST", f"/v1/objects/{w.b}", "promote", value, path)


# -- remote buckets ------------------------------------------------------------------------------------------------


def _far(w: World, name: str) -> str:
    return f"{w.at(name, w.far_bucket)}?namespace={quote('@far', safe='')}"


async def read_cold(w: World) -> None:
    assert (await w("GET", _far(w, "o"))).body == LARGE


async def write_through(w: World) -> None:
    await w("PUT", _far(w, "written"), LARGE + b"through")


async def prefetch(w: World) -> None:
    path = f"/v1/buckets/{w.far_bucket}?namespace={quote('@far', safe='')}"
    await w.job(await w.action("POST", path, "prefetch-listrange", {"objnames": ["o", "p"]}))


async def read_and_evict(w: World) -> None:
    await w("GET", _far(w, "o"))
    path = f"/v1/buckets/{w.far_bucket}?namespace={quote('@far', safe='')}"
    await w.job(await w.action("DELETE", path, "evict-listrange", {"objnames": ["o"]}))


async def make_an_inventory(w: World) -> None:
    """Of a bucket that has one already, which stays until the new one is there."""
    path = f"/v1/buckets/{w.far_bucket}?namespace={quote('@far', safe='')}"
    await w.job(await w.action("POST", path, "create-inventory", {"name": "inv", "force": True}))
    shown = await w.action("GET", path, "show-inventory")
    (info,) = json.loads(shown.body).values()
    assert info["ntotal"] == 2


# -- transformers --------------------------------------------------------------------------------------------------


async def _define(w: World, name: str) -> None:
    message = {"name": name, "runtime": {"image": "aistorage/transformer_md5"}}
    await w("PUT", "/v1/etl", json.dumps(message).encode())


async def has_transformer(w: World) -> None:
    """One serves all attempts, until the server starts again."""
    assert w.node.etls is not None
    found = w.node.etls.find(TRANSFORMER)
    if found is None:
        await _define(w, TRANSFORMER)
    elif found.running is None:
        await w("POST", f"/v1/etl/{TRANSFORMER}/start")


async def transform_bucket(w: World) -> None:
    value = {"id": TRANSFORMER}
    path = f"/v1/buckets/{w.b}?bck_to={_uname(f'n{w.number}-new')}"
    await w.job(await w.action("POST", path, "etl-bck", value))


async def transform_many(w: World) -> None:
    """In place: each object becomes what is made of it, or stays."""
    value = {"id": TRANSFORMER, "objnames": ["small", "large"], "tobck": {"name": w.b}}
    await w.job(await w.action("POST", f"/v1/buckets/{w.b}", "etl-listrange", value))


async def read_transformed(w: World) -> None:
    got = await w("GET", f"{w.at('large')}?etl_name={TRANSFORMER}")
    assert got.body == hashlib.md5(LARGE).hexdigest().encode()


async def define_a_transformer(w: World) -> None:
    """One that cannot be kept is none; one that could not be started can be deleted."""
    assert w.node.etls is not None
    name = f"n{w.number}-etl"
    try:
        await _define(w, name)
    finally:
        FAULTS.armed, was = False, FAULTS.armed
        if w.node.etls.find(name) is not None and not w.node.store.catalog.broken:
            await w("DELETE", f"/v1/etl/{name}")
        FAULTS.armed = was


def _uname(bucket: str) -> str:
    return quote(f"ais/@#/{bucket}/", safe="")


AT_ONCE = (
    put_small, put_large, put_in_chunks, overwrite_large, overwrite_small_by_large, delete_large, describe, append_and_flush, upload_in_parts,
    give_an_upload_up, copy_object, rename_object, put_by_s3, upload_in_parts_by_s3, append_to_archive, make_bucket, destroy_bucket,
    rename_bucket, set_properties, change_configuration, make_archive, read_a_batch, read_a_member, read_large, index_archives,
    import_a_file,
)  # fmt: skip
ONE_BY_ONE = (delete_many, copy_bucket, copy_many, promote, sort)
REMOTE = (read_cold, write_through, prefetch, read_and_evict, make_an_inventory)
TRANSFORMING = (transform_bucket, transform_many, read_transformed)
STARTING = (define_a_transformer,)
