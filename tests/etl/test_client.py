"""What the client sends about ETLs, in both faces; `client_messages.json` is what the official SDK 2.0 sends for the same calls."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from aistore.aio import AsyncClient
from aistore.sdk import Client
from aistore.sdk.errors import AISError, ErrETLAlreadyExists, ErrETLNotFound, ETLDirectPutTransientError
from aistore.sdk.etl import ETLConfig, etl_templates
from aistore.sdk.etl.webserver import ETLServer, HTTPMultiThreadedServer
from etl.client_calls import Recorder, calls, plain

OFFICIAL: dict[str, Any] = json.loads(Path(__file__).with_name("client_messages.json").read_text())

ONLY_BLOCKING = {
    "block": "an `async with` there",
    "urls": "an asynchronous iterator there",
}


def comparable(value: Any) -> Any:
    """Without what has no meaning: absent namespaces, and a field of older messages that is None."""
    if isinstance(value, dict):
        return {
            name: comparable(one) for name, one in value.items() if not (name in ("namespace", "spec") and one is None)
        }
    return [comparable(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", OFFICIAL)
def test_blocking_client_sends_what_the_official_one_does(name: str) -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        result = plain(calls(client)[name](), recorder.url)
        sent = list(recorder.seen)
    # As text, because the order of members is that of the official messages, too.
    assert json.dumps(comparable({"sent": sent, "result": result})) == json.dumps(comparable(OFFICIAL[name]))


@pytest.mark.parametrize("name", [name for name in OFFICIAL if name not in ONLY_BLOCKING])
def test_asyncio_client_sends_what_the_official_one_does(name: str) -> None:
    with Recorder() as recorder:

        async def run() -> Any:
            async with AsyncClient(recorder.url) as client:
                value = calls(client)[name]()
                return plain(await value if inspect.isawaitable(value) else value, recorder.url)

        result = asyncio.run(run())
        sent = list(recorder.seen)
    assert comparable({"sent": sent, "result": result}) == comparable(OFFICIAL[name])


@pytest.mark.parametrize("name", ["", "short", "x" * 33, "UPPER-case", "-abcdef", "abcdef-", "abc_def", "abcdé-f"])
def test_bad_names_are_refused_without_a_request(name: str) -> None:
    with pytest.raises(ValueError, match=f"ETL name '{name}' is "):
        Client("http://127.0.0.1:1").etl(name)


@pytest.mark.parametrize("name", ["abcdef", "a" * 32, "0-----9"])
def test_good_names_need_no_request(name: str) -> None:
    assert Client("http://127.0.0.1:1").etl(name).name == name


def test_pipelines_leave_their_parts_alone() -> None:
    client = Client("http://127.0.0.1:1")
    first, second, third = (client.etl(f"etl-{number}-stage") for number in "123")
    joined = first >> (second >> third) >> first
    assert joined.name == "etl-1-stage"
    assert joined.pipeline == ["etl-2-stage", "etl-3-stage", "etl-1-stage"]
    assert first.pipeline == second.pipeline == []
    assert repr(first >> second) == "<Etl etl-1-stage >> etl-2-stage>"
    with pytest.raises(TypeError):
        first >> "etl-2-stage"  # type: ignore[operator]  # that is what is tested


class Upper(HTTPMultiThreadedServer):
    def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
        assert isinstance(data, bytes)
        return data.upper()


def test_init_class_sends_the_class_first_and_gives_it_back() -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        etl = client.etl("etl-first")
        decorated = etl.init_class(
            dependencies=["numpy>=1", "xxhash"],
            os_packages=["ffmpeg"],
            direct_file_access=True,
            SEED=5,
            PACKAGES="other",
        )(Upper)
        etl.init_class()(Upper)
        sent, plainly = (one["body"] for one in recorder.seen)
    assert decorated is Upper
    runtime = sent["runtime"]
    assert runtime["image"] == f"aistorage/runtime_python:{sys.version_info.major}.{sys.version_info.minor}"
    assert "command" not in runtime
    assert [one["name"] for one in runtime["env"]] == [
        *("ETL_CLASS_PAYLOAD", "PACKAGES", "OS_PACKAGES", "SEED", "ETL_DIRECT_FQN")
    ]
    values = {one["name"]: one["value"] for one in runtime["env"]}
    assert pickle.loads(base64.b64decode(values.pop("ETL_CLASS_PAYLOAD"))) is Upper
    assert values == {"PACKAGES": "other", "OS_PACKAGES": "ffmpeg", "SEED": "5", "ETL_DIRECT_FQN": "true"}
    assert (sent["support_direct_put"], sent["init_timeout"], sent["obj_timeout"]) == (True, "5m", "45s")
    assert [one["name"] for one in plainly["runtime"]["env"]] == ["ETL_CLASS_PAYLOAD"]


def test_asyncio_init_class_is_awaited() -> None:
    with Recorder() as recorder:

        async def run() -> type[ETLServer]:
            async with AsyncClient(recorder.url) as client, client.etl("etl-first") as etl:
                return await etl.init_class(comm_type="ws")(Upper)

        assert asyncio.run(run()) is Upper
        assert [one["request"] for one in recorder.seen] == [
            "PUT /v1/etl", "POST /v1/etl/etl-first/stop", "DELETE /v1/etl/etl-first"
        ]  # fmt: skip
        assert recorder.seen[0]["body"]["communication"] == "ws://"


@pytest.mark.parametrize("wrong", [int, Upper.__init__, "Upper"])
def test_init_class_is_for_transformers(wrong: Any) -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        with pytest.raises(TypeError, match="must extend ETLServer"):
            client.etl("etl-first").init_class()(wrong)
        assert recorder.seen == []


def test_init_class_needs_a_supported_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aistore.sdk.etl.etl_const.ETL_SUPPORTED_PYTHON_VERSIONS", ["3.1"])
    with Recorder() as recorder, Client(recorder.url) as client:
        with pytest.raises(ValueError, match=r"Unsupported Python version 3\.\d+; supported: 3\.1"):
            client.etl("etl-first").init_class()(Upper)
        assert recorder.seen == []


def test_communication_types_are_checked_without_a_request() -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        etl = client.etl("etl-first")
        for start in (
            lambda: etl.init("img", comm_type="io"),
            lambda: etl.init_class(comm_type="hpush://")(Upper),
        ):
            with pytest.raises(ValueError, match="communication_type should be one of: hpush, hpull, ws"):
                start()
        assert recorder.seen == []


@pytest.mark.parametrize("timeout", ["", "1h30m", "500ms", "5 m", "m", "1w", "-5s", "5.5s", None, 300])
def test_timeouts_are_checked_without_a_request(timeout: Any) -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        with pytest.raises(ValueError, match="is no duration"):
            client.etl("etl-first").init("img", init_timeout=timeout)
        assert recorder.seen == []


@pytest.mark.parametrize("name", etl_templates.__all__)
def test_templates_are_manifests_that_clusters_take(name: str) -> None:
    import yaml

    words = (
        "communication_type",
        "arg_type",
        "arg",
        "val",
        "compress_options",
        "ffmpeg_options",
        "format",
        "transform",
    )
    text = getattr(etl_templates, name).format(**{word: f"<{word}>" for word in words})
    pod = yaml.safe_load(text)
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    assert (pod["kind"], port["name"]) == ("Pod", "default")
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "default"}
    assert pod["metadata"]["annotations"]["communication_type"] == "<communication_type>://"


def test_init_spec_warns_and_sends_the_manifest() -> None:
    template = etl_templates.MD5.format(communication_type="hpull")
    with Recorder() as recorder, Client(recorder.url) as client:
        with pytest.warns(FutureWarning, match=r"use init\(\)"):
            client.etl("etl-first").init_spec(template, "hpull", "1m")
        (sent,) = recorder.seen
    assert base64.b64decode(sent["body"].pop("spec")).decode() == template
    assert sent["body"] == {
        "name": "etl-first",
        "init_timeout": "1m",
        "obj_timeout": "45s",
        "communication": "hpull://",
    }


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (404, "p[x]: etl job etl-first does not exist", ErrETLNotFound),
        (409, "p[x]: etl job etl-first already exists", ErrETLAlreadyExists),
        (404, "t[x]: etl-first does not exist", ErrETLNotFound),
        (400, '[etl="etl-first"] unknown comm-type', AISError),
    ],
)
def test_refusals_are_typed(status: int, message: str, error: type[AISError]) -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        recorder.refusal = status, json.dumps({"status": status, "message": message})
        with pytest.raises(AISError) as caught:
            client.etl("etl-first").stop()
    assert type(caught.value) is error
    assert caught.value.detail == message


def test_leaving_a_block_stops_and_deletes_whatever_the_cluster_says() -> None:
    with Recorder() as recorder, Client(recorder.url) as client:
        recorder.refusal = 404, '{"status": 404, "message": "etl job etl-first does not exist"}'
        with client.etl("etl-first"):
            pass
        assert [one["request"] for one in recorder.seen] == ["POST /v1/etl/etl-first/stop", "DELETE /v1/etl/etl-first"]


def test_transient_errors_of_direct_puts_pickle() -> None:
    error = ETLDirectPutTransientError("http://t", ConnectionError("reset"), True)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "direct_put to 'http://t' failed with transient error: ConnectionError(reset)"
    assert (again.url, again.bail_without_local_retry) == ("http://t", True)


def test_a_configuration_without_a_name_means_nothing() -> None:
    for config in (ETLConfig(), ETLConfig("", {"a": 1})):
        parameters: dict[str, object] = {}
        config.update_qparams(parameters)
        assert parameters == {}
