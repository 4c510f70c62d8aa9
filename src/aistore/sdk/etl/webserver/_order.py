"""What a request asks a transformer for, read off its path, query and headers."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

from aistore.sdk.etl.webserver.utils import parse_etl_pipeline
from aistore.wire import etl, params

__all__ = ["Order", "order_of"]


class Order(NamedTuple):
    """A transformation: of what, how, and where the result goes."""

    path: str
    """The object, as `transform` gets it (protocol/50 7.1)."""
    args: str = ""
    fqn: str = ""
    """Path of a file to read instead of the body, still escaped; empty without one."""
    hop: str = ""
    """Where the result goes instead of back to the caller; empty for the caller."""
    more: str = ""
    """The hops after that."""
    hop_path: str = ""
    """The path for a further stage, decoded."""
    source: str = ""
    """URL of the object, for a request without a body."""


def order_of(path: str, hop_path: str, query: str, hops: str | None, source: str = "") -> Order:
    """The order of a request. Raises `InvalidPipelineError` for hops that are no list of URLs."""
    args = fqn = ""
    if query:
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == params.ETL_ARGS:
                args = value.strip()
            elif name == etl.FQN:
                fqn = value
    hop, more = parse_etl_pipeline(hops) if hops else ("", "")
    return Order(path, args, fqn, hop, more, hop_path, source)
