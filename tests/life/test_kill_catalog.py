"""A server that is killed while objects and buckets are copied, renamed, promoted, put together from parts and deleted.

Workers do one operation after another on buckets of their own and know what each of them makes. After the kill the last one was made or
it was not; jobs that go from object to object may have made a part of it, object by object. What is stored is counted as well: content
that objects share lies on the disk once, and what nobody refers to is gone.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest

from aistore import LocalCluster
from calling import Caller, where
from programs import target_pids
from store_truth import problems, stored_bytes
from waiting import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aistore.server.store.durability import Durability

SIZES = (90, 3_000, 20_000, 300_000)
OBJECTS = 24
"""Objects of a new bucket."""
BUCKETS_MAX = 4
"""Buckets of a worker; then one is destroyed."""

Objects = dict[str, bytes]
World = dict[str, Objects]
"""Buckets, with the content of their objects."""


class Operation(NamedTuple):
    """What is under way: what it makes of the world, and whether at once or object by object."""

    name: str
    after: World
    whole: bool


def wait_for(call: Caller, job_id: str) -> dict[str, object]:
    """The status of a job once it has ended."""
    deadline = time.monotonic() + DEADLINE
    while True:
        got = call("GET", "/v1/cluster?what=status", json.dumps({"ID": job_id}).encode())
        assert got.status == 200, got.body
        status: dict[str, object] = json.loads(got.body)
        if status["end_time"]:
            return status
        assert time.monotonic() < deadline, f"job {job_id} does not end"
        time.sleep(0.002)


class Worker(threading.Thread):
    """Changes buckets of its own in every way."""

    def __init__(self, number: int, url: str, inbox: Path, seed: int) -> None:
        super().__init__()
        self.number = number
        self.url = url
        self.inbox = inbox
        self.random = random.Random(seed)
        self.count = 0
        self.world: World = {}
        self.under_way: Operation | None = None
        self.upload: tuple[str, str, str, dict[int, bytes]] | None = None
        """Bucket, object and id of an upload that was not completed, and its parts."""
        self.done: dict[str, int] = {}
        """How often each operation was done."""
        self.wrong: BaseException | None = None

    def again(self, url: str) -> Worker:
        """A worker that goes on where this one was stopped."""
        other = Worker(self.number, url, self.inbox, self.random.randrange(1 << 30))
        other.world, other.upload, other.done, other.count = self.world, self.upload, self.done, self.count
        return other

    def run(self) -> None:
        operations: list[Callable[[Caller], None]] = [
            self.put, self.copy_object, self.copy_group, self.copy_bucket, self.copy_into_bucket, self.rename_bucket, self.rename_object,
            self.promote, self.upload_in_parts, self.delete_prefix, self.destroy_bucket,
        ]  # fmt: skip
        try:
            with Caller(self.url) as call:
                while True:
                    if self.upload is not None and not self.fits_in(self.upload):
                        self.upload = None  # its bucket was destroyed, or has another name now
                    operation = self.random.choice(operations) if self.world else self.make_bucket
                    operation(call)
                    if self.under_way is not None:
                        self.world, name, self.under_way = self.under_way.after, self.under_way.name, None
                        self.done[name] = self.done.get(name, 0) + 1
        except (OSError, http.client.HTTPException):
            pass  # the server is dead
        except BaseException as error:
            self.wrong = error

    # -- what is there -----------------------------------------------------------------------------------------

    def fresh(self, kind: str) -> str:
        self.count += 1
        return f"w{self.number}-{kind}{self.count}"

    def content(self, size: int | None = None) -> bytes:
        """Bytes that nothing else has."""
        self.count += 1
        stamp = b"%d:%d;" % (self.number, self.count)
        size = size if size is not None else self.random.choice(SIZES)
        return (stamp * (size // len(stamp) + 1))[:size]

    def bucket(self) -> str:
        return self.random.choice(sorted(self.world))

    def object_in(self, bucket: str) -> str | None:
        names = sorted(self.world[bucket])
        return self.random.choice(names) if names else None

    def begin(self, name: str, changes: dict[str, Objects | None], *, whole: bool = True) -> None:
        """From now on the operation may have happened: buckets become these, or are gone."""
        after = {**self.world, **{bucket: objects for bucket, objects in changes.items() if objects is not None}}
        for bucket, objects in changes.items():
            if objects is None:
                del after[bucket]
        self.under_way = Operation(name, after, whole)

    def fits_in(self, upload: tuple[str, str, str, dict[int, bytes]]) -> bool:
        return upload[0] in self.world

    def finished(self, call: Caller, job_id: str) -> None:
        """Wait for the end of a job, which must not fail."""
        status = wait_for(call, job_id)
        assert not status["err"] and not status["aborted"], status

    # -- operations --------------------------------------------------------------------------------------------

    def make_bucket(self, call: Caller) -> None:
        name = self.fresh("b")
        self.begin("make bucket", {name: {}})
        call.make_bucket(name)
        self.world = {**self.world, name: {}}
        for i in range(OBJECTS):
            content = self.content()
            self.begin("fill", {name: {**self.world[name], f"{i % 3}/o{i}.x": content}})
            assert call.put(name, f"{i % 3}/o{i}.x", content).status == 200
            assert self.under_way is not None
            self.world = self.under_way.after

    def put(self, call: Caller) -> None:
        bucket, content = self.bucket(), self.content()
        name = self.object_in(bucket) or "new"
        self.begin("put", {bucket: {**self.world[bucket], name: content}})
        assert call.put(bucket, name, content).status == 200

    def copy_object(self, call: Caller) -> None:
        source, target = self.bucket(), self.bucket()
        name = self.object_in(source)
        if name is None:
            return
        new = self.random.choice(["copied", self.object_in(target) or "copied"])
        self.begin("copy object", {target: {**self.world[target], new: self.world[source][name]}})
        path = f"{where(source, name)}?object_to={quote(f'ais/@#/{target}/{new}', safe='')}"
        got = call("PUT", path)
        assert got.status == 200, got.body

    def copy_group(self, call: Caller) -> None:
        source, target = self.bucket(), self.bucket()
        if source == target:
            return
        chosen = {name: content for name, content in self.world[source].items() if self.random.random() < 0.5}
        prepend = (
            self.fresh("g") + "/"
        )  # the job is one of those that live on: its work is seen to be done by its objects
        made = {prepend + name: content for name, content in chosen.items()}
        if not made:
            return
        self.begin("copy group", {target: {**self.world[target], **made}}, whole=False)
        value = {"objnames": sorted(chosen), "tobck": {"name": target, "provider": "ais"}, "prepend": prepend}
        got = call.action("POST", f"/v1/buckets/{source}", "copy-listrange", value)
        assert got.status == 200, got.body
        self.until_there(call, target, prepend, len(made))

    def until_there(self, call: Caller, bucket: str, prefix: str, count: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while sum(name.startswith(prefix) for name in call.names(bucket)) < count:
            assert time.monotonic() < deadline, f"{bucket}/{prefix} is not complete"
            time.sleep(0.002)

    def copy_bucket(self, call: Caller) -> None:
        source, target = self.bucket(), self.fresh("c")
        if len(self.world) >= BUCKETS_MAX:
            return
        self.begin("copy bucket", {target: dict(self.world[source])})
        self.copy(call, source, target, "")

    def copy_into_bucket(self, call: Caller) -> None:
        source, target = self.bucket(), self.bucket()
        if source == target:
            return
        prepend = self.random.choice(["", "p/"])
        new = {prepend + name: content for name, content in self.world[source].items()}
        if len(new) + len(self.world[target]) > 8 * OBJECTS:
            return
        self.begin("copy into bucket", {target: {**self.world[target], **new}}, whole=False)
        self.copy(call, source, target, prepend)

    def copy(self, call: Caller, source: str, target: str, prepend: str) -> None:
        path = f"/v1/buckets/{source}?bck_to={quote(f'ais/@#/{target}/', safe='')}"
        got = call.action("POST", path, "copy-bck", {"prepend": prepend})
        assert got.status == 200, got.body
        self.finished(call, got.body.decode())

    def rename_bucket(self, call: Caller) -> None:
        bucket, new = self.bucket(), self.fresh("r")
        self.begin("rename bucket", {bucket: None, new: self.world[bucket]})
        if self.upload is not None and self.upload[0] == bucket:
            self.upload = None
        got = call.action("POST", f"/v1/buckets/{bucket}?bck_to={quote(f'ais/@#/{new}/', safe='')}", "move-bck")
        assert got.status == 200, got.body
        self.finished(call, got.body.decode())

    def rename_object(self, call: Caller) -> None:
        bucket = self.bucket()
        name, other = self.object_in(bucket), self.object_in(bucket)
        new = self.random.choice([other, "renamed"])
        if name is None or new is None or new == name:
            return
        objects = {**self.world[bucket], new: self.world[bucket][name]}
        del objects[name]
        self.begin("rename object", {bucket: objects})
        message = json.dumps({"action": "rename-obj", "name": new}).encode()
        got = call("POST", where(bucket, name), message)
        assert got.status == 200, got.body

    def promote(self, call: Caller) -> None:
        """A folder of files, which are deleted; more than a few are a job."""
        bucket, folder = self.bucket(), self.inbox / self.fresh("f")
        folder.mkdir()
        new = {f"in/{i}": self.content() for i in range(self.random.choice([1, 5, 20]))}
        for name, content in new.items():
            (folder / name.partition("/")[2]).write_bytes(content)
        self.begin("promote", {bucket: {**self.world[bucket], **new}}, whole=False)
        message = {
            "action": "promote",
            "name": str(folder),
            "value": {"src": str(folder), "obj": "in/", "ovw": True, "dls": True},
        }
        got = call("POST", f"/v1/objects/{bucket}", json.dumps(message).encode())
        assert got.status == 200, got.body
        if got.body:
            self.finished(call, got.body.decode())
        assert list(folder.iterdir()) == []

    def upload_in_parts(self, call: Caller) -> None:
        """Begin an upload, or complete the one that was begun; parts are sent again, and some are of another size."""
        if self.upload is None:
            bucket = self.bucket()
            name = self.object_in(bucket) or "parts"
            got = call.action("POST", where(bucket, name), "mpt-upload")
            assert got.status == 200, got.body
            self.upload = (bucket, name, got.body.decode().strip('"'), {})
            for number in (2, 1, 4, 3, self.random.choice([1, 3])):
                self.send_part(call, number)
            if self.random.random() < 0.3:
                return
        bucket, name, upload_id, parts = self.upload
        for number in {1, 2, 3, 4} - parts.keys():
            self.send_part(call, number)
        whole = b"".join(parts[number] for number in sorted(parts))
        self.begin("upload in parts", {bucket: {**self.world[bucket], name: whole}})
        value = [{"part-number": number, "etag": ""} for number in parts]
        got = call.action("POST", f"{where(bucket, name)}?uploadId={upload_id}", "mpt-complete", value)
        assert got.status == 200, got.body
        self.upload = None

    def send_part(self, call: Caller, number: int) -> None:
        assert self.upload is not None
        bucket, name, upload_id, parts = self.upload
        content = self.content(self.random.choice([40_000, 40_000, 40_000, 15_000, 70_000]))
        parts.pop(number, None)  # until it is acknowledged it may be the one or the other: it is sent again
        got = call("PUT", f"{where(bucket, name)}?uploadId={upload_id}&partNumber={number}", content)
        assert got.status == 200, got.body
        parts[number] = content

    def delete_prefix(self, call: Caller) -> None:
        bucket, prefix = self.bucket(), self.random.choice(["0/", "1/", "p/", "in/", f"w{self.number}-g"])
        left = {name: content for name, content in self.world[bucket].items() if not name.startswith(prefix)}
        self.begin("delete by prefix", {bucket: left}, whole=False)
        got = call.action("DELETE", f"/v1/buckets/{bucket}", "delete-listrange", {"template": prefix})
        assert got.status == 200, got.body
        self.finished(call, got.body.decode())

    def destroy_bucket(self, call: Caller) -> None:
        bucket = self.bucket()
        self.begin("destroy bucket", {bucket: None})
        got = call.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck")
        assert got.status == 200, got.body

    # -- after the restart -------------------------------------------------------------------------------------

    def check(self, call: Caller, buckets: list[str]) -> None:
        """What is there is what may be there; from now on it is that."""
        found: World = {}
        for bucket in buckets:
            if bucket.startswith(f"w{self.number}-"):
                found[bucket] = {}
                for name in call.names(bucket):
                    got = call.get(bucket, name)
                    assert got.status == 200, f"{bucket}/{name}: {got.body!r}"
                    found[bucket][name] = got.body
        operation, self.under_way = self.under_way, None
        told = f"worker {self.number}, {operation.name if operation else 'nothing'} under way"
        if operation is None:
            assert found == self.world, f"{told}: {difference(self.world, found)}"
        elif operation.whole:
            assert found in (self.world, operation.after), (
                f"{told}: from before {difference(self.world, found)}, from after {difference(operation.after, found)}"
            )
        else:
            assert found.keys() == self.world.keys() == operation.after.keys(), told
            for bucket, objects in found.items():
                before, after = self.world[bucket], operation.after[bucket]
                for name in before.keys() | after.keys() | objects.keys():
                    assert objects.get(name) in (before.get(name), after.get(name)), f"{told}: {bucket}/{name}"
            self.check_inbox(found, operation)
        self.world = found
        if self.upload is not None and operation is not None and operation.name == "upload in parts":
            bucket, name, _, parts = self.upload
            whole = b"".join(parts[number] for number in sorted(parts))
            if found[bucket].get(name) == whole:
                self.upload = None

    def check_inbox(self, found: World, operation: Operation) -> None:
        """What was to be promoted is an object or still a file."""
        if operation.name == "promote":
            folders = sorted(self.inbox.glob(f"w{self.number}-f*"), key=lambda path: int(path.name.rpartition("f")[2]))
            left = {path.read_bytes() for path in folders[-1].iterdir()} if folders else set()
            for bucket, after in operation.after.items():
                for name, content in after.items():
                    if self.world[bucket].get(name) != content:
                        assert found[bucket].get(name) == content or content in left, f"{bucket}/{name} is lost"


def difference(expected: World, found: World) -> list[str]:
    told = [f"{bucket} is missing" for bucket in expected.keys() - found.keys()]
    told += [f"{bucket} is there" for bucket in found.keys() - expected.keys()]
    for bucket in expected.keys() & found.keys():
        one, other = expected[bucket], found[bucket]
        told += [
            f"{bucket}/{name}: {len(one.get(name, b''))} bytes, found {len(other.get(name, b''))}"
            for name in sorted(one.keys() | other.keys())
            if one.get(name) != other.get(name)
        ]
    return told


def check_disk(folder: Path, workers: list[Worker]) -> None:
    """What the workers' objects and parts are made of is stored once, and nothing else."""
    contents = {content for worker in workers for objects in worker.world.values() for content in objects.values()}
    wanted = sum(map(len, contents))

    def settled() -> bool:
        stored, parts = stored_bytes(folder)
        return stored - parts == wanted and problems(folder) == []

    with suppress(AssertionError):
        until(settled)
    assert problems(folder) == []
    stored, parts = stored_bytes(folder)
    assert stored - parts == wanted


