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


def test_every_package_that_is_reported_is_one_that_the_project_asks_for() -> None:
    """A name that nothing installs any more would silently be left out of every result."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    names = {line.partition(">=")[0] for line in wanted}
    assert set(version.REPORTED) - {"auscan"} <= names
