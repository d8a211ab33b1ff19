"""docs/licences.md has a row for every dependency, and says what the package itself says."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

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
NAMES = sorted({name for names in SCRIPT.direct().values() for name in names})
ROWS = SCRIPT.rows_of((ROOT / "docs" / "licences.md").read_text(encoding="utf-8"))
ANEW = "Run: python recipes/licences/make.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_dependency_has_a_row_that_says_what_its_metadata_say(name: str) -> None:
    assert name in ROWS, f"{name} has no row. {ANEW}"
    stated = SCRIPT.licence_of(name)
    if stated is None:
        pytest.skip(f"{name} is not installed.")
    version, licence = ROWS[name]
    if version == importlib.metadata.version(name):
        assert licence == stated, ANEW
    else:  # another version may put it in other words
        families = {found.casefold() for found in FAMILY.findall(licence)}
        assert families & {found.casefold() for found in FAMILY.findall(stated)}, (licence, stated)


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
