"""The direction of imports between rooms, and no circles inside a room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Each room and the rooms below it, from which alone it may import.
BELOW: dict[str, set[str]] = {
    "tools": set(),
    "store": set(),
    "explainers": {"tools"},
    "scorers": {"explainers", "tools"},
    "agent": {"scorers", "explainers", "tools", "store"},
    "neurogloss": {"agent", "scorers", "explainers", "tools", "store"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for room in BELOW for path in (ROOT / room).rglob("*.py")}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"


def imports(path: Path, *, at_load: bool) -> set[str]:
    """Names of our modules that a file imports: everywhere, or only when it is loaded."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_load and (is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            base = node.module or ""
            found.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name.partition(".")[0] in BELOW}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for module, path in MODULES.items()
        if module.partition(".")[0] == room
        for name in imports(path, at_load=False)
        if name.partition(".")[0] not in BELOW[room] | {room}
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: imports(path, at_load=True) & MODULES.keys() for module, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for name in sorted(graph[module]):
                walk(name, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())
    assert done == MODULES.keys()


def test_tools_needs_only_torch_transformers_numpy_safetensors_and_pyarrow() -> None:
    allowed = {"torch", "transformers", "numpy", "safetensors", "pyarrow", "tokenizers", "huggingface_hub", "tools"}
    optional = {"datasets"}
    import sys

    for module, path in MODULES.items():
        if module.partition(".")[0] != "tools":
            continue
        names = {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for alias in getattr(node, "names", [])
            if isinstance(node, ast.Import)
        } | {
            (node.module or "").partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
        }
        assert names <= allowed | optional | set(sys.stdlib_module_names), f"{path}: {names}"
