"""Uploads in parts, promoted files, and what buckets hold."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from aistore.sdk.enums import FLTPresence
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk import Bucket, Client


def test_parts_become_one_object(bucket: Bucket) -> None:
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(3).put_content(b"c")
    upload.add_part(1).put_content(b"a" * 100_000)
    upload.add_part(2).put_content(b"b" * 100_000)
    with pytest.raises(ErrObjNotFound):
        bucket.object("o").get_reader().read_all()
    assert upload.complete().status_code == 200
    content = b"a" * 100_000 + b"b" * 100_000 + b"c"
    assert bucket.object("o").get_reader().read_all() == content
    assert bucket.object("o").get_reader(byte_range="bytes=99999-100000").read_all() == b"ab"
    with pytest.raises(AISError, match="does not exist"):
        upload.complete()


def test_what_is_refused_leaves_the_upload_open(bucket: Bucket) -> None:
    upload = bucket.object("o").multipart_upload()
    for call in (upload.complete, upload.abort):
        with pytest.raises(ValueError, match="not created"):
            call()
    upload.create()
    upload.add_part(2).put_content(b"b")
    with pytest.raises(AISError, match="invalid number 2"):
        upload.complete()
    upload.add_part(1).put_content(b"a")
    upload.complete()
    assert bucket.object("o").get_reader().read_all() == b"ab"


def test_an_aborted_upload_leaves_the_object_as_it_was(bucket: Bucket) -> None:
    bucket.object("o").get_writer().put_content(b"old")
    upload = bucket.object("o").multipart_upload().create()
    upload.add_part(1).put_content(b"new")
    upload.abort()
    assert bucket.object("o").get_reader().read_all() == b"old"
    with pytest.raises(AISError, match="does not exist"):
        upload.add_part(2).put_content(b"more")


def test_a_file_is_promoted_from_the_promote_root_only(bucket: Bucket, promote_root: Path) -> None:
    folder = promote_root / bucket.name
    folder.mkdir()
    (folder / "file").write_bytes(b"content" * 5000)
    (folder / "link").symlink_to("/etc/passwd")
    (promote_root / f"{bucket.name}-link").symlink_to("/etc")
    assert bucket.object("o").promote(str(folder / "file")) == ""
    assert bucket.object("o").get_reader().read_all() == b"content" * 5000
    for bad in ("/etc/passwd", str(folder / "link"), str(promote_root / f"{bucket.name}-link" / "passwd")):
        with pytest.raises(AISError, match="promote"):
            bucket.object("x").promote(bad)
    with pytest.raises(AISError, match="no such file"):
        bucket.object("x").promote(str(folder / "none"))
    assert [entry.name for entry in bucket.list_objects_iter()] == ["o"]


def test_a_folder_is_promoted(client: Client, bucket: Bucket, promote_root: Path) -> None:
    folder = promote_root / bucket.name
    for number in range(20):
        path = folder / f"{number % 3}" / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    os.mkfifo(folder / "0" / "pipe")
    bucket.object("all/0/00").get_writer().put_content(b"there before")
    bucket.object("all/1/01").get_writer().put_content(b"1")
    job = bucket.object("all/").promote(str(folder), recursive=True, delete_source=True)
    assert client.job(job).wait().success
    assert len(bucket.list_all_objects(prefix="all/")) == 20
    assert bucket.object("all/0/00").get_reader().read_all() == b"there before"
    assert bucket.object("all/1/19").get_reader().read_all() == b"19"
    # What is not stored stays: the pipe, and the file whose object was there before with other content.
    assert {path.name for path in folder.rglob("*") if not path.is_dir()} == {"pipe", "00"}


def test_summary_and_info(client: Client, bucket: Bucket) -> None:
    for name, size in (("a/1", 10), ("a/2", 20), ("b", 31)):
        bucket.object(name).get_writer().put_content(b"x" * size)
    found = bucket.summary()
    assert (found["name"], found["ObjCount"]["obj_count_present"], found["is_present"]) == (bucket.name, "3", False)
    assert found["ObjSize"] == {"obj_min_size": 10, "obj_avg_size": 20, "obj_max_size": 31}
    assert bucket.summary(prefix="a/")["TotalSize"]["size_all_present_objs"] == "30"
    props, found = bucket.info(FLTPresence.FLT_EXISTS, prefix="a/")
    assert json.loads(props)["provider"] == "ais"
    assert (found["ObjCount"]["obj_count_present"], found["is_present"]) == ("2", True)
    with pytest.raises(ValueError, match="flt_presence"):
        bucket.info(77)
    with pytest.raises(ErrBckNotFound):
        client.bucket(f"{bucket.name}-none").summary()
