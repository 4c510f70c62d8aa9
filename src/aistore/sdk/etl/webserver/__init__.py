"""Web servers for transformers: subclass one, say what `transform` or `transform_stream` does, and give the class to `Etl.init_class`.

`FastAPIServer` and `FlaskServer` need the packages of `aistore-py[etl]`, `HTTPMultiThreadedServer` nothing but Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.lazy import lazily

if TYPE_CHECKING:
    from aistore.sdk.etl.webserver.base_etl_server import ETLServer
    from aistore.sdk.etl.webserver.fastapi_server import FastAPIServer
    from aistore.sdk.etl.webserver.flask_server import FlaskServer
    from aistore.sdk.etl.webserver.http_multi_threaded_server import HTTPMultiThreadedServer
    from aistore.sdk.etl.webserver.utils import serialize_class

__all__ = ["ETLServer", "FastAPIServer", "FlaskServer", "HTTPMultiThreadedServer", "serialize_class"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "ETLServer": "aistore.sdk.etl.webserver.base_etl_server",
        "FastAPIServer": "aistore.sdk.etl.webserver.fastapi_server",
        "FlaskServer": "aistore.sdk.etl.webserver.flask_server",
        "HTTPMultiThreadedServer": "aistore.sdk.etl.webserver.http_multi_threaded_server",
        "serialize_class": "aistore.sdk.etl.webserver.utils",
    },
)
