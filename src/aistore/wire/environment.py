"""What the environment says to servers about AuthN and TLS: a port by default, names of variables (protocol/00 20, 60 20.3), and how secrets are taken from there."""

from __future__ import annotations

import os
from typing import Final

from aistore.wire.values import parse_bool

AUTHN_PORT: Final = 52001

URL: Final = "AIS_AUTHN_URL"
TOKEN: Final = "AIS_AUTHN_TOKEN"  # noqa: S105  the name of a variable
TOKEN_FILE: Final = "AIS_AUTHN_TOKEN_FILE"  # noqa: S105  the same
SECRET_KEY: Final = "AIS_AUTHN_SECRET_KEY"  # noqa: S105  the same
PUBLIC_KEY: Final = "AIS_AUTHN_PUBLIC_KEY"
SU_NAME: Final = "AIS_AUTHN_SU_NAME"
SU_PASS: Final = "AIS_AUTHN_SU_PASS"  # noqa: S105  the same

USE_HTTPS: Final = "AIS_AUTHN_USE_HTTPS"
SERVER_CERTIFICATE: Final = "AIS_SERVER_CRT"
SERVER_KEY: Final = "AIS_SERVER_KEY"
SKIP_VERIFY_CLUSTERS: Final = "AIS_AUTHN_SKIP_VERIFY_CRT"
CLIENT_CA: Final = "AIS_CLIENT_CA"


def take(name: str) -> str:
    """A secret from the environment, empty if there is none.

    Processes that are started from here do not inherit it, and other processes of the same user do not find it in `/proc` or
    `ps e`, which show what a process was started with.
    """
    if name not in os.environ:
        return ""
    import ctypes

    find = ctypes.CDLL(None).getenv
    find.argtypes, find.restype = [ctypes.c_char_p], ctypes.c_void_p
    place = find(os.fsencode(name))
    if place:
        ctypes.memset(place, ord("*"), len(ctypes.string_at(place)))
    return os.environ.pop(name)


def is_set(name: str) -> bool:
    """Whether a variable says yes."""
    return parse_bool(os.environ.get(name, "").strip().lower())
