"""The `ais` command: serve a data folder, and look at, read and write objects from a shell."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import TYPE_CHECKING, Final

from aistore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
create, ls, get, put and sync talk to --endpoint, else to $AIS_ENDPOINT, else to the server of your data folder
(local:), which they start if it does not run. Objects are written as BUCKET/NAME or ais://BUCKET/NAME.
"""

_SYNC = """\
Make DST like SRC. A bucket is written ais://BUCKET or ais://BUCKET/PREFIX, anything else is a folder. What is
there already, of the same size and checksum, is left as it is; a run that was interrupted goes on where it was.
Exit status 0 if all is well, 1 if something failed, 130 after Ctrl-C.
"""
_DOCTOR = """\
Check a data folder: the catalog against the content, all content against its checksums, counts, what is left over.
A folder that is served is checked by its server, as a job. Nothing is changed without --repair.
Exit status 0 if all is well or mended, 1 if something is wrong, 2 if the folder cannot be checked, 130 after Ctrl-C.
"""
_NOT_READ: Final = 128 + 13
"""What a shell says of a command that SIGPIPE ended. Not done, and no failure: callers that close a pipe early know it (webdataset does)."""

_FAILED: Final = {"doctor": 2}
"""Exit status of commands that failed, where 1 says something else: for `doctor`, that something is wrong in the folder."""

