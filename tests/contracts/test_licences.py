"""docs/licences.md has a row for every dependency, with the licence of the package's metadata."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
FAMILY = re.compile(r"Apache|MIT|BSD|MPL|GPL|ISC|PSF|Zlib", re.IGNORECASE)


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "recipes" / "licences" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
NAMES = sorted({name for names in SCRIPT.direct_dependencies().values() for name in names})
ROWS = SCRIPT.rows_of((ROOT / "docs" / "licences.md").read_text(encoding="utf-8"))
REGENERATE = "Run: python recipes/licences/make.py"


def agrees(name: str) -> bool:
    """Return whether the row of a dependency states the licence of its metadata, where it is installed."""
    if name not in ROWS:
        return False
    (version, licence), stated = ROWS[name], SCRIPT.licence_of(name)
    if stated is None or licence == stated:
        return True
    if version == importlib.metadata.version(name):
        return False
    families = {found.casefold() for found in FAMILY.findall(licence)}  # versions differ in wording
    return bool(families & {found.casefold() for found in FAMILY.findall(stated)})


def test_every_dependency_has_a_row_that_agrees_with_its_metadata() -> None:
    assert len(NAMES) > 20
    wrong = {name: (ROWS.get(name), SCRIPT.licence_of(name)) for name in NAMES if not agrees(name)}
    assert not wrong, f"{wrong}. {REGENERATE}"


def test_no_licence_is_left_open() -> None:
    assert [name for name, (_, licence) in ROWS.items() if not FAMILY.search(licence)] == []


def test_every_dependency_says_why_it_is_there() -> None:
    told = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"\n| {name} " not in told] == []


def test_every_shipped_model_has_a_row() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for folder in (ROOT / "src" / "auscan" / "checkpoints").iterdir():
        assert f"`checkpoints/{folder.name}`" in page
    assert "`faces/centerface.onnx`" in page
