"""ETLs over plain HTTP: starting them, using them, and what is left of them on the machine."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import cloudpickle  # type: ignore[import-untyped]  # it has no types

from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aistore import LocalCluster
    from calling import Caller, Got

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
PATIENT = {"init_timeout": "60s", "obj_timeout": "60s"}  # what is slow because the machine is does not fail
_numbers = itertools.count()


def framework(kind: str) -> Any:
    from aistore.sdk.etl import webserver

    return getattr(webserver, kind)


def payload_of(cls: type) -> str:
    return base64.b64encode(cloudpickle.dumps(cls)).decode()


def acting(kind: str) -> str:
    """The payload of a transformer that does what `etl_args` says, and without them makes letters large."""

    class Acting(framework(kind)):  # type: ignore[misc]  # the framework is found at run time
        def __init__(self) -> None:
            super().__init__()
            print("constructed", flush=True)

        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            import json
            import os
            import time

            word, _, rest = etl_args.partition(" ")
            if word == "describe":
                said = data if isinstance(data, str) else None
                return json.dumps([type(data).__name__, path, etl_args, said, os.getpid()]).encode()
            if word == "env":
                return json.dumps(dict(os.environ)).encode()
            if word == "raise":
                raise ValueError(rest or "x")
            if word == "missing":
                raise FileNotFoundError("nowhere")
            if word == "sleep":
                print("slept", flush=True)
                time.sleep(float(rest))
            if word == "die":
                print("last words", flush=True)
                os._exit(3)
            if word == "fork":
                for _ in range(2):
                    if os.fork() == 0:
                        os.setsid()
                        time.sleep(1000)
            if word == "print":
                print("y" * int(rest), flush=True)
            if word == "empty":
                return b""
            if isinstance(data, str):
                with open(data, "rb") as file:  # noqa: PTH123
                    data = file.read()
            if data.startswith(b"bad"):
                raise ValueError("bad object")
            if data.startswith(b"slow"):
                time.sleep(0.5)
            return bytes(data.upper())

    return payload_of(Acting)


class Etl:
    """One ETL of a cluster, by its name."""

    def __init__(self, call: Caller, name: str = "") -> None:
        self.call = call
        self.name = name or f"etl-{os.getpid() % 100000}-{next(_numbers)}"

    def __enter__(self) -> Etl:
        return self

    def __exit__(self, *_: object) -> None:
        self.call("DELETE", f"/v1/etl/{self.name}")

    def init(self, message: Mapping[str, object]) -> Got:
        return self.call("PUT", "/v1/etl", json.dumps({"name": self.name, **message}).encode())

    def init_class(
        self, payload: str, comm: str = "hpush", env: Mapping[str, str] | None = None, **more: object
    ) -> Got:
        variables = {"ETL_CLASS_PAYLOAD": payload, **(env or {})}
        runtime = {
            "image": f"aistorage/runtime_python:{MINOR}",
            "env": [{"name": name, "value": value} for name, value in variables.items()],
        }
        return self.init(
            {"communication": f"{comm}://", "support_direct_put": True, "runtime": runtime, **PATIENT, **more}
        )

    def started(self, payload: str, comm: str = "hpush", **more: Any) -> Etl:
        got = self.init_class(payload, comm, **more)
        assert got.status == 200, got.body.decode()
        return self

    def runs(self, command: Iterable[str], **more: object) -> Got:
        return self.init({"runtime": {"image": "some/image", "command": list(command)}, **PATIENT, **more})

    def ask(self, method: str, tail: str = "") -> Got:
        return self.call(method, f"/v1/etl/{self.name}{tail}")

    @property
    def listed(self) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {one["id"]: one for one in json.loads(self.call("GET", "/v1/etl").body)}
        return found.get(self.name, {})

    @property
    def stage(self) -> str:
        return str(self.listed.get("stage", ""))

    @property
    def log(self) -> str:
        got = self.ask("GET", "/logs")
        assert got.status == 200, got.body
        return base64.b64decode(json.loads(got.body)[0]["logs"]).decode()

    def errors(self, job: str = "") -> list[dict[str, Any]]:
        got = self.ask("GET", f"?uuid={job}")
        assert got.status == 200, got.body
        found: list[dict[str, Any]] = json.loads(got.body).get("obj_errors", [])
        return found

    def get(
        self, bucket: str, name: str, args: str = "", more: str = "", headers: Mapping[str, str] | None = None
    ) -> Got:
        query = f"etl_name={self.name}" + (f"&etl_args={quote(args, safe='')}" if args else "") + more
        return self.call("GET", f"/v1/objects/{bucket}/{quote(name)}?{query}", None, headers)

    def describe(self, bucket: str, name: str) -> list[Any]:
        got = self.get(bucket, name, "describe")
        assert got.status == 200, got.body
        found: list[Any] = json.loads(got.body)
        return found

    def copy(self, source: str, target: str, more: str = "") -> Got:
        to = quote(f"ais/@#/{target}", safe="")
        return self.call("PUT", f"/v1/objects/{source}?object_to={to}&etl_name={self.name}{more}")

    def bucket(self, source: str, target: str, **value: object) -> Got:
        to = quote(f"ais/@#/{target}/", safe="")
        return self.call.action("POST", f"/v1/buckets/{source}?bck_to={to}", "etl-bck", {"id": self.name, **value})

    def many(self, source: str, target: str, **value: object) -> Got:
        value = {"id": self.name, "tobck": {"name": target, "provider": "ais"}, **value}
        return self.call.action("POST", f"/v1/buckets/{source}", "etl-listrange", value)

    def state(self, job: str) -> dict[str, Any]:
        """Snapshot of a job."""
        got = self.call("GET", "/v1/cluster?what=qryxstats", json.dumps({"id": job}).encode())
        found = [shot for shots in json.loads(got.body).values() for shot in shots]
        counted: dict[str, Any] = next((shot for shot in found if shot["stats"]["loc-objs"] != "0"), found[0])
        return counted

    def wait(self, got: Got) -> dict[str, Any]:
        """Status of a job when it has ended."""
        assert got.status == 200, got.body
        said: dict[str, Any] = {}

        def ended() -> bool:
            body = json.dumps({"id": got.body.decode()}).encode()
            said.update(json.loads(self.call("GET", "/v1/cluster?what=status", body).body))
            return bool(said["end_time"])

        until(ended)
        return said


def parent_of(pid: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_of(cluster: LocalCluster) -> set[int]:
    """All processes that descend from a server, but for its targets."""
    parents: dict[int, int] = {}
    commands: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
                commands[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(text[text.rindex(")") + 2 :].split()[1])
    found: set[int] = set()
    more = {cluster.pid}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more and b"aistore-target" not in commands[pid]}
        found |= more
    return found


def files_of(cluster: LocalCluster) -> list[str]:
    """What transformers have in the data folder; environments are kept."""
    folder = cluster.path / "etl"
    return sorted(one.name for one in folder.iterdir() if one.name != ".environments") if folder.is_dir() else []


def has_namespaces() -> bool:
    """Whether transformers live in namespaces of their own here: root has them, but not in every container."""
    if os.geteuid() or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "--pid", "--mount", "--fork", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def ports_of(cluster: LocalCluster) -> list[int]:
    """Ports of all transformers that were ever started, as the server's log tells."""
    log = (cluster.path / "server.log").read_text()
    return [int(port) for port in re.findall(r"ETL \S+: process \d+ listens at 127\.0\.0\.1:(\d+)", log)]


def listens(port: int) -> bool:
    import socket

    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
