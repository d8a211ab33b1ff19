"""Small synthetic results: two faces, a gap, an untrained AU, frames of uneven length."""

from collections.abc import Callable

import numpy as np
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table

CLEAR = (60, 1.2, 0.5, 0.2, 5, -3, 0.0)
"""Quality features of a face with full quality."""
THRESHOLDS = tuple(np.linspace(0.3, 0.85, 12).tolist())


def _track(face_id: int, frames: list[int], seed: int = 0) -> TrackScores:
    rng = np.random.default_rng(seed + face_id)
    count = len(frames)
    probabilities = rng.random((count, 12), np.float32)
    probabilities[:, AFFWILD2_AUS.index("AU23")] = np.nan
    return TrackScores(
        face_id=face_id,
        frames=np.array(frames, np.int64),
        boxes=np.tile(np.array([10 + 30 * face_id, 12, 24, 28], np.float32), (count, 1)),
        points=np.zeros((count, 5, 2), np.float32),
        scores=np.full(count, 0.9, np.float32),
        quality_features=np.tile(np.float32(CLEAR), (count, 1)),
        probabilities=probabilities,
    )


def _result(
    times_s: list[float], tracks: list[TrackScores], source: str = "talk.mp4", has_audio: bool = True
) -> Result:
    info = RunInfo(
        source=source,
        duration_s=times_s[-1] - times_s[0],
        frames=len(times_s),
        has_audio=has_audio,
        seconds=1.5,
        model="tiny",
        thresholds=THRESHOLDS,
        untrained_aus=("AU23",),
        command=f"auscan detect '{source}'",
        versions={"auscan": "0.1.0", "numpy": "2"},
        warnings=("The sound starts late.",),
    )
    return Result(build_table(np.array(times_s), tracks, THRESHOLDS), tuple(tracks), info)


@pytest.fixture
def make_track() -> Callable[..., TrackScores]:
    return _track


@pytest.fixture
def make_result() -> Callable[..., Result]:
    return _result


@pytest.fixture
def result() -> Result:
    """Six frames of uneven length: face 0 in frames 0, 1, 2 and 4, face 1 in 1 and 2, no face in 3 and 5."""
    times_s = [0.5, 0.54, 0.6, 0.62, 0.72, 0.76]
    return _result(times_s, [_track(0, [0, 1, 2, 4]), _track(1, [1, 2])])
