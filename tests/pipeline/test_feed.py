"""A source that does not wait is kept up with, and it is said what was left out."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from auscan.media.audio import Waveform
from auscan.media.video import Frame
from auscan.pipeline.feed import ROOM, LiveFeed


def source(count: int) -> Iterator[Frame | Waveform]:
    for i in range(count):
        yield Frame(i, i / 100, np.zeros((1, 1, 3), np.uint8))
        yield Waveform(np.zeros(160, np.float32), i / 100)


def test_nothing_is_left_out_where_there_is_time() -> None:
    feed = LiveFeed(source(20), paced=True)
    items = list(feed)
    assert [item.index for item in items if isinstance(item, Frame)] == list(range(20))
    assert sum(isinstance(item, Waveform) for item in items) == 20
    assert feed.dropped == 0


def test_frames_without_time_are_left_out_and_counted_but_sound_never_is() -> None:
    feed = LiveFeed(source(100), paced=False)
    frames, waves = [], 0
    for item in feed:
        if isinstance(item, Frame):
            time.sleep(0.005)
            frames.append(item.index)
        else:
            waves += 1
    assert waves == 100
    assert ROOM <= len(frames) < 100
    assert frames == sorted(frames)
    assert feed.dropped == 100 - len(frames)


def test_an_error_of_the_source_is_raised() -> None:
    def broken() -> Iterator[Frame | Waveform]:
        yield from source(1)
        raise ValueError("unplugged")

    with pytest.raises(ValueError, match="unplugged"):
        list(LiveFeed(broken(), paced=False))
