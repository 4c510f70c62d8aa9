"""What users write about ETLs, with both faces of the SDK, on one node and on three targets."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import inspect
import json
import sys
import threading
import types
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
import requests
import xxhash

from aistore.sdk import Client
from aistore.sdk.errors import AISError, ErrETLAlreadyExists, ErrETLInit, ErrETLNotFound, ErrETLTransform
from aistore.sdk.etl import ETLConfig, etl_const, etl_templates, serialize_class
from aistore.sdk.etl.webserver import FastAPIServer, FlaskServer, HTTPMultiThreadedServer
from faces import Face, Faces
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aistore import LocalCluster

OBJECTS = {"a.txt": b"content of a", "b.txt": b"content of b", "dir/c d.txt": b"content of c"}


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest, etl_cluster: LocalCluster) -> Iterator[Any]:
    """A client of each face."""
    if request.param == "blocking":
        with Client(etl_cluster.url) as made:
            yield made
        return
    loop = asyncio.new_event_loop()
    faces = Faces(loop)
    try:
        yield faces.client(etl_cluster.url)
    finally:
        faces.close()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def bucket(client: Any, src: str) -> Any:
    """A bucket with three objects, and nothing else."""
    found = client.bucket(src)
    for name in OBJECTS:
        found.object(name).get_writer().put_content(OBJECTS[name])
    found.objects(obj_names=["dir/c.txt"]).delete()
    until(lambda: names(found) == sorted(OBJECTS))
    return found


@pytest.fixture
def target(client: Any, src: str) -> Any:
    """Where results go."""
    return client.bucket(f"{src}-dst")


def names(bucket: Any) -> list[str]:
    return [entry.name for entry in bucket.list_all_objects()]


def start(etl: Any, cls: type, **options: Any) -> None:
    """`etl.init_class(...)(cls)`, awaited where it has to be."""
    made: Any = etl.init_class(**options)(cls)
    if inspect.isawaitable(made):
        made = etl._loop.run_until_complete(made)
    assert made is cls


def config(etl: Any, args: Any = None) -> ETLConfig:
    return ETLConfig(etl.inner if isinstance(etl, Face) else etl, args)


def read(obj: Any, etl: ETLConfig) -> bytes:
    content: bytes = obj.get_reader(etl=etl).read_all()
    return content


def upper(base: Any) -> type:
    class Upper(base):  # type: ignore[misc]  # the framework is chosen at run time
        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            if etl_args == "raise":
                print("asked once more")
                raise ValueError("no such colour")
            if etl_args == "sleep":
                import time

                print("asked once more")
                time.sleep(2)
            if path.endswith("b.txt") and etl_args != "all":
                raise ValueError("not this one")
            return data.upper() + etl_args.encode()

    return Upper


def reversing() -> type:
    """A class that travels by value, as those of a program do."""

    class Reverse(HTTPMultiThreadedServer):
        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            assert isinstance(data, bytes)
            return data[::-1]

    return Reverse


TEMPLATES: dict[str, tuple[str, Callable[[bytes, bytes], bool]]] = {
    "ECHO": ("echo", lambda data, made: made == data),
    "GO_ECHO": ("echo", lambda data, made: made == data),
    "HELLO_WORLD": ("hello", lambda data, made: made == b"Hello World!"),
    "GO_HELLO_WORLD": ("hello", lambda data, made: made == b"Hello World!"),
    "MD5": ("md5", lambda data, made: made == hashlib.md5(data).hexdigest().encode()),
    "HASH": ("hash", lambda data, made: made == xxhash.xxh64_hexdigest(data, 0).encode()),
    "COMPRESS": ("compress", lambda data, made: bz2.decompress(made) == data),
}
PLACES = {
    **dict.fromkeys(("arg_type", "ffmpeg_options", "format", "transform", "arg", "val"), ""),
    "compress_options": json.dumps({"compression": "bz2"}),
}


@pytest.mark.parametrize(
    ("template", "comm"),
    [(template, etl_const.ETL_COMM_OPTIONS[number % 3]) for number, template in enumerate(TEMPLATES)],
)
def test_templates_run(client: Any, bucket: Any, template: str, comm: str) -> None:
    word, is_right = TEMPLATES[template]
    text = getattr(etl_templates, template).format(communication_type=comm, **PLACES)
    text = text.replace("    wait_timeout", '    support_direct_put: "true"\n    wait_timeout')  # which ws needs
    with client.etl(f"etl-template-{word}") as etl:
        with pytest.warns(FutureWarning, match="init_spec"):
            job = etl.init_spec(text, comm, "1m", "20s")
        assert job.startswith("etl-")
        assert is_right(OBJECTS["a.txt"], read(bucket.object("a.txt"), config(etl)))
        assert etl.view().init_msg.communication == f"{comm}://"


@pytest.mark.parametrize("template", sorted(set(etl_templates.__all__) - set(TEMPLATES)))
def test_other_templates_say_what_to_use_instead(client: Any, template: str) -> None:
    text = getattr(etl_templates, template).format(communication_type="hpush", **PLACES)
    with client.etl("etl-template-none") as etl, pytest.warns(FutureWarning, match="init_spec"):
        with pytest.raises(ErrETLInit, match="cannot be had") as raised:
            etl.init_spec(text)
        assert raised.value.status_code == 400
        assert "Use init_class, init with a command that exists on this machine" in raised.value.reason


IMAGES: dict[str, tuple[dict[str, Any], Any, Callable[[bytes], bytes]]] = {
    "echo": ({}, None, lambda data: data),
    "hello_world": ({}, "ignored", lambda _: b"Hello World!"),
    "md5": ({}, None, lambda data: hashlib.md5(data).hexdigest().encode()),
    "hash_with_args": ({"SEED_DEFAULT": 5}, 7, lambda data: xxhash.xxh64_hexdigest(data, 7).encode()),
    "compress": (
        {"COMPRESS_OPTIONS": '{"mode": "decompress"}'},
        {"mode": "compress", "compression": "gzip"},
        lambda data: data,
    ),
}


@pytest.mark.parametrize("image", IMAGES)
def test_images_run(client: Any, bucket: Any, image: str) -> None:
    variables, args, expected = IMAGES[image]
    with client.etl("etl-image-run") as etl:
        etl.init(f"aistorage/transformer_{image}:latest", etl_const.FASTAPI_CMD, **variables)
        made = read(bucket.object("a.txt"), config(etl, args))
        assert (gzip.decompress(made) if image == "compress" else made) == expected(OBJECTS["a.txt"])


COMMAND = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self): self.answer(b"Running")
    def do_PUT(self): self.answer(self.rfile.read(int(self.headers["Content-Length"])) + os.environ["TAIL"].encode())
    def answer(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_a_command_runs(client: Any, bucket: Any) -> None:
    with client.etl("etl-command") as etl:
        assert etl.init("mine", [sys.executable, "-c", COMMAND], TAIL="!").startswith("etl-")
        assert read(bucket.object("a.txt"), config(etl)) == OBJECTS["a.txt"] + b"!"


def test_leaving_a_block_takes_the_etl_along(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    def defined() -> list[str]:
        every = [etl_const.ETL_STAGE_INIT, etl_const.ETL_STAGE_RUNNING, etl_const.ETL_STAGE_ABORTED]
        return [found.id for found in client.cluster().list_etls(every) if found.id == "etl-in-a-block"]

    with pytest.raises(KeyboardInterrupt), client.etl("etl-in-a-block") as etl:
        etl.init("aistorage/transformer_echo")
        assert defined() == ["etl-in-a-block"]
        raise KeyboardInterrupt
    assert defined() == []
    with client.etl("etl-in-a-block"):
        """Nothing was started: there is nothing to tell, either."""
    assert [record for record in caplog.records if "etl" in record.name] == []


FORMS = [(HTTPMultiThreadedServer, "hpush"), (FlaskServer, "hpush"), (FastAPIServer, "hpull"), (FastAPIServer, "ws")]


@pytest.mark.parametrize(("base", "comm"), FORMS, ids=lambda one: getattr(one, "__name__", one))
def test_everything_that_takes_an_etl(client: Any, bucket: Any, target: Any, base: Any, comm: str) -> None:
    with client.etl("etl-everything") as etl, client.etl("etl-reverse") as reverse:
        start(etl, upper(base), comm_type=comm, NUM_WORKERS=1)
        start(reverse, reversing())
        obj = bucket.object("dir/c d.txt")
        assert read(obj, config(etl)) == read(obj, ETLConfig("etl-everything")) == b"CONTENT OF C"
        assert read(obj, config(etl, {"a": [1]})) == b'CONTENT OF C{"a":[1]}'
        assert read(obj, config(etl, " ü+ ")) == "CONTENT OF Cü+".encode()
        with urlopen(obj.get_url(etl=ETLConfig(etl.name, "!"))) as answer:
            assert answer.read() == b"CONTENT OF C!"
        group = bucket.objects(obj_names=["a.txt", "dir/c d.txt"])
        for urls in (group.list_urls(etl=ETLConfig(etl.name)), bucket.list_urls("dir/", etl=ETLConfig(etl.name))):
            found = [urlopen(url).read() for url in urls]
            assert found[-1] == b"CONTENT OF C"
        if comm != "hpull":
            assert read(obj, config(etl_then(etl, reverse))) == b"C FO TNETNOC"
        target.create(exist_ok=True)
        if comm != "ws":  # as the reference
            obj.copy(target.object("copied"), etl=config(etl, "!"))
            assert target.object("copied").get_reader().read_all() == b"CONTENT OF C!"
        job = bucket.transform(etl.name, target, prefix_filter="dir/", prepend="one/", ext={"txt": "up"}, num_workers=2)
        assert client.job(job).wait(verbose=False).success
        job = bucket.transform(etl_then(etl, reverse), target, prefix_filter="dir/", prepend="two/")
        assert client.job(job).wait(verbose=False).success
        job = bucket.transform(etl.name, target, prefix_filter="dir/", prepend="three/", etl_pipeline=[reverse.name])
        assert client.job(job).wait(verbose=False).success
        assert target.object("one/dir/c d.up").get_reader().read_all() == b"CONTENT OF C"
        for prefix in ("two", "three"):
            assert target.object(f"{prefix}/dir/c d.txt").get_reader().read_all() == b"C FO TNETNOC"
        group.transform(target, etl_then(etl, reverse), prepend="four/", ext={"txt": "up"})
        until(lambda: [name for name in names(target) if name.startswith("four/")] == ["four/a.up", "four/dir/c d.up"])
        assert target.object("four/a.up").get_reader().read_all() == b"A FO TNETNOC"


def etl_then(first: Any, second: Any) -> Any:
    """`first >> second`."""
    return first >> second if not isinstance(first, Face) else Face(first.inner >> second.inner, first._loop)


@pytest.mark.parametrize(("base", "comm"), FORMS, ids=lambda one: getattr(one, "__name__", one))
def test_what_failed_in_a_job(client: Any, bucket: Any, target: Any, base: Any, comm: str) -> None:
    with client.etl("etl-failures") as etl:
        start(etl, upper(base), comm_type=comm, NUM_WORKERS=1)

        def failed(job: str) -> list[str]:
            return [one.obj_name for one in etl.view(job).obj_errors or () if "not this one" in one.msg]

        bad = [f"ais://{bucket.name}/b.txt"]
        stopped = bucket.transform(etl.name, target)
        assert not client.job(stopped).wait(verbose=False).success
        assert failed(stopped) == bad
        job = bucket.transform(etl.name, target, cont_on_err=True)
        result = client.job(job).wait(verbose=False)
        assert (result.success, "not this one" in result.error) == (False, True)
        assert failed(job) == bad
        assert names(target) == ["a.txt", "dir/c d.txt"]
        tried = bucket.transform(etl.name, client.bucket(f"{bucket.name}-none"), dry_run=True, cont_on_err=True)
        looked = [bucket.inspect(etl.name, num_workers=1), bucket.objects(obj_names=["a.txt", "b.txt"]).inspect(etl)]
        client.job(looked[0]).wait(verbose=False)
        client.job(tried).wait(verbose=False)
        for job in (tried, *looked):
            until(lambda job=job: failed(job) == bad)  # type: ignore[misc]  # mypy cannot tell what a default makes of a lambda
        assert f"{bucket.name}-none" not in [found.name for found in client.cluster().list_buckets()]
        assert bucket.object("a.txt").get_reader().read_all() == OBJECTS["a.txt"]
        assert etl.view().obj_errors is None


@pytest.mark.parametrize(("base", "comm"), FORMS, ids=lambda one: getattr(one, "__name__", one))
def test_a_failure_is_told_at_once(client: Any, bucket: Any, target: Any, base: Any, comm: str) -> None:
    """The transformer is asked once, and the error says what it was, where, and what to look at."""
    target.create(exist_ok=True)
    with client.etl("etl-one-failure") as etl:
        start(etl, upper(base), comm_type=comm, NUM_WORKERS=1)
        with pytest.raises(ErrETLTransform) as raised:
            read(bucket.object("a.txt"), config(etl, "raise"))
        assert raised.value.status_code == 500
        assert "no such colour" in raised.value.reason
        assert isinstance(raised.value, requests.exceptions.RetryError)
        assert isinstance(raised.value, AISError)
        assert "ETL 'etl-one-failure' failed on object 'a.txt' of bucket" in str(raised.value)
        asked = 1
        if comm != "ws":
            with pytest.raises(ErrETLTransform, match="no such colour"):
                bucket.object("a.txt").copy(target.object("x"), etl=config(etl, "raise"))
            asked = 2
        until(lambda: etl.logs()[0].logs.count("asked once more") >= asked)
        assert etl.logs()[0].logs.count("asked once more") == asked
        assert read(bucket.object("a.txt"), config(etl)) == b"CONTENT OF A"


def test_a_policy_of_the_users_own_repeats(etl_cluster: LocalCluster, src: str) -> None:
    from urllib3 import Retry

    from aistore.sdk.retry_config import RetryConfig
    from aistore.transport.errors import RetriesExhausted

    policy = RetryConfig.default()
    policy.http_retry = Retry(total=2, backoff_factor=0, status_forcelist=(500,))
    with Client(etl_cluster.url, retry_config=policy) as client, client.etl("etl-repeated") as etl:
        start(etl, upper(HTTPMultiThreadedServer))
        with pytest.raises(RetriesExhausted, match="no such colour"):
            read(client.bucket(src).object("a.txt"), config(etl, "raise"))
        until(lambda: etl.logs()[0].logs.count("asked once more") == 3)


@pytest.mark.parametrize(("base", "comm"), FORMS, ids=lambda one: getattr(one, "__name__", one))
def test_timeout_of_an_object(client: Any, bucket: Any, base: Any, comm: str) -> None:
    with client.etl("etl-too-slow") as etl:
        start(etl, upper(base), comm_type=comm, NUM_WORKERS=1, obj_timeout="500ms")
        with pytest.raises(ErrETLTransform, match=r"Client\.Timeout exceeded") as raised:
            read(bucket.object("a.txt"), config(etl, "sleep"))
        assert "log of ETL etl-too-slow" in raised.value.reason
        assert [found.stage for found in client.cluster().list_etls() if found.id == etl.name] == ["Running"]


def test_timeout_of_init(client: Any) -> None:
    with client.etl("etl-never-ready") as etl:
        with pytest.raises(ErrETLInit, match="context deadline exceeded") as raised:
            etl.init(
                "mine", [sys.executable, "-c", "import time; print('loading'); time.sleep(1000)"], init_timeout="2s"
            )
        assert "not ready within 2s" in raised.value.reason
        assert "Its name is taken until client.etl('etl-never-ready').delete()" in str(raised.value)
        assert [one.stage for one in client.cluster().list_etls(["Aborted"]) if one.id == etl.name] == ["Aborted"]


# -- what users get wrong ------------------------------------------------------------------------------------------


def test_names_that_nobody_runs(client: Any, bucket: Any, target: Any) -> None:
    obj = bucket.object("a.txt")
    etl = client.etl("etl-nowhere")
    for call in (
        lambda: read(obj, ETLConfig("etl-nowhere")),
        lambda: obj.copy(bucket.object("x"), etl=ETLConfig("etl-nowhere")),
        lambda: bucket.transform("etl-nowhere", target),
        lambda: bucket.objects(obj_names=["a.txt"]).transform(target, "etl-nowhere"),
        lambda: bucket.inspect("etl-nowhere"),
        etl.logs, etl.view, etl.stop, etl.start, etl.delete,
    ):  # fmt: skip
        with pytest.raises(ErrETLNotFound, match=r"etl.init_class\(\) or etl.init\(\) a new one"):
            call()
    with pytest.raises(TypeError, match="etl_name is a name or an Etl, not int"):
        bucket.transform(5, target)


def test_a_name_that_is_taken(client: Any) -> None:
    with client.etl("etl-is-taken") as etl:
        etl.init("aistorage/transformer_echo")
        with pytest.raises(ErrETLAlreadyExists, match=r"client.etl\('etl-is-taken'\).delete\(\) makes room"):
            etl.init("aistorage/transformer_echo")


def test_an_etl_that_is_stopped(client: Any, bucket: Any, target: Any) -> None:
    with client.etl("etl-is-stopped") as etl:
        etl.init("aistorage/transformer_echo")
        etl.stop()
        for call in (
            lambda: read(bucket.object("a.txt"), config(etl)),
            lambda: bucket.transform(etl, target),
            etl.logs,
        ):
            with pytest.raises(ErrETLNotFound, match=r"etl.start\(\) starts one that was stopped"):
                call()
        etl.start()
        assert read(bucket.object("a.txt"), config(etl)) == OBJECTS["a.txt"]


def test_a_bucket_onto_itself(client: Any, bucket: Any) -> None:
    with client.etl("etl-onto-itself") as etl:
        etl.init("aistorage/transformer_echo")
        with pytest.raises(AISError, match="onto itself"):
            bucket.transform(etl, bucket)


def forgetful(base: Any) -> type:
    class Forgetful(base):  # type: ignore[misc]  # the framework is chosen at run time
        def __init__(self) -> None:
            self.table: dict[str, str] = {}

        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            return data

    return Forgetful


def typo(base: Any) -> type:
    class Typo(base):  # type: ignore[misc]  # as above
        def tranform(self, data: bytes, path: str, etl_args: str) -> bytes:
            return data

    return Typo


@pytest.mark.parametrize("base", [HTTPMultiThreadedServer, FastAPIServer, FlaskServer])
@pytest.mark.parametrize(
    ("make", "options", "text"),
    [
        (forgetful, {}, r"Forgetful.__init__\(\) has to call super\(\).__init__\(\)"),
        (typo, {}, r"Typo must override transform\(\) or transform_stream\(\)"),
        (upper, {"NUM_WORKERS": "two"}, "NUM_WORKERS is no number of processes: 'two'"),
        (upper, {"dependencies": ["./no-such-package"]}, "Failed to install package './no-such-package'"),
        (upper, {"os_packages": ["no-such-os-package"]}, "Failed to install package 'no-such-os-package'"),
    ],
)
def test_classes_that_do_not_start(
    etl_cluster: LocalCluster, base: Any, make: Any, options: dict[str, Any], text: str
) -> None:
    if "NUM_WORKERS" in options and base is HTTPMultiThreadedServer:
        options = {"comm_type": "ws"}
        text = "comm_type='ws' needs a FastAPIServer"
    with (
        Client(etl_cluster.url) as client,
        client.etl("etl-does-not-start") as etl,
        pytest.raises(ErrETLInit, match=text),
    ):
        start(etl, make(base), **options)


@pytest.mark.parametrize("result", [None, "text", 5, ["a"], object()], ids=lambda one: type(one).__name__)
def test_results_that_are_no_bytes(etl_cluster: LocalCluster, src: str, result: Any) -> None:
    kind = type(result)

    class Wrong(HTTPMultiThreadedServer):
        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            return kind() if kind is not type(None) else None  # type: ignore[return-value]  # that is what is tested

    with Client(etl_cluster.url) as client, client.etl("etl-wrong-type") as etl:
        start(etl, Wrong)
        with pytest.raises(ErrETLTransform, match=rf"transform\(\) returned {kind.__name__}, not bytes"):
            read(client.bucket(src).object("a.txt"), config(etl))


def test_packages_that_nobody_named(etl_cluster: LocalCluster, src: str) -> None:
    class Importing(HTTPMultiThreadedServer):
        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            __import__("no_such_package_at_all")
            return b""

    with Client(etl_cluster.url) as client, client.etl("etl-importing") as etl:
        start(etl, Importing)
        with pytest.raises(ErrETLTransform, match=r"named in init_class\(dependencies=\[\.\.\.\]\)"):
            read(client.bucket(src).object("a.txt"), config(etl))


LOCK = threading.Lock()


def test_a_class_that_does_not_pickle_says_what_is_in_the_way() -> None:
    inner = threading.Lock()

    class Locked(HTTPMultiThreadedServer):
        attribute = iter([1])
        lock = inner

        def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
            with LOCK, inner:
                return b""

    with pytest.raises(TypeError, match=r"Locked cannot be sent \(it uses lock, LOCK, inner\).*__init__\(\)"):
        _ = serialize_class(by_value(Locked))


def by_value(cls: type) -> Any:
    """A class as programs have them, and not modules."""
    cls.__module__ = "__main__"
    for one in vars(cls).values():
        if inspect.isfunction(one):
            one.__module__ = "__main__"
    return cls


def test_lists_are_wanted_for_packages() -> None:
    for name in ("dependencies", "os_packages"):
        with pytest.raises(TypeError, match=rf"{name} is a list: \['xxhash'\]"):
            Client("http://127.0.0.1:1").etl("etl-lists").init_class(**{name: "xxhash"})(reversing())  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("timeout", ["", "10 seconds", "5", "1w", None, 10])
def test_timeouts_of_objects_are_checked_without_a_request(timeout: Any) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        Client("http://127.0.0.1:1").etl("etl-timeouts").init("img", obj_timeout=timeout)


def test_modules_of_the_users_own(etl_cluster: LocalCluster, src: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They travel by name, unless cloudpickle is told otherwise; the error says so."""
    import cloudpickle  # type: ignore[import-untyped]  # it has no types

    module = types.ModuleType("module_of_mine")
    code = "from aistore.sdk.etl.webserver import HTTPMultiThreadedServer\nWORD = b'mine'\n"
    code += (
        "class Mine(HTTPMultiThreadedServer):\n    def transform(self, data, path, etl_args):\n        return WORD\n"
    )
    exec(code, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with Client(etl_cluster.url) as client, client.etl("etl-of-a-module") as etl:
        with pytest.raises(ErrETLInit, match=r"cloudpickle.register_pickle_by_value\(module\)"):
            start(etl, module.Mine)
        etl.delete()
        cloudpickle.register_pickle_by_value(module)
        try:
            start(etl, module.Mine)
        finally:
            cloudpickle.unregister_pickle_by_value(module)
        assert read(client.bucket(src).object("a.txt"), config(etl)) == b"mine"


def test_a_program_that_ends_tells_its_last_words(client: Any) -> None:
    with client.etl("etl-last-words") as etl:
        with pytest.raises(ErrETLInit, match="licence") as raised:
            etl.init("mine", [sys.executable, "-c", "print('no'); raise SystemExit('licence')"])
        assert (raised.value.reason, raised.value.log.split()) == ("exited with status 1", ["no", "licence"])
        assert [one.stage for one in client.cluster().list_etls(["Aborted"]) if one.id == etl.name] == ["Aborted"]
