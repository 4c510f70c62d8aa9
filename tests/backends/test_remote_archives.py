"""Archives and remote buckets: members of what is not cached, archives of it, archives that are written through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aistore.sdk import ArchiveConfig
from aistore.sdk.errors import AISError
from archives import MEMBERS, tar, unpacked

if TYPE_CHECKING:
    from aistore.sdk import Client
    from backends.conftest import Remote


def test_a_member_of_an_archive_that_is_not_cached(remote: Remote) -> None:
    remote.put("s.tar", tar())
    for name, content in MEMBERS:
        reader = remote.here.object("s.tar").get_reader(archive_config=ArchiveConfig(archpath=name))
        assert reader.read_all() == content
    assert remote.cached() == {"s.tar"}
    assert [entry.name for entry in remote.here.list_archive("s.tar")] == sorted(f"s.tar/{name}" for name, _ in MEMBERS)


@pytest.mark.parametrize("template", ["o/{0..19}", "o/"])
def test_objects_that_are_not_cached_are_archived(remote: Remote, near_client: Client, template: str) -> None:
    contents = {f"o/{i}": b"%d" % i * 1000 for i in range(20)}
    for name, content in contents.items():
        remote.put(name, content)
    remote.read("o/3")
    bucket = near_client.bucket(f"made-{remote.name}").create()
    try:
        (job_id,) = remote.here.objects(obj_template=template).archive("x.tar", to_bck=bucket)
        assert near_client.job(job_id).wait(timeout=60).success
        made = unpacked(".tar", bucket.object("x.tar").get_reader().read_all())
        assert sorted(made) == sorted(contents.items())
    finally:
        bucket.delete()


def test_an_archive_in_a_remote_bucket_is_written_through(remote: Remote, near_client: Client) -> None:
    remote.put("a", b"alpha" * 5000)
    group = remote.here.objects(obj_names=["a", "gone"])
    (job_id,) = group.archive("x.tar")
    assert near_client.job(job_id).wait(timeout=60).success
    assert "gone does not exist" in near_client.job(job_id).status().err
    there = remote.there("x.tar")
    assert there is not None
    assert unpacked(".tar", there) == [("a", b"alpha" * 5000)]
    with pytest.raises(AISError, match="cannot append to archives in remote bucket"):
        group.archive("x.tar", allow_append=True)
