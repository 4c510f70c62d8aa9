"""Virtual environments with the official SDKs, for the tests and benchmarks that compare with them: in `.envs/`, made once.

    python -m bench.environments [VERSION...]

Never fails: what cannot be installed leaves its reason in a file, and the tests that need it skip and say it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / ".envs"
VERSIONS = ("2.0.0", "1.17.0")

FRAMEWORK = "2.0.0-etl"
"""The official web servers for transformers, with what they need."""

TORCH = "2.0.0-torch"
"""The official datasets, with PyTorch."""

CONSTRAINTS = Path(__file__).resolve().parents[1] / "tools" / "constraints.txt"

_EXTRAS = {FRAMEWORK: "aistore[etl]==2.0.0", TORCH: "aistore[pytorch]==2.0.0"}

# 1.17.0 names the argument of xxh64() as xxhash did before 4.0; the patch for boto3 needs wrapt.
_WITH = {"2.0.0": ("boto3", "wrapt"), "1.17.0": ("boto3", "wrapt", "xxhash<4")}


def official_python(version: str) -> Path:
    """The interpreter whose `aistore` is the official SDK of this version."""
    return ROOT / f"official-{version}" / "bin" / "python"


def why_missing(version: str) -> str | None:
    """`None` where the environment is ready, else why it is not."""
    stamp = _stamp(version)
    if not stamp.exists() or stamp.read_text() != " ".join(_packages(version)):
        reason = ROOT / f"official-{version}.failed"
        return reason.read_text() if reason.exists() else f"the official SDK {version} is not installed: run make test"
    return None


def _packages(version: str) -> tuple[str, ...]:
    package = _EXTRAS.get(version, f"aistore=={version}")
    return (package, *_WITH.get(version, ()))


def _stamp(version: str) -> Path:
    return ROOT / f"official-{version}" / "complete"


def figures(python: Path | str, program: Path, *arguments: str) -> dict[str, float]:
    """What a program of this folder measures with the SDK of an interpreter: the one line of JSON that it prints."""
    done = subprocess.run(
        [str(python), str(program), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def make(version: str) -> None:
    """Make the environment unless it is there."""
    if why_missing(version) is None:
        return
    print(f"Installing the official SDK {version} into {ROOT.name}/ (once)", flush=True)
    folder = _stamp(version).parent
    failed = ROOT / f"official-{version}.failed"
    ROOT.mkdir(exist_ok=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
        pip = [
            str(official_python(version)),
            "-m",
            "pip",
            "install",
            "-qq",
            "--disable-pip-version-check",
            "-c",
            str(CONSTRAINTS),
        ]
        subprocess.run(
            [*pip, *_packages(version)],
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    except (subprocess.SubprocessError, OSError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        failed.write_text(f"the official SDK {version} could not be installed: {detail.strip()[-500:]}")
        print(failed.read_text(), file=sys.stderr)
        return
    failed.unlink(missing_ok=True)
    _stamp(version).write_text(" ".join(_packages(version)))


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        list(pool.map(make, sys.argv[1:] or (*VERSIONS, FRAMEWORK)))
