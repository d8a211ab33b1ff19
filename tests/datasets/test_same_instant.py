"""Test that label k, picture k, the k-th frame of the video and the sound at its time are one instant.

Pictures and frames encode their number in stripes, labels encode it in binary digits, and the pitch of the
sound encodes the time. An error by one frame in any of them fails the test.
"""

from pathlib import Path

import numpy as np
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.index import read_index
from auscan.datasets.prepare import prepare
from auscan.media.audio import read_waveform
from auscan.media.discover import read_image
from auscan.media.video import read_frames

from .conftest import (
    SOUND_RATE_HZ,
    label_line,
    read_number,
    rising_tone,
    tone_time_s,
    write_labels,
    write_numbered_video,
    write_pictures,
)

STEADY_S = [i / 25 for i in range(40)]
UNEVEN_S = [round(25 * (t + 0.5 * t**2)) / 25 for t in STEADY_S]
TRACK = "900-60-1280x720"


@pytest.mark.parametrize(
    ("name", "times_s", "sound_start_s"),
    [
        ("steady.mp4", STEADY_S, 0.0),
        ("uneven.mp4", UNEVEN_S, 0.0),
        ("late_pictures.mp4", [t + 0.6 for t in STEADY_S], 0.0),
        ("late_sound.mp4", STEADY_S, 0.48),
        ("late_and_uneven.mp4", [t + 0.6 for t in UNEVEN_S], 0.32),
        ("steady.avi", STEADY_S, 0.0),
    ],
)
@pytest.mark.parametrize("side", ["", "_left"])
def test_label_picture_frame_and_sound_are_of_one_instant(
    tmp_path: Path, name: str, times_s: list[float], sound_start_s: float, side: str
) -> None:
    numbers = range(1, len(times_s) + 1)
    with_picture = [n for n in numbers if n not in (1, 7, 8, 40)]
    video = tmp_path / "batch1" / f"{TRACK}{Path(name).suffix}"
    sound = rising_tone(sound_start_s, times_s[-1] + 0.5)
    write_numbered_video(video, times_s, sound=sound, sound_start_s=sound_start_s)
    write_pictures(tmp_path / "cropped_aligned" / (TRACK + side), with_picture)
    labels = tmp_path / "6th ABAW Annotations" / "AU_Detection_Challenge" / "Train_Set"
    write_labels(labels / f"{TRACK}{side}.txt", [label_line(n) for n in numbers])

    prepare(tmp_path, tmp_path / "index")
    index = read_index(tmp_path / "index")

    (track,) = index.tracks.to_dict("records")
    chunks = list(read_waveform(index.root / track["video"]) or ())
    samples = np.concatenate([chunk.samples for chunk in chunks])
    number_at = {round(frame.time_s, 6): read_number(frame.image) for frame in read_frames(video)}
    assert index.frames["frame"].tolist() == list(numbers)
    checked = 0
    for row in index.frames.to_dict("records"):
        k = row["frame"]
        assert int("".join(str(row[au]) for au in AFFWILD2_AUS), 2) == k
        assert row["has_image"] == (k in with_picture)
        if row["has_image"]:
            assert read_number(read_image(index.root / row["image"])) == k
        assert number_at[round(row["timestamp"], 6)] == k
        assert row["timestamp"] == pytest.approx(times_s[k - 1], abs=2e-3)
        middle = round((row["timestamp"] - chunks[0].start_s) * SOUND_RATE_HZ)
        if 800 <= middle < len(samples) - 800:
            # A frame lasts at least 40 ms.
            assert tone_time_s(samples, middle) == pytest.approx(times_s[k - 1], abs=0.01)
            checked += 1
    assert checked >= 20
