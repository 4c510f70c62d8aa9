"""A server without file descriptors refuses what needs one, and goes on when there are some again."""

from __future__ import annotations

import resource
import socket
import sys
from urllib.parse import urlsplit

import pytest

from aistore import LocalCluster
from calling import Caller
from waiting import DEADLINE

LARGE = b"content" * 20_000


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit")
def test_no_descriptor_left() -> None:
    with LocalCluster() as cluster, Caller(cluster.url) as call:
        call.make_bucket("b")
        assert call.put("b", "large", LARGE).status == 200
        limits = resource.prlimit(cluster.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(cluster.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        for _ in range(3):
            for got in (call.get("b", "large"), call.put("b", "new", LARGE)):
                assert (got.status, got.headers["Retry-After"]) == (503, "1")
                assert "file descriptor" in str(got.error["message"])
        assert call.put("b", "small", b"content").status == call.get("b", "small").status == 200
        where = urlsplit(cluster.url)
        with socket.create_connection((where.hostname, where.port or 0)) as waiting:
            waiting.settimeout(DEADLINE)
            waiting.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert call.get("b", "small").status == 200  # the loop was through what came before
            resource.prlimit(cluster.pid, resource.RLIMIT_NOFILE, limits)
            assert waiting.recv(100).startswith(b"HTTP/1.1 200 ")
        assert call.get("b", "large").body == LARGE
        assert call.get("b", "new").status == 404
        log = (cluster.path / "server.log").read_text()
        assert log.count("no connections accepted") == 1
        assert "Traceback" not in log
