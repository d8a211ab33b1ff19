"""Results are replaced atomically, foreign files are kept, and only leftovers of ended runs are removed."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auscan.batch import output_folder
from auscan.batch.output_folder import StagingFolder, is_output_error, is_result, remove_leftovers
from auscan.core.errors import InputError, OutputError


def make(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def text(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_result_replaces_the_old_one_and_keeps_foreign_files(tmp_path: Path) -> None:
    """A coder's file may lie beside the table; processing the video again must not remove it."""
    old = make(tmp_path / "talk", aus_csv="old", report_html="old", anna_eaf="a coder's")
    make(old / "exports", talk_zip="foreign")
    with StagingFolder(tmp_path) as run:
        make(run.staging_path("talk"), aus_csv="new")
        run.publish(run.staging_path("talk"))
    assert text(tmp_path / "talk") == {
        "aus.csv": "new",
        "anna.eaf": "a coder's",
        "exports/talk.zip": "foreign",
    }
    assert names(tmp_path) == ["talk"]


def test_files_of_the_new_folder_are_not_overwritten_by_the_old_one(tmp_path: Path) -> None:
    """The files of features are not among the names of result files."""
    make(tmp_path / "talk", header_json="old")
    with StagingFolder(tmp_path) as run:
        make(run.staging_path("video") / "talk", header_json="new")
        run.publish(run.staging_path("video") / "talk")
    assert text(tmp_path / "talk") == {"header.json": "new"}


def test_if_the_rename_fails_the_old_result_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "talk", aus_csv="old")
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with StagingFolder(tmp_path) as run:
        make(run.staging_path("talk"), aus_csv="new")
        monkeypatch.setattr(Path, "rename", broken)
        with pytest.raises(OSError, match="No space"):
            run.publish(run.staging_path("talk"))
        assert text(tmp_path / "talk") == {"aus.csv": "old"}, "at once, not only when the run ends"
    assert text(tmp_path / "talk") == {"aus.csv": "old"}


LEAVE_STAGED = """
import os, sys
from pathlib import Path
from auscan.batch.output_folder import StagingFolder
out = Path(sys.argv[1])
run = StagingFolder(out).__enter__()
(run.staging_path("half")).mkdir()
(run.staging_path("half") / "aus.csv").write_text("half")
(out / "talk").rename(run.path / "old" / "talk")
print("ready", flush=True)
sys.stdin.read()
os._exit(1)
"""
"""Program of a run that stops at the worst moment: the old result is moved away, the new one not in place."""


def test_leftovers_are_removed_only_after_their_run_has_ended(tmp_path: Path) -> None:
    make(tmp_path / "talk", aus_csv="old")
    (tmp_path / ".auscan-elsewhere-1-00000000").mkdir()
    command = [sys.executable, "-c", LEAVE_STAGED, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    (left,) = tmp_path.glob(".auscan-*")
    with StagingFolder(tmp_path) as run:
        assert {left, run.path} == set(tmp_path.glob(".auscan-*")), (
            "the other run is alive, the third never locked its folder"
        )
        remove_leftovers(tmp_path)
        assert {left, run.path} == set(tmp_path.glob(".auscan-*"))
    other.communicate("")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["talk"]
    assert text(tmp_path / "talk") == {"aus.csv": "old"}


def test_on_a_disk_without_locks_no_leftovers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / ".auscan-elsewhere-1-00000000", lock="")

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(output_folder.fcntl, "flock", no_locks)
    with StagingFolder(tmp_path) as run:
        make(run.staging_path("talk"), aus_csv="new")
        run.publish(run.staging_path("talk"))
    assert names(tmp_path) == [".auscan-elsewhere-1-00000000", "talk"]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="Results cannot be written to"), StagingFolder(tmp_path / "taken"):
        pass


def test_a_folder_whose_name_is_not_utf8_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"results\\xe9 has a name that is not UTF-8"):
        StagingFolder(tmp_path / os.fsdecode(b"results\xe9")).__enter__()


def test_a_folder_with_a_result_file_is_a_result(tmp_path: Path) -> None:
    assert is_result(make(tmp_path / "a", aus_parquet=""))
    assert not is_result(make(tmp_path / "b", holiday_mp4=""))


