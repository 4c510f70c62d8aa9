"""Over TLS, the server answers as the reference did, and all SDKs read and write through redirects from the head alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.environments import VERSIONS, official_python, why_missing
from conformance_run import judge, parameters, run_harness

if TYPE_CHECKING:
    from pathlib import Path

    from aistore import LocalCluster

AREA = "tls"
CLUSTERS = {"one-tls": "cluster_tls", "three-tls": "cluster3_tls"}
HAS = {"one-tls": "single,own,https", "three-tls": "targets,own,https"}
PACKAGES = ("ours", *(f"official-{version}" for version in VERSIONS))

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


@pytest.mark.parametrize(("run", "label"), parameters("http", tuple(f"http/{on}" for on in CLUSTERS), AREA))
def test_http(run: str, label: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    on = run.partition("/")[2]
    cluster: LocalCluster = request.getfixturevalue(CLUSTERS[on])
    folder = tmp_path_factory.getbasetemp()
    tally = run_harness("conform.py", "http", run, False, sys.executable, cluster.url, HAS[on], folder, AREA)
    judge(run, label, tally)


@pytest.mark.parametrize("fixture", CLUSTERS.values())
@pytest.mark.parametrize("package", PACKAGES)
def test_a_program_of_each_sdk_stores_what_it_sends(
    package: str, fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cluster: LocalCluster = request.getfixturevalue(fixture)
    python = sys.executable
    if package != "ours":
        version = package.removeprefix("official-")
        if reason := why_missing(version):
            pytest.skip(reason)
        python = str(official_python(version))
    # `requests` would take these instead of the CA that the client is given.
    env = {name: value for name, value in os.environ.items() if name not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
    command = [python, "-c", PROGRAM, cluster.url, str(cluster.ca_cert), f"tls-{package.replace('.', '-')}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
