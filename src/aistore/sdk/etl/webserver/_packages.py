"""Packages that a transformer needs, in an environment of their own, which the next one with the same needs uses again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PackageError", "check_os_packages", "environment_with", "missing"]

log = logging.getLogger("bootstrap")


class PackageError(Exception):
    """A package cannot be had here."""


def missing(packages: Sequence[str]) -> list[str]:
    """Those of some requirements that this interpreter does not meet already, or that it cannot tell about."""
    return [package for package in packages if not _is_met(package)]


def _is_met(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        requirement = _requirement_class()(package)
        installed = version(requirement.name)
    except (ImportError, PackageNotFoundError, ValueError):
        return False
    # Extras and links are for pip to look into.
    return (
        not requirement.extras and not requirement.url and requirement.specifier.contains(installed, prereleases=True)
    )


def _requirement_class() -> Any:
    """Parser of requirements: nothing of ours depends on it, but `pip` brings it along."""
    name = "packaging" if importlib.util.find_spec("packaging") else "pip._vendor.packaging"
    return importlib.import_module(f"{name}.requirements").Requirement


def environment_with(packages: Sequence[str], folder: Path, making_in: Path, for_pip: Mapping[str, str]) -> Path:
    """Interpreter of a virtual environment below `folder` that has `packages`, besides what this interpreter has.

    It is made when nobody made it before, in the folder `making_in` of the same file system: whoever finds it finds it whole. `for_pip` are
    variables that only `pip` gets. Raises `PackageError`.
    """
    key = json.dumps([sorted(packages), sys.version, sys.prefix])
    home = folder / hashlib.sha256(key.encode()).hexdigest()[:24]
    python = home / "bin" / "python"
    if python.exists():
        return python
    folder.mkdir(parents=True, exist_ok=True)
    log.info("Installing %s", ", ".join(packages))
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=making_in))
    try:
        _make(making, packages, for_pip)
        # Scripts of the environment name its folder, but it is only ever used as `<home>/bin/python -m ...`.
        with contextlib.suppress(OSError):  # another one was quicker
            making.rename(home)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    if not python.exists():
        raise PackageError(f"Failed to make an environment in {folder}")
    return python


def _make(home: Path, packages: Sequence[str], for_pip: Mapping[str, str]) -> None:
    has_pip = importlib.util.find_spec("pip") is not None
    scratch = {"TMPDIR": str(home)}  # what is unpacked there goes with the folder when this is killed
    made = _run([sys.executable, "-m", "venv", *(["--without-pip"] if has_pip else []), str(home)], always=scratch)
    if made.returncode:
        raise PackageError(f"Failed to make a virtual environment: {made.stdout[-2000:]}")
    python = home / "bin" / "python"
    # What this interpreter has is there too: aistore itself, and packages that are installed already.
    places = [place for place in dict.fromkeys((*site.getsitepackages(), *sys.path)) if place and Path(place).is_dir()]
    inherited = "".join(f"import site; site.addsitedir({place!r})\n" for place in places if "site-packages" in place)
    plain = "".join(f"{place}\n" for place in places if "site-packages" not in place and not _is_standard(place))
    own = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (own / "_inherited.pth").write_text(inherited + plain)
    pip = [sys.executable, "-m", "pip", "--python", str(python)] if has_pip else [str(python), "-m", "pip"]
    install = [*pip, "install", "--disable-pip-version-check", "--no-input"]
    done = _run([*install, *packages], for_pip, scratch)
    sys.stderr.write(done.stdout)
    if done.returncode:
        failed = next(
            (one for one in packages if _run([*install, one], for_pip, scratch).returncode), ", ".join(packages)
        )
        raise PackageError(f"Failed to install package '{failed}'")


def _is_standard(place: str) -> bool:
    """Whether every environment of this interpreter has it anyway."""
    return Path(place).resolve().is_relative_to(Path(sys.base_prefix).resolve())


def _run(
    command: list[str],
    more: Mapping[str, str] = MappingProxyType({}),
    always: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run it with this process's variables; `more` are for names that these lack, `always` for names that these may have."""
    # The descriptor to listen on is inherited by this process only.
    return subprocess.run(  # noqa: S603  pip and venv of this interpreter
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**more, **_environment(), **always},
        check=False,
    )


def _environment() -> dict[str, str]:
    """That of this process without what is the transformer's: `pip` has no need of it."""
    hidden = (
        "ETL_CLASS_PAYLOAD",
        "ETL_CLASS_PAYLOAD_FILE",
        "AIS_TARGET_URL",
        "AIS_ETL_KEY",
        "AIS_AUTHN_TOKEN",
        "PYTHONPATH",
    )
    return {name: value for name, value in os.environ.items() if name not in hidden}


def check_os_packages(names: Sequence[str]) -> None:
    """Make sure that packages of the system are there: a transformer cannot install them here. Raises `PackageError` for one that is not."""
    for name in names:
        if shutil.which(name) is None and not _is_installed(name):
            raise PackageError(
                f"Failed to install package '{name}': packages of the system are not installed here; install it on this machine first"
            )


def _is_installed(name: str) -> bool:
    for command in (["dpkg-query", "-W", "-f", "${Status}", name], ["apk", "info", "-e", name], ["rpm", "-q", name]):
        if shutil.which(command[0]) is not None:
            found = _run(command)
            if not found.returncode and (command[0] != "dpkg-query" or "install ok installed" in found.stdout):
                return True
    return False
