"""Names of members: how they are addressed, and which of them a request means (protocol/20 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aistore.server.archive.regexp import Regexp
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MODES", "clean", "matcher"]

MODES: Final = ("regexp", "prefix", "suffix", "substr", "wdskey")
_EXPRESSION_MAX: Final = 4096
_WORK_MAX: Final = 20_000_000  # some ten seconds of one of the few threads for archives


def clean(name: str) -> str:
    """The name by which a member is listed and read: no leading slash, `.` or doubled slash; empty if it has none.

    Members whose names lead out of the archive (`..`) cannot be addressed.
    """
    if name and name[0] not in "/." and "//" not in name and "/." not in name and name[-1] != "/":
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "" if ".." in parts else "/".join(parts)


def matcher(mode: str, expression: str) -> Callable[[str], bool]:
    """Tells whether a member of a name is meant. Raises `ApiError` 400 for a bad regular expression."""
    if len(expression) > _EXPRESSION_MAX:
        raise ApiError(400, f"archregx is longer than {_EXPRESSION_MAX} characters")
    if expression in ("", "*"):
        return lambda _: True
    if mode == "regexp":
        return Regexp(expression, work=_WORK_MAX).search
    if mode == "suffix":
        return lambda name: name.endswith(expression)
    if mode == "substr":
        return lambda name: expression in name
    if mode == "wdskey":
        return lambda name: _key(name) == expression
    return lambda name: name.startswith(expression)


def _key(name: str) -> str:
    """What the members of one sample share: the name without its last extension."""
    name = name.removeprefix("/")
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") else name
