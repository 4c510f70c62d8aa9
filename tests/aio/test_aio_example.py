"""`examples/async_compress.py`: what it prints, and what it stores."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistore import LocalCluster

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "async_compress.py"


def run_example(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_runs_on_its_own() -> None:
    assert run_example().startswith("200 objects, 7,")


def test_it_compresses_a_bucket(cluster: LocalCluster) -> None:
    with cluster.client() as client:
        source = client.bucket("example").create()
        for name in ("a", "dir/b"):
            source.object(name).get_writer().put_content(name.encode() * 1000)
        assert "2 objects, 6,000 bytes" in run_example("example", "example-packed", AIS_ENDPOINT=cluster.url)
        packed = client.bucket("example-packed")
        assert [entry.name for entry in packed.list_all_objects()] == ["a.gz", "dir/b.gz"]
        assert gzip.decompress(packed.object("dir/b.gz").get_reader().read_all()) == b"dir/b" * 1000
        assert packed.object("a.gz").head().custom_metadata["original-size"] == "1000"
        for bucket in (source, packed):
            bucket.delete()
