"""Detect facial action units in every frame and every face of a video.

    import auscan
    result = auscan.detect("talk.mp4")
    result.to_pandas()

This module re-exports the public names (docs/stability.md); no module inside auscan imports it. A name loads
on first use, so that `import auscan` is instant.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auscan.batch.api import detect
    from auscan.core.aus import ACTION_UNITS, AFFWILD2_AUS
    from auscan.core.errors import (
        AuscanError,
        CheckpointError,
        CrashError,
        InputError,
        MediaError,
        MemoryLimitError,
        OutputError,
        TimeLimitError,
    )
    from auscan.inference.hub import Checkpoint
    from auscan.inference.load import load_engine as load_model
    from auscan.media.audio import Waveform
    from auscan.pipeline.demo import make_demo_clip
    from auscan.pipeline.live import LiveDetector
    from auscan.pipeline.outputs import render_report
    from auscan.results.attributions import read_attributions
    from auscan.results.read import read_result
    from auscan.results.result import Result
    from auscan.results.run_info import RunInfo

    __version__: str

# ONNX Runtime 1.29 and later reports usage to Microsoft and stores a machine id in the user's cache, unless
# this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "ACTION_UNITS",
    "AFFWILD2_AUS",
    "AuscanError",
    "Checkpoint",
    "CheckpointError",
    "CrashError",
    "InputError",
    "LiveDetector",
    "MediaError",
    "MemoryLimitError",
    "OutputError",
    "Result",
    "RunInfo",
    "TimeLimitError",
    "Waveform",
    "__version__",
    "detect",
    "load_model",
    "make_demo_clip",
    "read_attributions",
    "read_result",
    "render_report",
]

_MODULES = {
    "ACTION_UNITS": "auscan.core.aus",
    "AFFWILD2_AUS": "auscan.core.aus",
    "Checkpoint": "auscan.inference.hub",
    "LiveDetector": "auscan.pipeline.live",
    "Result": "auscan.results.result",
    "RunInfo": "auscan.results.run_info",
    "Waveform": "auscan.media.audio",
    "__version__": "auscan.core.environment",
    "detect": "auscan.batch.api",
    "load_model": "auscan.inference.load",
    "make_demo_clip": "auscan.pipeline.demo",
    "read_attributions": "auscan.results.attributions",
    "read_result": "auscan.results.read",
    "render_report": "auscan.pipeline.outputs",
    **{name: "auscan.core.errors" for name in __all__ if name.endswith("Error")},
}
_ORIGINAL_NAMES = {"__version__": "VERSION", "load_model": "load_engine"}
"""Names inside their modules, where these differ."""


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module 'auscan' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), _ORIGINAL_NAMES.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)
