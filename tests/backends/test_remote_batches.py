"""Batches of remote buckets: what is not cached is fetched, and what is missing there is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archives import tar

if TYPE_CHECKING:
    from backends.conftest import Remote


def test_batches_of_remote_objects(remote: Remote) -> None:
    contents = {f"o-{number}": bytes([number]) * (number * 10_000) for number in range(12)}
    for name, content in contents.items():
        remote.put(name, content)
    remote.put("s.tar", tar([("in/x", b"member")]))
    remote.read("o-3")
    client = remote.near.client()
    for streaming in (True, False):
        batch = client.batch(list(contents), bucket=remote.here, streaming_get=streaming)
        batch.add("none").add("s.tar", archpath="in/x").add("o-1", start=10, length=5)
        got = list(batch.get())
        assert [info.obj_name for info, _ in got] == [*contents, "none", "s.tar", "o-1"]
        assert [content for _, content in got] == [*contents.values(), b"", b"member", b"\x01" * 5]
        assert [info.obj_name for info, _ in got if info.err_msg] == ["none"]
    assert set(contents) <= remote.cached()
