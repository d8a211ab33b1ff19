"""Check names of files and folders: whether they are text, and whether they are one path component.

Linux allows any bytes in a name, such as Latin-1 from an old archive; Python decodes them as lone surrogates.
auscan writes UTF-8 and could not name such a file, so that nobody could tell what a result is of.

A name that auscan reads from a file and joins to a path must be one plain component: `..` leads out of the
folder, and an absolute name replaces the whole path. `is_plain_name` is the only check for this.

In: a path or a name.  Out: whether it can be used, and how to show it.

How many cores this process may use.

The version of auscan and of the packages a result depends on.

What is only there with an extra, such as `pip install 'auscan[train]'`, and how a user is told.

The shipped model runs without PyTorch. Whatever teaches, converts or runs other models needs [train]; what
makes one data set of many results, and asks it, needs [batch]; many machines at once need [ray].
"""

import os
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeGuard

from auscan.core.errors import InputError

RUN_PREFIX: Final[str] = ".auscan-"
"""Start of the hidden folders of runs (batch/output_folder.py); no result may be called like one."""

PLAIN_NAME_RULE: Final[str] = "one plain name: text without '/', '\\', a drive or NUL, not '.' or '..'"
"""What `is_plain_name` requires, for error messages."""

_FORBIDDEN: Final = re.compile(r"[/\\\0]|^[A-Za-z]:")


def is_utf8(path: str | Path) -> bool:
    """Whether a path can be written as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def display_path(path: str | Path) -> str:
    """A path as text; bytes that are no UTF-8 are escaped (\\xe9)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_plain_name(name: object) -> TypeGuard[str]:
    """Return whether a stored name is one path component, and so stays below its folder.

    Names of dots and spaces alone are refused, as Windows reads '.. ' like '..'.
    """
    return (
        isinstance(name, str)
        and bool(name.strip(". "))
        and _FORBIDDEN.search(name) is None
        and not (os.name == "nt" and ":" in name)  # a drive or a stream of a file
        and not name.casefold().startswith(RUN_PREFIX)
        and is_utf8(name)
    )


def as_plain_name(name: str) -> str:
    """Return a name with '_' in place of each character that a plain name may not have."""
    if name.casefold().startswith(RUN_PREFIX):
        name = f"_{name[1:]}"
    name = _FORBIDDEN.sub(lambda found: f"{found[0][0]}_" if ":" in found[0] else "_", name)
    name = name.encode("utf-8", "replace").decode("utf-8")
    return name if is_plain_name(name) else "_"


def usable_cores() -> int:
    """Cores that this process may run on, which a cluster or a container can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


COMMIT_FILE = Path(__file__).with_name("commit.txt")
"""Written by the build (hatch_build.py); missing in an editable install and outside a git checkout."""


def _version() -> str:
    """Return the version, with the commit of the build where it is known: 0.2.0.dev0+g1a2b3c4d5e6f."""
    commit = COMMIT_FILE.read_text(encoding="utf-8").strip() if COMMIT_FILE.is_file() else ""
    return f"{version('auscan')}+g{commit}" if commit else version("auscan")


VERSION = _version()

REPORTED_PACKAGES = ("av", "numpy", "onnxruntime", "opencv-python-headless", "torch")
"""Packages whose version can change a number in a result, besides auscan."""


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
"""Modules that the extra brings."""


def require_extra(feature: str, module: str, extra: str) -> None:
    """Raise InputError, which says how to mend it, where a module that an extra brings is not installed."""
    if find_spec(module) is None:
        raise InputError(
            f"`{feature}` needs {module}, which is not installed. Run: pip install 'auscan[{extra}]'"
        )


def require_torch(feature: str) -> None:
    """Raise InputError, which says how to mend it, where PyTorch is not installed; `feature` needs it."""
    if find_spec("torch") is None:
        raise InputError(f"{feature} needs PyTorch, which is not installed. Run: {TRAIN_INSTALL_COMMAND}")
