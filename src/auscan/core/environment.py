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
"""Start of the hidden folders of runs (batch/place.py); no result may be called like one."""

PLAIN_NAME: Final[str] = "one plain name: text without '/', '\\', a drive or NUL, not '.' or '..'"
"""What `is_plain_name` requires, for error messages."""

_NEVER: Final = re.compile(r"[/\\\0]|^[A-Za-z]:")


def is_text(path: str | Path) -> bool:
    """Whether a path can be written as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: str | Path) -> str:
    """A path as text; bytes that are no UTF-8 are escaped (\\xe9)."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_plain_name(name: object) -> TypeGuard[str]:
    """Return whether a stored name is one path component, and so stays below its folder.

    Names of dots and spaces alone are refused, as Windows reads '.. ' like '..'.
    """
    return (
        isinstance(name, str)
        and bool(name.strip(". "))
        and _NEVER.search(name) is None
        and not (os.name == "nt" and ":" in name)  # a drive or a stream of a file
        and not name.casefold().startswith(RUN_PREFIX)
        and is_text(name)
    )


def as_plain_name(name: str) -> str:
    """Return a name with '_' in place of each character that a plain name may not have."""
    if name.casefold().startswith(RUN_PREFIX):
        name = f"_{name[1:]}"
    name = _NEVER.sub(lambda found: f"{found[0][0]}_" if ":" in found[0] else "_", name)
    name = name.encode("utf-8", "replace").decode("utf-8")
    return name if is_plain_name(name) else "_"


def usable_cores() -> int:
    """Cores that this process may run on, which a cluster or a container can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


VERSION = version("auscan")

REPORTED = ("auscan", "av", "numpy", "onnxruntime", "opencv-python-headless", "torch")
"""Packages whose version can change a number in a result."""


def versions() -> dict[str, str]:
    """Versions of the installed packages among `REPORTED`, by name."""
    found = {}
    for name in REPORTED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


INSTALL = "pip install 'auscan[train]'"

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


def need_extra(what: str, module: str, extra: str) -> None:
    """Raise InputError, which says how to mend it, where a module that an extra brings is not installed."""
    if find_spec(module) is None:
        raise InputError(
            f"`{what}` needs {module}, which is not installed. Run: pip install 'auscan[{extra}]'"
        )


def need_torch(what: str) -> None:
    """Raise InputError, which says how to mend it, where PyTorch is not installed; `what` needs it."""
    if find_spec("torch") is None:
        raise InputError(f"{what} needs PyTorch, which is not installed. Run: {INSTALL}")
