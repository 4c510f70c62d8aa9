"""The package as a user gets it: built, installed in an empty environment, imported."""

from __future__ import annotations

import ast
import email
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import aistore

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "tools" / "constraints.txt"
PIP = ("-m", "pip", "-qq", "--disable-pip-version-check")


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def python(code: str, *options: str, env: dict[str, str] | None = None) -> str:
    """What Python prints, in a process of its own."""
    return run(sys.executable, *options, "-c", code, env=env).strip()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", *PIP, "install", wheel)
    return folder / "bin"


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "aistore/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"aistore", f"aistore_py-{aistore.__version__}.dist-info"}
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources


def test_core_requires_what_it_imports_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        trees = [ast.parse(archive.read(one)) for one in archive.namelist() if one.endswith(".py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    imported = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"aistore"}
    requires = metadata.get_all("Requires-Dist", [])
    names = {re.split(r"[^\w-]", one, maxsplit=1)[0].lower() for one in requires if "extra ==" not in one}
    named_otherwise = {"pyyaml": "yaml"}
    of_extras = {
        "argon2",
        "cryptography",
        "jwt",
        "obstore",
        "botocore",
        "fastapi",
        "flask",
        "gunicorn",
        "starlette",
        "torch",
        "uvicorn",
        "webdataset",
        "websockets",
        "werkzeug",
    }
    # requests and pydantic bring the other two.
    assert (
        imported == {named_otherwise.get(name, name) for name in names} | {"urllib3", "typing_extensions"} | of_extras
    )


def test_core_alone_serves_stores_and_reads(installed: Path, tmp_path: Path) -> None:
    environment = {"PATH": str(installed), "HOME": str(tmp_path), "AIS_LOCAL_DIR": str(tmp_path / "data")}
    ais = installed / "ais"
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    try:
        run(
            installed / "python",
            "-c",
            "from aistore import Client; Client('local:').bucket('b').create()",
            cwd=tmp_path,
            env=environment,
        )
        run(ais, "put", "a.bin", "b/", cwd=tmp_path, env=environment)
        assert run(ais, "ls", "b", cwd=tmp_path, env=environment) == "a.bin\n"
        run(ais, "get", "b/a.bin", "back.bin", cwd=tmp_path, env=environment)
    finally:
        run(ais, "stop", cwd=tmp_path, env=environment)
    assert (tmp_path / "back.bin").read_bytes() == bytes(range(256))


def test_dependencies_agree(installed: Path) -> None:
    run(installed / "python", *PIP, "check")


def test_the_extras_resolve_together(wheel: Path, installed: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        extras = email.message_from_bytes(archive.read(name)).get_all("Provides-Extra", [])
    assert extras
    run(installed / "python", *PIP, "install", "--dry-run", "-c", CONSTRAINTS, f"{wheel}[{','.join(extras)}]")


LATE = (
    "asyncio",
    "logging",
    "msgspec",
    "pydantic",
    "requests",
    "ssl",
    "tenacity",
    "typing_extensions",
    "urllib3",
    "yaml",
)


def loaded(code: str, *modules: str) -> list[str]:
    """Which of these modules are loaded after some code ran in a fresh interpreter."""
    return python(f"import sys; {code}; print(*[name for name in {modules!r} if name in sys.modules])").split()


def test_import_alone_loads_nothing_else() -> None:
    assert loaded("import aistore; aistore.__version__", *LATE) == []


def test_client_and_first_read_load_only_what_they_use(cluster: aistore.LocalCluster) -> None:
    cluster.client().bucket("lazy").create(exist_ok=True).object("a").get_writer().put_content(b"1")
    code = (
        f"from aistore.sdk import Client; "
        f"assert Client({cluster.url!r}).bucket('lazy').object('a').get_reader().read_all() == b'1'"
    )
    assert loaded(code, "requests", "urllib3", "pydantic", "tenacity", "asyncio", "ssl") == []


def test_server_loads_neither_requests_nor_pydantic() -> None:
    assert loaded("import aistore.server.process, aistore.server.node", "requests", "pydantic", "urllib3") == []


def test_names_are_there_for_completion() -> None:
    assert set(aistore.__all__) <= set(dir(aistore))
    for name in aistore.__all__:
        assert getattr(aistore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = aistore.Nothing


def test_where_there_is_no_fcntl_the_client_works_and_the_server_says_what_to_do() -> None:
    code = """
import sys
sys.modules["fcntl"] = None  # as on Windows
from aistore.sdk import Client
Client("http://127.0.0.1:8080")
try:
    from aistore import LocalCluster
except ImportError as error:
    print(error)
"""
    assert "needs a POSIX system (Linux, macOS). On Windows, run it under WSL" in python(code)


def test_where_there_is_no_pytorch_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["torch"] = None
import aistore.pytorch.utils
assert "AISMapDataset" in dir(aistore.pytorch)
try:
    from aistore.pytorch import AISMapDataset
except ModuleNotFoundError as error:
    print(error, error.name)
"""
    assert python(code) == "aistore.pytorch needs PyTorch: pip install 'aistore-py[pytorch]' torch"


def test_nothing_but_the_datasets_loads_pytorch(cluster: aistore.LocalCluster) -> None:
    code = f"from aistore.sdk import Client; import aistore.client, aistore.pytorch; Client({cluster.url!r}).cluster().get_info()"
    assert loaded(code, "torch") == []


def test_both_distributions_over_each_other_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "aistore").symlink_to(Path(aistore.__file__).parent)
    (tmp_path / f"aistore_py-{aistore.__version__}.dist-info").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert python("import aistore", "-W", "error", env=environment) == ""
    other = tmp_path / "aistore-2.0.0.dist-info"
    other.mkdir()
    (other / "RECORD").write_text("aistore-2.0.0.dist-info/METADATA,,\n")  # the stand-in of docs/install-beside.md
    assert python("import aistore", "-W", "error", env=environment) == ""
    (other / "RECORD").write_text("aistore-2.0.0.dist-info/METADATA,,\naistore/__init__.py,,\n")
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import aistore
print(*[one.message for one in caught])
"""
    assert "'aistore' and 'aistore-py' are both installed" in python(code, env=environment)
