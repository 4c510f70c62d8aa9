"""Transformers that run in place of the public images `aistorage/transformer_*` (protocol/50 12); imported by a transformer's process only.

A class of each comes in two frameworks: `md5_Http`, and `md5_FastAPI` for WebSocket.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aistore.sdk.etl.webserver.base_etl_server import ETLServer

__all__ = ["compress", "echo", "hash_with_args", "hello_world", "md5"]

_CODERS: dict[tuple[str, str], Callable[[bytes], bytes]] = {
    ("compress", "gzip"): gzip.compress,
    ("decompress", "gzip"): gzip.decompress,
    ("compress", "bz2"): bz2.compress,
    ("decompress", "bz2"): bz2.decompress,
}


def echo(data: bytes, _args: str) -> bytes:
    """The bytes themselves."""
    return data


def hello_world(_data: bytes, _args: str) -> bytes:
    """`Hello World!`."""
    return b"Hello World!"


def md5(data: bytes, _args: str) -> bytes:
    """MD5 of the bytes, in hexadecimal digits."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def hash_with_args(data: bytes, args: str) -> bytes:
    """XXH64 of the bytes, in hexadecimal digits; the seed is the argument, else `SEED_DEFAULT`, else 0."""
    import xxhash

    for text in (args, os.environ.get("SEED_DEFAULT", "0")):
        try:
            return xxhash.xxh64(data, seed=int(text)).hexdigest().encode()
        except (ValueError, OverflowError):
            continue
    return xxhash.xxh64(data).hexdigest().encode()


def compress(data: bytes, args: str) -> bytes:
    """The bytes compressed, or decompressed, as the JSON of `COMPRESS_OPTIONS` and of the argument say (`mode`, `compression`)."""
    options = {**_options(os.environ.get("COMPRESS_OPTIONS", "")), **_options(args)}
    mode = "decompress" if options.get("mode") == "decompress" else "compress"
    kind = "bz2" if options.get("compression") == "bz2" else "gzip"
    return _CODERS[mode, kind](data)


def _options(text: str) -> dict[str, object]:
    try:
        options = json.loads(text) if text else {}
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}


def _serving(base: type[ETLServer], change: Callable[[bytes, str], bytes]) -> type[ETLServer]:
    def transform(_self: ETLServer, data: bytes | str, _path: str, etl_args: str) -> bytes:
        if isinstance(data, str):
            with open(data, "rb") as file:  # noqa: PTH123 (as plain as it gets)
                data = file.read()
        return change(data, etl_args or "")

    return type(change.__name__, (base,), {"transform": transform, "__doc__": change.__doc__})


def __getattr__(name: str) -> type[ETLServer]:
    change, _, framework = name.rpartition("_")
    if change not in __all__ or framework not in ("Http", "FastAPI"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aistore.sdk.etl import webserver

    base: type[ETLServer] = webserver.FastAPIServer if framework == "FastAPI" else webserver.HTTPMultiThreadedServer
    return _serving(base, globals()[change])
