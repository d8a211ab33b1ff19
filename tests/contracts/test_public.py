"""What users import: it is sorted, it cannot vanish, and asking for it costs nothing until it is used."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import auscan

PUBLIC = [
    "AU_NAMES",
    "AuscanError",
    "CheckpointError",
    "InputError",
    "LiveDetector",
    "MediaError",
    "Result",
    "__version__",
    "detect",
    "read_result",
]
HEAVY = {
    "IPython",
    "jinja2",
    "matplotlib",
    "onnxruntime",
    "plotly",
    "rich",
    "skimage",
    "torch",
    "transformers",
    "typer",
}


def test_the_public_names_are_these_and_sorted() -> None:
    """To take one away breaks somebody's program: change this list only with the changelog."""
    assert auscan.__all__ == PUBLIC == sorted(PUBLIC)
    assert dir(auscan) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_had_and_is_the_one_at_home(name: str) -> None:
    value = getattr(auscan, name)
    assert not isinstance(value, ModuleType)
    assert value is getattr(auscan, name)
    home = auscan._HOMES.get(name)
    assert home is None or value is getattr(importlib.import_module(home), name)


def test_a_star_import_brings_just_these() -> None:
    names: dict[str, object] = {}
    exec("from auscan import *", names)
    assert sorted(set(names) - {"__builtins__"}) == PUBLIC


def test_the_version_is_a_version() -> None:
    assert [part.isdigit() for part in auscan.__version__.split(".")] == [True] * 3


def test_an_unknown_name_is_an_attribute_error() -> None:
    """hasattr() and `from auscan import core` rely on it."""
    with pytest.raises(AttributeError, match="'auscan' has no attribute 'detekt'"):
        auscan.detekt  # noqa: B018
    assert not hasattr(auscan, "detekt")


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh Python after `code`, in which every warning is an error."""
    command = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", command], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.split())


def test_importing_auscan_loads_nothing_but_auscan() -> None:
    """A program that only might use it must not pay for it."""
    assert loaded_by("import auscan") - loaded_by("pass") - sys.stdlib_module_names == {"auscan"}


def test_onnx_runtime_leaves_nothing_behind_and_so_has_nothing_to_send(tmp_path: Path) -> None:
    """It writes a number for the machine and what it means to report, unless it is told not to."""
    world = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    world |= dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(tmp_path))
    subprocess.run([sys.executable, "-c", "import auscan.inference.onnx_engine"], env=world, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "code", ["import auscan.pipeline.detect", "from auscan import *", "from auscan import detect, Result"]
)
def test_importing_the_pipeline_loads_nothing_that_only_some_runs_need(code: str) -> None:
    loaded = loaded_by(code)
    assert loaded & HEAVY == set()
    assert {"auscan", "av", "cv2", "numpy", "pandas"} <= loaded
