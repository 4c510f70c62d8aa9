"""Log files of a node, as `what=log` sends them (protocol/00 13.4).

Each process has two logs in its data folder, one of everything and one of warnings and errors, and with `--access-log` one of all requests;
they are rotated.
"""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import os
import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from aistore.server.requests_log import ACCESS
from aistore.version import __version__
from aistore.wire.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "access_log",
    "archive_logs",
    "errors_log",
    "first_line",
    "formatter",
    "log_of_severity",
    "read_log",
    "rotate",
]

ARCHIVE_TYPE: Final = "application/gzip"


_LEVELS: Final = {
    logging.CRITICAL: "critical",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
}
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


class JsonFormatter(logging.Formatter):
    """One JSON document a line; of requests and of what is damaged, what is known of them."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds")
        line: dict[str, object] = {
            "time": when.replace("+00:00", "Z"),
            "level": _LEVELS.get(record.levelno, "debug"),
            "module": record.module,
            "line": record.lineno,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LogFormatter(logging.Formatter):
    """Lines as the reference writes them: `I 15:04:05.000000 source:line message`."""

    def format(self, record: logging.LogRecord) -> str:
        letter = "E" if record.levelno >= logging.ERROR else "W" if record.levelno >= logging.WARNING else "I"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{letter} {clock}.{int(record.created % 1 * 1e6):06d} {record.module}:{record.lineno} {record.getMessage()}"
        facts: dict[str, object] = getattr(record, "facts", {})
        if "request" in facts:
            text += f" [{facts['request']}]"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        # What a client sent may hold line breaks: only a line of ours begins at a line's beginning.
        return "\n  ".join(text.splitlines()).translate(_CONTROLS)


def errors_log(log: Path) -> Path:
    """The log of warnings and errors beside the log of everything."""
    return log.with_name(f"{log.stem}.errors{log.suffix}")


def access_log(log: Path) -> Path:
    """The log of all requests beside it."""
    return log.with_name(f"{log.stem}.access{log.suffix}")


def log_of_severity(log: Path, severity: str) -> Path:
    """The log that a severity names by its first letter; empty means everything. Raises ApiError 400."""
    letter = severity[:1].lower()
    if letter in ("", "i"):
        return log
    if letter in ("w", "e"):
        return errors_log(log)
    raise ApiError(400, f'unknown log severity "{severity[:64]}"')


def read_log(log: Path, offset: int) -> bytes:
    """The current log from a byte on (blocking). Raises ApiError 400 beyond its end, 404 if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            if offset > size:
                raise ApiError(400, f"log likely rotated (offset {offset}, size {size})")
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        raise ApiError(404, f"log {log.name} does not exist", "ErrNotFound") from None


def archive_logs(log: Path) -> bytes:
    """The current log and its rotated predecessors as TAR.GZ (blocking); a valid archive also where there is none."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(log.parent.glob(f"{log.name}*")):
            if path == log or re.fullmatch(r"\.[0-9]+", path.name.removeprefix(log.name)):
                archive.add(path, arcname=path.name)
    return buffer.getvalue()


def formatter(form: str) -> logging.Formatter:
    """What writes lines as `--log-format` says: `text` or `json`."""
    return JsonFormatter() if form == "json" else LogFormatter()


def first_line(form: str) -> str:
    """What a log file begins with, whatever the level of what is logged into it."""
    record = logging.makeLogRecord({"levelno": logging.INFO, "module": "logs", "lineno": 1})
    record.msg = f"aistore-py {__version__}, process {os.getpid()}"
    return formatter(form).format(record) + "\n"


def rotate() -> None:
    """Start new log files in this process."""
    for name in ("aistore.server", ACCESS):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.handlers.RotatingFileHandler):
                handler.doRollover()
