"""A finished result is put in its place whole; until then it lies where nobody looks for it.

    OUT/.auscan-HOST-PID-XXXXXXXX/    one for each run, gone when it ends
        lock                          locked as long as the run lives
        new/talk/                     a result that is being made
        old/talk/                     what it replaces, for a moment

A new folder takes its name by one rename, after all its files are on the disk. So a run may be killed at
any moment: OUT/talk is whole and new, whole and old, or not there. A later run removes what a killed one
left, and knows it by its lock, never by its age; so shards and runs that share OUT do each other no harm.
Only where the file system has no locks, nothing is removed.

Nothing outside of OUT is deleted, moved or replaced: a name must be one plain component
(core/environment.py), and a symbolic link is never followed. A link below OUT that has the name of a result
is not replaced.

In: finished folders.  Out: folders under OUT.
Not here: making them (detect_worker.py), the manifest (results/manifest.py).
"""

import errno
import os
import platform
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


class StagingFolder:
    """The hidden folder of one run; use it in a `with`."""

    def __init__(self, out: Path) -> None:
        """out: the folder of all results; made if missing."""
        self._out = out

    def __enter__(self) -> Self:
        """Raises OutputError where nothing can be written."""
        if not is_utf8(self._out):
            raise OutputError(
                f"{display_path(self._out)} has a name that is not UTF-8. Give another folder with --out."
            )
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._out)
            while (lock := self._create_and_lock()) is None:
                pass  # another run took the folder for a leftover, as it was not locked yet
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
        """Make the folder and lock it; None where it is gone again."""
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
        """Where the result of that name is to be made.  Raises InputError for no plain name."""
        return self.path / "new" / _checked_name(name)

    def discard(self, name: str) -> None:
        """Remove what there is of a result.  Raises InputError for no plain name."""
        shutil.rmtree(self.staging_path(name), ignore_errors=True)

    def publish(self, new: Path) -> None:
        """Give a finished folder its place below OUT; files in the old one that are not auscan's are kept.

        Raises OSError, and InputError for a folder that this run did not make, and for a place that is a
        symbolic link; the old one is then still there.
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
        """Raise InputError for anything but a folder below `new`, reached without a link."""
        staging = self.path / "new"
        names = folder.relative_to(staging).parts if folder.is_relative_to(staging) else ()
        steps = [staging.joinpath(*names[:count]) for count in range(1, len(names) + 1)]
        if not steps or not all(map(is_plain_name, names)) or any(step.is_symlink() for step in steps):
            raise InputError(f"{display_path(folder)} is no folder that this run made. Nothing was moved.")


def _checked_name(name: str) -> str:
    """The name of a result, checked."""
    if not is_plain_name(name):
        raise InputError(f"The folder name {name!a} is not {PLAIN_NAME_RULE}. Nothing was touched.")
    return name


def symlink_error(target: Path) -> InputError:
    """What to tell where a symbolic link has the place of a result."""
    return InputError(
        f"{target} is a symbolic link, which auscan does not replace. Remove it, or give another folder with "
        "--out."
    )


def remove_leftovers(out: Path) -> None:
    """Remove the hidden folders of runs that are no more; only those that hold a run's lock, and no links."""
    for folder in out.glob(f"{RUN_PREFIX}*"):
        if folder.is_symlink() or (folder / LOCK_FILE).is_symlink():
            continue  # somebody else's
        try:
            lock = (folder / LOCK_FILE).open("r+b")  # never makes one
        except FileNotFoundError:
            with suppress(OSError):
                folder.rmdir()  # killed before it began; where it is just beginning, it begins again
            continue
        except OSError:  # somebody else's
            continue
        with lock, suppress(OSError):
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where the run is alive
                _remove_staging(folder, out)


def _remove_staging(folder: Path, out: Path) -> None:
    """Remove a run's folder; a result that was moved away and not replaced goes back to its place."""
    if (folder / "old").is_dir() and not (folder / "old").is_symlink():
        for old in (folder / "old").iterdir():
            if is_plain_name(old.name) and not os.path.lexists(out / old.name):
                old.rename(out / old.name)
    for name in ("new", "old"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / LOCK_FILE).unlink()
    folder.rmdir()


def result_files() -> frozenset[str]:
    """Files of a result; others in its folder are somebody's, and stay."""
    from auscan.results.attributions import ATTRIBUTIONS_FILE
    from auscan.results.events import EVENTS_FILE  # pandas is slow to load, and seldom needed here
    from auscan.results.speech import SOUND_FILE
    from auscan.results.summary import SUMMARY_FILE
    from auscan.results.table import CSV_FILE, TABLE_FILE

    tables = {TABLE_FILE, CSV_FILE, EVENTS_FILE, SUMMARY_FILE, SOUND_FILE, ATTRIBUTIONS_FILE}
    return frozenset(tables | {"overlay.mp4", "overlay.png", "report.html"})


def is_result(folder: Path) -> bool:
    """Whether a folder holds a result of auscan, or what is left of one."""
    return any((folder / name).is_file() for name in result_files())


def _copy_foreign_files(old: Path, new: Path) -> None:
    """Give the new folder whatever somebody else put into the old one."""
    result_names = result_files()
    for path in old.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link_or_copy)
        elif path.name not in result_names and not (new / path.name).exists():
            _link_or_copy(str(path), str(new / path.name))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def sync_folder(folder: Path) -> dict[str, int]:
    """Bring all files of a folder onto the disk; their sizes by name."""
    files = sorted(folder.iterdir())
    for file in files:
        sync_file(file)
    sync_file(folder)
    return {file.name: file.stat().st_size for file in files}


def sync_file(path: Path) -> None:
    """Bring a file, or the names in a folder, onto the disk; Windows knows no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_output_error(out: Path, error: OSError) -> bool:
    """Whether an error is that of a full or closed disk, which every other input would meet, too."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Path(str(error.filename)).is_relative_to(out)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def output_error(out: Path, error: OSError) -> OutputError:
    """What to tell of such an error."""
    return OutputError(
        f"Results cannot be written to {out} ({error.strerror}). Give a folder you may write to with --out, "
        "or make room and run the same again with --resume."
    )