_as_written = argparse.RawDescriptionHelpFormatter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status.

    0 done, 1 failed (the reason on standard error), 2 wrong usage (and what `doctor` cannot check), 130 Ctrl-C, 141 when nobody reads the output any more.
    """
    asked, unknown = make_parser().parse_known_args(arguments)
    if unknown:  # said by the command, whose usage helps, and not by the parser of all commands
        asked.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _dispatch(asked)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough; what the interpreter flushes at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOT_READ
    except Exception as error:
        if not _is_expected(error):
            raise
        from aistore.cli.words import explained

        print(f"ais: {explained(error)}", file=sys.stderr)
        return _FAILED.get(asked.command, 1)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="ais", description=__doc__, epilog=_EPILOG, formatter_class=_as_written)
    parser.add_argument("--version", action="version", version=f"aistore-py {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_serve(commands.add_parser("serve", help="serve a data folder until Ctrl-C"))
    _add_authn(commands.add_parser("authn", help="who may do what: an AuthN server"))

    for name, text in (("stop", "stop the server of a data folder"), ("status", "what serves a data folder")):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "data_dir", nargs="?", metavar="DATA_DIR", help="default: $AIS_LOCAL_DIR or your data folder"
        )

    _add_doctor(
        commands.add_parser(
            "doctor",
            help="check what a data folder holds, and mend it",
            description=_DOCTOR,
            formatter_class=_as_written,
        )
    )
    _add_objects(commands)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("data_dir", nargs="?", metavar="DATA_DIR", help="default: $AIS_LOCAL_DIR or your data folder")
    serve.add_argument("--host", help="address to bind (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="default 8080; 0 takes a free one")
    serve.add_argument("--targets", type=int, metavar="N", help="target processes (default 1: one process does all)")
    serve.add_argument("--durability", choices=("strict", "relaxed"), help="what a write survives (default strict)")
    serve.add_argument("--promote-root", metavar="DIR", help="the folder that files may be promoted from")
    serve.add_argument("--capacity", metavar="SIZE", help="accept this much content, for example 100GiB")
    serve.add_argument(
        "--backend",
        action="append",
        dest="backends",
        metavar="NAME[=URL]",
        help="where remote buckets live: aws, gcp, azure, or ais=URL for another cluster; may be repeated",
    )
    serve.add_argument("--config", metavar="FILE.toml", help="the same settings from a file; options win over it")
    serve.add_argument("--allow-remote", action="store_true", default=None, help="bind other than loopback addresses")
    serve.add_argument(
        "--allow-host",
        action="append",
        dest="allow_hosts",
        metavar="NAME",
        help="answer requests to this host name too",
    )
    serve.add_argument("--no-etl", dest="etl", action="store_false", default=None, help="a cluster without ETL")
    serve.add_argument(
        "--allow-etl",
        action="store_true",
        default=None,
        help="with --allow-remote: everyone on that network may run code here, as an ETL",
    )
    serve.add_argument(
        "--authn", metavar="URL|local", help="ask for tokens of this AuthN server, or of one of its own (local)"
    )
    serve.add_argument(
        "--authn-port", type=int, metavar="PORT", help="port of the AuthN server of its own (default 52001)"
    )
    serve.add_argument("--authn-ca", metavar="FILE", help="CA of the AuthN server behind an https URL")
    _add_tls(serve)
    serve.add_argument(
        "--grace", type=float, metavar="SECONDS", help="what runs when it is told to stop may take so long (default 10)"
    )
    serve.add_argument("--public-host", metavar="NAME", help="name or address that clients are sent to")
    _add_logs(serve)


def _add_logs(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default info")
    serve.add_argument("--log-format", choices=("text", "json"), help="default text")
    serve.add_argument("--access-log", action="store_true", help="log all requests, in a file of their own")


def _add_tls(serve: argparse.ArgumentParser) -> None:
    tls = serve.add_argument_group(
        "TLS", "HTTPS on all ports, with files in PEM form that are read again when they change"
    )
    tls.add_argument("--tls-cert", metavar="FILE", help="the server's certificate, with those that lead to its CA")
    tls.add_argument("--tls-key", metavar="FILE", help="its key, unless that is in the same file")
    tls.add_argument("--tls-client-ca", metavar="FILE", help="clients have to show a certificate of this CA")
    tls.add_argument(
        "--tls-client-auth",
        type=int,
        metavar="LEVEL",
        help="of clients' certificates: 4 demand and check (default with --tls-client-ca), 3 check if shown, 0 ask for none",
    )
    tls.add_argument(
        "--tls-self-signed",
        action="store_true",
        default=None,
        help="make a CA and a certificate for development, and renew it",
    )


def _add_authn(authn: argparse.ArgumentParser) -> None:
    commands = authn.add_subparsers(dest="authn_command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve users, roles and tokens until Ctrl-C")
    serve.add_argument("data_dir", nargs="?", metavar="DATA_DIR", help="default: aistore-authn beside your data folder")
    serve.add_argument("--host", help="address to bind (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="default 52001; 0 takes a free one")
    serve.add_argument("--external-url", metavar="URL", help="where clients and clusters reach it")
    _add_tls(serve)
    serve.add_argument("--allow-remote", action="store_true", help="bind other than loopback addresses")
    _add_logs(serve)
    login = commands.add_parser("login", help="log in, and keep the token for other commands and programs")
    login.add_argument("name", metavar="NAME", help="the password is asked for, or read from standard input")
    logout = commands.add_parser("logout", help="have the token refused, and forget it")
    keys = commands.add_parser("key", help="access keys, which clients of S3 sign with")
    of_keys = keys.add_subparsers(dest="key_command", required=True, metavar="COMMAND")
    create = of_keys.add_parser("create", help="make a key, and show it with its secret, once")
    create.add_argument("--user", metavar="NAME", help="of somebody else (for administrators)")
    ls = of_keys.add_parser(
        "ls", help="your keys, with the times when they were made and expire; of administrators all"
    )
    rm = of_keys.add_parser("rm", help="delete a key")
    rm.add_argument("id", metavar="ID")
    for command in (login, create):
        command.add_argument(
            "--days", type=float, metavar="N", help="how long it is good (login: 1, key: as long as can be)"
        )
    for command in (login, logout, create, ls, rm):
        command.add_argument("--url", help="the AuthN server (default: $AIS_AUTHN_URL, or port 52001 of this machine)")
        _add_trust(command, "the AuthN server")


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("data_dir", nargs="?", metavar="DATA_DIR", help="default: $AIS_LOCAL_DIR or your data folder")
    doctor.add_argument("--quick", action="store_true", help="do not read content")
    doctor.add_argument("--repair", action="store_true", help="mend what can be mended; without it, only tell")
    doctor.add_argument("--rate", metavar="SIZE", help="read at most so much a second, for example 100MiB")
    doctor.add_argument("--endpoint", metavar="URL", help="the server to ask instead, as a job of it")
    _add_trust(doctor, "that server")
    doctor.add_argument("--json", action="store_true", help="print one JSON document")


def _add_trust(command: argparse.ArgumentParser, server: str) -> None:
    command.add_argument("--ca-cert", metavar="FILE", help=f"CA that vouches for {server} (default $AIS_CLIENT_CA)")
    command.add_argument("--skip-verify", action="store_true", help="trust any certificate")


def _add_objects(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    create = commands.add_parser("create", help="create a bucket")
    create.add_argument("bucket", metavar="BUCKET")
    ls = commands.add_parser("ls", help="list buckets, or the objects of one")
    ls.add_argument("place", nargs="?", metavar="BUCKET[/PREFIX]")
    ls.add_argument("-l", "--long", action="store_true", help="sizes too")
    get = commands.add_parser("get", help="read an object into a file, or to standard output")
    get.add_argument("object", metavar="BUCKET/NAME")
    get.add_argument("file", nargs="?", default="", metavar="FILE", help="default: the last part of NAME; - is stdout")
    get.add_argument(
        "-r", "--recursive", action="store_true", help="all objects below BUCKET/NAME, into folder FILE (default .)"
    )
    put = commands.add_parser("put", help="store a file, or standard input, as an object")
    put.add_argument("file", metavar="FILE", help="- is standard input")
    put.add_argument("object", metavar="BUCKET/[NAME]", help="default NAME: the file's")
    put.add_argument(
        "-r", "--recursive", action="store_true", help="all files of folder FILE, as objects below BUCKET/NAME"
    )
    sync = commands.add_parser(
        "sync", help="make a folder or bucket like another", description=_SYNC, formatter_class=_as_written
    )
    _add_sync(sync)
    for command in (get, put, sync):
        command.add_argument("-v", "--verbose", action="store_true", help="tell what is done with each of many names")
    for command in (create, ls, get, put, sync):
        command.add_argument("--endpoint", help="URL of a cluster, or local:[///PATH]")
        _add_trust(command, "the cluster")


def _add_sync(sync: argparse.ArgumentParser) -> None:
    sync.add_argument("source", metavar="SRC")
    sync.add_argument("destination", metavar="DST")
    sync.add_argument("--delete", action="store_true", help="remove at DST what SRC does not have")
    sync.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    sync.add_argument("--pattern", default="*", metavar="GLOB", help="only names whose last part matches")
    sync.add_argument("--workers", type=int, default=16, metavar="N", help="so many at a time (default 16)")
    sync.add_argument("--from-endpoint", metavar="URL", help="cluster of SRC, if that is another one")
    sync.add_argument("--to-endpoint", metavar="URL", help="cluster of DST, if that is another one")


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning of the library as one of the command: the line of Python that it comes from tells its user nothing."""
    print(f"ais: warning: {message}", file=sys.stderr)


def _dispatch(asked: argparse.Namespace) -> int:
    if asked.command in ("serve", "stop", "status"):
        from aistore.cli import serve

        return int(getattr(serve, asked.command)(asked))
    if asked.command == "doctor":
        from aistore.cli import doctor

        return doctor.doctor(asked)
    if asked.command == "authn":
        return _authn(asked)
    if asked.command == "sync":
        from aistore.cli import files

        return files.sync(asked)
    from aistore.cli import objects

    return int(getattr(objects, asked.command)(asked))


def _authn(asked: argparse.Namespace) -> int:
    if asked.authn_command == "serve":
        from aistore.cli import authn

        return authn.serve(asked)
    from aistore.cli import login

    command = f"key_{asked.key_command}" if asked.authn_command == "key" else asked.authn_command
    return int(getattr(login, command)(asked))


def _is_expected(error: Exception) -> bool:
    """Whether an error tells a user what went wrong; others are defects and keep their traceback."""
    if isinstance(error, (OSError, ValueError)):
        return True
    if error.__class__.__module__.startswith("aistore."):
        return True
    return error.__class__.__module__.startswith("requests.")


if __name__ == "__main__":
    sys.exit(main())
