"""Starting an ETL: what is accepted, what is refused, and what a failure leaves (protocol/50 14: 1-16)."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aistore.sdk import Client
from aistore.sdk.errors import AISError
from etl_rest import Etl, acting, files_of, framework, payload_of, processes_of
from waiting import until

if TYPE_CHECKING:
    from aistore import LocalCluster
    from calling import Caller

HTTP = "HTTPMultiThreadedServer"
ECHO = {"runtime": {"image": "aistorage/transformer_echo:latest"}}


def test_init_answers_with_the_id_of_the_job_that_the_list_shows(etl: Etl) -> None:
    got = etl.init_class(acting(HTTP))
    assert got.status == 200
    assert got.body.startswith(b"etl-")
    assert etl.listed == {
        "id": etl.name,
        "stage": "Running",
        "xaction_id": got.body.decode(),
        "obj_count": 0,
        "in_bytes": 0,
        "out_bytes": 0,
    }
    running = json.loads(etl.call("GET", "/v1/cluster?what=running_all", b"{}").body)
    assert f"etl-inline[{got.body.decode()}]" in running


def test_defaults_are_filled_in(etl: Etl) -> None:
    assert etl.init({**ECHO, "argument": "unknown fields do not matter"}).status == 200
    message = json.loads(etl.ask("GET").body)["init_msg"]
    assert (message["communication"], message["init_timeout"], message["obj_timeout"]) == ("hpush://", "45s", "10s")
    assert "support_direct_put" not in message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({**ECHO, "communication": "hpush"}, "unknown comm-type"),
        ({**ECHO, "communication": "io://"}, "unknown comm-type"),
        ({**ECHO, "communication": "ws://"}, "WebSocket without direct put is not supported yet."),
        ({}, "runtime.image must be specified"),
        ({"runtime": {"image": ""}}, "runtime.image must be specified"),
        ({**ECHO, "init_timeout": "300"}, "invalid duration"),
        ({**ECHO, "init_timeout": 300}, "init_timeout"),
        ({**ECHO, "obj_timeout": "1d"}, "invalid duration"),
        ({**ECHO, "obj_timeout": "-1s"}, "must not be negative"),
        ({"runtime": "python3.11v2", "code": "cHJpbnQ=", "funcs": {"transform": "transform"}}, "runtime"),
        ({"spec": "not base64!"}, "failed to parse pod spec"),
        *(
            ({"spec": base64.b64encode(text).decode()}, "failed to parse pod spec")
            for text in (b"kind: 2020-99-99", b"kind: !!bool x", b"kind: !!timestamp x", b"kind: !!int ''", b"[" * 5000)
        ),
    ],
)
def test_what_is_no_init_message_leaves_nothing(etl: Etl, message: dict[str, object], text: str) -> None:
    got = etl.init(message)
    assert got.status == 400
    assert str(got.error["message"]).startswith("invalid etl.InitMsg: ETLSpecMsg error: ")
    assert text in str(got.error["message"])
    assert etl.stage == ""


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff"])
def test_bodies_that_are_no_message(call: Caller, body: bytes) -> None:
    got = call("PUT", "/v1/etl", body)
    assert (got.status, str(got.error["message"])[:20]) == (400, "invalid etl.InitMsg:")


@pytest.mark.parametrize("name", ["", "a" * 5, "a" * 33, "Upper-case", "under_score", "etl.dot"])
def test_names_that_are_none(call: Caller, name: str) -> None:
    assert call("PUT", "/v1/etl", json.dumps({**ECHO, "name": name}).encode()).status == 400
    assert name not in {one["id"] for one in json.loads(call("GET", "/v1/etl").body)}


@pytest.mark.parametrize("length", [6, 32])
def test_shortest_and_longest_name(call: Caller, length: int) -> None:
    with Etl(call, ("-z" * 16)[:length]) as etl:
        assert etl.init(ECHO).status == 200


def test_a_second_init_is_refused(etl: Etl) -> None:
    assert etl.init(ECHO).status == 200
    again = etl.init(ECHO)
    assert again.status == 409
    assert f"etl job {etl.name} already exists" in str(again.error["message"])
    assert etl.stage == "Running"


def test_a_constructor_that_raises_is_told_at_once_and_the_name_stays_taken(
    etl: Etl, etl_cluster: LocalCluster
) -> None:
    before = processes_of(etl_cluster)

    class Failing(framework(HTTP)):  # type: ignore[misc]  # the framework is found at run time
        def __init__(self) -> None:
            raise RuntimeError("no such model")

        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            return data

    got = etl.init_class(payload_of(Failing), init_timeout="5m")
    message = str(got.error["message"])
    assert got.status == 400
    assert "Failed to instantiate ETLServer" in message
    assert "no such model" in message
    assert "state: Terminated, reason: Error" in message
    assert "exitCode: 1" in message
    assert etl.stage == "Aborted"
    assert etl.init(ECHO).status == 409
    assert processes_of(etl_cluster) <= before
    assert etl.ask("DELETE").status == 200
    assert etl.init(ECHO).status == 200


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("", "ETL_CLASS_PAYLOAD is not set"),
        ("garbage", "Failed to deserialize ETL class"),
        (base64.b64encode(b"garbage").decode(), "Failed to deserialize ETL class"),
    ],
)
def test_payloads_that_are_no_class(etl: Etl, payload: str, text: str) -> None:
    got = etl.init_class(payload)
    assert got.status == 400
    assert text in str(got.error["message"])


def test_packages_of_the_system_that_are_there(etl: Etl, src: str) -> None:
    """A command, and where the system has a list of packages one of that list; they are not installed by us."""
    packages = ["sh"]
    if shutil.which("dpkg-query"):
        packages += subprocess.run(
            ["dpkg-query", "-W", "-f", "${Package}\\n"], capture_output=True, text=True, check=True
        ).stdout.split()[:1]
    etl.started(acting(HTTP), env={"OS_PACKAGES": ",".join(packages)})
    assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"


def test_packages_of_the_system_that_are_missing(etl: Etl) -> None:
    got = etl.init_class(acting(HTTP), env={"OS_PACKAGES": "sh, no-such-package"})
    assert got.status == 400
    assert "Failed to install package 'no-such-package'" in str(got.error["message"])
    assert "install it on this machine first" in str(got.error["message"])


def test_a_class_that_is_larger_than_a_variable_may_be(etl: Etl, src: str) -> None:
    table = bytes(range(256)) * 1024

    class Large(framework(HTTP)):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: bytes, path: str, etl_args: str) -> bytes:
            return str(len(table)).encode()

    payload = payload_of(Large)
    assert len(payload) > 128 << 10
    etl.started(payload)
    assert etl.get(src, "a.txt").body == b"262144"
    assert json.loads(etl.ask("GET").body)["init_msg"]["runtime"]["env"][0]["value"] == payload


@pytest.mark.parametrize(
    ("runtime", "text"),
    [
        ({"image": "nobody/nothing:latest"}, "init_class"),
        ({"image": "nobody/nothing", "command": ["no-such-program-at-all"]}, "no-such-program-at-all"),
        ({"image": "aistorage/runtime_python:2.7"}, "Python 2.7"),
        ({"image": "aistorage/transformer_ffmpeg"}, "aistorage/transformer_md5"),
    ],
)
def test_an_image_that_cannot_be_had(etl: Etl, runtime: dict[str, object], text: str) -> None:
    got = etl.init({"runtime": runtime})
    message = str(got.error["message"])
    assert got.status == 400
    assert "reason: ErrImagePull" in message
    assert str(runtime["image"]) in message
    assert text in message
    assert etl.stage == "Aborted"
    assert etl.ask("POST", "/start").status == 400


def test_a_transformer_that_is_never_ready(etl: Etl, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    got = etl.runs(["/bin/sh", "-c", "echo still loading; exec sleep 1000"], init_timeout="2s")
    assert got.status == 400
    assert "context deadline exceeded" in str(got.error["message"])
    assert "still loading" in str(got.error["message"])
    assert etl.stage == "Aborted"
    assert processes_of(etl_cluster) <= before
    assert not [one for one in files_of(etl_cluster) if one.startswith(etl.name)]


def test_a_client_waits_for_the_end_of_one_that_is_never_ready(etl: Etl, etl_cluster: LocalCluster) -> None:
    """Given up and sent again, its call would be answered that the name is taken."""
    program = "trap 'sleep 1.5; exit 0' TERM; echo still loading; while :; do sleep 0.1; done"
    with Client(etl_cluster.url) as client, pytest.raises(AISError, match="context deadline exceeded") as raised:
        client.etl(etl.name).init("img", ["/bin/sh", "-c", program], init_timeout="1s")
    assert "still loading" in str(raised.value)


def test_a_program_that_ends_at_once(etl: Etl) -> None:
    got = etl.runs([sys.executable, "-c", "print('no licence'); raise SystemExit(7)"])
    assert got.status == 400
    assert "no licence" in str(got.error["message"])
    assert "exitCode: 7" in str(got.error["message"])


def test_init_that_is_stopped_or_deleted_meanwhile(etl: Etl, etl_cluster: LocalCluster) -> None:
    import threading

    from calling import Caller

    answers = []

    def init() -> None:
        with Caller(etl_cluster.url) as call:
            answers.append(Etl(call, etl.name).runs([sys.executable, "-c", "import time; time.sleep(1000)"]))

    thread = threading.Thread(target=init)
    thread.start()
    until(lambda: etl.stage == "Initializing")
    assert etl.ask("POST", "/start").status == 400
    assert etl.ask("DELETE").status == 200
    thread.join()
    assert answers[0].status == 400
    assert etl.stage == ""


SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"fine" if self.path == "/ready" or self.path == "/health" else b"?")
    def do_PUT(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1])
    def answer(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
server = http.server.ThreadingHTTPServer((sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1])), Handler)
print("listening at", server.server_address, os.environ["COLOUR"], flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize("port", ["8000", "8001"])
def test_a_command_listens_where_the_server_says(etl: Etl, src: str, port: str) -> None:
    """Its own idea of host and port does not count."""
    command = [sys.executable, "-c", SERVER, "--host", "0.0.0.0", "--port", port]
    got = etl.init({"runtime": {"image": "my/image", "command": command, "env": [{"name": "COLOUR", "value": "blue"}]}})
    assert got.status == 200, got.body
    assert etl.get(src, "a.txt").body == b"content of a.txt"[::-1]
    until(lambda: "listening at ('127.0.0.1', " in etl.log)
    assert "blue" in etl.log


def test_a_program_that_binds_everywhere_is_kept_on_loopback(etl: Etl, src: str) -> None:
    fixed = SERVER.replace(
        '(sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1]))', '("", 8000)'
    )
    assert etl.runs([sys.executable, "-c", fixed], env=[{"name": "COLOUR", "value": "red"}]).status == 200
    assert etl.get(src, "a.txt").body == b"content of a.txt"[::-1]
    until(lambda: "listening at ('127.0.0.1', " in etl.log)


def test_a_program_that_others_would_reach_is_not_started(etl: Etl, etl_cluster: LocalCluster) -> None:
    before = processes_of(etl_cluster)
    fixed = SERVER.replace(
        '(sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1]))',
        '("0.0.0.0", int(os.environ["AIS_ETL_PORT"]))',
    )
    # Isolated, Python does not look at what would keep it on loopback.
    got = etl.runs([sys.executable, "-I", "-c", fixed], env=[{"name": "COLOUR", "value": "red"}])
    assert got.status == 400
    assert "it listens on 0.0.0.0:" in str(got.error["message"])
    assert etl.stage == "Aborted"
    assert processes_of(etl_cluster) <= before


POD = """
apiVersion: v1
kind: Pod
metadata:
  name: transformer
  annotations:
    communication_type: "hpush://"
    support_direct_put: "true"
