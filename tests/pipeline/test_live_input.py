"""`LiveDetector.push` refuses what it cannot use, with a message, and is then as before the call."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import auscan
from auscan import LiveDetector, Waveform

IMAGE: NDArray[np.uint8] = np.zeros((64, 64, 3), np.uint8)
SOUND = Waveform(np.zeros(1600, np.float32), 0.0)


@pytest.fixture(scope="module")
def engine() -> Any:
    return auscan.load_model("nano", threads=1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE.tolist(), r"a uint8 array \[H, W, 3\] in RGB, got list"),
        (IMAGE[..., 0], r"got the shape \[64, 64\]"),
        (np.zeros((3, 64, 64), np.uint8), r"got the shape \[3, 64, 64\]"),
        (IMAGE[:0], r"got the shape \[0, 64, 3\]"),
        (IMAGE.astype(np.float32), r"got float32\. Convert it; an image from 0 to 1 times 255"),
    ],
)
def test_an_image_of_another_type_or_shape_is_refused(engine: Any, image: Any, message: str) -> None:
    with LiveDetector(engine) as live, pytest.raises(auscan.InputError, match=message):
        live.push(image, 0.0)


@pytest.mark.parametrize(
    ("time_s", "message"),
    [
        (0.9, r"The time of a frame, 0\.9 s, is before that of the previous frame, 1\.0 s"),
        (math.nan, "a number of seconds, got nan"),
        (math.inf, "a number of seconds, got inf"),
        (None, "a number of seconds, got None"),
    ],
)
def test_a_time_that_is_no_number_or_goes_back_is_refused(engine: Any, time_s: Any, message: str) -> None:
    with LiveDetector(engine) as live:
        live.push(IMAGE, 1.0)
        with pytest.raises(auscan.InputError, match=message):
            live.push(IMAGE, time_s)
        live.push(IMAGE, 1.0)
        assert [row["frame"] for row in live.finish()] == [0, 1], "the refused frame has no number"


def test_a_frame_number_that_goes_back_is_refused(engine: Any) -> None:
    with LiveDetector(engine) as live:
        live.push(IMAGE, 0.0, index=4)
        with pytest.raises(auscan.InputError, match="index 4 should be at least 5"):
            live.push(IMAGE, 0.1, index=4)
        live.push(IMAGE, 0.1, index=9)
        assert [row["frame"] for row in live.finish()] == [4, 9]


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (SOUND.samples, r"auscan\.Waveform\(samples, start_s\), got ndarray"),
        (Waveform(np.zeros(9, np.int16), 0.0), r"got int16 \[9\]\. Divide int16 samples by 32768"),  # type: ignore[arg-type]
        (Waveform(np.zeros((2, 9), np.float32), 0.0), r"got float32 \[2, 9\]"),
        (Waveform(np.full(9, np.nan, np.float32), 0.0), "contains NaN or infinity"),
        (Waveform(SOUND.samples, math.nan), r"start_s=nan"),
        (Waveform(SOUND.samples, 100.0), r"begins at 100\.0 s, but sound and frames so far end at 0\.1 s"),
    ],
)
def test_sound_of_another_form_or_far_away_is_refused(engine: Any, sound: Any, message: str) -> None:
    with LiveDetector(engine) as live:
        live.push(IMAGE, 0.0, SOUND)
        with pytest.raises(auscan.InputError, match=message):
            live.push(IMAGE, 0.04, sound)
        live.push(IMAGE, 0.04, Waveform(SOUND.samples, 0.1))
        assert [row["frame"] for row in live.finish()] == [0, 1]


def test_sound_may_come_before_the_frames_and_after_a_pause_of_them(engine: Any) -> None:
    with LiveDetector(engine) as live:
        live.push_audio(SOUND)
        live.push(IMAGE, 200.0)
        live.push(IMAGE, 200.1, Waveform(SOUND.samples, 200.0))
        assert len(live.finish()) == 2
