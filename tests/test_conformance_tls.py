"""Over TLS, the server answers as the reference did, and all SDKs read and write through redirects from the head alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conformance_run import PACKAGES, interpreter, judge, parameters, run_harness

if TYPE_CHECKING:
    from pathlib import Path

    from aistore import LocalCluster

AREA = "tls"
CLUSTERS = {"one-tls": "cluster_tls", "three-tls": "cluster3_tls"}
HAS = {"one-tls": "single,own,https", "three-tls": "targets,own,https"}
RUNS = tuple(f"http/{on}" for on in CLUSTERS)
# Others that go the same ways over TLS. Those with sockets of their own speak plain HTTP.
ALSO_HTTP = ("objects", "objects_head", "objects_put", "objects_patch", "redirects", "multipart", "append", "ranges")
ALSO_SDK = ("objects", "reading", "writing")

# What a program of any SDK does with objects; each call that sends content is redirected first.
PROGRAM = """
import os, sys
from aistore.sdk import Client
client = Client(sys.argv[1], ca_cert=sys.argv[2])
bucket = client.bucket(sys.argv[3]).create()
for size in (0, 10, 100_000, 5_000_000):
    content = os.urandom(size)
    bucket.object(f"o{size}").get_writer().put_content(content)
    assert bucket.object(f"o{size}").get_reader().read_all() == content, size
writer = bucket.object("appended").get_writer()
handle = writer.append_content(b"one,")
handle = writer.append_content(b"two", handle=handle)
writer.append_content(b"", handle=handle, flush=True)
assert bucket.object("appended").get_reader().read_all() == b"one,two"
upload = bucket.object("parts").multipart_upload().create()
upload.add_part(1).put_content(b"part" * 1000)
upload.complete()
assert bucket.object("parts").get_reader().read_all() == b"part" * 1000
bucket.delete()
"""


@pytest.mark.parametrize(("run", "label"), parameters("http", RUNS, AREA))
def test_http(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    on = run.partition("/")[2]
    cluster: LocalCluster = request.getfixturevalue(CLUSTERS[on])
    folder = tmp_path_factory.getbasetemp()
    area = label.partition(".")[0]
    tally = run_harness("conform.py", "http", run, False, sys.executable, cluster.url, HAS[on], folder, area)
    judge(run, label, tally)


@pytest.mark.long
@pytest.mark.parametrize(("run", "label"), [one for area in ALSO_HTTP for one in parameters("http", RUNS, area)])
def test_other_http(
    run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    test_http(run, label, request, tmp_path_factory)


@pytest.mark.long
@pytest.mark.parametrize(
    ("run", "label"),
    [
        one
        for area in ALSO_SDK
        for one in parameters("sdk", tuple(f"{package}/{on}" for package in PACKAGES for on in CLUSTERS), area)
    ],
)
def test_other_sdk(
    run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    on = run.partition("/")[2]
    cluster: LocalCluster = request.getfixturevalue(CLUSTERS[on])
    folder = tmp_path_factory.getbasetemp()
    area = label.partition(".")[0]
    python = interpreter(run)
    tally = run_harness(
        "sdk_conform.py", "sdk", run, False, python, cluster.url, "", folder, area, str(cluster.ca_cert)
    )
    judge(run, label, tally)


@pytest.mark.parametrize("fixture", CLUSTERS.values())
@pytest.mark.parametrize("package", PACKAGES)
def test_a_program_of_each_sdk_stores_what_it_sends(
    package: str, fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cluster: LocalCluster = request.getfixturevalue(fixture)
    python = interpreter(package)
    # `requests` would take these instead of the CA that the client is given.
    env = {name: value for name, value in os.environ.items() if name not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
    command = [python, "-c", PROGRAM, cluster.url, str(cluster.ca_cert), f"tls-{package.replace('.', '-')}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