def rounds_of_kills(folder: Path, rounds: int, durability: Durability, targets: int, seed: int, longest: float) -> None:
    dice = random.Random(seed)
    inbox = folder / "inbox"
    inbox.mkdir(parents=True)
    with LocalCluster(folder / "data", durability=durability, targets=targets, promote_root=inbox) as cluster:
        workers = [Worker(number, cluster.url, inbox, dice.randrange(1 << 30)) for number in range(3)]
        for number in range(rounds):
            for worker in workers:
                worker.start()
            if number == 0:  # something has to be there that could be lost
                until(lambda: all(worker.done or worker.wrong for worker in workers))  # noqa: B023 (awaited here)
            time.sleep(dice.uniform(0.02, longest))  # when it dies is what varies
            for pid in (*target_pids(cluster).values(), cluster.pid):
                os.kill(pid, signal.SIGKILL)
            for worker in workers:
                worker.join()
            for worker in workers:
                if worker.wrong is not None:
                    raise worker.wrong
            cluster.restart()
            with Caller(cluster.url) as call:
                got = call.action("GET", "/v1/buckets?provider=ais", "list")
                names = [bucket["name"] for bucket in json.loads(got.body)]
                for worker in workers:
                    worker.check(call, names)
            check_disk(cluster.path, workers)
            workers = [worker.again(cluster.url) for worker in workers]
        done: dict[str, int] = {}
        for worker in workers:
            for name, count in worker.done.items():
                done[name] = done.get(name, 0) + count
    assert sum(done.values()) > rounds, done


