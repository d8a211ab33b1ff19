"""Plain names stay below the folder they are joined to; other names are refused.

The version is stated once, in pyproject.toml; versions of packages that can change results are reported.
"""

import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from auscan.core import environment
from auscan.core.environment import as_plain_name, is_plain_name

NOT_PLAIN = [
    *("", ".", "..", "...", " ", ".. ", "/", "/etc", "a/b", "a/", "../a", "../../..", "a/../..", "//a"),
    *("\\", "a\\b", "..\\a", "C:", "C:x", "c:\\x", "\0", "a\0b", "\ud800", "caf\udce9"),
    *(".auscan-", ".auscan-here-1-00000000", ".AUSCAN-x"),
    *(None, 0, 1, 1.5, True, [], ["a"], {}, {"a": 1}, b"a"),
]


@pytest.mark.parametrize("name", NOT_PLAIN, ids=ascii)
def test_a_name_that_could_leave_the_folder_is_not_plain(name: object) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["talk", "talk_mp4", "v1.5", ".hidden", "a b", "ü", "12:30", "..a", "a..", "-"]
)
def test_ordinary_names_are_plain(name: str) -> None:
    assert is_plain_name(name)


@given(st.text(st.sampled_from("a.:\\/C \0\ud800?-"), max_size=8) | st.text(st.characters(), max_size=20))
def test_a_plain_name_is_one_component_and_any_text_can_be_made_one(name: str) -> None:
    assert is_plain_name(as_plain_name(name))
    if is_plain_name(name):
        assert as_plain_name(name) == name
        assert PurePosixPath("/out", name).parent == PurePosixPath("/out")
        if ":" not in name:  # on Windows, `2:30` is a drive and a name, and is refused
            assert PureWindowsPath("D:/out", name).parent == PureWindowsPath("D:/out")


PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_version_is_that_of_pyproject() -> None:
    stated = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["version"]
    assert environment.VERSION.partition("+")[0] == stated


@pytest.mark.parametrize(("content", "suffix"), [("1a2b3c4d5e6f\n", "+g1a2b3c4d5e6f"), ("", ""), (None, "")])
def test_the_version_contains_the_commit_of_the_build_if_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, suffix: str
) -> None:
    """Two builds with one version number can have different results; --resume must distinguish them."""
    if content is not None:
        (tmp_path / "commit.txt").write_text(content)
    monkeypatch.setattr(environment, "COMMIT_FILE", tmp_path / "commit.txt")
    assert environment._version() == environment.VERSION.partition("+")[0] + suffix
    assert Version(environment._version()).local == (suffix.removeprefix("+") or None)


def test_the_versions_of_installed_packages_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "REPORTED_PACKAGES", ("numpy", "a-missing-package"))
    assert environment.versions() == {"auscan": environment.VERSION, "numpy": np.__version__}


def test_every_reported_package_is_a_dependency() -> None:
    """A package that is no longer a dependency would be missing in every result without an error."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    dependencies = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    names = {line.partition(">=")[0] for line in dependencies}
    assert set(environment.REPORTED_PACKAGES) <= names
