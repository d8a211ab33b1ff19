"""Full and read-only disks, folders without permission, and files that change or are damaged.

The error is one line, finished results stay, and the same command with --resume completes the run when the
cause is fixed. The tests use real videos and the shipped model. Full and read-only disks are small tmpfs
mounts, which need root.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.batch.jobs import DetectRequest, Job, load_detect_worker, run_metadata
from auscan.batch.plan import UNSHARDED, make_plan
from auscan.batch.run import InProcessRunner, run
from auscan.core.checkpoint_folder import find_checkpoint
from auscan.core.errors import OutputError
from auscan.media.discover import find_media
from auscan.results.manifest import is_whole, read_records

from .corpus import encode_video

PAGE = 4096
"""Bytes of a page, the allocation unit of tmpfs."""
DISK_BYTES = 64 * PAGE
"""Size of the disk: enough for one result, not for two and their copies."""
WITHOUT_ROOT_ACCESS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Prefix of a command that drops the capabilities by which root ignores permissions."""


def auscan(*words: object, before: Sequence[str] = ()) -> tuple[int, str, str]:
    """Run `auscan detect` in a new process; return exit code, stdout, stderr."""
    code = "from auscan.cli.main import main; main()"
    command = [*before, sys.executable, "-c", code, "detect", *map(str, words), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def error_lines(stderr: str) -> list[str]:
    """Return the error messages in stderr."""
    return [line for line in stderr.splitlines() if line.startswith("auscan: ")]


def contents(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file of every result by path, also of hidden files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/*") if path.is_file()}


@pytest.fixture
def clips(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    """Write two short videos of a face that moves slightly."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(("a.mp4", "b.mp4")):
        lefts = range(100 + 4 * number, 108 + 4 * number)
        encode_video(
            folder / name, [np.ascontiguousarray(portrait[:256, left : left + 256]) for left in lefts]
        )
    return folder


Mount = Callable[[str], None]
"""Function that remounts the disk with other options."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """Mount a tmpfs; yield its path and a function that changes its options."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mount_point)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("Mounting a disk needs root.")

    def remount(options: str) -> None:
        words = ["mount", "-o", f"remount,{options}", str(mount_point)]
        subprocess.run(words, check=True, capture_output=True, timeout=60)

    try:
        yield mount_point, remount
    finally:
        subprocess.run(["umount", str(mount_point)], check=True, timeout=60)


def test_a_full_disk_stops_the_run_and_resume_completes_it_with_free_space(
    clips: Path, disk: tuple[Path, Mount]
) -> None:
    mount_point, remount = disk
    out = mount_point / "out"
    assert auscan(clips / "a.mp4", "--out", out)[0] == 0
    before, lines = contents(out), (out / "manifest.jsonl").read_bytes()
    used = DISK_BYTES - shutil.disk_usage(mount_point).free
    remount(f"size={used + 5 * PAGE}")
    code, stdout, stderr = auscan(clips, "--out", out, "--resume")
    assert (code, stdout) == (2, "")
    (line,) = error_lines(stderr)
    assert line.startswith(f"auscan: Results cannot be written to {out} (No space left on device).")
    assert contents(out) == before
    assert (out / "manifest.jsonl").read_bytes() == lines
    assert not list(out.glob(".*"))
    remount(f"size={DISK_BYTES}")
    code, stdout, stderr = auscan(clips, "--out", out, "--resume")
    assert code == 0
    assert f"{clips / 'a.mp4'}: unchanged, skipped" in stderr
    assert "b.mp4: 8 rows" in stdout


def test_on_a_disk_of_any_size_the_manifest_lists_only_complete_results(
    clips: Path, disk: tuple[Path, Mount]
) -> None:
    """Sizes range from a disk too small for the first folder to one that lacks a page for the manifest."""
    mount_point, remount = disk
    out, request = mount_point / "out", DetectRequest(threads=1)
    metadata, worker = run_metadata(request), load_detect_worker(request, out)
    found = find_media([clips / "a.mp4"])

    def is_too_small() -> bool:
        """Run the job; return whether the disk is too small for the result."""
        plan = make_plan(found, out, read_records(out), metadata, UNSHARDED, resume=True)
        try:
            list(run(plan.jobs, out, UNSHARDED.manifest, InProcessRunner(worker, NullWatcher())))
        except OutputError as error:
            return "(No space left on device)" in str(error)
        return False

    pages = 1
    remount(f"size={pages * PAGE}")
    while is_too_small():
        assert all(is_whole(out, entry) for entry in read_records(out))
        remount(f"size={DISK_BYTES}")
        assert not is_too_small()
        assert [entry.status for entry in read_records(out)] == ["done"]
        assert [path.name for path in sorted(out.iterdir())] == ["a", "manifest.jsonl"]
        shutil.rmtree(out)
        pages += 1
        remount(f"size={pages * PAGE}")
    assert pages > 8, "a result needs several pages"


def test_a_read_only_disk_is_an_error_before_processing(clips: Path, disk: tuple[Path, Mount]) -> None:
    mount_point, remount = disk
    out = mount_point / "out"
    assert auscan(clips / "a.mp4", "--out", out)[0] == 0
    before = contents(out)
    remount("ro")
    code, stdout, stderr = auscan(clips, "--out", out, "--resume")
    assert (code, stdout) == (2, "")
    (line,) = error_lines(stderr)
    assert line.startswith(f"auscan: Results cannot be written to {out} (Read-only file system).")
    remount("rw")
    assert contents(out) == before
    code, stdout, _ = auscan(clips, "--out", out, "--resume")
    assert (code, stdout.count("\n")) == (0, 1)


def test_a_folder_that_cannot_be_entered_is_one_failed_input(tmp_path: Path, clips: Path) -> None:
    before = WITHOUT_ROOT_ACCESS if os.geteuid() == 0 else ()
    if before and shutil.which(before[0]) is None:
        pytest.skip("Root may enter every folder.")
    closed, out = clips / "closed", tmp_path / "out"
    closed.mkdir()
    (clips / "b.mp4").rename(closed / "b.mp4")
    closed.chmod(0)
    try:
        code, stdout, stderr = auscan(clips, "--out", out, before=before)
    finally:
        closed.chmod(0o755)
    assert (code, stdout.count("a.mp4: 8 rows")) == (2, 1)
    (line,) = error_lines(stderr)
    assert line == f"auscan: {closed} cannot be searched (Permission denied). Check the path."
    entries = {entry.key: entry.status for entry in read_records(out)}
    assert entries == {"a.mp4": "done", closed.as_posix(): "failed"}
    code, stdout, stderr = auscan(clips, "--out", out, "--resume")
    assert code == 0
    assert "a.mp4: unchanged, skipped" in stderr
    assert "b.mp4: 8 rows" in stdout


def test_an_output_folder_without_write_permission_is_an_error(tmp_path: Path, clips: Path) -> None:
    before = WITHOUT_ROOT_ACCESS if os.geteuid() == 0 else ()
    if before and shutil.which(before[0]) is None:
        pytest.skip("Root may write to every folder.")
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    code, stdout, stderr = auscan(clips, "--out", out, before=before)
    assert (code, stdout) == (2, "")
    (line,) = error_lines(stderr)
    assert line.startswith(f"auscan: Results cannot be written to {out} (Permission denied).")


class NullWatcher:
    """Watcher that does nothing."""

    def started(self, job: Job) -> None:
        pass

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        pass

    def finished(self, job: Job) -> None:
        pass

    def stopping(self, running: int) -> None:
        pass


class ReplacingWatcher(NullWatcher):
    """Watcher that replaces the input while it is read."""

    def __init__(self, by: Path) -> None:
        self._by = by

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        if self._by.exists():
            self._by.replace(job.path)


def test_an_input_that_is_replaced_while_it_is_read_is_processed_again(tmp_path: Path, clips: Path) -> None:
    out, request = tmp_path / "out", DetectRequest(threads=1)
    metadata, worker = run_metadata(request), load_detect_worker(request, out)
    found = find_media([clips / "a.mp4"])

    def do(listener: NullWatcher, resume: bool) -> object:
        plan = make_plan(found, out, read_records(out), metadata, UNSHARDED, resume)
        ((_, entry),) = run(plan.jobs, out, UNSHARDED.manifest, InProcessRunner(worker, listener))
        return entry.error

    assert do(NullWatcher(), resume=True) is None
    before = contents(out)
    assert "a.mp4 changed while it was read. Run it again" in str(
        do(ReplacingWatcher(clips / "b.mp4"), resume=False)
    )
    assert contents(out) == before
    assert do(NullWatcher(), resume=True) is None
    assert contents(out) != before, "the result must be that of the new file"
    assert read_records(out)[0].sha256 != read_records(out)[-1].sha256


@pytest.mark.parametrize("name", ["config.json", "visual.onnx"])
def test_one_flipped_bit_in_the_model_is_an_error_before_processing(
    tmp_path: Path, clips: Path, name: str
) -> None:
    model = Path(shutil.copytree(find_checkpoint("nano"), tmp_path / "nano"))
    out, file = tmp_path / "out", model / name
    words = "--out", out, "--model", model, "--resume"
    assert auscan(clips / "a.mp4", *words)[0] == 0
    before, lines = contents(out), (out / "manifest.jsonl").read_bytes()
    whole = file.read_bytes()
    offset = whole.index(b"0.") if name == "config.json" else len(whole) // 2
    file.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
    code, stdout, stderr = auscan(clips, *words)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"{file} does not match its checksum in SHA256SUMS" in stderr
    assert (contents(out), (out / "manifest.jsonl").read_bytes()) == (before, lines)
    file.write_bytes(whole)
    code, stdout, stderr = auscan(clips, *words)
    assert code == 0
    assert "a.mp4: unchanged, skipped" in stderr
    assert "b.mp4: 8 rows" in stdout
