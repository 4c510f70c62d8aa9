"""Clients of S3, and what they are pointed at."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest
from botocore.config import Config

from bench.peers import client_of_s3, why_missing
from calling import Caller
from guarding import token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore import LocalCluster
    from guarding import Guarded


class Endpoint(NamedTuple):
    """Where clients of S3 are pointed at, with what they sign with there, and the token that native clients need."""

    url: str
    key: str = "x"
    secret: str = "y"
    token: str | None = None


def boto_client(url: str, key: str = "x", secret: str = "y", **more: Any) -> Any:
    """A client of boto3, as anybody would make one: only the endpoint is ours."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 1}, read_timeout=20, **more),
    )


@pytest.fixture(params=["cluster", "cluster3", "guarded", pytest.param("guarded3", marks=pytest.mark.long)])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """One node, and a gateway with three targets; as they are, and where signatures count."""
    if request.param.startswith("guarded"):
        guarded: Guarded = request.getfixturevalue(request.param)
        key, secret = with_key(guarded, bearer := token(admin=True, subject="s3"))
        return Endpoint(f"{guarded.url}/s3", key, secret, bearer)
    started: LocalCluster = request.getfixturevalue(request.param)
    return Endpoint(f"{started.url}/s3")


def with_key(guarded: Guarded, bearer: str) -> tuple[str, str]:
    """Have a cluster accept one access key, as an AuthN server does; the key and its secret."""
    key, secret = f"AISK{uuid.uuid4().hex[:16].upper()}", uuid.uuid4().hex
    with guarded.admin as root:
        told = json.dumps({"keys": [{"id": key, "secret": secret, "token": bearer}]}).encode()
        assert root("PUT", "/v1/access-keys", told).status == 200
    return key, secret


@pytest.fixture
def s3(endpoint: Endpoint) -> Iterator[Any]:
    """A client of boto3."""
    made = boto_client(endpoint.url, endpoint.key, endpoint.secret, signature_version="s3v4")
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
def rclone(endpoint: Endpoint, tmp_path: Path) -> Callable[..., str]:
    """Runs rclone with the remote `ais:`; what it printed."""
    if reason := why_missing("rclone"):
        pytest.skip(reason)
    url, key, secret, _ = endpoint
    settings = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": url, "ACCESS_KEY_ID": key, "SECRET_ACCESS_KEY": secret}
    (tmp_path / "rclone.conf").touch()
    env = {**os.environ, "RCLONE_CONFIG": str(tmp_path / "rclone.conf"), "RCLONE_RETRIES": "1"}
    env.update({f"RCLONE_CONFIG_AIS_{key}": value for key, value in settings.items()})
    return lambda *arguments: _run([str(client_of_s3("rclone")), *arguments], env)


@pytest.fixture
def s3cmd(endpoint: Endpoint, tmp_path: Path) -> Callable[..., str]:
    """Runs s3cmd; what it printed."""
    if reason := why_missing("s3cmd"):
        pytest.skip(reason)
    config = tmp_path / "s3cfg"
    host = endpoint.url.removeprefix("http://")
    lines = [
        "[default]",
        f"access_key = {endpoint.key}",
        f"secret_key = {endpoint.secret}",
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
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
