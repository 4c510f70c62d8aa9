"""The scrub of a data folder: what is wrong is found, nothing is changed without repair, and repair leaves a folder in order."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from aistore.server import doctor
from aistore.server.doctor import DOCUMENTS, Patient
from aistore.server.folder import FolderError, FolderInUseError, ServedFolder
from aistore.server.store.aside import Aside
from aistore.server.store.copying import copy_objects
from aistore.server.store.errors import ContentDamaged, StoreError
from aistore.wire.checksum import digest
from store_truth import bucket_id, opened, problems, put, put_part, read, row_of, settle, upload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aistore.server.store.findings import Findings
    from aistore.server.store.rows import Bucket
    from aistore.server.store.store import Store

SMALL = {f"small-{i}": b"small content %d " % i * 20 for i in range(8)}
LARGE = {f"large-{i}": b"large content %d " % i * 2000 for i in range(8)}
CONTENT = {**SMALL, **LARGE}


async def make(store: Store, name: str) -> Bucket:
    return await store.create_bucket(bucket_id(name), DOCUMENTS.make_props)


async def put_summed(store: Store, bucket: Bucket, name: str, data: bytes) -> None:
    """An object with its checksum, as the API stores it."""
    content = data if name.startswith("small") else await upload(store, data)
    await store.put(bucket, name, content, "xxhash2", digest("xxhash2", data))


def fill(root: Path, *, backup: bool = False) -> None:
    """A bucket of small and large objects, its copy, an object in parts, and an upload that goes on."""

    async def main() -> None:
        async with opened(root) as store:
            bucket = await make(store, "b")
            for name, data in CONTENT.items():
                await put_summed(store, bucket, name, data)
            copy = await make(store, "copy")
            await copy_objects(store, bucket, copy, [(name, name) for name in CONTENT], "xxhash2")
            await copy_objects(store, bucket, bucket, [("small-0", "small-0-again")], "xxhash2")
            whole = await store.uploads.begin(bucket, "parts")
            for number in (1, 2):
                await put_part(store, whole, number, b"part" * 5000)
            await store.uploads.complete(bucket, "parts", whole, [1, 2], "xxhash2", versioned=True)
            await put_part(store, await store.uploads.begin(bucket, "goes on"), 1, b"part" * 5000)
            await store.delete(bucket, ["small-7"])
            await settle(store)
            if backup:
                store.catalog.back_up(root / "catalog.backup.db")

    asyncio.run(main())
    (root / "reserve").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled")
    root.chmod(0o700)
    fill(root, backup=True)
    for path in root.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return root


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "d")
    return tmp_path / "d"


def examine(root: Path, *, full: bool = True, repair: bool = False) -> Findings:
    with Patient(root) as patient:
        return patient.examine(full=full, repair=repair)


def change(sql: str) -> Callable[[Path], None]:
    def make_it(root: Path) -> None:
        with closing(sqlite3.connect(root / "catalog.db")) as db:
            assert db.execute(sql).rowcount != 0, sql
            db.commit()

    return make_it


def file_of(root: Path, name: str) -> Path:
    with closing(sqlite3.connect(root / "catalog.db")) as db:
        (content,) = db.execute("SELECT content FROM object WHERE name = ?", (name,)).fetchone()
    (path,) = (root / "content").glob(f"*/{content:016x}")
    return path


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def contents(root: Path) -> dict[str, bytes | None]:
    """What each object of the bucket and its copy holds, None for those that are refused."""

    async def main() -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        async with opened(root) as store:
            for bucket in store.buckets():
                for (name,) in store.catalog.read("SELECT name FROM object WHERE bucket = ?", (bucket.bid,)).fetchall():
                    try:
                        data = read(store, bucket, name)
                        row = store.lookup(bucket, name)
                        assert row is not None and data is not None
                        store.verifier.check(row, data)  # what the API does with what it has read
                    except (StoreError, OSError):
                        data = None
                    found[f"{bucket.id.name}/{name}"] = data
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("full", [True, False])
def test_a_folder_in_order_has_no_problems(folder: Path, full: bool) -> None:
    found = examine(folder, full=full, repair=True)
    assert (found.finished, found.problems) == (True, [])
    assert found.objects == 2 * len(CONTENT) + 1  # one was deleted, one copied, one is in parts
    assert (found.bytes > 0) == full
    assert problems(folder) == []


def touch(name: str) -> Callable[[Path], None]:
    def make_it(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"left over")
        (root / name).chmod(0o600)

    return make_it


BROKEN: list[tuple[str, str, Callable[[Path], object]]] = [
    ("count", "references", change("UPDATE file SET refs = refs + 3 WHERE id = (SELECT min(id) FROM file)")),
    ("count", "shared", change("DELETE FROM shared WHERE id = (SELECT min(id) FROM shared)")),
    ("count", "shared by none", change("INSERT INTO shared VALUES (987654, 4)")),
    ("count", "objects", change("UPDATE usage SET objects = objects - 2, bytes = bytes + 7 WHERE bucket = 1")),
    ("count", "stored", change("DELETE FROM usage WHERE bucket = 0")),
    ("count", "file unknown", change("DELETE FROM file WHERE id = (SELECT min(id) FROM file)")),
    ("count", "garbage", change("INSERT INTO garbage SELECT min(id) FROM file")),
    ("orphan", "small", change("INSERT INTO small (data) VALUES (x'00')")),
    ("orphan", "file row", change("INSERT INTO file (id, size) VALUES (5555, 5)")),
    ("orphan", "file", touch(f"content/{1:08x}/{4999:016x}")),
    ("orphan", "block", touch(f"content/{9:08x}/{9 * 4096:016x}")),
    ("orphan", "index", change("INSERT INTO archive VALUES (1, 987654, 1, '')")),
    ("orphan", "chunks", change("INSERT INTO chunks VALUES (987654, 1, 1)")),
    ("orphan", "parts", change("DELETE FROM upload")),
    ("orphan", "bucket", change("DELETE FROM bucket WHERE name = 'copy'")),
    ("orphan", "mark", change("INSERT INTO damaged VALUES (1, 987654, 0, '')")),
    ("unreadable", "custom", change("UPDATE object SET custom = '{\"a' WHERE name = 'large-1'")),
    ("unreadable", "job", change("INSERT INTO job VALUES ('j', 0, x'7b')")),
    ("stranger", "file", touch(f"content/{1:08x}/notes.txt")),
    ("leftover", "kept", touch("work/kept-1")),
    ("leftover", "copy", touch("catalog.backup.db.part")),
    ("mode", "content", lambda root: file_of(root, "large-2").chmod(0o644)),
    ("mode", "catalog", lambda root: (root / "catalog.db").chmod(0o644)),
    ("backup", "copy", lambda root: (root / "catalog.backup.db").write_bytes(b"no catalog at all, this is" * 99)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "what", "damage"), BROKEN, ids=[f"{kind}-{what}" for kind, what, _ in BROKEN])
def test_what_is_wrong_is_told_and_mended(folder: Path, kind: str, what: str, damage: Callable[[Path], object]) -> None:
    before = contents(folder)
    damage(folder)
    dry = examine(folder, full=False)
    assert dry.found[kind], dry.document()
    again = examine(folder, full=False)
    assert again.found == dry.found  # nothing was changed
    mended = examine(folder, repair=True)
    assert mended.unrepaired == 0, mended.document()
    clean = examine(folder)
    assert (clean.finished, clean.problems) == (True, []), clean.document()
    assert problems(folder) == []
    after = contents(folder)
    if what == "bucket":
        assert sorted(map(str, after.values())) == sorted(map(str, before.values()))
    else:
        assert after == before


def test_damaged_sums_of_good_content_are_made_anew_and_it_is_served_again(folder: Path) -> None:
    before = contents(folder)
    of_it = "SELECT content << 20 FROM object WHERE name = 'large-3'"
    change(f"UPDATE sums SET sums = zeroblob(8) WHERE id IN ({of_it})")(folder)

    async def read_part() -> None:
        async with opened(folder) as store:
            row = row_of(store, "large-3")
            fd = store.content.open(row.content)
            try:
                await store.verifier.check_pieces(row, fd, 5, 10)
            finally:
                os.close(fd)

    with pytest.raises(ContentDamaged):
        asyncio.run(read_part())
    assert contents(folder)["b/large-3"] is None
    assert set(examine(folder, repair=True).found) == {"sums", "marked"}
    assert examine(folder).problems == []
    assert problems(folder) == []
    assert contents(folder) == before
    asyncio.run(read_part())


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999999])
@pytest.mark.parametrize("name", ["large-3", "parts"])
def test_a_flipped_bit_in_a_content_file_is_found_and_never_served(folder: Path, name: str, place: float) -> None:
    before = contents(folder)
    path = file_of(folder, name)
    flip(path, int(place * path.stat().st_size * 8))
    bad = {key for key in before if key.endswith(f"/{name}")}
    assert {key for key, data in contents(folder).items() if data is None} == bad  # found by reading
    found = examine(folder)
    assert {problem.where for problem, _ in found.problems} == {f"ais://{key}" for key in bad}
    assert found.found == {"content-damaged": len(bad)}
    assert examine(folder, full=False).found["content-damaged"] == len(bad)  # noted by the reader


def test_a_flipped_bit_in_the_catalogs_content_is_found_and_never_served(folder: Path) -> None:
    before = contents(folder)
    data = (folder / "catalog.db").read_bytes()
    at = data.index(SMALL["small-3"])
    for place in (0, len(SMALL["small-3"]) // 2, len(SMALL["small-3"]) - 1):
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / "catalog.db").write_bytes(data)
        flip(folder / "catalog.db", (at + place) * 8 + 3)
        assert examine(folder).found == {"content-damaged": 2}
        after = contents(folder)
        assert {key for key, content in after.items() if content is None} == {"b/small-3", "copy/small-3"}
        assert all(content == before[key] for key, content in after.items() if content is not None)


def test_a_mark_that_is_not_committed_yet_is_not_forgotten(folder: Path) -> None:
    async def main() -> None:
        async with opened(folder) as store:
            bucket, row = store.bucket(bucket_id("b")), row_of(store, "large-1")
            assert bucket is not None
            store.verifier.damage.note(row, "flipped")
            store.verifier.damage.load()  # a change that was queued before is committed
            with pytest.raises(ContentDamaged, match="flipped"):
                store.verifier.refuse(row)
            await settle(store)
            store.verifier.damage.load()
            with pytest.raises(ContentDamaged, match="flipped"):
                store.verifier.refuse(row)
            await put_summed(store, bucket, "large-1", LARGE["large-1"])
            await put_summed(store, bucket, "large-0", LARGE["large-0"])
            assert len(store.verifier.damage) == 1  # the copy shares the content

    asyncio.run(main())


@pytest.mark.parametrize("healing", ["overwrite", "delete", "file"])
def test_a_damaged_object_answers_an_error_until_it_is_replaced(folder: Path, healing: str) -> None:
    path = file_of(folder, "large-4")
    flip(path, 12345)
    assert examine(folder, repair=True).unrepaired == 2
    assert {state for _, state in examine(folder, repair=True).problems} == {"contained"}

    async def heal() -> None:
        async with opened(folder) as store:
            for name in ("b", "copy"):
                bucket = store.bucket(bucket_id(name))
                assert bucket is not None
                row = store.lookup(bucket, "large-4")
                assert row is not None
                with pytest.raises(ContentDamaged):
                    store.open_current(bucket, row)
                done = await copy_objects(store, bucket, bucket, [("large-4", "launders")], "md5")
                assert (done.objects, [one for one, _ in done.failed]) == (0, ["large-4"])
                if healing == "overwrite":
                    await put_summed(store, bucket, "large-4", LARGE["large-4"])
                elif healing == "delete":
                    await store.delete(bucket, ["large-4"])
            await settle(store)

    asyncio.run(heal())
    if healing == "file":
        flip(path, 12345)
        assert examine(folder, repair=True).found == {"marked": 2}
    assert examine(folder).problems == []
    assert problems(folder) == []
    if healing != "delete":
        assert contents(folder)["copy/large-4"] == LARGE["large-4"]


def test_what_can_be_fetched_again_is_dropped_from_the_cache(folder: Path) -> None:
    change("UPDATE object SET custom = '{\"source\": \"aws\"}' WHERE name = 'large-5'")(folder)
    flip(file_of(folder, "large-5"), 99)
    file_of(folder, "large-6").unlink()
    change("UPDATE object SET custom = '{\"source\": \"aws\"}' WHERE name = 'large-6'")(folder)
    found = examine(folder, repair=True)
    assert found.found == {"content-damaged": 2, "content-missing": 2}
    assert found.unrepaired == 0
    assert examine(folder).problems == []
    assert problems(folder, recovered=False) == []
    assert "b/large-5" not in contents(folder)


def test_flipped_bits_of_the_catalog_never_make_other_content(folder: Path) -> None:
    """Wherever a bit flips in the catalog's file: a read gives what was stored under some name, or an error."""
    good = set(contents(folder).values())
    data = (folder / "catalog.db").read_bytes()
    chance = random.Random(7)
    refused = told = 0
    for _ in range(40):
        (folder / "catalog.db").write_bytes(data)
        for name in ("catalog.db-wal", "catalog.db-shm"):
            (folder / name).unlink(missing_ok=True)
        flip(folder / "catalog.db", chance.randrange(len(data) * 8))
        try:
            found = examine(folder)
        except (StoreError, sqlite3.DatabaseError):
            told += 1
            continue
        told += bool(found.problems)
        if not found.found["catalog-damaged"]:
            try:
                served = contents(folder)
            except (StoreError, sqlite3.Error, ValueError):
                refused += 1
                continue
            assert {content for content in served.values() if content is not None} <= good
    assert told + refused > 0


