"""Names of objects, and sizes, as the datasets see them. The names of functions and parameters are the official ones."""

from __future__ import annotations

__all__ = [
    "convert_bytes_to_mb",
    "convert_mb_to_bytes",
    "get_basename",
    "get_extension",
    "parse_url",
    "unparse_url",
]

_MB = 1_000_000


def parse_url(url: str) -> tuple[str, str, str]:
    """Provider, bucket and object of a URL such as `ais://bucket/dir/name`; what is not there is empty.

    >>> parse_url("ais://images/dir/cat.jpg")
    ('ais', 'images', 'dir/cat.jpg')
    """
    if "://" not in url:
        return "", "", url
    provider, _, rest = url.partition("://")
    bucket, _, name = rest.partition("/")
    return provider, bucket, name


def unparse_url(provider: str, bck_name: str, obj_name: str) -> str:
    """The URL of an object; of a bucket, if the object's name is empty.

    >>> unparse_url("ais", "images", "dir/cat.jpg")
    'ais://images/dir/cat.jpg'
    """
    name = obj_name.lstrip("/")
    return f"{provider}://{bck_name}/{name}" if name else f"{provider}://{bck_name}"


def get_basename(name: str) -> str:
    """The name that the members of a sample share: without folders, and up to the first dot.

    >>> get_basename("train/000.seg.png")
    '000'
    """
    return name.rpartition("/")[2].partition(".")[0]


def get_extension(name: str) -> str:
    """What is behind the last dot of a name without its folders; empty if there is none.

    >>> get_extension("train/000.seg.png")
    'png'
    """
    return name.rpartition("/")[2].partition(".")[2].rpartition(".")[2]


def convert_mb_to_bytes(megabytes: float) -> int:
    """Bytes of megabytes (millions of bytes).

    >>> convert_mb_to_bytes(3)
    3000000
    """
    return int(megabytes * _MB)


def convert_bytes_to_mb(bytes: float) -> float:  # noqa: A002  the official name
    """Megabytes (millions of bytes) of bytes.

    >>> convert_bytes_to_mb(1500)
    0.0015
    """
    return bytes / _MB
