"""The store does what a dict would do, also over restarts and crashes."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aistore.server.store import content
from aistore.server.store.copying import Copied, copy_objects, move_object
from aistore.server.store.errors import BucketExists, BucketGone, ObjectMissing, PartsRefused, UploadGone
from aistore.server.store.scan import Bounds, Scanner
from aistore.server.store.store import Store
from aistore.wire.checksum import digest
from store_truth import bucket_id, crash_copy, make_bucket, problems, put, put_part, read, settle, upload

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aistore.server.store.rows import Bucket, ObjectRow

T = TypeVar("T")

BUCKETS = st.sampled_from(["one", "two"])
NAMES = st.sampled_from(["a", "a/b", "b", "é", "zz", "a\U0001f600"])
DATA = st.binary(max_size=40)
PAIRS = st.dictionaries(st.sampled_from(["k", "l", "ü"]), st.text(st.characters(codec="utf-8"), max_size=4), max_size=2)


@dataclass
class Object:
    data: bytes
    version: str
    custom: dict[str, str] = field(default_factory=dict)


@dataclass
class Uploading:
    where: str
    bid: int
    name: str
    parts: dict[int, bytes]


class StoreMachine(RuleBasedStateMachine):
    """Store and dict side by side. Blocks of content ids are tiny, so that they change often."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="aistore-model-"))
        self.root = self.folder / "0"
        self.crashes = 0
        self.small_blocks = patch.object(content, "_BLOCK", 4)
        self.small_blocks.start()
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, dict[str, Object]] = {}
        self.uploads: dict[str, Uploading] = {}
        self.stores: list[Store] = []
        self.start()

    def start(self) -> None:
        async def start() -> Store:
            store = Store(self.root, "relaxed")
            await store.open()
            return store

        self.store = self.run(start())
        self.stores.append(self.store)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    def bucket(self, name: str) -> Bucket | None:
        bucket = self.store.bucket(bucket_id(name))
        assert (bucket is not None) == (name in self.model)
        return bucket

    @initialize()
    def first_objects(self) -> None:
        self.create("one")
        self.put("one", "a", b"small", False, {"k": "v"}, False, True)
        self.put("one", "b", b"large", True, {}, False, True)

    @rule(name=BUCKETS)
    def create(self, name: str) -> None:
        try:
            self.run(make_bucket(self.store, name))
        except BucketExists:
            assert name in self.model
        else:
            assert name not in self.model
            self.model[name] = {}

    @rule(name=BUCKETS)
    def destroy(self, name: str) -> None:
        async def destroy() -> None:
            await self.store.destroy_bucket(bucket_id(name))

        try:
            self.run(destroy())
        except BucketGone:
            assert name not in self.model
        else:
            del self.model[name]

    @rule(name=BUCKETS, new=BUCKETS)
    def rename(self, name: str, new: str) -> None:
        bucket = self.bucket(name)
        if bucket is None:
            return

        async def rename() -> None:
            await self.store.rename_bucket(bucket, bucket_id(new))

        try:
            self.run(rename())
        except BucketExists:
            assert new in self.model
            return
        self.model[new] = self.model.pop(name)
        for uploading in self.uploads.values():
            if uploading.bid == bucket.bid:
                uploading.where = new

    @rule(
        where=BUCKETS,
        name=NAMES,
        data=DATA,
        in_file=st.booleans(),
        custom=PAIRS,
        fresh=st.booleans(),
        versioned=st.booleans(),
    )
    def put(
        self, where: str, name: str, data: bytes, in_file: bool, custom: dict[str, str], fresh: bool, versioned: bool
    ) -> None:
        bucket = self.bucket(where)
        if bucket is None:
            return
        row = self.run(
            put(self.store, bucket, name, data, in_file=in_file, custom=custom, fresh=fresh, versioned=versioned)
        )
        self.expect_put(where, name, data, custom, fresh, versioned)
        assert row.version == self.model[where][name].version

    def expect_put(
        self, where: str, name: str, data: bytes, custom: dict[str, str], fresh: bool, versioned: bool
    ) -> None:
        old = None if fresh else self.model[where].get(name)
        before = old.version if old else ""
        version = (str(int(before) + 1) if before else "1") if versioned else before
        self.model[where][name] = Object(data, version, {**(old.custom if old else {}), **custom})

    @rule(where=BUCKETS, names=st.lists(NAMES, max_size=6), in_file=st.booleans())
    def put_many_at_once(self, where: str, names: list[str], in_file: bool) -> None:
        bucket = self.bucket(where)
        if bucket is None:
            return
        target = bucket

        async def put_all() -> list[ObjectRow]:
            contents = [await upload(self.store, b"%d" % i) if in_file else b"%d" % i for i in range(len(names))]
            sums = [digest("xxhash2", b"%d" % i) for i in range(len(names))]
            made = zip(names, contents, sums, strict=True)
            return await asyncio.gather(
                *(self.store.put(target, name, data, "xxhash2", value) for name, data, value in made)
            )

        self.run(put_all())
        for i, name in enumerate(names):  # changes are made in the order in which they came
            self.expect_put(where, name, b"%d" % i, {}, False, True)

    @rule(where=BUCKETS, names=st.lists(NAMES, min_size=1, max_size=3))
    def delete(self, where: str, names: list[str]) -> None:
        bucket = self.bucket(where)
        if bucket is None:
            return
        deleted = self.run(self.wait(self.store, lambda store: store.delete(bucket, names)))
        there = self.model[where]
        assert deleted == [(name, len(there[name].data)) for name in dict.fromkeys(names) if name in there]
        for name in names:
            there.pop(name, None)

    @staticmethod
    async def wait(store: Store, change: object) -> list[tuple[str, int]]:
        result: list[tuple[str, int]] = await change(store)  # type: ignore[operator]  # a function of the store
        return result

    @rule(where=BUCKETS, pick=st.integers(0, 60), there=BUCKETS, new=NAMES)
    def copy(self, where: str, pick: int, there: str, new: str) -> None:
        names = [*self.model.get(where, {}), "no such object"]
        name = names[pick % len(names)]
        source, target = self.bucket(where), self.bucket(there)
        if source is None or target is None:
            return

        done = self.run(copy_objects(self.store, source, target, [(name, new)], "xxhash2"))
        original = self.model[where].get(name)
        assert done == Copied(original is not None, done.bytes, [] if original else [name], [])
        there_now = self.model[there].get(new)
        if original is None or (there_now is not None and there_now.data == original.data):
            assert done.bytes == 0
            return
        assert done.bytes == len(original.data)
        version = original.version if where == there else "1"
        self.model[there][new] = Object(original.data, version, dict(original.custom))

    @rule(where=BUCKETS, pick=st.integers(0, 60), new=NAMES)
    def move(self, where: str, pick: int, new: str) -> None:
        names = [*self.model.get(where, {}), "no such object"]
        name = names[pick % len(names)]
        bucket = self.bucket(where)
        if bucket is None or name == new:
            return
        objects = self.model[where]

        async def move() -> None:
            await move_object(self.store, bucket, name, new)

        try:
            self.run(move())
        except ObjectMissing:
            assert name not in objects
        else:
            objects[new] = objects.pop(name)

    @rule(where=BUCKETS, name=NAMES, custom=PAIRS, replace=st.booleans())
    def set_custom(self, where: str, name: str, custom: dict[str, str], replace: bool) -> None:
        bucket = self.bucket(where)
        if bucket is None:
            return

        async def patch_it() -> None:
            await self.store.set_custom(bucket, name, custom, replace=replace)

        try:
            self.run(patch_it())
        except ObjectMissing:
            assert name not in self.model[where]
            return
        thing = self.model[where][name]
        thing.custom = dict(custom) if replace else {**thing.custom, **custom}

    @rule(where=BUCKETS, name=NAMES)
    def begin_upload(self, where: str, name: str) -> None:
        bucket = self.bucket(where)
        if bucket is not None:
            self.uploads[self.run(self.store.uploads.begin(bucket, name))] = Uploading(where, bucket.bid, name, {})

    @rule(
        pick=st.integers(0, 60),
        parts=st.lists(
            st.tuples(st.integers(1, 4), st.sampled_from([b"aaaa", b"bbbb", b"c", b"long part"])), max_size=4
        ),
    )
    def put_parts_at_once(self, pick: int, parts: list[tuple[int, bytes]]) -> None:
        if not self.uploads:
            return
        upload_id = list(self.uploads)[pick % len(self.uploads)]

        async def put_all() -> None:
            # Parts of different numbers side by side; of one number the last one counts.
            for batch in (dict(parts[:2]), dict(parts[2:])):
                await asyncio.gather(*(put_part(self.store, upload_id, number, data) for number, data in batch.items()))

        try:
            self.run(put_all())
        except UploadGone:
            assert self.bucket_gone(self.uploads.pop(upload_id))
        else:
            self.uploads[upload_id].parts.update(parts)

    def bucket_gone(self, upload: Uploading) -> bool:
        bucket = self.store.bucket(bucket_id(upload.where)) if upload.where in self.model else None
        return bucket is None or bucket.bid != upload.bid

    @rule(pick=st.integers(0, 60), versioned=st.booleans())
    def complete(self, pick: int, versioned: bool) -> None:
        if not self.uploads:
            return
        upload_id = list(self.uploads)[pick % len(self.uploads)]
        upload = self.uploads[upload_id]
        if self.bucket_gone(upload):
            return
        bucket = self.bucket(upload.where)
        assert bucket is not None
        numbers = sorted(upload.parts)
        uploads = self.store.uploads
        try:
            row = self.run(uploads.complete(bucket, upload.name, upload_id, numbers, "xxhash2", versioned=versioned))
        except PartsRefused:
            assert numbers != list(range(1, len(numbers) + 1)) or not numbers
            return
        del self.uploads[upload_id]
        data = b"".join(upload.parts[number] for number in numbers)
        assert row.checksum == digest("xxhash2", data)
        old = self.model[upload.where].get(upload.name)
        before = old.version if old else ""
        version = (str(int(before) + 1) if before else "1") if versioned else before
        self.model[upload.where][upload.name] = Object(data, version)

    @rule(pick=st.integers(0, 60))
    def abort(self, pick: int) -> None:
        if not self.uploads:
            return
        upload_id = list(self.uploads)[pick % len(self.uploads)]
        upload = self.uploads.pop(upload_id)
        if self.bucket_gone(upload):
            return
        bucket = self.bucket(upload.where)
        assert bucket is not None

        async def abort() -> None:
            await self.store.uploads.abort(bucket, upload.name, upload_id)

        self.run(abort())

    @rule()
    def abandon_an_upload(self) -> None:
        async def begin() -> None:
            (await upload(self.store, b"nothing will come of it")).abandon()

        self.run(begin())

    @rule()
    def restart(self) -> None:
        self.run(self.stores.pop().close())
        assert problems(self.root, recovered=False) == []
        self.start()

    @rule(uploads=st.integers(0, 5))
    def crash(self, uploads: int) -> None:
        """Go on with what a kill would have left, in the middle of some uploads."""

        async def begin() -> None:
            for _ in range(uploads):
                made = await self.store.content.create()
                made.write(b"cut off")
                os.close(made.fd)

        self.run(begin())
        self.crashes += 1
        copy = self.folder / str(self.crashes)
        crash_copy(self.root, copy)
        self.root = copy
        self.start()

    @invariant()
    def same_as_the_model(self) -> None:
        if not self.stores:
            return
        assert {bucket.id.name for bucket in self.store.buckets()} == set(self.model)
        for where, there in self.model.items():
            bucket = self.bucket(where)
            assert bucket is not None
            for name, thing in there.items():
                row = self.store.lookup(bucket, name)
                assert row is not None
                assert (row.version, row.custom, row.size) == (thing.version, thing.custom, len(thing.data))
                assert read(self.store, bucket, name) == thing.data
            assert self.store.usage(bucket) == (len(there), sum(len(thing.data) for thing in there.values()))
            assert self.listed(bucket) == sorted(there, key=str.encode)
        self.run(settle(self.store))
        assert problems(self.root, recovered=False) == []

    def listed(self, bucket: Bucket) -> list[str]:
        scanner = Scanner(self.store.catalog)

        async def scan() -> list[str]:
            return [name for (name,) in await scanner.run(lambda: scanner.rows(bucket.bid, Bounds(), "", 100))]

        try:
            return self.run(scan())
        finally:
            scanner.close()

    def teardown(self) -> None:
        try:
            self.run(settle(self.store))
            current = self.stores[-1]
            for store in self.stores:
                self.run(store.close())
            assert current.content.pending == 0
            assert problems(self.root) == []
        finally:
            self.small_blocks.stop()
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(max_examples=25, stateful_step_count=30)
