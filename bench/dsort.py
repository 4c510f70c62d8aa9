"""dSort: records sorted into new shards, against GNU tar that unpacks the shards into files and packs those again in that order."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aistore import LocalCluster
from bench import server
from bench.report import Row

if TYPE_CHECKING:
    from aistore.sdk import Bucket

RECORDS = 20_000
RECORD_BYTES = 105 * 1024  # of two members
SHARDS = 20
LIMIT_MIB = 256
ROUNDS = 3


def dsort(quick: bool) -> list[Row]:
    """The one row; `quick` sorts a tenth."""
    count = RECORDS // 10 if quick else RECORDS
    ours, theirs = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(Path(folder) / "data", durability="relaxed") as cluster,
    ):
        shards = Path(folder) / "shards"
        shards.mkdir()
        names = _fill(cluster.client().bucket("in").create(), shards, count)
        for _ in range(ROUNDS):
            ours.append(_sort(cluster, names))
            theirs.append(_repack(Path(folder), names))
            print(".", end="", flush=True)
        peak = server.peak_mib(cluster.pid or 0)
    a, b = min(ours), min(theirs)
    total = count * RECORD_BYTES / (1 << 30)
    return [
        Row(
            f"dSort of {count:,} records, {total:.1f} GiB, limit {LIMIT_MIB} MiB", f"{a:.2f} s", "", 0,
            f"at most twice GNU tar, under {LIMIT_MIB} MiB", a <= 2 * b and peak < LIMIT_MIB,
            f"GNU tar unpacks and packs the same in {b:.2f} s: {a / b:.2f} of that; peak memory of the server {peak:.0f} MiB",
        )
    ]  # fmt: skip


def _fill(bucket: Bucket, folder: Path, count: int) -> list[str]:
    """Shards in the bucket and in a folder; names of all members, in order."""
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    rest = os.urandom(RECORD_BYTES)
    names = []
    for shard in range(SHARDS):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for number in numbers[shard::SHARDS]:
                for extension, size in ((".cls", 1024), (".jpg", RECORD_BYTES - 1024)):
                    info = tarfile.TarInfo(f"{number:06}{extension}")
                    info.size = size
                    archive.addfile(info, io.BytesIO(number.to_bytes(8, "big") + rest[: size - 8]))
                    names.append(info.name)
        data = out.getbuffer()
        bucket.object(f"in-{shard:02}.tar").get_writer().put_content(data)
        (folder / f"in-{shard:02}.tar").write_bytes(data)
    return sorted(names)


def _sort(cluster: LocalCluster, names: list[str]) -> float:
    """Seconds from the request until all shards are there; their members are compared with what they should be."""
    client = cluster.client()
    target = client.bucket("out").create()
    job = client.dsort()
    began = time.perf_counter()
    job.start(
        {
            "input_bck": {"name": "in", "provider": "ais"},
            "input_format": {"template": f"in-{{00..{SHARDS - 1}}}"},
            "output_bck": {"name": "out", "provider": "ais"},
            "output_format": "out-{00..99}",
            "output_shard_size": f"{len(names) // 2 * RECORD_BYTES // SHARDS}",
            "max_mem_usage": f"{LIMIT_MIB}MB",
        }
    )
    result = job.wait(600, verbose=False)
    took = time.perf_counter() - began
    assert result, result
    found: list[str] = []
    for entry in target.list_all_objects():
        with tarfile.open(fileobj=target.object(entry.name).get_reader().as_file()) as archive:
            found += archive.getnames()
    assert found == names, (len(found), len(names))
    target.delete()
    return took


def _repack(folder: Path, names: list[str]) -> float:
    """Seconds that GNU tar takes to unpack all shards, and to pack their files into as many shards in order."""
    files, out = folder / "files", folder / "packed"
    lists = []
    each = -(-len(names) // SHARDS)
    for shard in range(SHARDS):
        lists.append(folder / f"list-{shard}")
        lists[-1].write_text("\n".join(names[shard * each : (shard + 1) * each]))
    files.mkdir()
    out.mkdir()
    began = time.perf_counter()
    for packed in sorted((folder / "shards").iterdir()):
        subprocess.run(["tar", "-xf", packed, "-C", files], check=True)
    for shard, one in enumerate(lists):
        subprocess.run(["tar", "-cf", out / f"{shard}.tar", "-C", files, "-T", one], check=True)
    took = time.perf_counter() - began
    shutil.rmtree(files)
    shutil.rmtree(out)
    return took
