"""The official web servers for transformers behind our server: what was written for them runs here, in every form, as a stage too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl_rest import Etl, acting

if TYPE_CHECKING:
    from collections.abc import Callable

    from calling import Caller

HERE = Path(__file__).resolve().parent
FORMS = [
    ("FastAPIServer", "hpush"),
    ("FastAPIServer", "hpull"),
    ("FastAPIServer", "ws"),
    ("FlaskServer", "hpush"),
    ("FlaskServer", "hpull"),
    ("HTTPMultiThreadedServer", "hpush"),
    ("HTTPMultiThreadedServer", "hpull"),
]
STREAMS = ["StreamFastAPIServer", "StreamFlaskServer", "StreamHTTPMultiThreadedServer"]


def official(etl: Etl, python: str, kind: str, comm: str, **variables: str) -> Etl:
    command = [python, str(HERE / "transformers.py"), kind, "8000"]
    env = [{"name": name, "value": value} for name, value in variables.items()]
    runtime = {"image": "some/image", "command": command, "env": env}
    message = {"communication": f"{comm}://", "support_direct_put": True, "init_timeout": "2m", "obj_timeout": "1m"}
    got = etl.init({**message, "runtime": runtime})
    assert got.status == 200, got.body
    return etl


@pytest.mark.parametrize(("kind", "comm"), FORMS)
def test_objects_and_buckets(etl: Etl, src: str, python: str, shared: Callable[..., Etl], kind: str, comm: str) -> None:
    official(etl, python, kind, comm)
    etl.call.put(src, "dir/a b#ü", b"abc" * 1_000_000)
    assert etl.get(src, "a.txt").body == b"CONTENT OF A.TXT"
    assert etl.get(src, "dir/a b#ü").body == b"ABC" * 1_000_000
    assert etl.get(src, "a.txt", "empty").body == b""
    said = json.loads(etl.get(src, "a.txt", 'describe {"a":"x+y & ü"}').body)
    assert (said[0], said[1].endswith("a.txt"), said[2]) == ("bytes", True, 'describe {"a":"x+y & ü"}')
    for word, status in (("raise", 500), ("missing", 404)):
        failed = etl.get(src, "a.txt", word)
        assert failed.status == (500 if comm == "ws" else status)  # over WebSocket there are none
    if comm != "hpull":
        ours = shared()
        assert etl.get(src, "a.txt", "", f"&etl_pipeline={ours.name}").body == b"CONTENT OF A.TXT"
        assert ours.get(src, "a.txt", "", f"&etl_pipeline={etl.name}").body == b"CONTENT OF A.TXT"
    job = etl.bucket(src, f"{src}-dst", prefix="dir/", ext={"txt": "up"}, pipeline=[shared().name])
    assert etl.wait(job)["err"] == ""
    assert etl.call.names(f"{src}-dst") == ["dir/a b#ü", "dir/c.up"]
    assert etl.call.get(f"{src}-dst", "dir/c.up").body == b"CONTENT OF DIR/C.TXT"
    if comm != "ws":
        assert etl.copy(f"{src}/a.txt", f"{src}-dst/copy").status == 200
        assert etl.call.get(f"{src}-dst", "copy").body == b"CONTENT OF A.TXT"


@pytest.mark.parametrize("kind", STREAMS)
def test_streams(etl: Etl, src: str, python: str, kind: str) -> None:
    official(etl, python, kind, "hpush")
    etl.call.put(src, "large", b"abc" * 1_000_000)
    assert etl.get(src, "large").body == b"ABC" * 1_000_000
    assert etl.copy(f"{src}/large", f"{src}/copy").status == 200
    assert etl.call.get(src, "copy").body == b"ABC" * 1_000_000


@pytest.mark.parametrize(("kind", "comm"), FORMS)
def test_files(etl: Etl, src: str, python: str, kind: str, comm: str) -> None:
    official(etl, python, kind, comm, ETL_DIRECT_FQN="true")
    etl.call.put(src, "dir/100% b.bin", b"abc" * 10_000)
    assert etl.get(src, "dir/100% b.bin").body == b"ABC" * 10_000
    assert json.loads(etl.get(src, "a.txt", "describe").body)[0] == "str"


def test_both_frameworks_are_asked_alike(call: Caller, src: str, python: str) -> None:
    """Three stages, ours between two official ones, with arguments for each."""
    with Etl(call) as first, Etl(call) as second, Etl(call) as third:
        official(first, python, "FastAPIServer", "ws")
        second.started(acting("FlaskServer"), env={"NUM_WORKERS": "1"})
        official(third, python, "HTTPMultiThreadedServer", "hpull")
        got = first.get(src, "a.txt", "describe", f"&etl_pipeline={second.name},{third.name}")
        assert json.loads(got.body)[2] == "describe"
