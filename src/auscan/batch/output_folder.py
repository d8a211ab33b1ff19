"""Stage the results of a run in a hidden folder, and move each into place by one rename.

    OUT/.auscan-HOST-PID-XXXXXXXX/    staging folder of one run, removed at its end
        lock                          locked while the run is alive
        new/talk/                     result in progress
        old/talk/                     result being replaced

The rename follows after all files are synced to disk, so a run may be killed at any moment: OUT/talk is
complete and new, complete and old, or absent. A later run removes the staging folders of killed runs; it
recognises them by their unlocked lock file, not by their age, so shards and runs may share OUT. On a file
system without locks they are not removed.

Nothing outside OUT is deleted, moved or replaced: names must be one plain component (core/environment.py),
and symbolic links are never followed. A link below OUT with the name of a result is not replaced.

Inputs: finished folders. Returns: folders below OUT.
See also: jobs.py (writing results), results/manifest.py.
"""

import errno
import os
import platform
import re
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self
from uuid import uuid4

from auscan.core.environment import PLAIN_NAME_RULE, RUN_PREFIX, display_path, is_plain_name, is_utf8
from auscan.core.errors import InputError, OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE: Final[str] = "lock"
"""File in a staging folder that is locked while its run is alive."""
STAGING_NAME: Final = re.compile(re.escape(RUN_PREFIX) + r".+-\d+-[0-9a-f]{8}")
"""Names of staging folders: host, process id and a random number."""


