"""The official SDK 2.0 as client: what its users write about ETLs works here, on one node and on three targets."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aistore import LocalCluster

PROGRAM = """
import hashlib, json, sys, time
from aistore.sdk import Client
from aistore.sdk.etl import ETLConfig
from aistore.sdk.errors import AISError
from aistore.sdk.etl.webserver.fastapi_server import FastAPIServer
from aistore.sdk.etl.webserver.flask_server import FlaskServer
from aistore.sdk.etl.webserver.http_multi_threaded_server import HTTPMultiThreadedServer

client = Client(sys.argv[1])
src = client.bucket("official-src").create()
for name in ("a.txt", "b.txt", "dir/c d#.txt"):
    src.object(name).get_writer().put_content(name.encode())
found = {}

for base in (HTTPMultiThreadedServer, FastAPIServer, FlaskServer):
    for comm in ("hpush", "hpull", "ws"):
        if comm == "ws" and base is not FastAPIServer:
            continue
        etl = client.etl(f"official-{base.__name__[:5].lower()}-{comm}")
        @etl.init_class(comm_type=comm, init_timeout="2m", SUFFIX="!", NUM_WORKERS="1")
        class Upper(base):
            def transform(self, data, path, etl_args):
                import os
                if etl_args == "fail":
                    raise ValueError("as asked")
                return data.upper() + os.environ["SUFFIX"].encode() + etl_args.encode()
        read = [src.object("dir/c d#.txt").get_reader(etl=ETLConfig(etl.name, args)).read_all().decode() for args in (None, "x y", {"a": 1})]
        found[etl.name] = [read, etl.view().init_msg.communication]
        to = client.bucket(f"to-{etl.name}")
        job = src.transform(etl_name=etl.name, to_bck=to, prefix_filter="dir/", ext={"txt": "up"}, prepend="p/")
        client.job(job).wait(verbose=False)
        found[etl.name].append([e.name for e in to.list_all_objects()])
        job = src.objects(obj_names=["a.txt", "b.txt"]).transform(to_bck=to, etl_name=etl.name)
        if base is HTTPMultiThreadedServer and comm == "hpush":
            client.job(job).wait_for_idle(timeout=60)
        deadline = time.monotonic() + 30
        while len(to.list_all_objects()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        found[etl.name].append(to.object("a.txt").get_reader().read_all().decode())
        etl.stop()
        etl.delete()

with client.etl("official-first") as first, client.etl("official-second") as second:
    first.init("aistorage/transformer_hash_with_args", comm_type="hpush", SEED_DEFAULT="5")
    second.init("aistorage/transformer_md5:latest", comm_type="hpull", command="uvicorn a:b --port 8000")
    found["list"] = sorted(one.id for one in client.cluster().list_etls() if one.id.startswith("official-"))
    found["pipeline"] = src.object("a.txt").get_reader(etl=ETLConfig(first >> second)).read_all().decode()
    src.object("a.txt").copy(src.object("copied"), etl=ETLConfig(second.name))
    found["copied"] = src.object("copied").get_reader().read_all().decode() == hashlib.md5(b"a.txt").hexdigest()
    found["logs"] = [type(one.logs).__name__ for one in first.logs()]
    first.stop()
    found["stopped"] = [[one.id, one.stage] for one in client.cluster().list_etls(stages=["Aborted"]) if one.id.startswith("official-")]
    first.start()
    found["errors"] = []
    for call in (lambda: first.start(), lambda: client.etl("official-none").view(), lambda: first.init("x")):
        try:
            call()
        except AISError as error:
            found["errors"].append([type(error).__name__, error.status_code])
found["left"] = [one.id for one in client.cluster().list_etls(stages=["Running", "Aborted", "Initializing"]) if one.id.startswith("official-")]

with client.etl("official-picky") as picky:
    @picky.init_class(NUM_WORKERS="1")
    class Picky(FastAPIServer):
        def transform(self, data, path, etl_args):
            if path.endswith("b.txt"):
                raise ValueError("not this one")
            return data
    job = src.inspect(picky.name)
    result = client.job(job).wait(verbose=False)
    found["inspected"] = [result.success, [[e.obj_name, e.ecode] for e in picky.view(job_id=job).obj_errors]]
print(json.dumps(found))
"""


def test_what_users_of_the_official_sdk_write(etl_cluster: LocalCluster, python: str) -> None:
    done = subprocess.run([python, "-c", PROGRAM, etl_cluster.url], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    name = "DIR/C D#.TXT!"
    for kind, comms in (
        ("httpm", ("hpush", "hpull")),
        ("fasta", ("hpush", "hpull", "ws")),
        ("flask", ("hpush", "hpull")),
    ):
        for comm in comms:
            assert found.pop(f"official-{kind}-{comm}") == [
                [name, name + "x y", name + '{"a":1}'],
                f"{comm}://",
                ["p/dir/c d#.up"],
                "A.TXT!",
            ]
    import hashlib

    import xxhash

    assert found == {
        "list": ["official-first", "official-second"],
        "pipeline": hashlib.md5(xxhash.xxh64(b"a.txt", seed=5).hexdigest().encode()).hexdigest(),
        "copied": True,
        "logs": ["str"],
        "stopped": [["official-first", "Aborted"]],
        "errors": [["AISError", 400], ["ErrETLNotFound", 404], ["ErrETLAlreadyExists", 409]],
        "left": [],
        "inspected": [False, [["ais://official-src/b.txt", 500]]],
    }
