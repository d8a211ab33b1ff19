"""Versions are stated once, in pyproject.toml, and reported for what can change a number."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from auscan.core import version

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_version_is_that_of_pyproject() -> None:
    assert tomllib.loads(PROJECT.read_text("utf-8"))["project"]["version"] == version.VERSION


def test_the_versions_of_what_is_installed_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "REPORTED", ("auscan", "numpy", "a-package-nobody-has"))
    assert version.versions() == {"auscan": version.VERSION, "numpy": np.__version__}
