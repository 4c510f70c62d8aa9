"""Between calls and HTTP: pool, redirects, retries, truthful errors. Names are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistore.transport.request import Request, Timeout
from aistore.transport.response import Headers, Response, StreamConsumed

if TYPE_CHECKING:
    from aistore.transport.blocking import Transport

__all__ = ["Headers", "Request", "Response", "StreamConsumed", "Timeout", "Transport"]

_HOME = {"Transport": "aistore.transport.blocking"}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
