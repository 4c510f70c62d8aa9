"""Functions that programs import from the official package."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, urlparse

from pydantic import BaseModel, TypeAdapter

from aistore.calls.jobs import poll_interval
from aistore.sdk._paths import validate_directory, validate_file
from aistore.sdk.provider import Provider
from aistore.wire import headers, hrw, params, values
from aistore.wire.errors import BUCKET_REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import ParseResult

    import requests

__all__ = [
    "HttpError",
    "convert_to_seconds",
    "decode_response",
    "expand_braces",
    "extract_and_parse_url",
    "get_digest",
    "get_file_size",
    "get_logger",
    "get_object_url_components",
    "get_provider_from_request",
    "is_read_timeout",
    "parse_bool",
    "parse_request_url",
    "parse_url",
    "probing_frequency",
    "read_file_bytes",
    "validate_directory",
    "validate_file",
    "xoshiro256_hash",
]

T = TypeVar("T")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class HttpError(BaseModel):
    """The error document of a server (protocol/00 8.1)."""

    status_code: int
    message: str = ""
    method: str = ""
    url_path: str = ""
    remote_addr: str = ""
    caller: str = ""
    node: str = ""


def get_logger(name: str, log_format: str = "%(asctime)s %(levelname)s: %(message)s") -> logging.Logger:
    """A logger that writes to standard error in `log_format`, apart from the application's handlers."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(log_format))
        logger.addHandler(handler)
    logger.propagate = False
    return logger


def probing_frequency(dur: float) -> float:
    """Seconds between two looks at a job that is waited for `dur` seconds at most."""
    return poll_interval(dur)


def convert_to_seconds(time_val: str | int) -> int:
    """Seconds of an int, or of digits with one of the suffixes s, m, h, d; raises ValueError."""
    if isinstance(time_val, int):
        return time_val
    if not isinstance(time_val, str) or not time_val:
        raise ValueError("Time value must be a non-empty string or integer.")
    if time_val.isdigit():
        return int(time_val)
    number, unit = time_val[:-1], time_val[-1]
    if unit not in _SECONDS:
        raise ValueError(f"Unsupported time unit: '{unit}'. Use 's', 'm', 'h', or 'd'.")
    if not number.isdigit():
        raise ValueError(f"Invalid numeric value in time: '{number}'.")
    return int(number) * _SECONDS[unit]


def parse_bool(s: str | None) -> bool:
    """Whether a text (of the environment, say) means yes: 1, t, true, y, yes, on, in any case."""
    return values.parse_bool((s or "").strip().lower())


def parse_url(url: str) -> tuple[str, str, str]:
    """Provider, bucket and object of `provider://bucket/object`; what is missing is empty."""
    parts = urlparse(url)
    return parts.scheme, parts.netloc, parts.path.lstrip("/") if parts.scheme else parts.path


def extract_and_parse_url(msg: str) -> tuple[str, str, bool] | None:
    """Provider, bucket, and whether an object follows, of the first bucket that a text names; None if it names none."""
    found = re.search(BUCKET_REFERENCE, msg)
    return None if found is None else (found[1], found[2], found[3] == "/")


def expand_braces(template: str) -> Iterator[str]:
    """Texts of a template as bash expands it."""
    from braceexpand import braceexpand

    names: Iterator[str] = braceexpand(template)
    return names


def get_digest(name: str) -> int:
    """Digest of a unique name, which decides where the object lies (protocol/00 10.1)."""
    return hrw.placement_digest(name)


def xoshiro256_hash(seed: int) -> int:
    """The mixing function of placement."""
    return hrw.mix(seed)


def read_file_bytes(filepath: str) -> bytes:
    """Content of a file."""
    return Path(filepath).read_bytes()


def get_file_size(file: Path) -> str:
    """Size of a file for people: `1.5 kB`; `unknown` for an empty one."""
    size = float(file.stat().st_size)
    if not size:
        return "unknown"
    for unit in ("Byte" if size == 1 else "Bytes", "kB", "MB", "GB", "TB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit.startswith("Byte") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} PB"


def decode_response(res_model: type[T], resp: requests.Response) -> T:
    """The body of an answer as `res_model`: msgpack if the answer says so, else JSON. Raises ValueError if it is something else."""
    if resp.headers.get("Content-Type") == headers.MSGPACK:
        import msgspec

        return msgspec.msgpack.decode(resp.content, type=res_model)
    return TypeAdapter(res_model).validate_json(resp.content)


def parse_request_url(req: requests.Request | requests.PreparedRequest) -> ParseResult:
    """Parts of the URL of a request."""
    return urlparse(req.url or "")


def get_provider_from_request(req: requests.Request | requests.PreparedRequest) -> Provider:
    """Provider that a request names in its query; raises ValueError if it names none."""
    named = parse_qs(parse_request_url(req).query).get(params.PROVIDER)
    if not named:
        raise ValueError(f"no provider in the query of {req.url}")
    return Provider.parse(named[0])


def get_object_url_components(
    req: requests.PreparedRequest, qparams: Mapping[str, list[str]]
) -> tuple[str, dict[str, str]]:
    """Path of the object that a request is for (`objects/bucket/name`, encoded), and the parameters that name its bucket."""
    name = parse_request_url(req).path.partition("/objects/")[2]
    named = {key: qparams[key][0] for key in (params.PROVIDER, params.NAMESPACE) if qparams.get(key)}
    return f"objects/{name}", named


def is_read_timeout(exc: requests.exceptions.ConnectionError) -> bool:
    """Whether a connection error means that the server did not answer in time."""
    from requests.exceptions import ReadTimeout
    from urllib3.exceptions import MaxRetryError, ReadTimeoutError

    if isinstance(exc, ReadTimeout):
        return True
    cause = exc.args[0] if exc.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, ReadTimeoutError)
