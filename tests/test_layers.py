"""Imports follow the arrows of docs/architecture.md: the table there is what is checked."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
TABLE = ROOT / "docs" / "architecture.md"

_ROW = re.compile(r"^\| `aistore\.([a-z0-9_.]+)` \|.*\| ([^|]+) \|$", re.MULTILINE)
_NAME = re.compile(r"`([a-z0-9_.]+)`( \(types\))?")


class Import(NamedTuple):
    """An import of a module of the project; `types` says that only type checkers see it."""

    where: str
    source: str
    target: str
    types: bool


def arrows() -> dict[str, dict[str, bool]]:
    """Layer -> the layers and modules that it may import, True for those of which only types; `all` stands for every layer."""
    found: dict[str, dict[str, bool]] = {}
    for layer, cell in _ROW.findall(TABLE.read_text()):
        found[layer] = {"all": False} if cell == "all" else {name: bool(types) for name, types in _NAME.findall(cell)}
    return found


def layer_of(module: str, layers: dict[str, dict[str, bool]]) -> str:
    """The innermost layer that a module lies in; empty for the package itself (`aistore`, `aistore.version`, ...)."""
    return max((one for one in layers if _lies_in(module, one)), key=len, default="")


def _lies_in(module: str, layer: str) -> bool:
    return f"{module}.".startswith(f"aistore.{layer}.")


def is_allowed(one: Import, layers: dict[str, dict[str, bool]]) -> bool:
    """Whether the import stays within its layer, or follows an arrow (to a layer, or to single modules of one). The package itself may all."""
    here = layer_of(one.source, layers)
    may = layers.get(here, {})
    return (
        not (here and layer_of(one.target, layers))
        or _lies_in(one.target, here)
        or "all" in may
        or any(_lies_in(one.target, name) and (one.types or not types) for name, types in may.items())
    )


def imports_of(path: Path) -> Iterator[Import]:
    """All imports of the project in a file, at its top, in functions and for type checkers."""
    module = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")

    def walk(node: ast.AST, types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            guarded = types or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                for name in _modules(child):
                    if name.partition(".")[0] == "aistore":
                        yield Import(f"{path.relative_to(ROOT)}:{child.lineno}", module, name, guarded)
            yield from walk(child, guarded)

    return walk(ast.parse(path.read_text()), False)


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [one.name for one in node.names]
    module = node.module or ""
    return [f"{module}.{one.name}" for one in node.names] if _is_package(module) else [module]


def _is_package(module: str) -> bool:
    return (SRC / module.replace(".", "/")).is_dir()


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_follow_the_arrows(path: Path) -> None:
    layers = arrows()
    assert [
        f"{one.where}: {one.source} -> {one.target}" for one in imports_of(path) if not is_allowed(one, layers)
    ] == []


def test_every_package_is_in_the_table() -> None:
    packages = {path.parent.name for path in (SRC / "aistore").glob("*/__init__.py")}
    assert packages == {layer.partition(".")[0] for layer in arrows()}


_SPAN = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?:await )?(?:[a-z_]\w*\.)*(\w+)\(.*")
_DOTTED = re.compile(r"(?:[A-Z]\w*\.)(\w+)")


def missing_names(page: str, source: str, files: set[str]) -> list[str]:
    """What a page names in backticks, as a file, a module, a function or a class, and is not there."""
    missing = []
    for span in dict.fromkeys(_SPAN.findall(page)):
        if re.fullmatch(r"[\w/]+\.py", span):
            there = any(file.endswith(f"/{span}") for file in files)
        elif re.fullmatch(r"aistore(\.\w+)+", span):
            path = f"/src/{span.replace('.', '/')}"
            there = f"{path}.py" in files or f"{path}/__init__.py" in files
        elif found := _CALL.fullmatch(span) or _DOTTED.fullmatch(span) or re.fullmatch(r"([A-Z]\w*[a-z]\w*)", span):
            there = re.search(rf"\b(?:class|def) {found[1]}\b|\b{found[1]} ?[:=]", source) is not None
        else:
            continue
        if not there:
            missing.append(span)
    return missing


def test_names_on_the_page_exist() -> None:
    files = {
        f"/{path.relative_to(ROOT)}" for folder in ("src", "tests", "bench") for path in (ROOT / folder).rglob("*.py")
    }
    source = "\n".join(path.read_text() for path in SRC.rglob("*.py"))
    assert missing_names(TABLE.read_text(), source, files) == []


@pytest.mark.parametrize(
    "span", ["nowhere.py", "aistore.nowhere", "Nowhere(x)", "await node.nowhere()", "Nowhere", "Store.nowhere"]
)
def test_names_that_do_not_exist_are_noticed(span: str) -> None:
    assert missing_names(f"see `{span}`", "class Store: ...", {"/src/aistore/server/node.py"}) == [span]
