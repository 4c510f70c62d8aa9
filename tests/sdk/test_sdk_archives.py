"""Archives through the SDK: members by name and by pattern, their listing, and groups of objects put into one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from aistore.sdk import ArchiveConfig
from aistore.sdk.archive_config import ArchiveMode
from aistore.sdk.errors import AISError, ErrBckNotFound, ErrObjNotFound
from archives import EXTENSIONS, MEMBERS, packed, tar, unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from aistore.sdk import Bucket, Client


def put(bucket: Bucket, name: str, content: bytes) -> None:
    bucket.object(name).get_writer().put_content(content)


def made(client: Client, job_ids: list[str]) -> None:
    """Wait until the archives are there."""
    (job_id,) = job_ids
    result = client.job(job_id).wait_for_idle(timeout=30)
    assert result.success, result.error


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_member_is_read_in_every_form(bucket: Bucket, tmp_path: Path, extension: str) -> None:
    put(bucket, f"s{extension}", packed(extension))
    for name, content in MEMBERS:
        reader = bucket.object(f"s{extension}").get_reader(archive_config=ArchiveConfig(archpath=name), chunk_size=1000)
        assert reader.read_all() == content
        assert b"".join(reader) == content
        assert reader.as_file().read() == content
        assert reader.download(tmp_path / "member") == len(content)
        assert (tmp_path / "member").read_bytes() == content
        out = io.BytesIO()
        assert reader.copy_to(out) == len(content)
        assert out.getvalue() == content
        buffer = bytearray(len(content) + 5)
        assert reader.read_into(buffer) == len(content)
        assert buffer[: len(content)] == content


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_members_are_selected_by_every_mode(bucket: Bucket, extension: str) -> None:
    put(bucket, f"s{extension}", packed(extension))
    for mode, expression, names in (
        (ArchiveMode.PREFIX, "dir/", ["dir/b.jpg", "dir/b.cls", "dir/c.jpg"]),
        (ArchiveMode.SUFFIX, ".jpg", ["dir/b.jpg", "dir/c.jpg"]),
        (ArchiveMode.SUBSTR, "r/c", ["dir/c.jpg"]),
        (ArchiveMode.REGEXP, r"^\w+\.txt$", ["a.txt"]),
        (ArchiveMode.WDSKEY, "dir/b", ["dir/b.jpg", "dir/b.cls"]),
    ):
        config = ArchiveConfig(mode=mode, regex=expression)
        data = bucket.object(f"s{extension}").get_reader(archive_config=config).read_all()
        assert unpacked(".tar", data) == [one for one in MEMBERS if one[0] in names]


def test_what_is_not_there_is_told(bucket: Bucket) -> None:
    put(bucket, "s.tar", tar())
    put(bucket, "text.txt", b"no archive")
    member = ArchiveConfig(archpath="none")
    with pytest.raises(ErrObjNotFound, match=r"none in ais://.*/s\.tar does not exist"):
        bucket.object("s.tar").get_reader(archive_config=member).read_all()
    with pytest.raises(ErrObjNotFound):
        bucket.object("none.tar").get_reader(archive_config=member).read_all()
    with pytest.raises(AISError, match="unrecognized or unsupported file format"):
        bucket.object("text.txt").get_reader(archive_config=member).read_all()
    config = ArchiveConfig(mode=ArchiveMode.REGEXP, regex="(")
    with pytest.raises(AISError, match="missing closing"):
        bucket.object("s.tar").get_reader(archive_config=config).read_all()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_archive_is_listed(bucket: Bucket, extension: str) -> None:
    put(bucket, f"d/s{extension}", packed(extension))
    put(bucket, f"d/s{extension}.txt", b"its name begins like that of the archive")
    name = f"d/s{extension}"
    entries = bucket.list_archive(name, props="name,size", page_size=3)
    assert [(entry.name, entry.size) for entry in entries] == sorted(
        (f"{name}/{member}", len(content)) for member, content in MEMBERS
    )
    assert bucket.list_archive(name, include_archive_obj=True)[0].name == name
    assert bucket.list_archive("none.tar") == []


def test_a_group_becomes_an_archive_and_grows(client: Client, bucket: Bucket) -> None:
    contents = {f"o-{i}": bytes([i]) * i * 10_000 for i in range(1, 6)}
    for name, content in contents.items():
        put(bucket, name, content)
    for extension in EXTENSIONS:
        archive = f"x{extension}"
        made(client, bucket.objects(obj_template="o-{1..3}").archive(archive))
        made(client, bucket.objects(obj_names=["o-5"]).archive(archive, allow_append=True, mime=extension))
        wanted = [(name, contents[name]) for name in ("o-1", "o-2", "o-3", "o-5")]
        assert unpacked(extension, bucket.object(archive).get_reader().read_all()) == wanted


def test_an_archive_in_another_bucket(client: Client, bucket: Bucket) -> None:
    put(bucket, "d/a", b"alpha")
    other = client.bucket(f"{bucket.name}-other").create()
    try:
        made(client, bucket.objects(obj_names=["d/a"]).archive("x.tar", to_bck=other, include_source_name=True))
        assert [entry.name for entry in other.list_archive("x.tar")] == [f"x.tar/{bucket.name}/d/a"]
        assert bucket.list_archive("x.tar") == []
    finally:
        other.delete()


def test_a_missing_object_is_an_error_of_the_job_and_the_others_are_archived(client: Client, bucket: Bucket) -> None:
    put(bucket, "a", b"alpha")
    (job_id,) = bucket.objects(obj_names=["a", "gone"]).archive("x.tar")
    assert client.job(job_id).wait(timeout=30).success
    assert "gone does not exist" in client.job(job_id).status().err
    assert [entry.name for entry in bucket.list_archive("x.tar")] == ["x.tar/a"]


def test_an_archive_of_nothing_is_a_failed_job(client: Client, bucket: Bucket) -> None:
    put(bucket, "x.tar", tar())
    for allow_append in (False, True):
        (job_id,) = bucket.objects(obj_names=["gone"]).archive("x.tar", allow_append=allow_append)
        result = client.job(job_id).wait(timeout=30)
        assert not result
        assert "x.tar is empty" in str(result.error)
    assert bucket.object("x.tar").get_reader().read_all() == tar()


def test_archives_that_are_refused(client: Client, bucket: Bucket) -> None:
    put(bucket, "a", b"alpha")
    group = bucket.objects(obj_names=["a"])
    for name, mime in (("x.bin", ""), ("x.tar", "zip"), ("x.tar", "nonsense")):
        with pytest.raises(AISError):
            group.archive(name, mime)
    with pytest.raises(ErrBckNotFound):
        group.archive("x.tar", to_bck=client.bucket(f"{bucket.name}-none"))
    assert [entry.name for entry in bucket.list_all_objects()] == ["a"]
