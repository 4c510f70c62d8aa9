"""Shards to sort, and what a dSort job made of them."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from archives import Members, packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aistore import LocalCluster
    from aistore.sdk import Bucket, Client
    from aistore.sdk.dsort.types import JobInfo
    from aistore.sdk.wait_result import WaitResult

DEADLINE = 120.0
"""Seconds after which a job that has to end has not ended."""


def records(count: int, size: int = 100, seed: int = 1) -> list[Members]:
    """Records of two or three members each, in no order."""
    dice = random.Random(seed)
    made: list[Members] = []
    for i in range(count):
        name = f"dir{i % 3}/r{i:05}"
        members = [(f"{name}.cls", b"%d" % (count - i)), (f"{name}.jpg", dice.randbytes(dice.randrange(size) + 1))]
        if i % 4 == 0:
            members.append((f"{name}.seg.png", b"png%d" % i))
        made.append(members)
    dice.shuffle(made)
    return made


def shards(made: list[Members], number: int, extension: str = ".tar") -> dict[str, bytes]:
    """So many shards of them, by name."""
    each = -(-len(made) // number)
    return {
        f"in-{n}{extension}": packed(
            extension, [member for record in made[n * each : (n + 1) * each] for member in record]
        )
        for n in range(number)
    }


def merged(shards_in_order: Iterable[Members]) -> Members:
    return [member for members in shards_in_order for member in members]


class Places(NamedTuple):
    """A cluster, and two of its buckets."""

    cluster: LocalCluster
    client: Client
    source: Bucket
    target: Bucket

    @classmethod
    @contextmanager
    def of(cls, cluster: LocalCluster, client: Client, test: str) -> Iterator[Places]:
        """Buckets of one test, which end with it."""
        name = f"{hash(test) & 0xFFFFFFFF:08x}"
        source = client.bucket(f"in-{name}").create()
        target = client.bucket(f"out-{name}").create()
        yield cls(cluster, client, source, target)
        source.delete(missing_ok=True)
        target.delete(missing_ok=True)

    def put(self, contents: Mapping[str, bytes]) -> None:
        for name, content in contents.items():
            self.source.object(name).get_writer().put_content(content)

    def spec(self, **more: Any) -> dict[str, Any]:
        return {
            "input_bck": self.source.as_model().as_dict(),
            "input_format": {"template": "in-{0..9}"},
            "input_extension": ".tar",
            "output_bck": self.target.as_model().as_dict(),
            "output_format": "out-{0000..9999}",
            "output_extension": ".tar",
            "output_shard_size": "2KB",
            **more,
        }

    def sort(self, **more: Any) -> tuple[WaitResult, dict[str, JobInfo]]:
        """Run a job to its end: its result, and what is told of it."""
        job = self.client.dsort()
        job.start(self.spec(**more))
        result = job.wait(DEADLINE, verbose=False)
        return result, job.get_job_info()

    def sorted(self, **more: Any) -> list[Members]:
        """Run a job that has to succeed: what is in each output shard."""
        result, infos = self.sort(**more)
        assert result, (result, infos)
        return self.made(self.target)

    def failed(self, **more: Any) -> str:
        """Run a job that has to be aborted: the error."""
        result, infos = self.sort(**more)
        assert not result
        assert all(info.aborted and info.metrics.aborted for info in infos.values())
        assert result.error
        return result.error

    def made(self, bucket: Bucket) -> list[Members]:
        """What is in each shard of a bucket, by name."""
        found = sorted(entry.name for entry in bucket.list_all_objects())
        extensions = (".tar.lz4", ".tgz", ".tar.gz", ".zip", ".tar")
        return [
            unpacked(next(one for one in extensions if name.endswith(one)), bucket.object(name).get_reader().read_all())
            for name in found
        ]
