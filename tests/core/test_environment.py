"""Plain names stay below the folder they are joined to; other names are refused.

The version is stated once, in pyproject.toml; versions of packages that can change results are reported.

Files are written completely or not at all.

Chunks cover every row once, in order.
"""

import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from auscan.core import environment
from auscan.core.environment import as_plain_name, atomic_path, chunk_slices, is_plain_name

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


def test_the_file_has_its_final_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_earlier_file_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("earlier")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [0, 1, 6, 7, 20])
@pytest.mark.parametrize("length", [1, 7, 100])
@pytest.mark.parametrize("start", [0, 5])
def test_chunks_cover_every_row_once_and_none_is_too_long(count: int, length: int, start: int) -> None:
    rows = list(range(40))
    chunks = chunk_slices(count, length, start)
    assert [row for chunk in chunks for row in rows[chunk]] == rows[start : start + count]
    assert all(0 < chunk.stop - chunk.start <= length for chunk in chunks)
    assert all(chunk.stop - chunk.start == length for chunk in chunks[:-1])
