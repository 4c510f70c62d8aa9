"""Many files and objects at once: folders into buckets, buckets into folders and into other buckets."""

from __future__ import annotations

import errno
import json
import os
import time
import tracemalloc
import uuid
from typing import TYPE_CHECKING

import msgspec
import pytest
import requests

from aistore import LocalCluster
from aistore.calls import file_uploads
from aistore.calls.local_tree import LocalTree
from aistore.calls.transfers import Failed, Halt, reason_of
from aistore.sdk.errors import ErrBckNotFound
from aistore.sdk.transfer import Moved, Reason, TransferSummary
from answering import answering, checksum, client_of
from peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aistore.sdk import Bucket, Client
    from peer import Received

CONTENTS = {"a": b"", "b.txt": b"b", "sub.x": b"x" * 9000, "sub/c": b"c" * 50_000, "sub/deep/d": os.urandom(3 << 20)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of all sizes, and what is no file."""
    root = tmp_path / "source"
    write(root, CONTENTS)
    (root / "link").symlink_to("a")
    (root / "sub" / "linked").symlink_to(".")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def other(client: Client, bucket: Bucket) -> Iterator[Bucket]:
    """A second bucket of the same cluster, which does not exist yet."""
    made = client.bucket(f"{bucket.name}-other")
    yield made
    made.delete(missing_ok=True)


@pytest.fixture
def far(cluster3: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A bucket of another cluster, which has three targets."""
    faces = request.getfixturevalue("faces") if "faces" in request.fixturenames else None
    client = cluster3.client() if faces is None else faces.client(cluster3.url)
    made = client.bucket(f"far-{uuid.uuid4().hex[:8]}").create()
    yield made
    made.delete(missing_ok=True)
    if faces is None:
        client.close()


def write(root: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def files_in(root: Path) -> dict[str, bytes]:
    """Content of all files below a folder, those that nobody should see too."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def objects_in(bucket: Bucket) -> dict[str, bytes]:
    return {entry.name: bucket.object(entry.name).get_reader().read_all() for entry in bucket.list_objects_iter()}


def counts(summary: TransferSummary) -> tuple[int, int, int, int]:
    return summary.moved, summary.skipped, summary.deleted, summary.failed


def prefixed(prefix: str) -> dict[str, bytes]:
    return {prefix + name: content for name, content in CONTENTS.items()}


# -- put_files --


def test_files_are_put_side_by_side_and_named_in_the_order_of_the_folder(bucket: Bucket, tmp_path: Path) -> None:
    contents = {f"{i % 7}/{i:04}": os.urandom(i) for i in range(700)}
    write(tmp_path, contents)
    names = bucket.put_files(tmp_path, recursive=True, prepend="p/", verbose=False)
    assert sorted(names) == sorted("p/" + name for name in contents)
    assert names == bucket.put_files(tmp_path, recursive=True, prepend="p/", verbose=False, workers=1)
    assert objects_in(bucket) == {"p/" + name: content for name, content in contents.items()}


def test_of_files_of_one_name_the_last_one_stays(bucket: Bucket, tmp_path: Path) -> None:
    write(tmp_path, {f"{i}/same": str(i).encode() for i in range(40)})
    names = bucket.put_files(tmp_path, recursive=True, basename=True)
    assert names == ["same"] * 40
    last = [*tmp_path.iterdir()]
    assert objects_in(bucket)["same"] in {path.name.encode() for path in last}


def test_the_first_failure_is_raised_and_says_what_is_stored(bucket: Bucket, client: Client, tmp_path: Path) -> None:
    write(tmp_path, {"good": b"1"})
    (tmp_path / os.fsdecode(b"bad-\xff")).write_bytes(b"2")
    with pytest.raises(ValueError) as caught:
        bucket.put_files(tmp_path)
    summary: TransferSummary = vars(caught.value)["summary"]
    assert summary.failed == 1
    assert summary.moved == len(objects_in(bucket))
    assert any("done before" in note for note in vars(caught.value)["__notes__"])
    (tmp_path / os.fsdecode(b"bad-\xff")).unlink()
    with pytest.raises(ErrBckNotFound):
        client.bucket(f"{bucket.name}-none").put_files(tmp_path)


def test_patterns_of_several_parts_and_links_to_files(bucket: Bucket, folder: Path) -> None:
    assert bucket.put_files(folder, pattern="sub/*", dry_run=True) == ["sub/c"]
    assert sorted(bucket.put_files(folder, dry_run=True)) == ["a", "b.txt", "link", "sub.x"]


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_are_a_positive_number(bucket: Bucket, tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match="workers"):
        bucket.put_files(tmp_path, workers=workers)


# -- a folder into a bucket --


def test_a_folder_becomes_a_bucket_and_what_is_unchanged_is_skipped(bucket: Bucket, folder: Path) -> None:
    first = bucket.sync(source=folder, prefix="p/")
    assert counts(first) == (5, 3, 0, 0)
    assert (first.bytes, first.how) == (sum(map(len, CONTENTS.values())), {"put": 5})
    assert first.left_out == (
        Reason("link", "a symbolic link"),
        Reason("pipe", "neither a file nor a folder"),
        Reason("sub/linked", "a symbolic link"),
    )
    assert objects_in(bucket) == prefixed("p/")
    assert counts(bucket.sync(source=folder, prefix="p/")) == (0, 8, 0, 0)
    (folder / "sub.x").write_bytes(b"y" * 9000)  # of the same size
    assert counts(bucket.sync(source=str(folder), prefix="p/")) == (1, 7, 0, 0)
    assert objects_in(bucket)["p/sub.x"] == b"y" * 9000


def test_only_what_is_asked_for_is_deleted(bucket: Bucket, folder: Path) -> None:
    for name in ("p/gone", "p/link", "outside", "p/keep.log"):
        bucket.object(name).get_writer().put_content(b"1")
    assert bucket.sync(source=folder, prefix="p/").deleted == 0
    (folder / "b.txt").unlink()
    done: list[Moved] = []
    summary = bucket.sync(source=folder, prefix="p/", pattern="[!k]*", delete=True, on_each=done.append)
    assert counts(summary) == (0, 7, 2, 0)
    assert {each.name for each in done if each.action == "deleted"} == {"b.txt", "gone"}
    # A link of this name is there, which is left out: that is no reason to delete.
    assert sorted(objects_in(bucket)) == [
        "outside", "p/a", "p/keep.log", "p/link", "p/sub.x", "p/sub/c", "p/sub/deep/d"
    ]  # fmt: skip


def test_a_dry_run_counts_and_does_nothing(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    bucket.object("gone").get_writer().put_content(b"1")
    summary = bucket.sync(source=folder, delete=True, dry_run=True)
    assert (counts(summary), summary.dry_run, summary.how) == ((5, 3, 1, 0), True, {"put": 5})
    assert objects_in(bucket) == {"gone": b"1"}
    assert counts(bucket.get_files(tmp_path / "none", dry_run=True)) == (1, 0, 0, 0)
    assert not (tmp_path / "none").exists()
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", {"mine": b""})
    assert counts(bucket.sync(to=tmp_path / "out", delete=True, dry_run=True)) == (1, 0, 1, 0)
    assert files_in(tmp_path / "out") == {"mine": b""}


def test_large_files_go_in_parts(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_uploads, "LARGE", 2 << 20)
    monkeypatch.setattr(file_uploads, "_PART", 300_000)
    content = os.urandom((5 << 20) + 7)
    write(tmp_path, {"large": content})
    assert bucket.sync(source=tmp_path).how == {"multipart": 1}
    assert objects_in(bucket) == {"large": content}
    assert counts(bucket.sync(source=tmp_path)) == (0, 1, 0, 0)
    bucket.put_files(tmp_path, prepend="again-")
    assert objects_in(bucket)["again-large"] == content


def test_a_folder_that_cannot_be_read_is_told_and_nothing_of_it_deleted(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"closed/a": b"1", "open/b": b"2"})
    bucket.sync(source=tmp_path)
    (tmp_path / "open" / "b").unlink()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root reads everything
    summary = bucket.sync(source=tmp_path, delete=True)
    assert counts(summary) == (0, 0, 1, 1)
    assert summary.failures == (Reason("closed/", "the folder cannot be read: Permission denied"),)
    assert objects_in(bucket) == {"closed/a": b"1"}


# -- a bucket into a folder --


def test_a_bucket_becomes_a_folder(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bucket.put_files(folder, recursive=True, prepend="p/")
    bucket.object("q").get_writer().put_content(b"not this")
    first = bucket.get_files(out, "p/")
    assert (counts(first), first.how) == ((6, 0, 0, 0), {"get": 6})
    assert files_in(out) == {**CONTENTS, "link": b""}
    write(out, {"b.txt": b"B", "mine": b"kept"})
    (out / "sub" / "c").unlink()
    assert counts(bucket.get_files(out, "p/")) == (2, 4, 0, 0)
    assert files_in(out) == {**CONTENTS, "link": b"", "mine": b"kept"}
    write(out, {"new/er/mine": b"gone"})
    assert counts(bucket.sync(to=out, prefix="p/", pattern="mine", delete=True)) == (0, 0, 2, 0)
    assert files_in(out) == {**CONTENTS, "link": b""}
    assert not (out / "new").exists()
    assert counts(bucket.get_files(tmp_path / "some", "p/", "*.txt")) == (1, 0, 0, 0)


def test_a_folder_without_end_of_its_own_files_is_left_alone(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    summary = bucket.sync(to=tmp_path / "out", delete=True)
    assert (counts(summary), summary.left_out) == ((0, 1, 0, 0), (Reason("link", "not deleted: a symbolic link"),))
    assert (tmp_path / "out" / "link").is_symlink()


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    """A cluster that lies about names."""
    names = ["../evil", "/etc/evil", "a/../../evil", "b//c", "c/./d", "d\0", "dir/", "ok", "x/.."]
    with Peer(answering(lying(names))) as peer:
        summary = client_of(peer).bucket("b").get_files(tmp_path / "deep" / "out")
    assert counts(summary) == (1, 1, 0, 7)
    assert {name for name, _ in summary.failures} == set(names) - {"ok", "dir/"}
    assert summary.left_out == (Reason("dir/", "a folder marker: its name ends in a slash"),)
    assert files_in(tmp_path) == {"deep/out/ok": b"content"}


def lying(names: list[str]) -> Callable[[Received], tuple[object, ...]]:
    page = {
        "UUID": "u",
        "ContinuationToken": "",
        "Flags": 0,
        "Entries": [{"n": name, "s": 7, "cs": "0" * 16} for name in names],
    }

    def answer(received: Received) -> tuple[object, ...]:
        if received.method == "HEAD":
            return 200, b"", 'Ais-Bucket-Props: {"checksum": {"type": "xxhash2"}}'
        if received.target.startswith("/v1/buckets/"):
            return 200, msgspec.msgpack.encode(page), "Content-Type: application/msgpack"
        return 200, b"content", *checksum(b"content")

    return answer


def test_a_listing_out_of_order_is_an_error(tmp_path: Path) -> None:
    with Peer(answering(lying(["b", "a"]))) as peer, pytest.raises(ValueError, match="not sorted"):
        client_of(peer).bucket("b").get_files(tmp_path)


def test_links_in_the_folder_are_not_followed(bucket: Bucket, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    write(outside, {"file": b"mine"})
    out.mkdir()
    (out / "dir").symlink_to(outside)
    (out / "file").symlink_to(outside / "file")
    (out / "dangling").symlink_to(outside / "new")
    for name in ("dir/file", "dir/new", "file", "dangling"):
        bucket.object(name).get_writer().put_content(b"evil")
    summary = bucket.get_files(out)
    assert counts(summary) == (0, 0, 0, 4)
    assert set(summary.failures) == {
        Reason("dangling", "at the destination it is a symbolic link"),
        Reason("dir/file", "'dir' is a symbolic link, which is not followed"),
        Reason("dir/new", "'dir' is a symbolic link, which is not followed"),
        Reason("file", "at the destination it is a symbolic link"),
    }
    assert files_in(outside) == {"file": b"mine"}


def test_a_name_that_is_a_file_and_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("a", "a!", "a/b", "a/b/c", "ab/c"):
        bucket.object(name).get_writer().put_content(name)
    summary = bucket.get_files(tmp_path)
    assert counts(summary) == (3, 0, 0, 2)
    assert summary.failures[0].reason == "'a' is an object, too, and no file is also a folder"
    assert files_in(tmp_path) == {"a": b"a", "a!": b"a!", "ab/c": b"ab/c"}


def test_files_and_folders_in_the_way(bucket: Bucket, tmp_path: Path) -> None:
    write(tmp_path, {"f": b"mine", "d/x": b"mine"})
    bucket.object("f/x").get_writer().put_content(b"1")
    bucket.object("d").get_writer().put_content(b"1")
    summary = bucket.get_files(tmp_path)
    assert set(summary.failures) == {
        Reason("d", "a file or folder of this name is there already, perhaps in another case or spelling"),
        Reason("f/x", "'f' is a file, and no folder"),
    }
    assert files_in(tmp_path) == {"f": b"mine", "d/x": b"mine"}


def test_a_name_that_is_too_long_for_a_file(bucket: Bucket, tmp_path: Path) -> None:
    bucket.object("x" * 300).get_writer().put_content(b"1")
    bucket.object("fine").get_writer().put_content(b"1")
    summary = bucket.get_files(tmp_path)
    assert summary.failures == (Reason("x" * 300, "File name too long"),)
    assert files_in(tmp_path) == {"fine": b"1"}


def test_what_takes_the_name_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """As `A` does where it is the same file as `a`."""
    tree = LocalTree(tmp_path, Halt())
    tree.open(create=False)
    partial = tree.file("a", replaces=False)
    partial.open()
    partial.write(memoryview(b"new"))
    write(tmp_path, {"a": b"old"})
    with pytest.raises(Failed, match="another case"):
        partial.finish()
    partial.abandon()
    tree.close()
    assert files_in(tmp_path) == {"a": b"old"}


def test_what_a_killed_process_left_is_removed_and_never_uploaded(bucket: Bucket, tmp_path: Path) -> None:
    old, new = f".ais-{'0' * 16}.part", f".ais-{'1' * 16}.part"
    write(tmp_path, {old: b"half", new: b"half", "a": b"1"})
    os.utime(tmp_path / old, (time.time() - 3600,) * 2)
    bucket.sync(source=tmp_path, dry_run=True)
    bucket.sync(to=tmp_path, dry_run=True)
    assert sorted(files_in(tmp_path)) == [old, new, "a"]
    assert counts(bucket.sync(source=tmp_path)) == (1, 0, 0, 0)
    assert sorted(files_in(tmp_path)) == [new, "a"]
    assert objects_in(bucket) == {"a": b"1"}


def test_a_body_that_is_damaged_is_no_file(tmp_path: Path) -> None:
    lies = lying(["a"])

    def answer(received: Received) -> tuple[object, ...]:
        got = lies(received)
        return (200, b"CONTENT", *got[2:]) if got[1] == b"content" else got

    with Peer(answering(answer)) as peer:
        summary = client_of(peer).bucket("b").get_files(tmp_path)
    assert counts(summary) == (0, 0, 0, 1)
    assert "damaged" in summary.failures[0].reason
    assert files_in(tmp_path) == {}


# -- a bucket into another one --


def test_within_a_cluster_objects_are_copied(bucket: Bucket, other: Bucket, folder: Path) -> None:
    other.create()
    bucket.sync(source=folder, prefix="p/")
    first = bucket.sync(to=other, prefix="p/", other_prefix="q/")
    assert (counts(first), first.how) == ((5, 0, 0, 0), {"copy": 5})
    assert objects_in(other) == prefixed("q/")
    bucket.object("p/b.txt").delete()
    bucket.object("p/a").get_writer().put_content(b"changed")
    assert counts(other.sync(source=bucket, prefix="q/", other_prefix="p/", delete=True)) == (1, 3, 1, 0)
    assert objects_in(other)["q/a"] == b"changed"
    assert "q/b.txt" not in objects_in(other)


def test_between_two_clusters_content_and_metadata_travel(bucket: Bucket, far: Bucket, folder: Path) -> None:
    bucket.sync(source=folder)
    bucket.object("b.txt").get_writer().set_custom_props({"k": "v"})
    bucket.object("sub/deep/d").get_writer().set_custom_props({"large": "yes"})
    far.object("old").get_writer().put_content(b"1")
    first = bucket.sync(to=far, other_prefix="q/")
    assert (counts(first), first.how) == ((5, 0, 0, 0), {"get and put": 5})
    assert objects_in(far) == {**prefixed("q/"), "old": b"1"}
    assert far.object("q/b.txt").head().custom_metadata == {"k": "v"}
    assert far.object("q/sub/deep/d").head().custom_metadata == {"large": "yes"}
    assert counts(far.sync(source=bucket, prefix="q/")) == (0, 5, 0, 0)
    far.object("q/a").get_writer().put_content(b"other")
    far.object("q/more").get_writer().put_content(b"other")
    assert counts(far.sync(source=bucket, prefix="q/", delete=True)) == (1, 4, 1, 0)
    assert objects_in(far) == {**prefixed("q/"), "old": b"1"}


def test_objects_without_a_checksum_to_compare_are_moved_again(
    client: Client, bucket: Bucket, other: Bucket, tmp_path: Path
) -> None:
    write(tmp_path, {"a": b"1"})
    other.create()
    other.make_request("PATCH", "set-bprops", {"checksum": {"type": "md5"}})
    assert counts(other.sync(source=tmp_path)) == (1, 0, 0, 0)
    assert counts(other.sync(source=tmp_path)) == (0, 1, 0, 0)  # MD5 is computed, too
    bucket.sync(source=tmp_path)
    assert counts(bucket.sync(to=other)) == (1, 0, 0, 0)


# -- what is no sync --


def test_mistakes(client: Client, bucket: Bucket, other: Bucket, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        bucket.sync()
    with pytest.raises(ValueError, match="exactly one"):
        bucket.sync(source=tmp_path, to=tmp_path)
    with pytest.raises(TypeError, match="has to be a folder or"):
        bucket.sync(to=7)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match=r"pass client\.bucket"):
        bucket.sync(to=f"ais://{other.name}")
    with pytest.raises(ValueError, match="does not exist"):
        bucket.sync(source=tmp_path / "none")
    with pytest.raises(ValueError, match="with itself"):
        bucket.sync(to=client.bucket(bucket.name))
    write(tmp_path, {"file": b""})
    with pytest.raises((ValueError, FileExistsError)):
        bucket.get_files(tmp_path / "file")
    missing = client.bucket(f"{bucket.name}-none")
    with pytest.raises(ErrBckNotFound):
        missing.sync(source=tmp_path)
    with pytest.raises(ErrBckNotFound):
        missing.get_files(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    other.create()
    with pytest.raises(ErrBckNotFound):
        other.sync(to=missing)


def test_a_cluster_that_goes_away_ends_it(tmp_path: Path) -> None:
    contents = {f"{i:03}": os.urandom(10_000) for i in range(600)}
    write(tmp_path / "in", contents)
    with LocalCluster() as own, own.client() as client:
        bucket = client.bucket("b").create()
        bucket.put_files(tmp_path / "in", verbose=False)
        stopped: list[Moved] = []

        def stop(each: Moved) -> None:
            if not stopped:
                stopped.append(each)
                own.stop()

        with pytest.raises(requests.ConnectionError) as caught:
            bucket.get_files(tmp_path / "out", workers=4, on_each=stop)
    there = files_in(tmp_path / "out")
    assert 0 < vars(caught.value)["summary"].moved == len(there) < len(contents)
    assert there.items() <= contents.items()


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (TypeError("a defect"), True),
    ],
    ids=["full", "read-only", "denied", "defect"],
)
def test_which_failures_end_everything(error: Exception, ends: bool) -> None:
    assert (reason_of(error) is None) is ends


# -- bounds --


def test_memory_does_not_grow_with_the_content(bucket: Bucket, tmp_path: Path) -> None:
    block = os.urandom(1 << 20)
    write(tmp_path / "in", {f"{i:03}": block for i in range(120)} | {"large": block * 24})
    tracemalloc.start()
    try:
        bucket.sync(source=tmp_path / "in", workers=4)
        bucket.get_files(tmp_path / "out", workers=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(files_in(tmp_path / "out")) == 121
    assert peak < 24 << 20


@pytest.mark.parametrize("to", ["folder", "bucket"])
def test_an_object_that_has_grown_since_it_was_listed_is_not_held(
    cluster: LocalCluster, bucket: Bucket, far: Bucket, tmp_path: Path, to: str
) -> None:
    small, large = b"s" * 1000, os.urandom(1 << 20) * 32
    for name in ("a", "b", "z"):
        bucket.object(name).get_writer().put_content(small)

    beside = cluster.client()

    def grow(moved: Moved) -> None:
        if moved.name == "a":
            for name in ("b", "z"):
                beside.bucket(bucket.name).object(name).get_writer().put_content(large)
            tracemalloc.start()

    try:
        summary = bucket.sync(to=tmp_path / "out" if to == "folder" else far, workers=1, on_each=grow)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (summary.moved, summary.failed) == (3, 0)
    assert peak < 16 << 20
    if to == "folder":
        assert (tmp_path / "out" / "z").read_bytes() == large
    else:
        assert far.object("z").get_reader().read_all() == large


def test_a_bucket_without_end_is_gone_through_page_by_page(tmp_path: Path) -> None:
    class EnoughError(ValueError):
        pass

    seen = 0

    def look(_: Moved) -> None:
        nonlocal seen
        seen += 1
        if seen == 2500:
            raise EnoughError

    def answer(received: Received) -> tuple[object, ...]:
        if received.method == "HEAD":
            return 200, b""
        value = json.loads(received.body)["value"]
        start, size = int(value["continuation_token"] or 0), value["pagesize"]
        entries = [{"n": f"{i:09}", "s": 1} for i in range(start, start + size)]
        page = {"UUID": "u", "ContinuationToken": f"{start + size}", "Flags": 0, "Entries": entries}
        return 200, msgspec.msgpack.encode(page), "Content-Type: application/msgpack"

    with Peer(answering(answer)) as peer:
        with pytest.raises(EnoughError):
            client_of(peer).bucket("b").sync(to=tmp_path / "out", dry_run=True, on_each=look)
        assert len(peer.requests) == 1 + 3


# -- showing --


def test_a_bar_is_shown_when_it_is_asked_for(bucket: Bucket, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bucket.sync(source=folder)
    assert capsys.readouterr().err == ""
    bucket.sync(source=folder, progress=True)
    assert "8 names" in capsys.readouterr().err


def test_the_summary_shows_itself() -> None:
    failures = tuple(Reason(f"n{i}", "because") for i in range(5))
    summary = TransferSummary(1200, 3, 0, 5, 10, 1.25, how={"put": 1200}, failures=failures)
    assert repr(summary) == (
        "<TransferSummary 1,200 moved, 3 skipped, 0 deleted, 5 failed, 10 bytes in 1.2 s by put 1,200; "
        "'n0': because; 'n1': because; 'n2': because; ...>"
    )
    with pytest.raises(AttributeError):
        summary.moved = 1  # type: ignore[misc]  # it is frozen
