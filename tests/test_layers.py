"""Imports point downwards only, and importing does no work."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lipsound2

ROOT = Path(lipsound2.__file__).parent
LAYERS = [
    {"errors", "config", "settings"},
    {"runtime"},
    {"media", "text"},
    {"faces", "cuts", "mtcnn", "trails", "audio", "plots", "voice", "corpora"},
    {"data", "model", "vocoder", "recognizer", "simulate"},
    {"packs"},
    {"export"},
    {"inference"},
    {"training", "evaluation", "importers", "doctor", "live"},
    {"adapt", "web"},
    {"cli", "__main__"},
]
"""From the bottom up. A part may import its own layer and those below; a module may have a layer of its own."""


def level(module: str) -> int:
    named = [name for layer in LAYERS for name in layer]
    part = module if module in named else module.split(".")[0]
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def imports(path: Path) -> set[str]:
    """Give the parts of the package that a file imports, other than for type checking."""
    found = set()
    tree = ast.parse(path.read_text())
    typing_only = [
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    ]
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lipsound2"):
            parts = node.module.split(".")[1:]
            found |= {".".join(parts)} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("lipsound2.") for a in node.names if a.name.startswith("lipsound2.")}
    return found


def test_imports_point_downwards():
    upward = []
    for path in ROOT.rglob("*.py"):
        part = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path == ROOT / "__init__.py":
            continue
        for name in imports(path):
            first = name.split(".")[0]
            exists = (ROOT / first).is_dir() or (ROOT / f"{first}.py").is_file()
            if exists and level(name) > level(part):
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert upward == []


def test_nothing_in_the_package_can_unpickle():
    forbidden = ("pickle.load", "torch.load(", "allow_pickle=True", "weights_only=False", "joblib.load")
    found = [f"{p.name}: {w}" for p in ROOT.rglob("*.py") for w in forbidden if w in p.read_text()]
    assert found == []


def test_every_module_says_what_it_is_and_imports_alone():
    for path in ROOT.rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, path
    modules = ["lipsound2.inference.pipeline", "lipsound2.training.run", "lipsound2.data.prepare", "lipsound2.faces"]
    for module in modules:
        subprocess.run([sys.executable, "-W", "error", "-c", f"import {module}"], check=True)


def modules() -> dict[str, Path]:
    """List the modules of the package by their names below it; a package has the name of its folder."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def edges(path: Path, known: dict[str, Path]) -> set[str]:
    """Name the modules that a file imports anywhere in it: at its top, in functions, by importlib."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lipsound2":
            module = node.module.removeprefix("lipsound2").removeprefix(".")
            below = {f"{module}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= {name if name in known else module for name in below}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("lipsound2.") for alias in node.names}
        elif isinstance(node, ast.Call) and "import_module" in ast.dump(node.func):
            found |= {
                str(each.value).removeprefix("lipsound2.") for each in node.args if isinstance(each, ast.Constant)
            }
    return {name for name in found if name in known and known[name] != path}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules on one circle, the first of them again at the end; an empty list if there is none."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_no_import_goes_round_in_a_circle():
    known = modules()
    graph = {name: edges(path, known) for name, path in known.items()}
    assert len(graph["inference.pipeline"]) > 5
    assert circle({**graph, "errors": {"inference.pipeline"}})[-1] in graph, "a circle would be found"
    assert circle(graph) == []


def only_forwards(source: str) -> bool:
    """Find out whether a file defines nothing and does nothing, but imports names for others to import from it."""
    body = [node for node in ast.parse(source).body if not (isinstance(node, ast.Expr))]
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [node for node in body if node not in imports]
    return bool(imports) and all(
        isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute | ast.List | ast.Tuple)
        for node in others
    )


def test_no_module_only_forwards_names():
    assert only_forwards('"""Old place."""\nfrom lipsound2.new import name\nother = name\n__all__ = ["name"]\n')
    assert not only_forwards('"""A module."""\nimport torch\n\nSIZE = 3\n')
    found = [name for name, path in modules().items() if path.stem != "__init__" and only_forwards(path.read_text())]
    assert found == []


def names(tree: ast.Module) -> set[str]:
    """List what a module defines or imports at its top, also in branches."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Import() | ast.ImportFrom():
                found |= {(alias.asname or alias.name) for alias in node.names}
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
    return found


def test_scripts_import_what_there_is():
    if not (top := ROOT.parents[1] / "recipes").is_dir():
        pytest.skip("not a checkout")
    known = modules()
    defined = {name: names(ast.parse(path.read_text())) for name, path in known.items()}
    missing = []
    for script in [path for part in ("recipes", "benchmarks", "examples") for path in (top.parent / part).glob("*.py")]:
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lipsound2":
                module = node.module.removeprefix("lipsound2").removeprefix(".")
                wanted = {f"{module}.{alias.name}".removeprefix("."): alias.name for alias in node.names}
                for whole, name in wanted.items():
                    if whole not in known and name not in defined.get(module, ()):
                        missing.append(f"{script.name}: {node.module}.{name}")
    assert missing == []
