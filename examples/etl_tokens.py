"""Shards of texts (TAR) become records of tokens (JSON lines), and a second stage counts them; with Flask, and as a pipeline.

    pip install "aistore-py[etl]"
    python examples/etl_tokens.py

The example fills a bucket of the cluster at AIS_ENDPOINT, or of one of its own.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile

from aistore import Client, LocalCluster
from aistore.sdk.etl import ETLConfig
from aistore.sdk.etl.webserver.flask_server import FlaskServer
from aistore.sdk.etl.webserver.http_multi_threaded_server import HTTPMultiThreadedServer

SHARDS, TEXTS = 3, 20
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "42", "owls", "look", "on"]


class Tokenize(FlaskServer):
    """A record for each text of a shard: its name, and the numbers of its words in a vocabulary of `VOCABULARY` entries."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = int(os.environ.get("VOCABULARY", "50000"))

    def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
        import io
        import json
        import re
        import tarfile
        import zlib

        lines = []
        with tarfile.open(fileobj=io.BytesIO(data)) as shard:
            for member in shard:
                if not member.isfile() or not member.name.endswith(".txt"):
                    continue
                text = shard.extractfile(member).read().decode()
                tokens = [zlib.crc32(word.encode()) % self.entries for word in re.findall(r"\w+|[^\w\s]", text.lower())]
                lines.append(json.dumps({"name": member.name, "tokens": tokens}) + "\n")
        return "".join(lines).encode()

    def get_mime_type(self) -> str:
        return "application/jsonl"


class Count(HTTPMultiThreadedServer):
    """How many tokens the records of a shard have."""

    def transform(self, data: bytes | str, path: str, etl_args: str) -> bytes:
        import json

        return str(sum(len(json.loads(line)["tokens"]) for line in data.splitlines())).encode()


def shard(number: int) -> bytes:
    """A TAR of texts."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for text in range(TEXTS):
            content = " ".join(WORDS[: 1 + (number + text) % len(WORDS)]).encode() + b"."
            member = tarfile.TarInfo(f"{number}/{text:03}.txt")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tokenize(client: Client) -> None:
    """Make shards, turn them into records, and count."""
    shards = client.bucket("texts").create(exist_ok=True)
    for number in range(SHARDS):
        shards.object(f"shard-{number}.tar").get_writer().put_content(shard(number))
    records = client.bucket("records")
    with client.etl("etl-example-tokens") as tokens, client.etl("etl-example-count") as count:
        tokens.init_class(VOCABULARY=1000)(Tokenize)
        count.init_class()(Count)
        client.job(shards.transform(tokens.name, records, ext={"tar": "jsonl"})).wait(verbose=False)
        counted = shards.object("shard-0.tar").get_reader(etl=ETLConfig(tokens >> count)).read_all()
    for obj in records.list_all_objects_iter():
        lines = obj.get_reader().read_all().splitlines()
        print(obj.name, len(lines), "records; the first:", json.loads(lines[0]))
    print("shard-0.tar has", counted.decode(), "tokens")


def main() -> None:
    """Run the example."""
    if os.environ.get("AIS_ENDPOINT"):
        tokenize(Client())
    else:
        with LocalCluster() as cluster:
            tokenize(cluster.client())


if __name__ == "__main__":
    sys.exit(main())
