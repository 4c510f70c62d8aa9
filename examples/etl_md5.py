"""MD5 of each object of a bucket, computed where the objects are; with the standard library's server, and as a stream.

    python examples/etl_md5.py [BUCKET]

BUCKET is one of the cluster at AIS_ENDPOINT. Without it the example makes a bucket on a cluster of its own first.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING

from aistore import Client, LocalCluster
from aistore.sdk.etl import ETLConfig
from aistore.sdk.etl.webserver.http_multi_threaded_server import HTTPMultiThreadedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistore.sdk import Bucket
    from aistore.sdk.etl.webserver.base_etl_server import Reader

PIECE = 256 * 1024


class Md5(HTTPMultiThreadedServer):
    """The digest of an object, of whatever size: only a piece of it is in memory at a time."""

    def transform_stream(self, reader: Reader, path: str, etl_args: str) -> Iterator[bytes]:
        digest = hashlib.md5(usedforsecurity=False)
        while piece := reader.read(PIECE):
            digest.update(piece)
        yield digest.hexdigest().encode()

    def get_mime_type(self) -> str:
        return "text/plain"


def digests(client: Client, bucket: Bucket) -> None:
    """Write the digests of all objects into another bucket, print them, and compare one with that of its object."""
    target = client.bucket(f"{bucket.name}-md5")
    with client.etl("etl-example-md5") as etl:
        etl.init_class()(Md5)
        job = bucket.transform(etl.name, target)
        client.job(job).wait(verbose=False)
        # One object is transformed while it is read, as well.
        first = next(iter(bucket.list_all_objects_iter()))
        inline = first.get_reader(etl=ETLConfig(etl.name)).read_all()
    found = {obj.name: obj.get_reader().read_all().decode() for obj in target.list_all_objects_iter()}
    for name, digest in sorted(found.items()):
        print(digest, name)
    content = first.get_reader().read_all()
    expected = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if not found[first.name] == inline.decode() == expected:
        sys.exit(f"the digest of {first.name} should be {expected}")


def main(names: list[str]) -> None:
    """Run the example."""
    if names:
        client = Client()
        digests(client, client.bucket(names[0]))
        return
    with LocalCluster() as cluster:
        client = cluster.client()
        bucket = client.bucket("files").create()
        for number in range(5):
            bucket.object(f"random/{number}.bin").get_writer().put_content(os.urandom(1 << (4 * number)))
        digests(client, bucket)


if __name__ == "__main__":
    main(sys.argv[1:])
