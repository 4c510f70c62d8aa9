"""webdataset's loader reads shards through our reader, in worker processes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aistore import LocalCluster
    from aistore.sdk import Bucket

pytestmark = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("webdataset")), reason="needs PyTorch and webdataset: run make test-torch"
)

SHARDS = 4
SAMPLES = 25

CODE = """
import json, sys
import webdataset
from webdataset.gopen import gopen_schemes
from aistore.sdk import Client

url, bucket, shards, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = Client(url)

def open_object(url, mode="rb", bufsize=8192):
    return client.get_object_from_url(url).get_reader().as_file()

gopen_schemes["ais"] = open_object
client.bucket(bucket).list_all_objects()  # a connection that workers must not share

urls = f"ais://{bucket}/{{0..{shards - 1}}}.tar"
samples = webdataset.WebDataset(urls, shardshuffle=False).decode().to_tuple("__key__", "cls", "bin").batched(10)
seen = []
for keys, labels, contents in webdataset.WebLoader(samples, batch_size=None, num_workers=workers):
    seen += [[key, int(label), len(content)] for key, label, content in zip(keys, labels, contents)]
print(json.dumps(seen))
"""


def fill(bucket: Bucket) -> list[list[object]]:
    """Shards, and what is in them."""
    expected: list[list[object]] = []
    for shard in range(SHARDS):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for number in range(shard * SAMPLES, (shard + 1) * SAMPLES):
                for kind, content in (("cls", str(number).encode()), ("bin", bytes(number * 100))):
                    member = tarfile.TarInfo(f"{number:04}.{kind}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                expected.append([f"{number:04}", number, number * 100])
        bucket.object(f"{shard}.tar").get_writer().put_content(packed.getvalue())
    return expected


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_comes_once(bucket: Bucket, cluster: LocalCluster, workers: int) -> None:
    expected = fill(bucket)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, cluster.url, bucket.name, str(SHARDS), str(workers)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (sorted(seen) if workers else seen) == expected