@pytest.mark.parametrize(("durability", "targets"), [("relaxed", 1), ("strict", 1), ("relaxed", 2)])
def test_kills_while_the_catalog_is_changed(tmp_path: Path, durability: Durability, targets: int) -> None:
    rounds_of_kills(tmp_path, 2, durability, targets, seed=targets, longest=0.7)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("durability", "targets"), [("relaxed", 1), ("strict", 1), ("strict", 3)])
def test_many_kills_while_the_catalog_is_changed(tmp_path: Path, durability: Durability, targets: int) -> None:
    rounds_of_kills(tmp_path, 60, durability, targets, seed=100 + targets, longest=1.2)


# -- large jobs ----------------------------------------------------------------------------------------------------

LARGE = 6_000


def fill_large(call: Caller, bucket: str, count: int) -> None:
    """Make a bucket of `count` objects: some are stored, the others are copies of them."""
    call.make_bucket(bucket)
    for i in range(20):
        assert call.put(bucket, f"o/{i}", b"%d," % i * (10 if i % 2 else 3_000)).status == 200
    for i in range(1, count // 20):
        value = {"prepend": f"{i}/", "prefix": "o/"}
        path = f"/v1/buckets/{bucket}?bck_to={quote(f'ais/@#/{bucket}-all/', safe='')}"
        got = call.action("POST", path, "copy-bck", value)
        assert got.status == 200, got.body
        wait_for(call, got.body.decode())


def kill_jobs(folder: Path, rounds: int, durability: Durability, targets: int, seed: int) -> None:
    dice = random.Random(seed)
    cut_off = 0
    with LocalCluster(folder, durability=durability, targets=targets) as cluster:
        with Caller(cluster.url) as call:
            fill_large(call, "src", LARGE)
        source = "src-all"
        with Caller(cluster.url) as call:
            names = set(call.names(source))
            there: set[str] = set()
            call.make_bucket("there")
        longest = 0.04
        for i in range(rounds):
            action, bucket = dice.choice(
                [("copy-bck", f"new{i}"), ("copy-bck", "there"), ("delete-listrange", "there")]
            )
            with Caller(cluster.url) as call:
                began = time.monotonic()
                if action == "copy-bck":
                    path = f"/v1/buckets/{source}?bck_to={quote(f'ais/@#/{bucket}/', safe='')}"
                    got = call.action("POST", path, action, {})
                else:
                    got = call.action("DELETE", "/v1/buckets/there", action, {"template": ""})
                assert got.status == 200, got.body
                job_id = got.body.decode()
                time.sleep(dice.uniform(0, longest))
            for pid in (*target_pids(cluster).values(), cluster.pid):
                os.kill(pid, signal.SIGKILL)
            cluster.restart()
            with Caller(cluster.url) as call:
                # At once: what is left over of a job that was cut off is gone before the server answers.
                got = call.action("GET", "/v1/buckets?provider=ais", "list")
                buckets = {one["name"] for one in json.loads(got.body)}
                found = set(call.names(bucket)) if bucket in buckets else None
                status = wait_for(call, job_id)
                cut_off += bool(status["aborted"])
                told = f"{action} of {bucket}, {status}, {time.monotonic() - began:.2f} s"
                if bucket != "there":
                    assert found == (None if status["aborted"] else names), told
                    if found:
                        assert call.action("DELETE", f"/v1/buckets/{bucket}", "destroy-bck").status == 200
                else:
                    assert found is not None
                    after = names if action == "copy-bck" else set()
                    assert there & after <= found <= there | after, told
                    assert status["aborted"] or found == after, told
                    there = found
                longest *= 1.2 if status["aborted"] else 0.5  # so that about half are cut off
                for name in dice.sample(sorted(there), min(len(there), 20)):
                    original = name.partition("/")[2]
                    assert call.get("there", name).body == call.get("src", original).body, name
        until(lambda: problems(folder) == [])
    assert cut_off


@pytest.mark.parametrize(("durability", "targets"), [("relaxed", 1), ("strict", 1)])
def test_kills_in_the_middle_of_large_jobs(tmp_path: Path, durability: Durability, targets: int) -> None:
    kill_jobs(tmp_path / "data", 5, durability, targets, seed=targets)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("durability", "targets"), [("relaxed", 1), ("strict", 3)])
def test_many_kills_in_the_middle_of_large_jobs(tmp_path: Path, durability: Durability, targets: int) -> None:
    kill_jobs(tmp_path / "data", 60, durability, targets, seed=100 + targets)
