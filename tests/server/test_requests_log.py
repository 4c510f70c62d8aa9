"""Request ids, the log of requests, and logs as JSON."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import pytest

from aistore import Client
from aistore.sdk.errors import AISError
from aistore.server.requests_log import RequestsLog
from aistore.server.settings import ServerSettings
from aistore.server.spawn import start
from calling import Caller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aistore import LocalCluster
    from aistore.http1.server import Request
    from guarding import Guarded

MISSING = "/v1/objects/logs/missing?provider=ais"


@pytest.mark.parametrize(
    "path", ["/v1/etl/_object/e/SECRET/b/o", "//v1/etl/_object/e/SECRET", "/v1/%65tl/_object/e/SE%43RET/b"]
)
def test_the_secret_of_a_transformer_is_in_no_line_however_its_path_is_encoded(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = cast("Request", SimpleNamespace(method="GET", path=unquote(path), raw_path=path, id="1"))
    RequestsLog(logging.getLogger(__name__), all_of_them=False, user_of=lambda _: "").failed(
        request, "failed", OSError()
    )
    assert "/e/***" in caplog.text and "RET" not in caplog.text


class Logged:
    """A gateway with two targets that logs all requests as JSON."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started = start(
            ServerSettings(folder, targets=2, durability="relaxed", etl=False, access_log=True, log_format="json")
        )
        self.url = self._started.ready.url

    def lines(self, pattern: str = "*.log") -> list[dict[str, object]]:
        """What the logs hold; each of their lines is a document."""
        return [
            json.loads(line) for path in sorted(self.folder.glob(pattern)) for line in path.read_text().splitlines()
        ]

    def told(self, request: str, pattern: str = "*.access.log") -> list[dict[str, object]]:
        return [line for line in self.lines(pattern) if line.get("request") == request]

    def stop(self) -> None:
        os.close(self._started.lifeline)
        self._started.process.wait(60)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    started = Logged(tmp_path_factory.mktemp("logged") / "data")
    with Caller(started.url) as call:
        call.make_bucket("logs")
        assert call.put("logs", "o", b"content").status == 200
    yield started
    started.stop()


def test_all_requests_are_logged_with_what_is_known_of_them(logged: Logged) -> None:
    with Caller(logged.url) as call:
        name = {"X-Request-Id": "one.read-1"}
        assert call("GET", "/v1/objects/logs/o?provider=ais&secret=x", headers=name).body == b"content"
    at_gateway, at_target = sorted(logged.told("one.read-1"), key=lambda line: -int(str(line["status"])))
    assert (at_gateway["status"], at_target["status"]) == (301, 200)
    assert at_gateway["process"] != at_target["process"]
    for line in (at_gateway, at_target):
        assert (line["method"], line["path"], line["query"]) == ("GET", "/v1/objects/logs/o", "provider=ais")
        assert str(line["peer"]).startswith("127.0.0.1:")
        assert line["level"] == "info"
        assert 0 < float(str(line["seconds"])) < 60
    assert int(str(at_target["bytes"])) > len(b"content")


def test_lines_of_a_redirected_request_can_be_joined(logged: Logged) -> None:
    with Caller(logged.url) as call:
        assert call("HEAD", "/v1/objects/logs/o?provider=ais").status == 200
    (at_gateway,) = [line for line in logged.lines("server.access.log") if line["method"] == "HEAD"]
    assert [line["status"] for line in logged.told(str(at_gateway["request"]))].count(200) == 1


