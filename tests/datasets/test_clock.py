"""Test that times are read from the container, or assumed with a warning if they cannot be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from auscan.datasets.clock import read_clock
from auscan.media.video import read_frames

VideoMaker = Callable[..., Path]
AT_25 = [i / 25 for i in range(6)]


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_frame_n_has_the_time_of_the_nth_decoded_frame(numbered_video: VideoMaker) -> None:
    path = numbered_video("a.mp4", [0.5, 0.54, 1.0, 1.3])
    clock = read_clock(path, named_rate_hz=60)
    assert clock.at(numbers(1, 2, 3, 4)).tolist() == [frame.time_s for frame in read_frames(path)]
    assert clock.at(numbers(4, 1)).tolist() == pytest.approx([1.3, 0.5])
    assert clock.source == "container"
    assert clock.is_uneven


def test_times_continue_beyond_the_last_frame_at_the_videos_rate(numbered_video: VideoMaker) -> None:
    clock = read_clock(numbered_video("a.mp4", AT_25), None)
    assert clock.at(numbers(6, 7, 8)).tolist() == pytest.approx([0.2, 0.24, 0.28])
    assert clock.rate_hz == pytest.approx(25)
    assert not clock.is_uneven


def test_a_video_of_one_frame_still_has_a_frame_interval(numbered_video: VideoMaker) -> None:
    clock = read_clock(numbered_video("a.mp4", [0.0]), None)
    assert np.all(np.diff(clock.at(numbers(1, 2, 3))) > 0)


def test_rows_that_leave_frames_out_may_end_before_the_video(numbered_video: VideoMaker) -> None:
    clock = read_clock(numbered_video("a.mp4", AT_25), None)
    assert clock.surplus(numbers(1, 2)) == -4
    assert clock.surplus(numbers(2, 3)) == 0
    assert clock.surplus(numbers(2, 9)) == 3
    assert read_clock(None, None).surplus(numbers(1)) is None


def test_a_truncated_video_gives_even_times_at_its_own_rate(numbered_video: VideoMaker) -> None:
    path = numbered_video("a.avi", [i / 25 for i in range(50)])
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    clock = read_clock(path, named_rate_hz=60)
    assert clock.at(numbers(1, 2, 26)).tolist() == pytest.approx([0, 0.04, 1.0])
    assert clock.source == "container rate"
    assert "evenly spaced times at 25 Hz are used" in clock.warnings[0]


@pytest.mark.parametrize(("named", "rate_hz", "source"), [(24, 24, "name"), (None, 30, "assumed")])
def test_without_a_video_the_rate_is_that_of_the_name(
    named: float | None, rate_hz: float, source: str
) -> None:
    clock = read_clock(None, named)
    assert clock.at(numbers(1, 4)).tolist() == pytest.approx([0, 3 / rate_hz])
    assert (clock.source, clock.rate_hz) == (source, rate_hz)
