"""Requests to a transformer, what it answers, and what it asks of others meanwhile.

PYTHONPATH=.. python -m etl.exchange PYTHON > official.json     records what the framework of an interpreter answers
"""

from __future__ import annotations

import contextlib
import html
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from bench.peers import free_port
from waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
KINDS = (
    "FastAPIServer",
    "FlaskServer",
    "HTTPMultiThreadedServer",
    "StreamFastAPIServer",
    "StreamFlaskServer",
    "StreamHTTPMultiThreadedServer",
)
_SHOWN = ("content-type", "content-length", "transfer-encoding", "ais-direct-put-length", "ais-etl-retry-reason")
_SHOWN_REQUEST = ("ais-node-url", "content-length", "transfer-encoding")


class Case(NamedTuple):
    """A request: `path` has `{file}` for the escaped path of a file, `hops` `{peer}` for the address of another server."""

    method: str
    path: str
    body: bytes | None = None
    hops: str | None = None
    chunked: bool = False


OBJECT = b"what the object holds\n"

CASES: dict[str, Case] = {
    "health": Case("GET", "/health"),
    "push": Case("PUT", "/bck/dir/a.txt", b"abc"),
    "push empty": Case("PUT", "/bck/a", b""),
    "push large": Case("PUT", "/bck/large", b"x" * 300_000),
    "push chunked": Case("PUT", "/bck/a", b"abc", chunked=True),
    "push to empty result": Case("PUT", "/bck/a?etl_args=empty", b"abc"),
    "push path": Case(
        "PUT", "/bck/dir/a%20b%23c%3Fd%25e?etl_args=describe%20%7B%22a%22%3A1%2B2%7D%20%C3%A9%20", b"abc"
    ),
    "push args": Case("PUT", "/bck/a?etl_args=%20describe%2Bx+y%20", b"abc"),
    "push no args": Case("PUT", "/bck/a?etl_args=", b"abc"),
    "push file": Case("PUT", "/bck/a?etl_fqn={file}", b""),
    "push missing file": Case("PUT", "/bck/a?etl_fqn=%252Fno%252Fsuch%252Ffile", b""),
    "push raises": Case("PUT", "/bck/a?etl_args=raise", b"abc"),
    "push raises not found": Case("PUT", "/bck/a?etl_args=missing", b"abc"),
    "push raises http exception": Case("PUT", "/bck/a?etl_args=http-exception", b"abc"),
    "push raises requests error": Case("PUT", "/bck/a?etl_args=requests-error", b"abc"),
    "push raises requests connection": Case("PUT", "/bck/a?etl_args=requests-connection", b"abc"),
    "push raises late": Case("PUT", "/bck/a?etl_args=raise-late", b"abc"),
    "pull": Case("GET", "/ais%2F@%23%2Fbck%2Fdir%2Fa.txt"),
    "pull path": Case("GET", "/ais%2F@%23%2Fbck%2Fa%2520b?etl_args=describe"),
    "pull missing": Case("GET", "/ais%2F@%23%2Fbck%2Fmissing"),
    "pull refused": Case("GET", "/ais%2F@%23%2Fbck%2Fstatus-403"),
    "pull file": Case("GET", "/ais%2F@%23%2Fbck%2Fa?etl_fqn={file}"),
    "pull missing file": Case("GET", "/ais%2F@%23%2Fbck%2Fa?etl_fqn=%252Fno%252Fsuch%252Ffile"),
    "pull raises": Case("GET", "/ais%2F@%23%2Fbck%2Fa?etl_args=raise"),
    "pull raises not found": Case("GET", "/ais%2F@%23%2Fbck%2Fa?etl_args=missing"),
    "pull raises requests error": Case("GET", "/ais%2F@%23%2Fbck%2Fa?etl_args=requests-error"),
    "other method": Case("POST", "/bck/a", b"abc"),
    "delete": Case("DELETE", "/bck/a"),
    "head": Case("HEAD", "/bck/a"),
    "next stage": Case("PUT", "/bck/dir/a%20b", b"abc", "http://{peer}"),
    "next stage args": Case("PUT", "/bck/a?etl_args=x%20%7B%22a%22%3A%22%C3%A9%22%7D", b"abc", "http://{peer}"),
    "next stages": Case(
        "PUT", "/bck/a", b"abc", "http://{peer}, http://other:1,http://{peer}/ais%2F@%23%2Fdst%2Fa?owt=3&uuid=J"
    ),
    "next stage file": Case("PUT", "/bck/a?etl_fqn={file}", b"", "http://{peer}"),
    "next stage empty answer": Case("PUT", "/bck/no-content", b"abc", "http://{peer}"),
    "next stage 204": Case("PUT", "/bck/status-204", b"abc", "http://{peer}"),
    "next stage 404": Case("PUT", "/bck/status-404", b"abc", "http://{peer}"),
    "next stage 500": Case("PUT", "/bck/status-500", b"abc", "http://{peer}"),
    "next stage of pull": Case("GET", "/ais%2F@%23%2Fbck%2Fa", None, "http://{peer}"),
    "direct put": Case("PUT", "/bck/a", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3&uuid=J"),
    "direct put of pull": Case(
        "GET", "/ais%2F@%23%2Fbck%2Fa", None, "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3&uuid=J"
    ),
    "direct put args": Case(
        "PUT", "/bck/a?etl_args=q", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3&uuid=J"
    ),
    "direct put file": Case("PUT", "/bck/a?etl_fqn={file}", b"", "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3"),
    "direct put nothing": Case(
        "PUT", "/bck/a?etl_args=empty", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3"
    ),
    "direct put 507": Case("PUT", "/bck/a", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Fstatus-507?owt=3"),
    "direct put raises": Case(
        "PUT", "/bck/a?etl_args=raise", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3"
    ),
    "direct put 503 twice": Case("PUT", "/bck/a", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Ftwice-503?owt=3"),
    "direct put reset": Case("PUT", "/bck/a", b"abc", "http://{peer}/ais%2F@%23%2Fdst%2Freset?owt=3"),
    "direct put file reset": Case("PUT", "/bck/a?etl_fqn={file}", b"", "http://{peer}/ais%2F@%23%2Fdst%2Freset?owt=3"),
    "direct put refused": Case("PUT", "/bck/a", b"abc", "http://127.0.0.1:1/ais%2F@%23%2Fdst%2Fa?owt=3"),
    "hop empty": Case("PUT", "/bck/a", b"abc", "http://{peer},,http://{peer}"),
    "hop blank": Case("PUT", "/bck/a", b"abc", "  "),
    "hop nonsense": Case("PUT", "/bck/a", b"abc", "nonsense"),
    "hop of error": Case("PUT", "/bck/a?etl_args=missing", b"abc", "http://{peer}"),
}


class Peer:
    """A target, or the next stage: gives objects, takes what comes, and answers as the last component of the path says."""

    def __init__(self) -> None:
        peer = self
        self.seen: list[dict[str, object]] = []
        self.counts: dict[str, int] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                peer.answer(self, b"")

            def do_PUT(self) -> None:
                peer.answer(self, _read_body(self))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that break off are part of it
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower() in _SHOWN_REQUEST}
        shown = body.decode("latin-1") if len(body) < 200 else f"{len(body)} bytes"
        self.seen.append({"request": f"{request.command} {request.path}", "headers": headers, "body": shown})
        name = re.split(r"%2F|/", request.path.partition("?")[0])[-1]
        status, content = 200, (OBJECT if request.command == "GET" else b"<" + body + b">")
        if name == "reset":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if name == "twice-503":
            self.counts[name] = self.counts.get(name, 0) + 1
            status, content = (503, b"busy") if self.counts[name] <= 2 else (200, b"")
        elif name == "missing":
            status, content = 404, b"does not exist"
        elif name == "no-content":
            content = b""
        elif name.startswith("status-"):
            status = int(name.partition("-")[2])
            content = b"" if status == 204 else b"peer says %d" % status
        request.send_response(status)
        if status == 204:
            request.send_header("Ais-Direct-Put-Length", "17")
        else:
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def _read_body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


@contextlib.contextmanager
def running(python: str, kind: str, peer: str, **environment: str) -> Iterator[int]:
    """A transformer of `transformers.py`; the port that it serves."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "AIS_TARGET_URL": f"http://{peer}/v1/etl/_object/upper/secret",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "*",
        **environment,
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [python, str(HERE / "transformers.py"), kind, str(port)],
            env=env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            _await_health(process, port, log)
            yield port
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode("utf-8", "replace")[-4000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _await_health(process: subprocess.Popen[bytes], port: int, log: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _ask(port, "GET", "/health").status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the transformer does not serve (exit code {process.returncode})")
        time.sleep(0.02)


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def _ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answered:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.putrequest(method, path)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None and "Transfer-Encoding" not in (headers or {}):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body:
            connection.send(
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if "Transfer-Encoding" in (headers or {}) else body
            )
        answer = connection.getresponse()
        return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def exchange(port: int, case: Case, peer: Peer, file: Path) -> dict[str, object]:
    """What a transformer answers to a request, and what it asks of the peer, with addresses and paths replaced by words."""
    peer.seen.clear()
    peer.counts.clear()
    headers = {}
    if case.hops is not None:
        headers["Ais-Node-Url"] = case.hops.replace("{peer}", peer.address)
    if case.chunked:
        headers["Transfer-Encoding"] = "chunked"
    path = case.path.replace("{file}", quote(quote(str(file), safe=""), safe=""))
    shown: dict[str, object]
    try:
        answer = _ask(port, case.method, path, case.body, headers)
        body = _short(answer.body.decode("latin-1"))
        shown = {
            "status": answer.status,
            "headers": {name: value for name, value in answer.headers.items() if name in _SHOWN},
            "body": body,
        }
    except (OSError, http.client.HTTPException) as error:
        shown = {"broken": type(error).__name__}
    if peer.seen:
        shown["asked"] = [dict(one) for one in peer.seen]
    text = json.dumps(shown).replace(peer.address, "PEER").replace(str(file), "FILE").replace(str(port), "PORT")
    result: dict[str, object] = json.loads(re.sub(r"0x[0-9a-f]+", "0x", text))
    return result


WS_CASES: dict[str, tuple[dict[str, str], bytes | None]] = {
    "message": ({"path": "dir/a b"}, b"abc"),
    "message about nothing": ({}, b"abc"),
    "message args": ({"path": "dir/a b", "etl_args": " describe \u00e9 "}, b"abc"),
    "message file": ({"path": "a", "fqn": "{file}"}, None),
    "message missing file": ({"path": "a", "fqn": "%2Fno%2Fsuch"}, None),
    "message raises": ({"path": "a", "etl_args": "raise"}, b"abc"),
    "message raises not found": ({"path": "a", "etl_args": "missing"}, b"abc"),
    "message to empty result": ({"path": "a", "etl_args": "empty"}, b"abc"),
    "message next stage": ({"path": "a b", "pipeline": "http://{peer}", "etl_args": "q z"}, b"abc"),
    "message next stages": ({"path": "a b", "pipeline": "http://{peer}, http://other:1"}, b"abc"),
    "message next stage 204": ({"path": "status-204", "pipeline": "http://{peer}"}, b"abc"),
    "message next stage 500": ({"path": "status-500", "pipeline": "http://{peer}"}, b"abc"),
    "message direct put": (
        {"path": "a", "pipeline": "http://{peer}/ais%2F@%23%2Fdst%2Fno-content?owt=3&uuid=J"},
        b"abc",
    ),
    "message direct put refused": ({"path": "a", "pipeline": "http://127.0.0.1:1/a?owt=3"}, b"abc"),
    "message hop empty": ({"path": "a", "pipeline": "http://{peer},"}, b"abc"),
}


def exchange_messages(
    port: int, control: dict[str, str], body: bytes | None, peer: Peer, file: Path
) -> dict[str, object]:
    """What a transformer answers over WebSocket, and to a second object on the same connection."""
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    peer.seen.clear()
    control = {
        name: value.replace("{peer}", peer.address).replace("{file}", quote(str(file), safe=""))
        for name, value in control.items()
    }
    shown: dict[str, object]
    try:
        with connect(f"ws://127.0.0.1:{port}/ws", proxy=None, compression=None) as socket:
            answers = []
            for message, content in ((control, body), ({"path": "z"}, b"second")):
                socket.send(json.dumps(message).encode())
                if content is not None:
                    socket.send(content)
                answer = socket.recv(DEADLINE)
                answers.append(
                    ["text", answer] if isinstance(answer, str) else ["bytes", bytes(answer).decode("latin-1")]
                )
        shown = {"answers": answers}
    except (ConnectionClosed, InvalidStatus):
        shown = {"broken": "closed"}
    if peer.seen:
        shown["asked"] = [dict(one) for one in peer.seen]
    text = json.dumps(shown).replace(peer.address, "PEER").replace(str(file), "FILE")
    result: dict[str, object] = json.loads(text)
    return result


def _short(body: str) -> str:
    """A body, its length where it is long, and of a page about an error only what it says."""
    page = re.search(r"<p>Message: (.*?)\.?</p>", body, re.DOTALL)
    if body.startswith("<!DOCTYPE HTML>") and page:
        return f"page: {html.unescape(page[1]).strip()}"
    if "\r\nServer: " in body:
        return body.partition("\r\nServer: ")[0] + " ..."
    return body if len(body) < 2000 else f"{len(body)} bytes"


def record(python: str, kinds: tuple[str, ...] = KINDS, cases: dict[str, Case] = CASES) -> dict[str, dict[str, object]]:
    """Answers to all cases, by kind of server and name of the case."""
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder, Peer() as peer:
        file = Path(folder, "an object")
        file.write_bytes(OBJECT)
        for kind in kinds:
            with running(python, kind, peer.address, AIS_DIRECT_PUT_RETRIES="1") as port:
                found[kind] = {name: exchange(port, case, peer, file) for name, case in cases.items()}
                if "FastAPI" in kind:
                    for name, message in WS_CASES.items():
                        found[kind][name] = exchange_messages(port, *message, peer, file)
            with running(python, kind, peer.address, AIS_DIRECT_PUT_RETRIES="0", ETL_DIRECT_FQN="true") as port:
                for name in (
                    "push file",
                    "pull file",
                    "push",
                    "next stage file",
                    "push missing file",
                    "direct put reset",
                ):
                    found[kind][f"by name: {name}"] = exchange(port, cases[name], peer, file)
    return found


if __name__ == "__main__":
    recorded = record(sys.argv[1], tuple(sys.argv[2:]) or KINDS)
    # A line for each case.
    kinds = (
        f' "{kind}": {{\n'
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in cases.items())
        + "\n }"
        for kind, cases in recorded.items()
    )
    print("{\n" + ",\n".join(kinds) + "\n}")
