"""What is measured of an SDK; run by the interpreter whose `aistore` is meant, so it uses only what official and own SDK share.

python workload.py OPERATION ENDPOINT [COUNT]      prints one line of JSON
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

BUCKET = "bench"
KIB = bytes(range(256)) * 4
GIB = 1 << 30


def peak_mib() -> float:
    """Peak resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


def cpu_per_call(call, count: int) -> dict[str, float]:  # type: ignore[no-untyped-def]  # runs without the project's types
    """CPU and wall time of `count` calls, after as many to warm up as a tenth."""
    for _ in range(max(1, count // 10)):
        call()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_us": cpu / count * 1e6, "per_s": count / wall}


def in_threads(call, count: int, threads: int = 8) -> dict[str, float]:  # type: ignore[no-untyped-def]  # as above
    """Calls per second of several threads together."""
    call()
    workers = [threading.Thread(target=lambda: [call() for _ in range(count // threads)]) for _ in range(threads)]
    wall = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"per_s": count / (time.perf_counter() - wall)}


def in_tasks(endpoint: str, count: int, tasks: int = 32) -> dict[str, float]:
    """CPU per call and calls per second of several asyncio tasks together; the official SDK has no asyncio."""
    import asyncio

    from aistore import AsyncClient

    async def work() -> dict[str, float]:
        async with AsyncClient(endpoint) as client:
            bucket = client.bucket(BUCKET)

            async def get(times: int) -> None:
                for _ in range(times):
                    await bucket.object("kib").get_reader().read_all()

            await asyncio.gather(*(get(max(1, count // 10 // tasks)) for _ in range(tasks)))
            cpu, wall, times = time.process_time(), time.perf_counter(), count // tasks
            await asyncio.gather(*(get(times) for _ in range(tasks)))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu_us": cpu / (times * tasks) * 1e6, "per_s": times * tasks / wall}

    return asyncio.run(work())


def bare_loop(endpoint: str) -> dict[str, float]:
    """Read the big object by nothing but `recv_into` into one buffer: what the machine can do."""
    url = urlsplit(endpoint)
    path = f"/v1/objects/{BUCKET}/gib"
    host, port = str(url.hostname), int(url.port or 80)
    for _ in range(5):
        sock = socket.create_connection((host, port))
        sock.sendall(f"GET {path}?provider=ais HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = sock.recv(65536)
        wall, cpu = time.perf_counter(), time.process_time()
        end = data.index(b"\r\n\r\n") + 4
        got = len(data) - end
        buffer = memoryview(bytearray(GIB))
        buffer[:got] = data[end:]
        while got < GIB:
            n = sock.recv_into(buffer[got:])
            if not n:
                raise ConnectionError("the body broke off")
            got += n
        return {
            "gb_s": GIB / (time.perf_counter() - wall) / 1e9,
            "cpu_s": time.process_time() - cpu,
            "peak_mib": peak_mib(),
        }
    raise ConnectionError("no answer")


def main() -> None:
    """Run one operation."""
    operation, endpoint = sys.argv[1], sys.argv[2]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    if operation == "bare":
        print(json.dumps(bare_loop(endpoint)))
        return
    if operation == "aget":
        print(json.dumps(in_tasks(endpoint, count)))
        return
    from aistore.sdk import Client

    bucket = Client(endpoint).bucket(BUCKET)
    result: dict[str, float]
    if operation == "get":
        result = cpu_per_call(lambda: bucket.object("kib").get_reader().read_all(), count)
    elif operation == "get8":
        result = in_threads(lambda: bucket.object("kib").get_reader().read_all(), count)
    elif operation == "head":
        result = cpu_per_call(lambda: bucket.object("kib").head(), count)
    elif operation == "range":
        result = cpu_per_call(lambda: bucket.object("kib").get_reader(byte_range="bytes=100-899").read_all(), count)
    elif operation == "put":
        result = cpu_per_call(lambda: bucket.object("put").get_writer().put_content(KIB), count)
    elif operation == "gib":
        bucket.object("kib").get_reader().read_all()
        before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
        data = bucket.object("gib").get_reader().read_all()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert len(data) == GIB
        result = {"gb_s": GIB / wall / 1e9, "cpu_s": cpu, "over_mib": peak_mib() - before - 1024}
    elif operation in ("gib_to_file", "gib_from_file"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gib"
            if operation == "gib_from_file":
                with path.open("wb") as file:
                    block = os.urandom(1 << 20)
                    for _ in range(1024):
                        file.write(block)
            wall, cpu = time.perf_counter(), time.process_time()
            if operation == "gib_to_file":
                with path.open("wb") as file:
                    bucket.object("gib").get_reader(writer=file)
                assert path.stat().st_size == GIB
            else:
                bucket.object("gib-put").get_writer().put_file(path)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            result = {"gb_s": GIB / wall / 1e9, "cpu_s": cpu, "peak_mib": peak_mib()}
    elif operation == "list":
        bucket = Client(endpoint).bucket("million")
        wall, cpu, n = time.perf_counter(), time.process_time(), 0
        for _ in bucket.list_objects_iter():
            n += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        result = {"per_s": n / wall, "entries": n, "cpu_us": cpu / n * 1e6, "peak_mib": peak_mib()}
    elif operation == "first_get":
        bucket.object("kib").get_reader().read_all()
        result = {}
    else:
        raise SystemExit(f"unknown operation {operation}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
