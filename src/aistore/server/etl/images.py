"""From an image to a local process: what runs instead of a container (protocol/50 11.2, 11.3).

The transformer has to listen on a port of ours, on loopback, whatever its command says. An `init_class` gets a listening socket. A command
of its own is told in three ways: `--host`, `--port`, `--bind` and `HOST:PORT` among its arguments are rewritten; `AIS_ETL_HOST`, `AIS_ETL_PORT`,
`HOST` and `PORT` are in its environment; and Python programs bind through `guard/sitecustomize.py`, which turns the port that the image
documents into ours, and every address into loopback.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aistore.server.etl.message import Launch

__all__ = ["BUILT_IN", "LOOPBACK", "NoImage", "Program", "program_of"]

LOOPBACK: Final = "127.0.0.1"

BUILT_IN: Final = ("echo", "hello_world", "md5", "hash_with_args", "compress")
"""Names of the transformers that run here in place of `aistorage/transformer_NAME`."""

_ROOT: Final = Path(__file__).resolve().parents[3]
_GUARD: Final = Path(__file__).resolve().parent / "guard"
# As for the server's own processes: nothing from the working directory, and the package's own place last.
_BOOT: Final = (
    f"import sys; sys.path[:1] = []; sys.path.append({str(_ROOT)!r}); "
    "import runpy; runpy.run_module('aistore.sdk.etl.webserver.bootstrap', run_name='__main__', alter_sys=True)"
)
_PAYLOAD_IN_ENV: Final = 100_000
_BOOTSTRAP: Final = (("python", "bootstrap.py"), ("python3", "bootstrap.py"))
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
_FOR_PIP: Final = re.compile(r"PIP_\w+|(?i:https?_proxy|no_proxy|all_proxy)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE")
_HOST_OPTIONS: Final = ("--host", "--address")
_PORT_OPTIONS: Final = ("--port", "-p")
_BOTH_OPTIONS: Final = ("--bind", "-b", "--listen")


class NoImage(Exception):
    """There is nothing on this machine to run for an image; the text says why and what to use instead."""


@dataclass(frozen=True)
class Program:
    """What to start. `socket` says that it takes a listening socket (`AIS_ETL_FD`), instead of a port."""

    argv: list[str]
    env: dict[str, str]
    socket: bool


def program_of(launch: Launch, *, ws: bool, folder: Path, environments: Path, port: int) -> Program:
    """The program for a checked message; `folder` is where it may leave files. Raises `NoImage`."""
    base = _environment(folder)
    image = launch.image.rpartition("/")[2]
    name, _, tag = image.partition(":")
    if name == "runtime_python" and (not launch.command or launch.command in _BOOTSTRAP):
        _check_version(launch.image, tag)
        return _bootstrap(launch, base, folder, environments)
    if name.startswith("transformer_"):
        built_in = name.removeprefix("transformer_").removesuffix("_go")
        if built_in in BUILT_IN:
            return _bootstrap(launch, base, folder, environments, _built_in_payload(built_in, ws=ws))
    if launch.command:
        return _own_command(launch, base, port)
    raise NoImage(
        f'image "{launch.image}" cannot be had: this server runs ETLs as local processes, not as containers. Use init_class, '
        "init with a command that exists on this machine, or one of the built-in transformers "
        + ", ".join(f"aistorage/transformer_{one}" for one in BUILT_IN)
    )


def _environment(folder: Path) -> dict[str, str]:
    """What every transformer finds in its environment: nothing of the server's own."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env["PATH"] = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), env.get("PATH", os.defpath)]))
    env["TMPDIR"] = str(folder / "tmp")
    env["PYTHONUNBUFFERED"] = "1"
    return env


def _check_version(image: str, tag: str) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = tag.partition("v")[0] or own
    if wanted != own:
        raise NoImage(
            f'image "{image}" cannot be had: the class was pickled by Python {wanted}, and this server runs Python {own}. '
            f"Start the server with Python {wanted}, or the client with Python {own}"
        )


def _built_in_payload(name: str, *, ws: bool) -> str:
    # A pickle of one global: the class is looked up by the process that serves it.
    kind = "FastAPI" if ws else "Http"
    return base64.b64encode(f"caistore.server.etl.built_in\n{name}_{kind}\n.".encode()).decode()


def _bootstrap(launch: Launch, base: dict[str, str], folder: Path, environments: Path, payload: str = "") -> Program:
    env = {**base, **launch.env}
    if payload:
        env["ETL_CLASS_PAYLOAD"] = payload
    if len(env.get("ETL_CLASS_PAYLOAD", "")) > _PAYLOAD_IN_ENV:  # Linux takes 128 KiB in a variable
        file = folder / "payload"
        file.write_text(env.pop("ETL_CLASS_PAYLOAD"))
        env["ETL_CLASS_PAYLOAD_FILE"] = str(file)
    if env.get("PACKAGES"):
        # Indexes and proxies often have passwords in them: the transformer's own code does not get them.
        env["AIS_ETL_FOR_PIP"] = json.dumps({name: os.environ[name] for name in os.environ if _FOR_PIP.fullmatch(name)})
    env["AIS_ETL_ENVS"] = str(environments)
    return Program([sys.executable, "-c", _BOOT], env, socket=True)


def _own_command(launch: Launch, base: dict[str, str], port: int) -> Program:
    env = {**base, **launch.env}
    argv = _rewritten([*launch.command, *launch.args], launch.port, port)
    found = shutil.which(argv[0], path=env["PATH"])
    if found is None:
        raise NoImage(
            f'image "{launch.image}" cannot be had, and its command "{argv[0]}" does not exist on this machine: '
            "this server runs ETLs as local processes. Install it here, or use init_class"
        )
    env.update({"AIS_ETL_HOST": LOOPBACK, "AIS_ETL_PORT": str(port), "HOST": LOOPBACK, "PORT": str(port)})
    env["AIS_ETL_CONTAINER_PORT"] = str(launch.port)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_GUARD), launch.env.get("PYTHONPATH", "")]))
    return Program([found, *argv[1:]], env, socket=False)


def _rewritten(argv: list[str], documented: int, port: int) -> list[str]:
    """The command with our address in place of those it names."""
    out: list[str] = []
    previous = ""
    for word in argv:
        option, equals, value = word.partition("=") if word.startswith("-") else (previous, "", word)
        if option in _HOST_OPTIONS and (equals or word is value):
            value = LOOPBACK
        elif option in _PORT_OPTIONS and value.isdigit():
            value = str(port)
        elif (option in _BOTH_OPTIONS and re.fullmatch(r"\S*:\d+", value)) or re.fullmatch(
            rf"(0\.0\.0\.0|127\.0\.0\.1|localhost|\[::\]|\*)?:{documented}", value
        ):
            value = f"{LOOPBACK}:{port}"
        out.append(f"{option}={value}" if equals else value if not word.startswith("-") else word)
        previous = word if word.startswith("-") and not equals else ""
    return out
