"""Provide what every layer shares: versions, extras, CPU cores, file names, atomic writes, chunks.

File names: Linux allows any bytes in a name, such as Latin-1 from an old archive; Python decodes them as
lone surrogates. auscan writes UTF-8, so its results could not name such a file. A stored name that auscan
joins to a path must be one path component: `..` leads out of the folder, and an absolute name replaces the
whole path. `is_plain_name` is the only check for this.

Optional dependencies: the shipped model runs without PyTorch. Training, export and other models need the
extra [train]; merging results and SQL queries need [batch]; runs on several machines need [ray]; models on
the Hugging Face Hub need [hub], whose package [train] contains.

Atomic writes: a run that is killed while writing must not leave an incomplete file under the final name.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeGuard
from uuid import uuid4

from auscan.core.errors import InputError

RUN_PREFIX: Final[str] = ".auscan-"
"""Prefix of the hidden staging folders of runs (batch/output_folder.py); result names must not have it."""

PLAIN_NAME_RULE: Final[str] = "one plain name: text without '/', '\\', a drive or NUL, not '.' or '..'"
"""Rule of `is_plain_name`, for error messages."""

_FORBIDDEN: Final = re.compile(r"[/\\\0]|^[A-Za-z]:")


def is_utf8(path: str | Path) -> bool:
    """Return whether a path can be encoded as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def display_path(path: str | Path) -> str:
    """Return a path as text with bytes that are not UTF-8 escaped (\\xe9)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_plain_name(name: object) -> TypeGuard[str]:
    """Return whether a stored name is one path component, so that it stays below its folder.

    Refuses names of only dots and spaces, because Windows reads '.. ' like '..'.
    """
    return (
        isinstance(name, str)
        and bool(name.strip(". "))
        and _FORBIDDEN.search(name) is None
        and not (os.name == "nt" and ":" in name)  # drive or alternate data stream
        and not name.casefold().startswith(RUN_PREFIX)
        and is_utf8(name)
    )


def as_plain_name(name: str) -> str:
    """Return the name with each character that a plain name may not contain replaced by '_'."""
    if name.casefold().startswith(RUN_PREFIX):
        name = f"_{name[1:]}"
    name = _FORBIDDEN.sub(lambda found: f"{found[0][0]}_" if ":" in found[0] else "_", name)
    name = name.encode("utf-8", "replace").decode("utf-8")
    return name if is_plain_name(name) else "_"


def usable_cores() -> int:
    """Return the number of cores this process may use; a cluster or container may restrict it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


COMMIT_FILE = Path(__file__).with_name("commit.txt")
"""Commit of the build, written by hatch_build.py; missing in editable installs and builds without git."""


def _version() -> str:
    """Return the version, with the commit of the build if known: 0.2.0.dev0+g1a2b3c4d5e6f."""
    commit = COMMIT_FILE.read_text(encoding="utf-8").strip() if COMMIT_FILE.is_file() else ""
    return f"{version('auscan')}+g{commit}" if commit else version("auscan")


VERSION = _version()
"""Version of auscan, with the commit of the build if known."""

REPORTED_PACKAGES = ("av", "numpy", "onnxruntime", "opencv-python-headless", "torch")
"""Packages whose version can change the numbers of a result, besides auscan."""


def versions() -> dict[str, str]:
    """Return the versions of auscan and of the installed packages among `REPORTED_PACKAGES`, by name."""
    found = {"auscan": VERSION}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


TRAIN_INSTALL_COMMAND = "pip install 'auscan[train]'"
"""Shell command that installs the training dependencies."""

TRAIN_MODULES = frozenset(
    {
        "accelerate",
        "huggingface_hub",
        "numba",
        "onnx",
        "onnxscript",
        "peft",
        "pyarrow",
        "safetensors",
        "scipy",
        "sklearn",
        "torch",
        "transformers",
        "yaml",
    }
)
"""Modules that the extra [train] installs."""


def require_extra(feature: str, module: str, extra: str) -> None:
    """Raise InputError with the install command if a module of an extra is missing; `feature` needs it."""
    if find_spec(module) is None:
        raise InputError(
            f"`{feature}` needs {module}, which is not installed. Run: pip install 'auscan[{extra}]'"
        )


def require_torch(feature: str) -> None:
    """Raise InputError with the install command if PyTorch is missing; `feature` needs it."""
    if find_spec("torch") is None:
        raise InputError(f"{feature} needs PyTorch, which is not installed. Run: {TRAIN_INSTALL_COMMAND}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Creates missing parent folders. Keeps the suffix, because writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - this function exists for the atomicity of this call
    finally:
        temporary.unlink(missing_ok=True)


def chunk_slices(count: int, length: int, start: int = 0) -> list[slice]:
    """Return slices of at most `length` rows that cover `count` rows from `start` on, in order."""
    stop = start + count
    return [slice(first, min(first + length, stop)) for first in range(start, stop, length)]