def test_relayed_requests_keep_their_id(logged: Logged) -> None:
    with Client(logged.url) as client, Caller(logged.url) as call:
        target = next(iter(client.cluster().get_info().tmap))
        asked = {"X-Request-Id": "relayed", "Ais-Node-Id": target}
        assert call("GET", "/v1/reverse/daemon?what=sysinfo", headers=asked).status == 200
    assert [line["path"] for line in logged.told("relayed", f"{target}.access.log")] == ["/v1/daemon"]


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, 'quo"te', "new%0aline;"])
def test_refused_requests_are_told_their_id(cluster: LocalCluster, given: str) -> None:
    with Caller(cluster.url) as call:
        good = call("GET", MISSING, headers={"X-Request-Id": "abc-1.2"})
        assert (good.status, good.headers["X-Request-Id"]) == (404, "abc-1.2")
        made = call("GET", MISSING, headers={"X-Request-Id": given}).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", made)
        assert call("GET", MISSING).headers["X-Request-Id"] != made
        assert call("GET", "/s3/nobody-has-this/x").headers["x-amz-request-id"]


def test_errors_of_the_sdk_know_the_id(cluster: LocalCluster) -> None:
    with Client(cluster.url) as client:
        with pytest.raises(AISError) as caught:
            client.bucket("nobody-has-this").head()
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", caught.value.request_id)
        assert pickle.loads(pickle.dumps(caught.value)).request_id == caught.value.request_id
        failed = AISError(500, "broken", "http://x/v1/y", None)
        failed.request_id = "abc"
        assert "REQUEST_ID:abc" in str(failed)


def test_requests_that_fail_are_logged_always(cluster: LocalCluster) -> None:
    with Caller(cluster.url) as call:
        assert call("GET", "/v1/download", headers={"X-Request-Id": "not-built"}).status == 501
        assert call("GET", MISSING, headers={"X-Request-Id": "not-there"}).status == 404
    for log in ("server.log", "server.errors.log"):
        text = (cluster.path / log).read_text()
        (line,) = [line for line in text.splitlines() if line.endswith("[not-built]")]
        assert re.match(r"W \S+ requests_log:\d+ GET /v1/download 501 \d+ bytes in \d+\.\d+ s, nobody from 127", line)
        assert "not-there" not in text, "what clients do wrong is for --log-level debug"


def test_nothing_that_is_sent_makes_a_line_or_a_field(logged: Logged) -> None:
    forged = "a%0a%7B%22status%22:200%7D%0d%1b[2J%C2%85%E2%80%A8%22%00"
    with Caller(logged.url) as call:
        before = len(logged.lines())
        name = {"X-Request-Id": "forger"}
        for path in (f"/v1/objects/logs/{forged}?props={forged}", f"/v1/buckets/{forged}", f"/{forged}"):
            assert call("GET", path, headers=name).status >= 300
    lines = logged.lines()
    assert 3 <= len(lines) - before <= 8
    for line in logged.told("forger"):
        assert str(line["path"]).isprintable()
        assert str(line["query"]).isprintable()
        assert line["status"] in (301, 400, 404)


def test_logs_as_json_are_so_from_the_first_line(logged: Logged) -> None:
    for path in logged.folder.glob("*.log"):
        first = json.loads(path.read_text().partition("\n")[0] or "{}")
        assert (
            path.name.endswith(".access.log")
            or path.name.endswith(".errors.log")
            or first["message"].startswith("aistore-py ")
        )
    served = [line for line in logged.lines("server.log") if str(line["message"]).startswith("serving ")]
    assert [line["level"] for line in served] == ["info"]
    with Caller(logged.url) as call:  # and as the reference's call gives it
        got = call("GET", "/v1/daemon?what=log")
    assert all(json.loads(line)["module"] for line in got.body.decode().splitlines())


def test_user_of_a_token_is_told_and_not_the_token(guarded: Guarded) -> None:
    with guarded.having(0) as nobody:
        assert nobody("GET", "/v1/download", headers={"X-Request-Id": "of-alice"}).status == 403
    with guarded.admin as root:
        assert root("GET", "/v1/download", headers={"X-Request-Id": "of-root"}).status == 501
    text = (guarded.folder / "server.log").read_text()
    (line,) = [line for line in text.splitlines() if line.endswith("[of-root]")]
    assert " root from 127.0.0.1:" in line
    assert "of-alice" not in text
    assert "eyJ" not in text
