"""The version of auscan and of the packages a result depends on."""

from importlib.metadata import PackageNotFoundError, version

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
