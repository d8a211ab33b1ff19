"""Imports point one way, from the doors down to the ground, and the doors open without torch.

A module imports only from rows above its own, and packages of one row never import each other, so that
each stage can be read, tested and replaced alone. Imports in function bodies count: that is where the
one upward import of an otherwise tidy library tends to hide.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
LAYERS = [
    "core",
    "media faces encoders results",
    "model",
    "inference",
    "pipeline",
    "datasets",
    "training",
    "batch",
    "server",
    "cli",
]
RANK = {name: i for i, row in enumerate(LAYERS) for name in row.split()}
TORCH_MAY_BE_IMPORTED_BY = {
    "auscan.encoders",
    "auscan.model",
    "auscan.inference.export",
    "auscan.inference.torch_engine",
    "auscan.datasets.features",
    "auscan.training",
}


def module_name(path: Path) -> str:
    """src/auscan/model/fusion.py -> auscan.model.fusion; a package is named by its folder."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(code: str, package: str) -> list[str]:
    """Absolute names of all that the code imports, wherever it does so.

    package: the package that relative imports start from.  `from a.b import c` gives a.b, except that
    `from auscan import c` gives `auscan`: whatever c is, it was asked of the root.
    `from . import c` gives package.c, as c may be a module.
    """
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1])
            if node.module:
                found.append(f"{base}.{node.module}")
            elif base == "auscan":
                found.append(base)
            else:
                found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def all_imports() -> list[tuple[str, str]]:
    """(importer, imported) for every import in src/auscan except those of the root, which re-exports."""
    pairs = []
    for path in sorted((SOURCE / "auscan").rglob("*.py")):
        name = module_name(path)
        if name != "auscan":
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            pairs += [(name, each) for each in imported_modules(path.read_text("utf-8"), package)]
    return sorted(set(pairs))


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


INTERNAL = [pair for pair in all_imports() if is_inside(pair[1], "auscan")]


def may_import(importer: str, imported: str) -> bool:
    """Is `importer` (auscan.model.mamba) allowed to import `imported` (auscan.core.config)?"""
    source, *target = importer.split(".")[1], *imported.split(".")[1:2]
    if not target:
        return False  # the root only re-exports; nobody inside asks it for anything
    return source == target[0] or RANK[target[0]] < RANK[source]


@pytest.mark.parametrize(("importer", "imported"), INTERNAL)
def test_imports_point_one_way(importer: str, imported: str) -> None:
    assert may_import(importer, imported), (
        f"{importer} imports {imported}, which is not in a row above its own. Rows: {LAYERS}."
    )


def test_every_package_has_its_row() -> None:
    packages = {path.parent.name for path in (SOURCE / "auscan").glob("*/__init__.py")}
    assert packages <= set(RANK), f"Give {sorted(packages - set(RANK))} a row in LAYERS."


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("auscan.model.mamba", "auscan.model.scan", True),
        ("auscan.model.mamba", "auscan.core.config", True),
        ("auscan.cli.detect", "auscan.pipeline.detect", True),
        ("auscan.training.losses", "auscan.datasets.affwild2", True),
        ("auscan.media.video", "auscan.faces.align", False),
        ("auscan.core.config", "auscan.model", False),
        ("auscan.pipeline.detect", "auscan.training.metrics", False),
        ("auscan.cli.detect", "auscan", False),
    ],
)
def test_the_rule_itself_tells_right_from_wrong(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("import auscan", ["auscan"]),
        ("from auscan import detect", ["auscan"]),
        ("import auscan.model.scan as s, os", ["auscan.model.scan", "os"]),
        ("from auscan.core.aus import AU_NAMES", ["auscan.core.aus"]),
        ("def f():\n    if True:\n        from auscan.cli import main", ["auscan.cli"]),
        ("from . import scan, head", ["auscan.model.scan", "auscan.model.head"]),
        ("from .scan import scan_step", ["auscan.model.scan"]),
        ("from .. import detect", ["auscan"]),
        ("from ..core.config import TemporalConfig", ["auscan.core.config"]),
    ],
)
def test_imports_are_found_in_every_form_and_place(code: str, imported: list[str]) -> None:
    assert imported_modules(code, package="auscan.model") == imported


def test_torch_is_imported_only_where_it_belongs() -> None:
    """The shipped model is to run without torch, so the rest must not lean on it, not even lazily."""
    culprits = [
        importer
        for importer, imported in all_imports()
        if is_inside(imported, "torch")
        and not any(is_inside(importer, place) for place in TORCH_MAY_BE_IMPORTED_BY)
    ]
    assert culprits == []


@pytest.mark.parametrize("imports", ["import auscan", "import auscan; import auscan.pipeline.detect"])
def test_importing_does_not_load_torch(imports: str) -> None:
    code = f"import sys; {imports}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
