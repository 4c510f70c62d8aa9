"""Calls of the client about ETLs, and the requests that they send: the same file with this SDK and with the official one.

python client_calls.py > messages.json      records what the SDK of this interpreter sends
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DETAILS = {
    "init_msg": {
        "name": "etl-first",
        "communication": "hpush://",
        "init_timeout": "5m",
        "obj_timeout": "45s",
        "support_direct_put": True,
        "runtime": {"image": "img", "command": ["a", "b"], "env": [{"name": "A", "value": ""}]},
        "resources": {},
    },
    "obj_errors": [{"obj_name": "ais://src/7", "msg": "ETL error: no", "ecode": 500}],
}
LISTED = [
    {"id": "etl-first", "stage": "Running", "xaction_id": "etl-X", "obj_count": 1, "in_bytes": 0, "out_bytes": 0},
    {"id": "etl-second", "stage": "Aborted", "xaction_id": "", "obj_count": 0, "in_bytes": 0, "out_bytes": 0},
]
LOGS = [{"target_id": "t1", "logs": base64.b64encode("ready é\n".encode()).decode()}]


class Recorder:
    """A cluster that notes what it is asked, and answers in the shapes of the protocol."""

    def __init__(self) -> None:
        recorder = self
        self.seen: list[dict[str, Any]] = []
        self.refusal: tuple[int, str] | None = None

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                shown = json.loads(body) if body.startswith(b"{") else body.decode("latin-1")
                recorder.seen.append({"request": f"{self.command} {self.path}", "body": shown})
                status, content = recorder.refusal or (200, recorder.content(self.command, self.path))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content.encode())))
                self.end_headers()
                self.wfile.write(content.encode())

            do_GET = do_PUT = do_POST = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    @staticmethod
    def content(method: str, path: str) -> str:
        path = path.partition("?")[0]
        if method == "GET" and path == "/v1/etl":
            return json.dumps(LISTED)
        if method == "GET" and "/logs" in path:
            return json.dumps(LOGS)
        if method == "GET" and path.startswith("/v1/etl/"):
            return json.dumps(DETAILS)
        return "job-id" if method in ("PUT", "POST") else ""

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def calls(client: Any) -> dict[str, Callable[[], Any]]:
    from aistore.sdk.etl import ETLConfig

    etl, second = client.etl("etl-first"), client.etl("etl-second")
    src, dst = client.bucket("src"), client.bucket("dst")
    obj = src.object("a b/c")
    group = src.objects(obj_names=["a", "b"])
    some = src.objects(obj_template="n{1..3}")
    config = ETLConfig("etl-first", {"a": 1, "é": None})
    piped = ETLConfig(etl >> second >> second, "x y+z")

    def in_block() -> None:
        with etl:
            pass

    def read(config: Any) -> bytes:
        content: bytes = obj.get_reader(etl=config).read_all()
        return content

    return {
        "init": lambda: etl.init("img"),
        "init command": lambda: etl.init("img", "a  b c", "hpull", "10m", "5s", True),
        "init list": lambda: etl.init("img", ["a b", "c"], comm_type="ws", direct_put=True),
        "init variables": lambda: etl.init("img", SEED=500, FLAG=True, NOTHING=None, TEXT="é", ETL_DIRECT_FQN="no"),
        "init direct file access": lambda: etl.init("img", direct_file_access=True, A="b"),
        "init timeout in seconds": lambda: etl.init("img", init_timeout="300"),
        "view": lambda: etl.view(),
        "view job": lambda: etl.view("job-1"),
        "view job by name": lambda: etl.view(job_id="job-1"),
        "logs": lambda: etl.logs(),
        "logs of a target": lambda: etl.logs("t1"),
        "start": lambda: etl.start(),
        "stop": lambda: etl.stop(),
        "delete": lambda: etl.delete(),
        "block": in_block,
        "list": lambda: client.cluster().list_etls(),
        "list stages": lambda: client.cluster().list_etls(["Aborted", "Initializing"]),
        "transform": lambda: src.transform("etl-first", dst),
        "transform all": lambda: src.transform(
            "etl-first", dst, "1h", "pre", "out/", {"jpg": "txt"}, True, True, True, True, 8, True, ["etl-second"]
        ),
        "inspect": lambda: src.inspect("etl-first"),
        "inspect all": lambda: src.inspect("etl-first", "1m", "pre", True, 4, ["etl-second"]),
        "group transform": lambda: group.transform(dst, "etl-first"),
        "group transform all": lambda: some.transform(
            dst, "etl-first", "1h", "out/", {"jpg": "txt"}, True, True, True, True, True, 3, ["etl-second"]
        ),
        "group inspect": lambda: group.inspect("etl-first"),
        "group inspect all": lambda: some.inspect("etl-first", "1m", True, 3, ["etl-second"]),
        "read": lambda: read(config),
        "read text": lambda: read(ETLConfig("etl-first", 'say "é" & %')),
        "read number": lambda: read(ETLConfig("etl-first", 10000)),
        "read zero": lambda: read(ETLConfig("etl-first", 0)),
        "read pipeline": lambda: read(piped),
        "read etl": lambda: read(ETLConfig(etl)),
        "copy": lambda: obj.copy(dst.object("d"), etl=config),
        "copy pipeline": lambda: obj.copy(dst.object("d"), etl=piped, latest=True),
        "url": lambda: obj.get_url(etl=ETLConfig("etl-first", "x y")),
        "urls": lambda: list(group.list_urls(etl=ETLConfig("etl-first"))),
    }


def plain(value: Any, url: str) -> Any:
    """A result as JSON: models and answers as what they tell."""
    if isinstance(value, list):
        return [plain(one, url) for one in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "status_code"):
        return value.status_code
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value.replace(url, "URL") if isinstance(value, str) else value


def record() -> dict[str, Any]:
    from aistore.sdk import Client

    found: dict[str, Any] = {}
    with Recorder() as recorder:
        for name, call in calls(Client(recorder.url)).items():
            recorder.seen.clear()
            try:
                result: Any = plain(call(), recorder.url)
            except (ValueError, TypeError, AttributeError) as error:
                result = type(error).__name__
            found[name] = {"sent": list(recorder.seen), "result": result}
    return found


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
