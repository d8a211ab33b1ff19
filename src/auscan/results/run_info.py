"""Describe the run that made a table.

See also: result.py (results), read.py (results in a folder).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.events import NO_BASELINE


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The run that made a table: input, model, settings and versions."""

    source: str
    """File name of the input."""
    duration_s: float
    """Seconds from the first frame to the end of the last frame, without pauses."""
    frames: int
    """Number F of decoded frames."""
    has_audio: bool
    """Whether the input has audio that the model used."""
    seconds: float
    """Processing time, seconds."""
    model: str
    """Id of the checkpoint."""
    reference: str = ""
    """Source of the labels that the model was trained on, one sentence; empty if unknown."""
    operating_point: str = "default"
    """Name of the operating point of the thresholds; `custom` if they were changed."""
    au_names: tuple[str, ...] = AFFWILD2_AUS
    """[A] AUs of the checkpoint, in the order of the columns."""
    thresholds: tuple[float, ...]
    """[A] probabilities from which an AU counts as active."""
    untrained_aus: tuple[str, ...] = ()
    """AUs that the checkpoint was not trained on; their columns are NaN."""
    keep_all: bool = False
    """Whether low-quality faces are scored, too."""
    baseline: str = NO_BASELINE
    """Person baseline: none, median or SECONDS-SECONDS (events.py)."""
    command: str
    """Command line, or Python call, of the run. Thresholds and baseline may have been changed since then
    (`Result.with_thresholds`, `Result.with_baseline`)."""
    versions: Mapping[str, str]
    """Versions by package name, including `auscan`."""
    sound_offset_s: float | None = None
    """Seconds by which the sound was late and was shifted; None if that was not searched for."""
    warnings: tuple[str, ...] = ()
    """Warnings of the run, one sentence each."""

    def __post_init__(self) -> None:
        count = len(self.au_names)
        if len(self.thresholds) != count:
            raise ValueError(f"thresholds should be {count} numbers, got {len(self.thresholds)}.")
        if "auscan" not in self.versions:
            raise ValueError("versions should name the version of auscan.")