spec:
  containers:
    - name: server
      image: {image}
      ports: [{{name: default, containerPort: 8000}}]
      command: {command}
      env: [{{name: COLOUR, value: green}}]
      readinessProbe: {{httpGet: {{path: /ready, port: default}}}}
"""


def pod(image: str = "my/image", command: str = "[]", change: tuple[str, str] = ("", "")) -> dict[str, object]:
    text = POD.format(image=image, command=command)
    return {"spec": base64.b64encode(text.replace(*change).encode() if change[0] else text.encode()).decode()}


def test_a_pod_runs_as_a_process(etl: Etl, src: str) -> None:
    command = json.dumps([sys.executable, "-c", SERVER, "--host", "0.0.0.0", "--port", "8000"])
    message = pod(command=command)
    got = etl.init(message)
    assert got.status == 200, got.body
    assert etl.get(src, "a.txt").body == b"content of a.txt"[::-1]
    shown = json.loads(etl.ask("GET").body)["init_msg"]
    assert shown["spec"] == message["spec"]
    assert shown["support_direct_put"] is True
    assert "runtime" not in shown


def test_the_pod_of_a_public_image_is_built_in(etl: Etl, src: str) -> None:
    assert etl.init(pod("aistorage/transformer_md5:latest", '["uvicorn", "x:y"]')).status == 200
    assert etl.get(src, "a.txt").body == hashlib.md5(b"content of a.txt").hexdigest().encode()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("name: default, ", "name: other, ", 'expected port name: "default", got: "other"'),
        (
            "ports: [{name: default, containerPort: 8000}]",
            "ports: []",
            "unsupported number of container ports (0), expected: 1",
        ),
        ("readinessProbe:", "livenessProbe:", "readinessProbe section is required in a container spec"),
        ("httpGet:", "exec:", "httpGet missing in the readinessProbe"),
        ("path: /ready, ", "", "expected non-empty path for readinessProbe"),
        ("port: default}}", "port: 80}}", 'readinessProbe port must be the "default" port'),
        ("kind: Pod", "kind: Job", "failed to parse pod spec"),
        ("  containers:", "  initContainers:", "unsupported number of containers (0), expected: 1"),
    ],
)
def test_pods_that_are_no_transformer(etl: Etl, old: str, new: str, text: str) -> None:
    got = etl.init(pod(change=(old, new)))
    assert got.status == 400
    assert f'[etl="{etl.name}"] {text}' in str(got.error["message"])
    assert etl.stage == ""
