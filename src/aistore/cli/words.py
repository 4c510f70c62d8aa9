"""How the command words what it tells."""

from __future__ import annotations

import os
import re
from typing import Final

__all__ = ["counted", "explained", "in_a_shell"]

# What errors advise a Python program to do, and how that is done here.
_IN_A_SHELL: Final = (
    (
        "(log in: AuthNClient(url).login(name, password) gives what Client(token=...) takes)",
        "(log in: ais authn login NAME)",
    ),
    ("(create it with bucket.create())", "(create it with: ais create)"),
    (" (bucket.create(exist_ok=True) accepts that)", ""),
    ("(see bucket.list_all_objects())", "(ais ls shows what is)"),
    ("`ca_cert` and `client_cert`", "--ca-cert, AIS_CRT and AIS_CRT_KEY"),
    ("as `ca_cert`,", "with --ca-cert FILE,"),
    ("as `client_cert`, or in ", "in "),
    ("`client_cert`, or ", ""),
    ("`skip_verify`", "--skip-verify"),
    ("within the connect timeout: check the endpoint, or raise `timeout`", "within the connect timeout: check the endpoint, or raise AIS_CONNECT_TIMEOUT"),
    ("raise `timeout`", "raise AIS_READ_TIMEOUT"),
    (": pass bytes or a seekable file", ": store a file instead of standard input"),
)  # fmt: skip

_SETTING: Final = re.compile(r"\btls_(cert|key|client_ca|client_auth|self_signed)\b")


def counted(count: int, noun: str) -> str:
    """A number with what it counts: `1 object`, `1,200 objects`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def explained(error: Exception) -> str:
    """What went wrong, in a line: of a refusal what to do about it, else the server's words, and never its whole document."""
    from aistore.sdk.errors import APIRequestError, InvalidBckProvider
    from aistore.sdk.obj.obj_file.errors import ObjectFileReaderMaxResumeError

    if isinstance(error, ObjectFileReaderMaxResumeError):
        return explained(error.original_error)
    if isinstance(error, InvalidBckProvider):
        from aistore.sdk.provider import Provider

        name = error.provider.value if isinstance(error.provider, Provider) else error.provider
        return f"{name}://: {error.advice}"
    if isinstance(error, APIRequestError):
        return in_a_shell(error.advice or error.detail)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fspath(error.filename)!r}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return in_a_shell(str(error))


def in_a_shell(text: str) -> str:
    """What an error or a line of the log says, with what there is here instead of arguments and calls of Python."""
    for of_python, of_shell in _IN_A_SHELL:
        text = text.replace(of_python, of_shell)
    return _SETTING.sub(lambda found: f"--{found[0].replace('_', '-')}", text)
