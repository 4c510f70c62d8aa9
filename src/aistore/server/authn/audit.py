"""Who did what, one JSON document a line: logins, failed ones, changes and revocations. Never a password, never a token."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path

__all__ = ["AUDIT_LOG", "Audit"]

AUDIT_LOG: Final = "audit.log"
_BYTES: Final = 16 << 20
_KEPT: Final = 9


class _PrivateFile(logging.handlers.RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(fd, "a", encoding="utf-8")


class Audit:
    """The audit log of an AuthN server."""

    def __init__(self, folder: Path) -> None:
        self._file = _PrivateFile(folder / AUDIT_LOG, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")

    def note(self, actor: str, address: str, action: str, what: str, outcome: str = "ok") -> None:
        """Note what somebody did: `actor` is a user (empty where nobody is known), `what` the thing that was changed."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps(
            {"time": now, "actor": actor, "address": address, "action": action, "what": what, "outcome": outcome}
        )
        self._file.emit(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
