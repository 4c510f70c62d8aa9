"""Clients of S3, and what they are pointed at."""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from bench.peers import client_of_s3, why_missing
from calling import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore import LocalCluster


def boto_client(url: str) -> Any:
    """A client of boto3, as anybody would make one: only the endpoint is ours."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=Config(retries={"max_attempts": 1}, read_timeout=20),
    )


@pytest.fixture(params=["cluster", "cluster3"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint of one node, and of a gateway with three targets."""
    started: LocalCluster = request.getfixturevalue(request.param)
    return f"{started.url}/s3"


@pytest.fixture
def s3(endpoint: str) -> Iterator[Any]:
    """A client of boto3."""
    made = boto_client(endpoint)
    yield made
    made.close()


@pytest.fixture
def bck(s3: Any) -> Iterator[str]:
    """An empty bucket, made over S3."""
    name = f"s3-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def call(cluster: LocalCluster) -> Iterator[Caller]:
    """Plain HTTP calls on the one node, which has the bucket `raw`."""
    with Caller(cluster.url) as made:
        made("DELETE", "/s3/raw")
        assert made("PUT", "/s3/raw").status == 200
        yield made
        made("DELETE", "/s3/raw")


@pytest.fixture
def rclone(endpoint: str, tmp_path: Path) -> Callable[..., str]:
    """Runs rclone with the remote `ais:`; what it printed."""
    if reason := why_missing("rclone"):
        pytest.skip(reason)
    settings = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": endpoint, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y"}
    (tmp_path / "rclone.conf").touch()
    env = {**os.environ, "RCLONE_CONFIG": str(tmp_path / "rclone.conf"), "RCLONE_RETRIES": "1"}
    env.update({f"RCLONE_CONFIG_AIS_{key}": value for key, value in settings.items()})
    return lambda *arguments: _run([str(client_of_s3("rclone")), *arguments], env)


@pytest.fixture
def s3cmd(endpoint: str, tmp_path: Path) -> Callable[..., str]:
    """Runs s3cmd; what it printed."""
    if reason := why_missing("s3cmd"):
        pytest.skip(reason)
    config = tmp_path / "s3cfg"
    host = endpoint.removeprefix("http://")
    lines = [
        "[default]",
        "access_key = x",
        "secret_key = y",
        f"host_base = {host}",
        f"host_bucket = {host}",
        "use_https = False",
    ]
    config.write_text("\n".join(lines) + "\n")
    script = client_of_s3(
        "s3cmd"
    )  # run by its interpreter: its first line does not work where the folder's name holds blanks
    return lambda *arguments: _run(
        [str(script.with_name("python")), str(script), "-c", str(config), *arguments], dict(os.environ)
    )


def _run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
