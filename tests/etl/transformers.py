"""Transformers that the tests run under this package's framework and under the official one: the same file, unchanged.

python transformers.py KIND PORT       KIND: FastAPIServer, FlaskServer or HTTPMultiThreadedServer, with `Stream` in front for the streaming form
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = {
    "FastAPIServer": "fastapi_server",
    "FlaskServer": "flask_server",
    "HTTPMultiThreadedServer": "http_multi_threaded_server",
}


def framework(kind: str) -> Any:
    return getattr(importlib.import_module(f"aistore.sdk.etl.webserver.{MODULES[kind]}"), kind)


def misbehave(etl_args: str) -> None:
    """Raise what the arguments ask for."""
    if etl_args == "raise":
        raise ValueError("no such colour")
    if etl_args == "missing":
        raise FileNotFoundError("nowhere.txt")
    if etl_args == "http-exception":
        from fastapi import HTTPException

        raise HTTPException(418, "short and stout")
    if etl_args == "requests-error":
        import requests

        response = requests.Response()
        response.status_code = 403
        raise requests.HTTPError("403 of another service", response=response)
    if etl_args == "requests-connection":
        import requests

        raise requests.ConnectionError("another service is gone")


def whole(base: Any) -> type:
    class Whole(base):  # type: ignore[misc]  # the framework is found at run time
        def transform(self, data: Any, path: str, etl_args: str) -> bytes:
            misbehave(etl_args)
            if etl_args == "empty":
                return b""
            if etl_args.startswith("describe"):
                return json.dumps([type(data).__name__, path, etl_args]).encode()
            if isinstance(data, str):
                data = Path(data).read_bytes()
            return bytes(data.upper())

        def get_mime_type(self) -> str:
            return "text/x-upper"

    return Whole


def streaming(base: Any) -> type:
    class Streaming(base):  # type: ignore[misc]  # the framework is found at run time
        def transform_stream(self, reader: Any, path: str, etl_args: str) -> Iterator[bytes]:
            misbehave(etl_args)
            if etl_args.startswith("describe"):
                yield json.dumps([path, etl_args]).encode()
                return
            if etl_args == "empty":
                return
            while piece := reader.read(65536):
                yield piece.upper()
                if etl_args == "raise-late":
                    raise ValueError("half way")

        def get_mime_type(self) -> str:
            return "text/x-upper"

    return Streaming


def main() -> None:
    kind, port = sys.argv[1:3]
    base = framework(kind.removeprefix("Stream"))
    cls = streaming(base) if kind.startswith("Stream") else whole(base)
    cls(host="127.0.0.1", port=int(port)).start()


if __name__ == "__main__":
    main()