class StagingFolder:
    """Staging folder of one run; use it in a `with` block."""

    def __init__(self, out: Path) -> None:
        """Set the folder of all results; `__enter__` creates it if it does not exist."""
        self._out = out

    def __enter__(self) -> Self:
        """Create and lock the staging folder. Raise OutputError if OUT is not writable."""
        if not is_utf8(self._out):
            raise OutputError(
                f"{display_path(self._out)} has a name that is not UTF-8. Give another folder with --out."
            )
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._out)
            while (lock := self._create_and_lock()) is None:
                pass  # another run removed the folder before it was locked
            self._lock = lock
            for name in ("new", "old"):
                (self.path / name).mkdir()
        except OSError as error:
            raise output_error(self._out, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock, suppress(OSError):  # the next run tries again
            _remove_staging(self.path, self._out)

    def _create_and_lock(self) -> IO[bytes] | None:
        """Create the folder and lock it; return None if another run removed it meanwhile."""
        self.path = self._out / f"{RUN_PREFIX}{platform.node()}-{os.getpid()}-{uuid4().hex[:8]}"
        self.path.mkdir()
        try:
            lock = (self.path / LOCK_FILE).open("ab")
        except FileNotFoundError:
            return None
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        return lock if os.fstat(lock.fileno()).st_nlink else None

    def staging_path(self, name: str) -> Path:
        """Return the path at which to write a result. Raise InputError unless `name` is plain."""
        return self.path / "new" / _checked_name(name)

    def discard(self, name: str) -> None:
        """Remove a staged result. Raise InputError unless `name` is plain."""
        shutil.rmtree(self.staging_path(name), ignore_errors=True)

    def publish(self, new: Path) -> None:
        """Move a finished folder below OUT; keep files of the old result that auscan did not write.

        Raises OSError; InputError if `new` was not created by this run or the target is a symbolic link. The
        old result then stays in place.
        """
        self._check_staged(new)
        old, target = self.path / "old" / new.name, self._out / new.name
        if target.is_symlink():
            raise symlink_error(target)
        replaced = target.exists()
        if replaced:
            _copy_foreign_files(target, new)
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if replaced:
                old.rename(target)
            raise
        sync_file(self._out)
        if replaced:
            shutil.rmtree(old, ignore_errors=True)

    def _check_staged(self, folder: Path) -> None:
        """Raise InputError unless `folder` is below `new` and its path contains no link."""
        staging = self.path / "new"
        names = folder.relative_to(staging).parts if folder.is_relative_to(staging) else ()
        steps = [staging.joinpath(*names[:count]) for count in range(1, len(names) + 1)]
        if not steps or not all(map(is_plain_name, names)) or any(step.is_symlink() for step in steps):
            raise InputError(f"{display_path(folder)} was not created by this run. Nothing was moved.")


def _checked_name(name: str) -> str:
    """Return `name` if it is plain; raise InputError otherwise."""
    if not is_plain_name(name):
        raise InputError(f"The folder name {name!a} is not {PLAIN_NAME_RULE}. Nothing was changed.")
    return name


def symlink_error(target: Path) -> InputError:
    """Return the error for a symbolic link in place of a result."""
    return InputError(
        f"{target} is a symbolic link, which auscan does not replace. Remove it, or give another folder with "
        "--out."
    )


def remove_leftovers(out: Path) -> None:
    """Remove the staging folders of runs that have ended; skip symbolic links and other programs' folders."""
    for folder in out.glob(f"{RUN_PREFIX}*"):
        if folder.is_symlink() or (folder / LOCK_FILE).is_symlink():
            continue  # not created by auscan
        try:
            lock = (folder / LOCK_FILE).open("r+b")  # does not create the file
        except FileNotFoundError:
            _remove_unlocked(folder)
            continue
        except OSError:  # not created by auscan
            continue
        with lock, suppress(OSError):
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if the run is alive
                _remove_staging(folder, out)


def _remove_unlocked(folder: Path) -> None:
    """Remove a staging folder without a lock, unless it holds anything but `new`.

    It is empty if the run was killed before it locked the folder, or has not locked it yet (it then starts
    again). It holds `new` if a worker on a cluster outlived its run and wrote to a folder that was already
    removed.
    """
    if STAGING_NAME.fullmatch(folder.name) and not (folder / "new").is_symlink():
        shutil.rmtree(folder / "new", ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def _remove_staging(folder: Path, out: Path) -> None:
    """Remove a staging folder; first move results in `old` that were not replaced back into place."""
    if (folder / "old").is_dir() and not (folder / "old").is_symlink():
        for old in (folder / "old").iterdir():
            if is_plain_name(old.name) and not os.path.lexists(out / old.name):
                old.rename(out / old.name)
    for name in ("new", "old"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / LOCK_FILE).unlink()
    folder.rmdir()


def result_files() -> frozenset[str]:
    """Return the names of all files of a result; auscan never removes other files from its folder."""
    from auscan.results.attributions import ATTRIBUTIONS_FILE
    from auscan.results.events import (
        EVENTS_FILE,  # pandas loads slowly and is rarely needed here
        SOUND_FILE,
    )
    from auscan.results.result import SUMMARY_FILE
    from auscan.results.table import CSV_FILE, TABLE_FILE

    tables = {TABLE_FILE, CSV_FILE, EVENTS_FILE, SUMMARY_FILE, SOUND_FILE, ATTRIBUTIONS_FILE}
    return frozenset(tables | {"overlay.mp4", "overlay.png", "report.html"})


def is_result(folder: Path) -> bool:
    """Return whether a folder contains at least one file of a result."""
    return any((folder / name).is_file() for name in result_files())


def _copy_foreign_files(old: Path, new: Path) -> None:
    """Copy files that auscan did not write from the old folder to the new one."""
    result_names = result_files()
    for path in old.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link_or_copy)
        elif path.name not in result_names and not (new / path.name).exists():
            _link_or_copy(str(path), str(new / path.name))


def _link_or_copy(source: str, target: str) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def sync_folder(folder: Path) -> dict[str, int]:
    """Sync all files of a folder to disk; return their sizes in bytes by name."""
    files = sorted(folder.iterdir())
    for file in files:
        sync_file(file)
    sync_file(folder)
    return {file.name: file.stat().st_size for file in files}


def sync_file(path: Path) -> None:
    """Sync a file, or the entries of a folder, to disk; no effect on Windows, which has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_output_error(out: Path, error: OSError) -> bool:
    """Return whether an error means a full or read-only disk, which concerns every input."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Path(str(error.filename)).is_relative_to(out)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def output_error(out: Path, error: OSError) -> OutputError:
    """Return the error to raise if results cannot be written to `out`."""
    return OutputError(
        f"Results cannot be written to {out} ({error.strerror}). Give a writable folder with --out, "
        "or free some space and run the same command again with --resume."
    )
