"""Fuzzing of what decodes messages: JSON, msgpack and YAML, from clients, other clusters and transformers."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from aistore.calls.batch_formats import Multipart
from aistore.sdk._listing import decode_page
from aistore.sdk.batch.errors import MultipartDecodeError
from aistore.server.api.archive_job import ArchiveMessage
from aistore.server.api.batch import _details, _identity, _parse
from aistore.server.api.bucket_jobs import _IndexShards, _Rechunk
from aistore.server.api.inventory import _Create
from aistore.server.api.multipart import _numbers
from aistore.server.api.objects import _custom_pairs
from aistore.server.api.promoting import _Promote
from aistore.server.api.remote.jobs import BlobMessage
from aistore.server.api.summaries import _Message as Summary
from aistore.server.archive.source import BytesSource
from aistore.server.authn.gate import Gate
from aistore.server.authn.service import read_change, read_message
from aistore.server.authn.tokens import digest_of
from aistore.server.backends.ais import _pages
from aistore.server.config import ClusterConfig
from aistore.server.dsort.key_map import parse_map
from aistore.server.dsort.spec import check_specification, shard_names
from aistore.server.etl.message import launch_of, parse_init
from aistore.server.jobs.inventory_file import BadInventory, Inventory, InventoryWriter
from aistore.wire import listing
from aistore.wire.authn import ClusterAcl, Login, Role, Token, User
from aistore.wire.dsort import Specification
from aistore.wire.errors import ApiError
from aistore.wire.listing import ListRequest
from aistore.wire.messages import (
    BadMessage,
    CopyBucket,
    CopyObjects,
    JobArgs,
    ListRange,
    decode_value,
    parse_action,
    parse_document,
    parse_query,
)
from aistore.wire.names import parse_bucket
from aistore.wire.props import BucketProps, change_props
from fuzz.engine import Target

if TYPE_CHECKING:
    from collections.abc import Hashable

_GOLDEN: Final = Path(__file__).parents[1] / "conformance" / "golden" / "http"
_WORDS: Final = (
    b"null", b"true", b"false", b"[]", b"{}", b"[", b"]", b"{", b"}", b'"', b":", b",", b"-1", b"1e400", b"-0", b"NaN", b'"\\ud800"', b"\\u0000",
    b"[" * 1100, b'{"a":' * 300, b"9" * 400, b"0.5", b'"value":', b'"action":"', b'"name":"', b'"objnames":[', b'"template":"', b'"flags":"',
    b"\xff", b"\xef\xbb\xbf", b" ", b'"tobck":{"name":"b"}', b'"bck":', b'"namespace":{"uuid":"u","name":"n"}', b'"prefix":"', b'"ext":{"a":"b"}',
    b'"num-workers":', b'"mirror":{"copies":', b'"ec":{', b'"timeout":', b'"{1..3}"', b'"id":"', b'"props":{', b'"s"', b'"h"', b'"1KiB"',
)  # fmt: skip


@lru_cache
def _recorded() -> tuple[bytes, ...]:
    """Messages that clients sent to a reference cluster: the shortest of each action."""
    found: dict[object, bytes] = {}
    for path in sorted(_GOLDEN.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            document = json.loads(line).get("request", {}).get("json")
            if document is None:
                continue
            action = str(document.get("action")) if isinstance(document, dict) else type(document)
            shape = (action, *sorted(document)) if isinstance(document, dict) else action
            text = json.dumps(document).encode()
            if len(text) < len(found.get(shape, b"x" * 3000)):
                found[shape] = text
    return tuple(found.values())


# -- JSON ----------------------------------------------------------------------------------------------------------

_VALUES: Final[tuple[type[msgspec.Struct], ...]] = (
    ListRange, ListRequest, CopyBucket, CopyObjects, JobArgs, ArchiveMessage, _Create, _IndexShards, _Rechunk, _Promote, BlobMessage, Summary,
)  # fmt: skip


def _action(data: bytes) -> Hashable:
    message = parse_action(data, "POST", "p[x]")
    kind: list[object] = [type(message.value)]
    value: Any = message.value
    for expected in _VALUES:
        try:
            decode_value(value, expected, message.action, "p[x]")
            kind.append(True)
        except ApiError:
            kind.append(False)
    for read in (_numbers, lambda one: _custom_pairs(_NODE, one)):
        try:
            read(value)
            kind.append(True)
        except ApiError:
            kind.append(False)
    return tuple(kind)


class _Named:
    name = gateway_name = "t[x]"


_NODE: Any = _Named()


def _props(data: bytes) -> Hashable:
    changed = change_props(BucketProps(), parse_action(data, "PATCH", "p[x]").value, targets=1)
    msgspec.json.encode(changed, enc_hook=int).decode()
    return tuple(getattr(changed, name) == getattr(BucketProps(), name) for name in BucketProps.__struct_fields__)


_CONFIG: Final = ClusterConfig()


def _config(data: bytes) -> Hashable:
    value = parse_action(data, "PUT", "p[x]").value
    changed = _CONFIG.changed(value)
    return tuple(changed.other[name] == _CONFIG.other[name] for name in _CONFIG.other)


def _query(data: bytes) -> Hashable:
    found = parse_query(data, "GET", "p[x]")
    if found.bck is not None:
        found.bck.bucket_id()
    return bool(found.id), bool(found.kind), found.bck is None, found.show_active


_BUCKET: Final = parse_bucket("b")


def _batch(data: bytes) -> Hashable:
    message = _parse(data)
    for entry in (message.entries or [])[:4]:
        _identity(entry, _BUCKET)
        _details(entry)
    return len(message.entries or []) > 1, message.mime is None, message.coer


def _dsort(data: bytes) -> Hashable:
    order = check_specification(parse_document(data, Specification), {})
    list(islice(order.input_names(), 2))
    if order.output is not None:
        list(islice(shard_names(order.output, order.output_extension), 2))
    return order.algorithm.kind, order.output is None, order.key_map == "", order.seed is None


def _etl(data: bytes) -> Hashable:
    message = parse_init(data)
    launch = launch_of(message)
    texts = (launch.image, launch.probe, *launch.command, *launch.args, *launch.env, *launch.env.values())
    assert sum(map(len, texts)) <= 32 * len(data), "a manifest became longer than it is"
    return (
        message.runtime is None,
        message.communication,
        message.support_direct_put,
        bool(launch.command),
        launch.memory > 0,
    )


def _key_map(data: bytes) -> Hashable:
    found = parse_map(data[1:], "/m.json" if data[:1] == b"j" else "/m", "\t", "warn", lambda _: None)
    for name in ("a/b1.jpg", "x", ""):
        for _ in found.find(name):
            pass
    return min(len(found.templates), 3)


_AUTHN: Final[tuple[type[msgspec.Struct], ...]] = (Role, User, Login, Token, ClusterAcl)


class _Sent:
    """A request as far as messages are read of it."""

    path, method = "/v1/x", "POST"

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, limit: int) -> bytes:
        return self._body


class _Revoking:
    """What the gate needs to revoke tokens."""

    def __init__(self) -> None:
        self._node = self

    async def revoke(self, tokens: list[str]) -> None:
        for token in tokens:
            digest_of(token)

    async def tell_targets(self, *_: object) -> None:
        pass


def _authn(data: bytes) -> Hashable:
    """Each message of the AuthN service, and the list of revoked tokens that it sends to clusters."""
    kind: list[object] = []
    request: Any = _Sent(data)
    gate: Any = _Revoking()
    for read in (
        Gate._change_tokens(gate, request),
        *(read_message(request, one, "x") for one in _AUTHN),
        *(read_change(request, one) for one in _AUTHN),
    ):
        try:
            read.send(None)
        except StopIteration:
            kind.append(True)
        except ApiError:
            kind.append(False)
    return tuple(kind)


# -- msgpack -------------------------------------------------------------------------------------------------------


def _pages_of_listings(data: bytes) -> Hashable:
    """A page as a client reads it, and as the server reads that of another cluster."""
    kind: list[object] = []
    for decode in (decode_page, _pages.decode):
        try:
            page = decode(data)
            kind.append(min(len(getattr(page, "entries", ())), 3))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            kind.append(type(error))
    return tuple(kind)


def _page() -> bytes:
    entries = [
        listing.Entry(f"o{i}", "c" * 16, "", str(i), "t[x]:mp[/]", "[a:b]", i << 20, 1, 1 << 6) for i in range(3)
    ]
    return listing.encode_page(listing.Page("uuid", "token", entries, 0))


def _inventory(data: bytes) -> Hashable:
    """Clients can write to the bucket of inventories."""
    entries = list(islice(Inventory(BytesSource(data)).since("o1"), 5))
    return min(len(entries), 3)


def _stored_inventory(count: int) -> bytes:
    pieces: list[bytes] = []
    writer = InventoryWriter(pieces.append)
    for i in range(count):
        entry = listing.Entry(f"o{i:04}", size=i)
        writer.add(entry.name, msgspec.msgpack.encode(entry))
    writer.finish()
    return b"".join(pieces)


def _unpacked_inventory(data: bytes) -> Hashable:
    """As above, with blocks that decompress: what is fuzzed is what they hold."""
    import struct
    import zlib

    half = len(data) // 2
    block, index = zlib.compress(data[:half], 1), zlib.compress(data[half:], 1)
    tail = struct.pack(">Q8s", len(block), b"AISINV01")
    return _inventory(block + index + tail)


_PLACES: Final = msgspec.msgpack.encode([("o", 0, 40)])
_BLOCK: Final = msgspec.msgpack.encode([listing.Entry("o1"), listing.Entry("o2", size=5)])


# -- answers that clients read -------------------------------------------------------------------------------------


def _multipart(data: bytes) -> Hashable:
    step = 1 + (data[0] if data else 0) % 97
    reader = Multipart('multipart/mixed; boundary="b"')
    found = b"".join(reader.feed(data[at : at + step]) for at in range(1, len(data), step))
    return reader.ended, bool(found), reader.metadata is None


_BATCH: Final = b'{"in":[{"objname":"a","start":1,"length":2},{"objname":"s.tar","archpath":"x","bucket":"b","provider":"ais","opaque":"YQ=="},{"objname":"u","uname":"ais/@#/b/"}],"mime":".tar","coer":true,"onob":false,"strm":true}'
_DSORT: Final = b'{"input_bck":{"name":"b"},"input_format":{"template":"in-{0..9}","objnames":null},"input_extension":".tar","output_format":"out-{000..100}","output_shard_size":"10KB","algorithm":{"kind":"content","extension":".key","content_key_type":"int","seed":"5","decreasing":true},"max_mem_usage":"80%","create_concurrency_max_limit":2}'
_ETL: Final = b'{"name":"etl-md5","communication":"hpush://","init_timeout":"45s","obj_timeout":"10s","support_direct_put":true,"runtime":{"image":"x:1","command":["a"],"env":[{"name":"A","value":"b"}]},"resources":{"limits":{"memory":"512Mi"}}}'
_POD: Final = b'{"name":"etl-spec","spec":"YXBpVmVyc2lvbjogdjEKa2luZDogUG9kCm1ldGFkYXRhOiB7YW5ub3RhdGlvbnM6IHtzdXBwb3J0X2RpcmVjdF9wdXQ6IHRydWV9fQpzcGVjOgogIGNvbnRhaW5lcnM6CiAgLSBuYW1lOiBzCiAgICBpbWFnZTogeAogICAgcG9ydHM6IFt7bmFtZTogZGVmYXVsdCwgY29udGFpbmVyUG9ydDogODB9XQogICAgcmVhZGluZXNzUHJvYmU6IHtodHRwR2V0OiB7cGF0aDogL2hlYWx0aCwgcG9ydDogZGVmYXVsdH19Cg=="}'


def _pod(data: bytes) -> Hashable:
    """A manifest in YAML."""
    from base64 import b64encode

    return _etl(b'{"name":"etl-spec","spec":"%s"}' % b64encode(data))


_MANIFEST: Final = b"""apiVersion: v1
kind: Pod
metadata: {annotations: {support_direct_put: true}}
spec:
  containers:
  - name: s
    image: x
    command: [a, 1]
    env: [{name: A, value: 5}]
    ports: [{name: default, containerPort: 80}]
    readinessProbe: {httpGet: {path: /health, port: default}}
