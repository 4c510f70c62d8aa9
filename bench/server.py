"""The embedded server under load of a C client (`wrk`), and its start."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PUT_SCRIPT = """
local count, thread_id = 0, 0
local started = 0
function setup(thread) thread:set("id", started); started = started + 1 end
request = function()
  count = count + 1
  return wrk.format("PUT", "/v1/objects/bench/p" .. id .. "-" .. (count % 20000) .. "?provider=ais", nil, string.rep("x", 1024))
end
"""


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def wrk(pid: int, *arguments: str, seconds: int = 5) -> dict[str, float]:
    """Requests per second, and the server's CPU per request."""
    if shutil.which("wrk") is None:
        raise SystemExit(
            "the server benchmark needs wrk (Debian, Ubuntu: sudo apt install wrk; macOS: brew install wrk)"
        )
    before = cpu_seconds(pid)
    out = subprocess.run(["wrk", "-t1", f"-d{seconds}", *arguments], check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(pid) - before
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"the server refused requests of wrk:\n{out}")
    requests = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]  # wrk always prints it
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]  # as above
    return {"per_s": rate, "cpu_us": used / requests * 1e6}


def start_and_memory(folder: Path) -> dict[str, float]:
    """Seconds from starting the server's process to its first answer, and its memory then."""
    from aistore import LocalCluster

    began = time.perf_counter()
    with LocalCluster(folder) as cluster:
        cluster.client().cluster().get_info()
        return {"start_s": time.perf_counter() - began, "idle_mib": resident_mib(cluster.pid or 0)}


def fill(folder: Path, count: int, size: int = 1) -> None:
    """Put `count` objects of `size` bytes into bucket `million` of a data folder that nobody serves."""
    code = "import sys; from pathlib import Path; from bench.server import fill_here; fill_here(Path(sys.argv[1]), *map(int, sys.argv[2:]))"
    subprocess.run([sys.executable, "-c", code, str(folder), str(count), str(size)], check=True)


def fill_here(folder: Path, count: int, size: int) -> None:
    """`fill`, in this process."""
    from aistore.server.folder import ServedFolder
    from aistore.server.store.store import Store
    from aistore.wire.checksum import digest
    from aistore.wire.names import BucketId
    from aistore.wire.props import BucketProps, pack

    content = bytes(size)
    checksum = digest("xxhash2", content)

    async def run() -> None:
        store = Store(folder, "relaxed")
        await store.open()
        bucket = await store.create_bucket(BucketId("ais", "", "", "million"), lambda _: pack(BucketProps()))
        for names in _batches(count):
            await asyncio.gather(*(store.put(bucket, name, content, "xxhash2", checksum) for name in names))
        await store.close()

    served = ServedFolder(folder)
    asyncio.run(run())
    served.close()


def _batches(count: int, size: int = 5000) -> Iterator[list[str]]:
    for start in range(0, count, size):
        yield [f"train/{i // 1000:06d}/sample-{i:09d}.jpg" for i in range(start, min(count, start + size))]


def page_costs(endpoint: str, count: int) -> dict[str, float]:
    """Milliseconds for a page of 1,000 entries at the start, the middle and the end of the bucket."""
    from aistore.sdk import Client

    bucket = Client(endpoint).bucket("million")
    costs = {}
    for where, index in (("start", 0), ("middle", count // 2), ("end", count - 1001)):
        token = f"train/{index // 1000:06d}/sample-{index:09d}.jpg"
        best = float("inf")
        for _ in range(15):
            began = time.perf_counter()
            bucket.list_objects(page_size=1000, continuation_token=token)
            best = min(best, time.perf_counter() - began)
        costs[where] = best * 1e3
    return costs


def put_script() -> str:
    """A file with wrk's PUT script."""
    handle, path = tempfile.mkstemp(suffix=".lua", text=True)
    with os.fdopen(handle, "w") as file:
        file.write(PUT_SCRIPT)
    return path


def peak_mib(pid: int) -> float:
    """Highest resident memory a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
