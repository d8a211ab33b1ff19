"""Videos with pauses and with clocks that step, from the file to the result."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.inference.engine import InferenceEngine
from auscan.inference.torch_engine import TorchEngine
from auscan.media.video import read_frames
from auscan.pipeline.detect import detect
from auscan.pipeline.live import LiveDetector

WriteClip = Callable[..., Path]
FaceImages = Callable[[int], list[NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> InferenceEngine:
    return TorchEngine(tiny_checkpoint)


@pytest.mark.parametrize(
    ("times_s", "duration_s", "pauses"),
    [
        (np.arange(40) / 25 + 3 * (np.arange(40) >= 21), 1.6, 1),
        (np.arange(40) / 25 + 97 * (np.arange(40) >= 21), 1.6, 1),
        (np.arange(12) * 1.001, 12.012, 0),
        (np.arange(12) * 2.0, 24.0, 0),
    ],
    ids=["frozen for 3 s", "a pause of 97 s", "1000/1001 fps", "0.5 fps"],
)
def test_a_face_is_one_track_over_pauses_whose_time_does_not_count(
    tmp_path: Path,
    engine: InferenceEngine,
    write_clip: WriteClip,
    face_images: FaceImages,
    times_s: NDArray[np.float64],
    duration_s: float,
    pauses: int,
) -> None:
    clip = write_clip(tmp_path / "paused.mp4", face_images(len(times_s)), times_s)
    result = detect(clip, model=engine)
    assert result.table["face_id"].tolist() == [0] * len(times_s)
    assert len(result.tracks) == 1
    summary = result.summary()
    assert summary["duration_s"] == pytest.approx(duration_s, abs=1e-3)
    assert max(value or 0 for value in summary["seconds_active"].values()) <= duration_s + 1e-3
    assert result.events["duration"].max() <= duration_s + 1e-3
    assert len(summary["warnings"]) == pauses
    assert all("a pause without frames" in warning for warning in summary["warnings"])


def test_live_rows_over_a_pause_equal_those_of_a_file(
    tmp_path: Path, engine: InferenceEngine, write_clip: WriteClip, face_images: FaceImages
) -> None:
    times_s = np.arange(30) / 25 + 20 * (np.arange(30) >= 11)
    clip = write_clip(tmp_path / "paused.mp4", face_images(30), times_s)
    result = detect(clip, model=engine)
    with LiveDetector(engine, lag_s=np.inf) as live:
        rows = [row for f in read_frames(clip) for row in live.push(f.image, f.time_s)] + live.finish()
    assert [row["face_id"] for row in rows] == result.table["face_id"].tolist()
    for name in set(AFFWILD2_AUS) - {"AU23"}:
        assert_allclose([row[name] for row in rows], result.table[name], atol=1e-4)


def test_the_step_of_a_clock_is_a_warning_of_the_result(
    tmp_path: Path, engine: InferenceEngine, write_clip: WriteClip, face_images: FaceImages
) -> None:
    part = write_clip(tmp_path / "part.ts", face_images(20), np.arange(20) / 25).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part + part)
    result = detect(joined, model=engine)
    assert np.diff(result.table["timestamp"]) == pytest.approx(0.04, abs=1e-6)
    (warning,) = result.info.warnings
    assert warning.startswith("joined.ts: the clock steps back by 0.80 s")
    assert result.save(tmp_path / "out").joinpath("summary.json").read_text().count(warning) == 1