"""

# Each list stands for nine of the one before it.
_BOMB: Final = _MANIFEST.replace(
    b"spec:\n",
    b"x0: &x0 [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"x%d: &x%d [%s]\n" % (i, i, b",".join([b"*x%d" % (i - 1)] * 9)) for i in range(1, 5))
    + b"spec:\n",
)
_BOMBS: Final = tuple(
    _BOMB.replace(old, new)
    for old, new in ((b"value: 5", b"value: *x4"), (b"[a, 1]", b"[*x4]"), (b"image: x", b"image: *x4"), (b"name: default", b"name: *x4"),
                     (b"    env:", b"    resources: {limits: {memory: *x4}}\n    env:"), (b"value: 5", b"value: 0x" + b"f" * 4000))
)  # fmt: skip

TARGETS: Final = (
    Target("action messages", _action, (ApiError,), (*_recorded(), b"", b"null {}"), _WORDS),
    Target(
        "bucket properties",
        _props,
        (ApiError, BadMessage),
        (
            b'{"action":"set-bprops","value":{"mirror":{"enabled":true,"copies":2},"force":true}}',
            b'{"value":{"lru":{"dont_evict_time":"2h","enabled":false},"checksum":{"type":"md5"},"access":"5","versioning":{"enabled":false}}}',
            b'{"value":{"ec":{"data_slices":2,"objsize_limit":"1KiB"},"backend_bck":{"name":"x","provider":"aws"},"write_policy":{"md":"never"}}}',
            b'{"value":{"rate_limit":{"backend":{"interval":"1m","max_tokens":5}},"chunks":{"chunk_size":"1GiB"},"extra":{"aws":{"profile":"p"}}}}',
        ),
        _WORDS,
    ),
    Target(
        "configuration",
        _config,
        (ApiError, BadMessage),
        (
            b'{"value":{"lru":{"enabled":true},"space":{"lowwm":50,"highwm":90,"out_of_space":95}}}',
            b'{"value":{"timeout":{"cplane_operation":"2s"},"get_batch":{"max_soft_errs":5},"checksum":{"type":"none"}}}',
            b'{"value":{"log":{"level":"3"},"net":{"http":{"use_https":true}},"backend":{"aws":{}}}}',
        ),
        _WORDS,
    ),
    Target("queries of jobs", _query, (ApiError,), (b'{"id":"x","kind":"copy-bck","bck":{"name":"b"},"show_active":true}', b"{}"), _WORDS),
    Target("GetBatch requests", _batch, (ApiError,), (_BATCH, b'{"in":[{"objname":"a"}]}'), (*_WORDS, b'"in":[', b'"start":', b'"uname":"ais/@#/b/"', b'"opaque":"', b"../")),
    Target("dSort specifications", _dsort, (ApiError, BadMessage), (_DSORT,), (*_WORDS, b'"ekm_file":"http://h/x"', b"{0..9}", b"%d", b"@5", b".tgz", b'"shuffle"', b'"seed":"')),
    Target("ETL messages", _etl, (ApiError,), (_ETL, _POD), _WORDS),
    Target("ETL manifests", _pod, (ApiError,), (_MANIFEST, *_BOMBS), (b"&a ", b"*a", b"!!int ", b"!!timestamp 2001-99-99", b"!!python/object:os.system ", b"<<: ", b"{", b"}", b"[", b"]", b"? ", b"- ", b"|\n", b"\t", b"---\n", b"...", b"%YAML 9.9\n", b"0b1", b"1:1:1", b".nan", b"\x00", b"\xff\xfe", b"~", b"=", b"2001-12-14t21:59:43.10-05:00", b"0x" + b"f" * 4000)),
    Target(
        "key maps",
        _key_map,
        (ApiError,),
        (b'j{"a-{0..9}":["x.*","b1"],"b-%d":["^y$"]}', b"tshard-{0..9}\tx\nother-%03d\t(a|b)+\n"),
        (*_WORDS, b"\t", b"\n", b"(", b")*", b"[^a]", b"\\d", b"{1,9}", b"%d", b"|", b"(?i)", b"\\p{L}", b"$", b"^"),
    ),
    Target(
        "AuthN messages",
        _authn,
        (),
        (
            b'{"name":"r","desc":"d","clusters":[{"id":"c","perm":"123"}],"buckets":[{"bck":{"name":"b","provider":"ais","namespace":{"uuid":"c"}},"perm":"7"}]}',
            b'{"id":"u","pass":"p","roles":[{"name":"r"}]}',
            b'{"tokens":["a.b.c","d"]}',
            b'{"x":' + b"[" * 1100,
            b'{"password":"p","expires_in":3600000000000,"cluster_id":"c"}',
        ),
        _WORDS,
    ),
    Target(
        "pages of listings",
        _pages_of_listings,
        (),
        (_page(), listing.encode_page(listing.Page("u")), msgspec.msgpack.encode({"UUID": "", "Entries": None, "ContinuationToken": "", "Flags": 0})),
        (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xc0", b"\x80", b"\x90", b"\xa1n", b"\x91" * 1100, b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", b"\xca\x7f\xc0\x00\x00", b"\xd6\xff\xff\xff\xff\xff", b"\xa7Entries", b"\xa2\xff\xfe"),
    ),
    Target(
        "inventories",
        _inventory,
        (BadInventory,),
        (_stored_inventory(5), _stored_inventory(0), _stored_inventory(1200)),
        (b"AISINV01", b"\x00" * 8, b"\xff" * 8, b"\x78\x01"),
        longest=8192,
    ),
    Target(
        "blocks of inventories",
        _unpacked_inventory,
        (BadInventory,),
        (
            _BLOCK + _PLACES.ljust(len(_BLOCK), b"\x00"),
            _PLACES * 2,
            b"\x91\x93\xa1o\x00\x28\x91\x93\xa1\xdb\x00\x00",  # a name that is no UTF-8
            b"\x91" * 3000,
        ),
        (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 1100, b"\xa2\xff\xfe", b"\x93\xa1o\x00\x28", b"\xc0", b"\x81\xa1n\xa1x"),
        longest=4096,
    ),
    Target(
        "multipart answers",
        _multipart,
        (MultipartDecodeError,),
        (b'\x09--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"uuid":"u","out":[{"objname":"a","size":1}]}\r\n--b\r\nContent-Disposition: form-data; name="archive"\r\n\r\nTARTAR\r\n--b--\r\n', b'\x60--b\r\nname="metadata"\r\n\r\n' + b"[" * 1100 + b'\r\n--b\r\nname="archive"\r\n\r\n\r\n--b--'),
        (b"\r\n--b", b"--b\r\n", b"--b--", b"\r\n\r\n", b'name="metadata"', b'name="archive"', b"null", b'{"out":', b"[" * 1100, b"\xff"),
    ),
)  # fmt: skip
