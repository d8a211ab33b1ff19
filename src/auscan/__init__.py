"""auscan: which facial action units are active in every frame and every face of a video.

    import auscan
    result = auscan.detect("talk.mp4")
    result.to_pandas()

This file only re-exports; nothing inside auscan imports it. The names load on first use, so that
`import auscan` is instant. And it keeps ONNX Runtime, which from 1.29 on reports to Microsoft and writes
a number for the machine into its user's cache, from doing either.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auscan.core.aus import AU_NAMES
    from auscan.core.errors import AuscanError, CheckpointError, InputError, MediaError
    from auscan.pipeline.detect import detect
    from auscan.pipeline.live import LiveDetector
    from auscan.results.read import read_result
    from auscan.results.result import Result

    __version__: str

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # has to be there before ONNX Runtime loads

__all__ = [
    "AU_NAMES",
    "AuscanError",
    "CheckpointError",
    "InputError",
    "LiveDetector",
    "MediaError",
    "Result",
    "__version__",
    "detect",
    "read_result",
]

_HOMES = {
    "AU_NAMES": "auscan.core.aus",
    "AuscanError": "auscan.core.errors",
    "CheckpointError": "auscan.core.errors",
    "InputError": "auscan.core.errors",
    "LiveDetector": "auscan.pipeline.live",
    "MediaError": "auscan.core.errors",
    "Result": "auscan.results.result",
    "detect": "auscan.pipeline.detect",
    "read_result": "auscan.results.read",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    from importlib import import_module

    if name == "__version__":
        return import_module("auscan.core.environment").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'auscan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
