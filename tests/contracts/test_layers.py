"""The import rules of src/auscan: layers, no circles, unique names, torch only where it is needed.

A module imports only from layers above its own, and packages of one layer never import each other. Imports
in function bodies and under `if TYPE_CHECKING` count.
"""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted((SOURCE / "auscan").rglob("*.py"))
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
    "auscan.datasets.frozen_encoders",
    "auscan.training",
}


def module_name(path: Path) -> str:
    """src/auscan/model/fusion.py -> auscan.model.fusion; a package is named by its folder."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(code: str, package: str, known: frozenset[str] = frozenset()) -> list[str]:
    """Absolute names of the modules that the code imports, anywhere in it.

    package: the package that relative imports start from.  `from a.b import c` gives a.b.c where that is one
    of the `known` modules and a.b otherwise.  `from . import c` gives package.c, except that
    `from auscan import c` gives `auscan`: the root only re-exports.
    """
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            if base == "auscan":
                found.append(base)
            elif node.module:
                found += [name if name in known else base for name in names]
            else:
                found += names
    return found


@cache
def import_graph() -> dict[str, set[str]]:
    """{module: modules it imports} of src/auscan, without the root, which re-exports."""
    known = frozenset(module_name(path) for path in MODULES)
    graph = {}
    for path in MODULES:
        name = module_name(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = set(imported_modules(path.read_text("utf-8"), package, known)) - {name}
    del graph["auscan"]
    return graph


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def may_import(importer: str, imported: str) -> bool:
    """Return whether `importer` (auscan.model.mamba) may import `imported` (auscan.core.config)."""
    source, *target = importer.split(".")[1], *imported.split(".")[1:2]
    if not target:
        return False  # the root only re-exports
    return source == target[0] or RANK[target[0]] < RANK[source]


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, from a module back to itself; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_point_one_way() -> None:
    edges = [(importer, imported) for importer, targets in import_graph().items() for imported in targets]
    assert len(edges) > 500  # or the imports were not found
    wrong = sorted(
        f"{importer} imports {imported}"
        for importer, imported in edges
        if is_inside(imported, "auscan") and not may_import(importer, imported)
    )
    assert not wrong, "\n".join(["Not in a layer above its own:", *wrong, f"Layers: {LAYERS}"])


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = import_graph()
    inner = {name: {each for each in targets if each in graph} for name, targets in graph.items()}
    assert " imports ".join(reversed(circle_of(inner))) == ""


def test_a_circle_would_be_found() -> None:
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "c", "b", "a"]


def test_every_package_has_its_row() -> None:
    packages = {path.parent.name for path in (SOURCE / "auscan").glob("*/__init__.py")}
    assert packages <= set(RANK), f"Give {sorted(packages - set(RANK))} a row in LAYERS."


def test_no_class_name_is_defined_twice() -> None:
    """Also not once with and once without an underscore."""
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(module_name(path))
    assert len(places) > 100
    repeated = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not repeated, repeated


def test_no_file_name_is_used_for_three_modules() -> None:
    uses = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert {name: count for name, count in uses.items() if count > 2} == {}


def test_the_layer_rule_accepts_and_rejects() -> None:
    edges = {
        ("auscan.model.mamba", "auscan.model.scan"): True,
        ("auscan.model.mamba", "auscan.core.config"): True,
        ("auscan.cli.detect", "auscan.pipeline.detect"): True,
        ("auscan.training.losses", "auscan.datasets.affwild2"): True,
        ("auscan.media.video", "auscan.faces.align"): False,
        ("auscan.core.config", "auscan.model"): False,
        ("auscan.pipeline.detect", "auscan.training.metrics"): False,
        ("auscan.cli.detect", "auscan"): False,
    }
    assert {edge: may_import(*edge) for edge in edges} == edges


def test_imports_are_found_in_every_form_and_place() -> None:
    forms = {
        "import auscan": ["auscan"],
        "from auscan import detect": ["auscan"],
        "import auscan.model.scan as s, os": ["auscan.model.scan", "os"],
        "from auscan.core.aus import AFFWILD2_AUS": ["auscan.core.aus"],
        "from auscan.core import aus, config": ["auscan.core.aus", "auscan.core"],
        "def f():\n    if True:\n        from auscan.cli import main": ["auscan.cli"],
        "if TYPE_CHECKING:\n    from auscan.cli import main": ["auscan.cli"],
        "from . import scan, head": ["auscan.model.scan", "auscan.model.head"],
        "from .scan import scan_step": ["auscan.model.scan"],
        "from .. import detect": ["auscan"],
        "from ..core.config import TemporalConfig": ["auscan.core.config"],
    }
    known = frozenset({"auscan.core.aus"})
    assert {code: imported_modules(code, "auscan.model", known) for code in forms} == forms


def test_torch_is_imported_only_where_it_belongs() -> None:
    """The shipped model runs without torch, so no other module may import it, not even in a function."""
    wrong = [
        importer
        for importer, targets in import_graph().items()
        if any(is_inside(imported, "torch") for imported in targets)
        and not any(is_inside(importer, place) for place in TORCH_MAY_BE_IMPORTED_BY)
    ]
    assert wrong == []


@pytest.mark.parametrize("imports", ["import auscan", "import auscan; import auscan.pipeline.detect"])
def test_importing_does_not_load_torch(imports: str) -> None:
    code = f"import sys; {imports}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
