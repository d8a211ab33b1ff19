"""The public names: their list is fixed and sorted, and importing auscan loads no heavy package."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

import auscan

PUBLIC = [
    "ACTION_UNITS",
    "AFFWILD2_AUS",
    "AuscanError",
    "Checkpoint",
    "CheckpointError",
    "CrashError",
    "InputError",
    "LiveDetector",
    "MediaError",
    "MemoryLimitError",
    "OutputError",
    "Result",
    "RunInfo",
    "TimeLimitError",
    "Waveform",
    "__version__",
    "detect",
    "load_model",
    "make_demo_clip",
    "read_attributions",
    "read_result",
    "render_report",
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
    """Removing a name breaks programs: change this list only together with the changelog."""
    assert auscan.__all__ == PUBLIC == sorted(PUBLIC)
    assert dir(auscan) == PUBLIC
    assert set(auscan._MODULES) == set(PUBLIC)


def test_every_public_name_is_the_object_of_its_module() -> None:
    for name in PUBLIC:
        value = getattr(auscan, name)
        assert not isinstance(value, ModuleType), name
        assert value is getattr(auscan, name), name
        module = importlib.import_module(auscan._MODULES[name])
        assert value is getattr(module, auscan._ORIGINAL_NAMES.get(name, name)), name


def test_a_star_import_brings_only_these() -> None:
    names: dict[str, object] = {}
    exec("from auscan import *", names)
    assert sorted(set(names) - {"__builtins__"}) == PUBLIC


def test_the_version_is_a_version() -> None:
    assert Version(auscan.__version__) >= Version("0.2.0.dev0")


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
    """Importing auscan must be cheap for programs that use it rarely."""
    assert loaded_by("import auscan") - loaded_by("pass") - sys.stdlib_module_names == {"auscan"}


def test_onnx_runtime_writes_no_telemetry(tmp_path: Path) -> None:
    """ONNX Runtime stores a machine id and telemetry unless it is switched off."""
    world = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    world |= dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(tmp_path))
    subprocess.run([sys.executable, "-c", "import auscan.inference.onnx_engine"], env=world, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import auscan.pipeline.detect", set()),
        ("from auscan import detect, Result", set()),
        ("from auscan import *", {"jinja2", "plotly"}),  # of render_report
    ],
)
def test_importing_the_pipeline_loads_no_optional_package(code: str, needed: set[str]) -> None:
    loaded = loaded_by(code)
    assert loaded & HEAVY == needed
    assert {"auscan", "av", "cv2", "numpy", "pandas"} <= loaded
