"""`ais doctor`: whether what a data folder holds is in order."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from aistore.calls import jobs
from aistore.cli.objects import warn_once
from aistore.cli.serve import data_dir_of
from aistore.cli.words import counted, explained
from aistore.sdk import Client
from aistore.sdk.errors import AISError
from aistore.server.doctor import Patient
from aistore.server.folder import FolderError, FolderInUseError
from aistore.server.settings import parse_size
from aistore.server.store.findings import Findings, FindingsDocument, Pace
from aistore.wire import environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

__all__ = ["doctor"]

_EVERY: Final = 0.5
_POLL: Final = 0.1
_SHOWN: Final = 100
_STATES: Final = {"found": "not repaired", "repaired": "repaired", "contained": "cannot be mended"}


def doctor(asked: argparse.Namespace) -> int:
    """Check a data folder. Exit status 0 in order, 1 not; raises why it cannot be checked."""
    warn_once()
    try:
        said = _by_server(asked, asked.endpoint) if asked.endpoint else _examined(asked)
    except AISError as error:
        if error.status_code not in (401, 403):
            raise
        raise FolderError(
            f"{explained(error)}\nThe check by a server is for administrators: name the token of one by "
            f"{environment.TOKEN} or {environment.TOKEN_FILE}, or stop the server first"
        ) from error
    if asked.json:
        print(json.dumps(said, indent=2))
    else:
        _print(said)
    return 1 if said["unrepaired"] or not said["finished"] else 0


def _examined(asked: argparse.Namespace) -> FindingsDocument:
    """What is found here, or by the server of the folder."""
    findings = Findings(full=not asked.quick, repair=asked.repair)
    try:
        with Patient(data_dir_of(asked)) as patient, _told(findings.document):
            pace = Pace(rate=parse_size(asked.rate) if asked.rate else 0)
            patient.examine(full=findings.full, repair=findings.repair, pace=pace, findings=findings)
    except FolderInUseError as error:
        if not error.url:
            raise
        # Whom a certificate is for, the data folder tells.
        https = error.url.startswith("https:")
        return _by_server(asked, f"local://{quote(str(data_dir_of(asked)))}" if https else error.url)
    return findings.document()


def _by_server(asked: argparse.Namespace, url: str) -> FindingsDocument:
    """What a job of a server finds. Ctrl-C aborts the job."""
    if asked.rate:
        raise FolderError(f"--rate is for folders that nobody serves: the job at {url} keeps to a rate of its own")
    client = Client(url, skip_verify=asked.skip_verify, ca_cert=asked.ca_cert)
    requests = client.cluster().client
    job = client.job(requests.run(jobs.start_scrub(quick=asked.quick, repair=asked.repair)))

    def found() -> FindingsDocument:
        told = job.findings()
        if told is None:
            raise FolderError(f"{url} does not tell what scrub[{job.job_id}] found: {job.status().err or 'nothing'}")
        return msgspec.convert(told, FindingsDocument)

    try:
        with _told(found):
            while not (status := job.status()).end_time:
                time.sleep(_POLL)
    except KeyboardInterrupt:
        job.abort()
        raise
    said = found()
    if status.aborted:
        said["notes"].append(f"scrub[{job.job_id}] was aborted: {status.err}")
    return said


@contextmanager
def _told(found: Callable[[], FindingsDocument]) -> Iterator[None]:
    """Tell on a terminal how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(_EVERY):
            said = found()
            problems = sum(said["found"].values())
            line = f"{counted(said['objects'], 'object')}, {said['bytes'] / (1 << 20):,.0f} MiB read, {counted(problems, 'problem')}"
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
        what = f"{counted(missing['objects'], 'object')} ({counted(missing['bytes'], 'byte')})"
        print(f"note: no checksum of {what}: only the size was compared")
    what = "all content read" if said["mode"] == "full" else "content not read"
    print(
        f"{counted(said['objects'], 'object')}, {counted(said['bytes'], 'byte')}, {what}, in {said['seconds']:.1f} s: "
        + _verdict(total, said["unrepaired"], finished=said["finished"])
    )


def _verdict(total: int, unrepaired: int, *, finished: bool) -> str:
    if not finished:
        return "not everything could be checked"
    if not total:
        return "all is well"
    if not unrepaired:
        return f"{counted(total, 'problem')}, all repaired"
    return counted(total, "problem") + (f", {total - unrepaired} repaired" if total > unrepaired else "")