def test_a_damaged_catalog_is_replaced_by_its_copy(folder: Path) -> None:
    async def more() -> None:
        async with opened(folder) as store:
            bucket = store.bucket(bucket_id("b"))
            assert bucket is not None
            await put(store, bucket, "since", b"since" * 9000, in_file=True)
            await store.delete(bucket, ["large-0"])
            await store.delete(await make(store, "other"), [])
            copy = store.bucket(bucket_id("copy"))
            assert copy is not None
            await store.delete(copy, ["large-0"])
            await settle(store)

    before = contents(folder)
    asyncio.run(more())
    newest = file_of(folder, "since").read_bytes()
    with (folder / "catalog.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 3))
    dry = examine(folder)
    assert (dry.finished, dry.found["catalog-damaged"], dry.unrepaired) == (False, 1, 1)
    assert "go back to the copy" in dry.problems[0][0].remedy
    found = examine(folder, repair=True)
    assert found.finished
    assert any("the catalog is that of" in note for note in found.notes)
    assert found.found["content-missing"] == 2  # of what was deleted since
    lost = [path for path in (folder / "lost+found").iterdir() if path.stat().st_size == len(newest)]
    assert [path.read_bytes() for path in lost] == [newest]
    assert problems(folder, recovered=False)  # the two
    after = contents(folder)
    assert {key for key, content in after.items() if content is None} == {"b/large-0", "copy/large-0"}
    assert {key: content for key, content in after.items() if content is not None} == {
        key: content for key, content in before.items() if not key.endswith("large-0")
    }


def test_without_a_copy_a_damaged_catalog_is_told(folder: Path) -> None:
    (folder / "catalog.backup.db").unlink()
    (folder / "catalog.db").write_bytes(b"?" * 20000)
    found = examine(folder, repair=True)
    assert (found.finished, found.unrepaired) == (False, 1)
    assert "there is no copy" in found.problems[0][0].remedy
    assert list((folder / "content").rglob("*"))


class _Cut(BaseException):
    """The end of the process."""


def test_repair_that_is_cut_off_anywhere_is_finished_by_the_next(
    filled: Path, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th step of a repair never happens, for each n: the next repair finds the rest, and no object is lost."""
    breaks = [damage for kind, what, damage in BROKEN if (kind, what) != ("orphan", "bucket") and kind != "backup"]
    before = contents(filled)
    commit, move, keep = doctor._commit, Aside.move, Aside.keep
    left = 0

    def cut(step: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise _Cut
            made = step(*arguments)
            if left == 1:  # done, and nobody was told
                left = 0
                raise _Cut
            return made

        return counted

    for n in range(1, 99):
        root = memory_path / str(n)
        shutil.copytree(filled, root)
        for damage in breaks:
            damage(root)
        left = n
        for where, name, step in ((doctor, "_commit", commit), (Aside, "move", move), (Aside, "keep", keep)):
            monkeypatch.setattr(where, name, cut(step))
        try:
            examine(root, repair=True)
        except _Cut:
            over = False
        else:
            over = True
        for where, name, step in ((doctor, "_commit", commit), (Aside, "move", move), (Aside, "keep", keep)):
            monkeypatch.setattr(where, name, step)
        examine(root, repair=True)
        clean = examine(root)
        assert clean.problems == [], clean.document()
        assert problems(root) == []
        assert contents(root) == before
        if over:
            assert n > 10
            return
        shutil.rmtree(root)
    raise AssertionError("it never ends")


def test_a_folder_that_is_served_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "format").write_text('{"format": 1}')
    served = ServedFolder(folder)
    try:
        served.serving("http://127.0.0.1:1", 1.0)
        with pytest.raises(FolderInUseError):
            Patient(folder)
    finally:
        served.close()
    with Patient(folder), pytest.raises(FolderInUseError):
        ServedFolder(folder)
    with pytest.raises(FolderError, match="no data folder"):
        Patient(tmp_path / "nothing")
