"""What to make of an input; light to import, as it is sent between processes.

Not here: making it (write.py).
"""

from dataclasses import dataclass

from auscan.core.operating import OperatingPoint


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to make of an input; every field changes what is written."""

    operating_point: OperatingPoint = "default"
    overlay: bool = False
    report: bool = False
    evidence: bool = False
    as_video_hz: float | None = None
    """Pictures per second where a folder of numbered pictures is read as a video."""
    keep_all: bool = False
    baseline: str = "none"
