"""Imports point downwards only, and importing does no work."""

import ast
import subprocess
import sys
from pathlib import Path

import lipsound2

ROOT = Path(lipsound2.__file__).parent
LAYERS = [
    {"errors", "config", "settings"},
    {"runtime"},
    {"media", "text", "plots"},
    {"faces", "audio", "corpora"},
    {"data", "model", "vocoder", "recognizer", "simulate"},
    {"packs"},
    {"inference"},
    {"training", "evaluation", "importers", "doctor"},
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
