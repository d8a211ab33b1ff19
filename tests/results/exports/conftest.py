"""A result with many events: two faces, one of them leaving, unscored frames, AU23 untrained."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table

CLEAR, DARK = (60, 1.2, 0.5, 0.2, 5, -3, 0.0), (60, 1.2, 0.001, 0.2, 5, -3, 0.0)
THRESHOLDS = (0.5,) * 12
STEP_S = 0.04


def track(
    face_id: int, probabilities: NDArray[np.float32], first: int = 0, dark: slice | None = None
) -> TrackScores:
    """Return a track in consecutive frames; AU23 is NaN, and frames in `dark` are not scored.

    probabilities: [T, A]
    """
    count = len(probabilities)
    probabilities = probabilities.copy()
    probabilities[:, AFFWILD2_AUS.index("AU23")] = np.nan
    quality_features = np.tile(np.float32(CLEAR), (count, 1))
    if dark is not None:
        quality_features[dark] = DARK
    return TrackScores(
        face_id=face_id,
        frames=np.arange(first, first + count),
        boxes=np.tile(np.float32([10.5 + 30 * face_id, 12, 24, 28]), (count, 1)),
        points=np.zeros((count, 5, 2), np.float32),
        scores=np.full(count, 0.9, np.float32),
        quality_features=quality_features,
        probabilities=probabilities,
    )


def result_of(
    tracks: list[TrackScores], frames: int, source: str = "talk.mp4", start_s: float = 0.5
) -> Result:
    """Return a result of `frames` frames at 25 per second."""
    times_s = start_s + STEP_S * np.arange(frames)
    info = RunInfo(
        source=source,
        duration_s=STEP_S * frames,
        frames=frames,
        has_audio=False,
        seconds=1.5,
        model="tiny",
        thresholds=THRESHOLDS,
        untrained_aus=("AU23",),
        command=f"auscan detect '{source}'",
        versions={"auscan": "0.1.0"},
    )
    return Result(build_table(times_s, tracks, THRESHOLDS), tuple(tracks), info)


def waves(frames: int, seed: int = 0) -> NDArray[np.float32]:
    """Return probabilities [T, A] that rise and fall within about a second."""
    rng = np.random.default_rng(seed)
    angle = np.arange(frames)[:, None] * STEP_S * rng.uniform(3, 9, 12) + rng.uniform(0, 6, 12)
    return (0.5 + 0.5 * np.sin(angle)).astype(np.float32)


@pytest.fixture
def make_long_result() -> Callable[..., Result]:
    """Return a function (source, start_s) -> result of 200 frames; face 0 in 0 to 189, 1 in 50 to 119."""

    def make(source: str = "talk.mp4", start_s: float = 0.5) -> Result:
        tracks = [track(0, waves(190), dark=slice(80, 100)), track(1, waves(70, seed=1), first=50)]
        return result_of(tracks, 200, source, start_s)

    return make


@pytest.fixture
def long_result(make_long_result: Callable[..., Result]) -> Result:
    return make_long_result()