def test_a_full_or_closed_disk_is_distinguished_from_an_unreadable_input(tmp_path: Path) -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        assert is_output_error(tmp_path, OSError(number, "it takes no more"))
    assert is_output_error(tmp_path, PermissionError(errno.EACCES, "closed", str(tmp_path / "talk")))
    assert not is_output_error(tmp_path, PermissionError(errno.EACCES, "closed", "elsewhere/talk.mp4"))
    assert not is_output_error(tmp_path, OSError(errno.EIO, "a broken disk under an input"))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder beside OUT that resembles a result and a staging folder, and must stay unchanged."""
    folder = make(tmp_path / "victim", aus_csv="precious", lock="")
    make(folder / "new", aus_csv="precious")
    make(folder / "old" / "talk", aus_csv="precious")
    before = text(folder)
    yield folder
    assert text(folder) == before


def test_names_that_are_not_plain_are_refused_before_anything_is_changed(
    tmp_path: Path, victim: Path
) -> None:
    out = tmp_path / "out"
    with StagingFolder(out) as run:
        kept = make(run.staging_path("talk"), aus_csv="new")
        for name in (
            str(victim),
            "../victim",
            "../../../victim",
            "..",
            ".",
            "",
            "a/b",
            "a\0",
            ".auscan-x",
            None,
            5,
        ):
            with pytest.raises(InputError, match="is not one plain name"):
                run.staging_path(name)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="is not one plain name"):
                run.discard(name)  # type: ignore[arg-type]
        new = run.path / "new"
        for made in (
            victim,
            new / ".." / ".." / ".." / "victim",
            new,
            run.path,
            run.path / "old",
            out,
            new / "..",
        ):
            with pytest.raises(InputError, match="was not created by this run"):
                run.publish(made)
        assert text(kept) == {"aus.csv": "new"}
    assert names(out) == []


def test_a_link_in_place_of_a_staged_result_is_not_moved(tmp_path: Path, victim: Path) -> None:
    with StagingFolder(tmp_path / "out") as run:
        run.staging_path("talk").symlink_to(victim)
        with pytest.raises(InputError, match="was not created by this run"):
            run.publish(run.staging_path("talk"))
        with pytest.raises(InputError, match="was not created by this run"):
            run.publish(run.staging_path("talk") / "new")
        run.discard("talk")
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_link_with_the_name_of_a_result_is_neither_followed_nor_replaced(
    tmp_path: Path, victim: Path, target: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "talk").symlink_to(tmp_path / target)
    with StagingFolder(out) as run:
        make(run.staging_path("talk"), aus_csv="new")
        with pytest.raises(InputError, match="talk is a symbolic link"):
            run.publish(run.staging_path("talk"))
    assert (out / "talk").is_symlink()


def test_symbolic_links_are_neither_removed_nor_followed(tmp_path: Path, victim: Path) -> None:
    out = tmp_path / "out"
    (out / ".auscan-c").mkdir(parents=True)
    (out / ".auscan-a").symlink_to(victim)
    (out / ".auscan-b").symlink_to(tmp_path / "nowhere")
    (out / ".auscan-c" / "lock").symlink_to(tmp_path / "made")
    dead = make(out / ".auscan-d", lock="")
    (dead / "old").symlink_to(victim / "old")
    (dead / "new").symlink_to(victim / "new")
    remove_leftovers(out)
    assert (victim / "old" / "talk").is_dir()
    assert not (tmp_path / "made").exists()
    assert [name for name in names(out) if name != ".auscan-d"] == [".auscan-a", ".auscan-b", ".auscan-c"]


def test_a_hidden_folder_without_a_lock_file_is_kept(tmp_path: Path) -> None:
    make(tmp_path / ".auscan-mine" / "new", thesis_txt="mine")
    make(tmp_path / ".auscan-mine" / "old" / "talk", thesis_txt="mine")
    before = text(tmp_path)
    remove_leftovers(tmp_path)
    assert text(tmp_path) == before


def test_every_file_and_the_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "talk", aus_csv="new", summary_json="{}")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    assert output_folder.sync_folder(folder) == {"aus.csv": 3, "summary.json": 2}
    paths = (folder / "aus.csv", folder / "summary.json", folder)
    assert synced == [path.stat().st_ino for path in paths]


def test_the_output_folder_is_synced_after_a_result_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, list[str]]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, [name for name in names(tmp_path) if name == "talk"]))

    with StagingFolder(tmp_path) as run:
        make(run.staging_path("talk"), aus_csv="new")
        monkeypatch.setattr(os, "fsync", fsync)
        run.publish(run.staging_path("talk"))
        assert synced == [(tmp_path.stat().st_ino, ["talk"])]


def test_files_written_by_a_worker_after_its_run_ended_are_removed_by_the_next_run(tmp_path: Path) -> None:
    """A worker on a cluster can outlive its run and create the folder of its result again."""
    late = tmp_path / ".auscan-node-7-0123abcd" / "new" / "talk"
    foreign = tmp_path / ".auscan-node-7-0123abce" / "new"
    for folder in (late, foreign):
        make(folder, **{"aus.csv": "1"})
    (foreign.parent / "mine.txt").write_text("mine")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [foreign.parent.name]
    assert (foreign.parent / "mine.txt").read_text() == "mine"
