"""`ais doctor`: whether what a data folder holds is in order."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aistore.cli.serve import data_dir_of
from aistore.server.doctor import Patient
from aistore.server.folder import FolderError, FolderInUseError
from aistore.server.settings import parse_size
from aistore.server.store.errors import StoreCorrupt
from aistore.server.store.findings import Findings, Pace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from aistore.server.store.findings import FindingsDocument

__all__ = ["doctor"]

_CANNOT: Final = 2
_EVERY: Final = 0.5
_SHOWN: Final = 100
_STATES: Final = {"found": "not repaired", "repaired": "repaired", "contained": "cannot be mended"}


def doctor(asked: argparse.Namespace) -> int:
    """Check a data folder. Exit status 0 in order, 1 not, 2 it cannot be checked."""
    findings = Findings(full=not asked.quick, repair=asked.repair)
    try:
        with Patient(data_dir_of(asked)) as patient, _told(findings):
            pace = Pace(rate=parse_size(asked.rate) if asked.rate else 0)
            patient.examine(full=findings.full, repair=findings.repair, pace=pace, findings=findings)
    except FolderInUseError as error:
        print(f"ais: {error}", file=sys.stderr)
        return _CANNOT
    except (FolderError, StoreCorrupt) as error:
        print(f"ais: {error}", file=sys.stderr)
        return _CANNOT
    said = findings.document()
    if asked.json:
        print(json.dumps(said, indent=2))
    else:
        _print(said)
    return 1 if said["unrepaired"] or not said["finished"] else 0


@contextmanager
def _told(findings: Findings) -> Iterator[None]:
    """Tell on a terminal how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(_EVERY):
            problems = sum(findings.found.values())
            line = f"{findings.objects:,} objects, {findings.bytes / (1 << 20):,.0f} MiB read, {problems} problems"
            print(f"\r{line:<72}", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        print(f"\r{'':<72}\r", end="", file=sys.stderr, flush=True)


def _print(said: FindingsDocument) -> None:
    for problem in said["problems"][:_SHOWN]:
        print(f"{problem['kind']:<16} {problem['where']}: {problem['text']}")
        if problem["remedy"]:
            done = "repair would" if problem["state"] == "found" and not said["repair"] else _STATES[problem["state"]]
            print(f"{'':<16} {done}: {problem['remedy']}")
    total = sum(said["found"].values())
    if total > _SHOWN:
        print(f"... and {total - _SHOWN} more (--json shows 1,000)")
    for note in said["notes"]:
        print(f"note: {note}")
    missing = said["unverifiable"]
    if missing["objects"]:
        print(
            f"note: {missing['objects']:,} objects ({missing['bytes']:,} bytes) have no checksum: only their size was compared"
        )
    what = "all content read" if said["mode"] == "full" else "content not read"
    print(
        f"{said['objects']:,} objects, {said['bytes']:,} bytes, {what}, in {said['seconds']:.1f} s: "
        + _verdict(total, said["unrepaired"], finished=said["finished"])
    )


def _verdict(total: int, unrepaired: int, *, finished: bool) -> str:
    if not finished:
        return "not everything could be checked"
    if not total:
        return "all is well"
    if not unrepaired:
        return f"{total} problems, all repaired"
    return f"{total} problems" + (f", {total - unrepaired} repaired" if total > unrepaired else "")
