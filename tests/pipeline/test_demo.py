"""The demo clip matches its description in the README and in the acceptance figures."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from auscan.media.audio import read_waveform
from auscan.media.video import probe, read_frames
from auscan.pipeline.demo import FRAMES, OCCLUDED_FRAMES, SIDE, demo_frame, make_demo_clip


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = skimage.data.astronaut()
    return image


def test_the_clip_lasts_ten_seconds_and_has_soft_audio(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    make_demo_clip(path)
    info = probe(path)
    assert (info.width, info.height, info.has_audio) == (SIDE, SIDE, True)
    times = [frame.time_s for frame in read_frames(path)]
    assert times == pytest.approx(np.arange(FRAMES) / 25)
    chunks = read_waveform(path)
    assert chunks is not None
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert len(samples) / 16_000 == pytest.approx(10, abs=0.1)
    assert 0.01 < np.abs(samples).max() < 0.2


def test_the_hand_covers_the_face_only_in_the_named_frames(
    portrait: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acceptance figures count unoccluded frames, so the range must contain every frame with the hand."""
    indices = range(0, FRAMES, 5)
    with_hand = [demo_frame(portrait, index) for index in indices]
    monkeypatch.setattr("auscan.pipeline.demo.OCCLUDED_FRAMES", range(0))
    for index, frame in zip(indices, with_hand, strict=True):
        changed = (frame != demo_frame(portrait, index)).any()
        assert changed <= (index in OCCLUDED_FRAMES)
    middle = OCCLUDED_FRAMES[len(OCCLUDED_FRAMES) // 2]
    face = (slice(150, 350), slice(190, 330))
    covered = with_hand[middle // 5][face] != demo_frame(portrait, middle // 5 * 5)[face]
    assert covered.any(axis=2).mean() > 0.5
