"""The overlay has the right times, sound, layout and colours when it is read back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import MediaError
from auscan.media.audio import decode_sound
from auscan.results.events import Speech
from auscan.results.figures.overlay import (
    FACE_COLOURS,
    AudioLevels,
    DrawnFace,
    Painter,
    audio_levels_at,
    write_overlay,
    write_overlay_picture,
)
from auscan.results.result import Result
from auscan.results.table import TrackScores

THRESHOLDS = [0.5] * 12


@dataclass
class FakeFrame:
    """A decoded frame."""

    index: int
    time_s: float
    image: NDArray[np.uint8]


def _frames(times_s: list[float], height: int = 90, width: int = 121) -> Iterator[FakeFrame]:
    for index, time_s in enumerate(times_s):
        yield FakeFrame(index, time_s, np.full((height, width, 3), 120, np.uint8))


def _write_click(path: Path, click_s: float, start_s: float, rate_hz: int = 32_000) -> None:
    """Write two seconds of sound that begin at `start_s`, with one click at `click_s`."""
    samples = np.zeros((1, 2 * rate_hz), np.float32)
    at = round((click_s - start_s) * rate_hz)
    samples[0, at : at + 40] = 0.9
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate_hz, layout="mono")
        for begin in range(0, samples.shape[1], 1000):
            piece = np.round(samples[:, begin : begin + 1000] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
            frame.pts = begin + round(start_s * rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _click_time_s(path: Path) -> float:
    """Return the time of the loudest sample, seconds."""
    pieces, first_s = [], None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            first_s = frame.time if first_s is None else first_s
            pieces.append(frame.to_ndarray()[0])
    return float(first_s or 0) + int(np.argmax(np.abs(np.concatenate(pieces)))) / 48_000


@pytest.fixture
def uneven() -> list[float]:
    """Frame times of a video with a variable rate that starts late."""
    return [0.4 + at for at in (0.0, 0.04, 0.05, 0.2, 0.24, 0.28, 0.9, 1.0, 1.5)]


@pytest.fixture
def scored(
    uneven: list[float], make_result: Callable[..., Result], make_track: Callable[..., TrackScores]
) -> Result:
    return make_result(uneven, [make_track(0, [0, 1, 2, 5]), make_track(1, [2, 3])])


def test_every_frame_is_shown_at_its_own_time(tmp_path: Path, uneven: list[float], scored: Result) -> None:
    path = tmp_path / "overlay.mp4"
    write_overlay(path, _frames(uneven), scored.table, THRESHOLDS, None)
    with av.open(str(path)) as container:
        assert not container.streams.audio
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == 0
        assert stream.height % 2 == 0
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([time_s - uneven[0] for time_s in uneven], abs=1e-4)
    assert list(tmp_path.iterdir()) == [path]


def test_a_browser_can_start_before_the_file_is_loaded(
    tmp_path: Path, uneven: list[float], scored: Result
) -> None:
    path = tmp_path / "overlay.mp4"
    write_overlay(path, _frames(uneven), scored.table, THRESHOLDS, None)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("sound_start_s", [0.0, 0.4, 0.7])
def test_sound_and_picture_stay_in_sync_for_any_start_time(
    tmp_path: Path, uneven: list[float], scored: Result, sound_start_s: float
) -> None:
    """Frames start at 0.4 s, so a click at 1.3 s must be 0.9 s after the first frame."""
    source, path = tmp_path / "sound.mkv", tmp_path / "overlay.mp4"
    _write_click(source, click_s=1.3, start_s=sound_start_s)
    write_overlay(path, _frames(uneven), scored.table, THRESHOLDS, decode_sound(source))
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.video[0].start_time == 0
    assert _click_time_s(path) == pytest.approx(0.9, abs=0.005)


def test_sound_samples_that_are_nan_become_silence(
    tmp_path: Path, uneven: list[float], scored: Result
) -> None:
    """The encoder refuses NaN."""
    source, path = tmp_path / "nan.mkv", tmp_path / "overlay.mp4"
    samples = np.zeros((1, 32_000), np.float32)
    samples[0, 1000:1010], samples[0, 9000], samples[0, 16_000:16_100] = np.nan, np.inf, 0.9
    with av.open(str(source), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=32_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 32_000, Fraction(1, 32_000), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    write_overlay(path, _frames(uneven), scored.table, THRESHOLDS, decode_sound(source))
    with av.open(str(path)) as container:
        levels = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.isfinite(levels).all()
    assert np.abs(levels).max() > 0.5


def test_a_gap_in_the_timestamps_of_the_sound_stays_a_gap(
    tmp_path: Path, uneven: list[float], scored: Result
) -> None:
    early, late, path = tmp_path / "early.mkv", tmp_path / "late.mkv", tmp_path / "overlay.mp4"
    _write_click(early, click_s=0.5, start_s=0.4)
    _write_click(late, click_s=3.9, start_s=3.0)
    both = tmp_path / "both.mkv"
    with av.open(str(both), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=32_000, layout="mono")
        for part, end_s in ((early, 0.45), (late, 9.0)):
            with av.open(str(part)) as container:
                for frame in container.decode(audio=0):
                    if frame.time < end_s:
                        frame.pts, frame.time_base = round(frame.time * 32_000), Fraction(1, 32_000)
                        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    write_overlay(path, _frames(uneven), scored.table, THRESHOLDS, decode_sound(both))
    assert _click_time_s(path) == pytest.approx(3.5, abs=0.005)


def test_a_source_without_sound_gives_a_video_without_sound(
    tmp_path: Path, uneven: list[float], scored: Result
) -> None:
    silent, path = tmp_path / "silent.mp4", tmp_path / "overlay.mp4"
    write_overlay(silent, _frames(uneven), scored.table, THRESHOLDS, None)
    write_overlay(path, _frames(uneven), scored.table, THRESHOLDS, decode_sound(silent))
    with av.open(str(path)) as container:
        assert not container.streams.audio


def test_without_frames_no_file_is_left(tmp_path: Path, scored: Result) -> None:
    with pytest.raises(MediaError, match=r"no frame to draw on, so overlay\.mp4 was not written"):
        write_overlay(tmp_path / "overlay.mp4", iter([]), scored.table, THRESHOLDS, None)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_while_decoding_leaves_no_file(
    tmp_path: Path, uneven: list[float], scored: Result
) -> None:
    def broken() -> Iterator[FakeFrame]:
        yield from _frames(uneven[:3])
        raise MediaError("decoding failed")

    with pytest.raises(MediaError, match="decoding failed"):
        write_overlay(tmp_path / "overlay.mp4", broken(), scored.table, THRESHOLDS, None)
    assert list(tmp_path.iterdir()) == []


def test_frames_may_change_size_within_a_video(tmp_path: Path, uneven: list[float], scored: Result) -> None:
    frames = [
        *_frames(uneven[:4]),
        *(FakeFrame(f.index + 4, f.time_s, f.image) for f in _frames(uneven[4:], 60, 200)),
    ]
    path = tmp_path / "overlay.mp4"
    write_overlay(path, frames, scored.table, THRESHOLDS, None)
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == len(uneven)


@pytest.mark.parametrize(
    ("height", "width"), [(240, 320), (720, 1280), (2160, 3840), (1920, 1080), (33, 17), (100, 1920)]
)
def test_the_panel_is_beside_the_picture_for_any_aspect_ratio(height: int, width: int) -> None:
    painter = Painter(height, width, AFFWILD2_AUS, THRESHOLDS)
    canvas = painter.paint(np.full((height, width, 3), 120, np.uint8), [])
    assert canvas.shape[0] % 2 == 0
    assert canvas.shape[1] % 2 == 0
    assert 480 <= canvas.shape[0] <= 1080
    assert canvas.shape[1] <= 1920 + 600
    middle = canvas[canvas.shape[0] // 2]  # one line through picture and panel
    picture = (middle == 120).all(axis=1)
    shown_width = round(picture.sum())
    assert picture[:shown_width].all()
    assert canvas.shape[1] - shown_width >= 200


def _face(
    face_id: int, probability: float, box: tuple[float, float, float, float] = (20, 20, 40, 40)
) -> DrawnFace:
    return DrawnFace(face_id, box, np.full(12, probability, np.float32), np.full(12, probability >= 0.5))


def _count(canvas: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((canvas == colour).all(axis=2).sum())


def test_the_sound_bar_grows_with_the_level_and_is_green_during_speech() -> None:
    image, painter = np.full((480, 640, 3), 120, np.uint8), Painter(480, 640, AFFWILD2_AUS, THRESHOLDS)

    def bar(levels: AudioLevels | None) -> tuple[int, int]:
        """Return the number of bright pixels in the sound bar, and their excess of green over red."""
        row = painter.paint(image, [], levels)[468, 640:].astype(int)
        lit = row[row.max(axis=1) > 100]
        return len(lit), int((lit[:, 1] - lit[:, 0]).max(initial=0))

    quiet, loud, spoken = (
        bar(AudioLevels(db, speech)) for db, speech in ((-50, False), (-10, False), (-10, True))
    )
    assert 0 < quiet[0] < loud[0] == spoken[0]
    assert loud[1] < 30 < spoken[1]
    assert bar(AudioLevels(-np.inf, False))[0] == bar(None)[0] == 0


def test_each_frame_shows_the_audio_levels_of_its_own_time() -> None:
    sound = Speech(1.0, 0.5, np.array([-40, -20], np.float32), np.array([False, True]))
    assert [audio_levels_at(sound, time_s).level_db for time_s in (0.9, 1.0, 1.49, 1.5, 2.0)] == [
        *(-np.inf, -40, -40, -20, -np.inf)
    ]
    assert audio_levels_at(sound, 1.6).speech
    assert not audio_levels_at(sound, 1.4).speech


def test_an_active_au_has_a_bright_bar_and_an_inactive_one_a_dim_bar() -> None:
    image = np.full((480, 640, 3), 120, np.uint8)
    painter = Painter(480, 640, AFFWILD2_AUS, THRESHOLDS)
    panels = [painter.paint(image, [_face(0, p)])[:, 640:] for p in (0.49, 0.5)]
    dim, bright = (_count(panel, FACE_COLOURS[0]) for panel in panels)
    assert bright > 10 * dim


def test_an_unscored_face_shows_the_reason_and_no_bright_bar() -> None:
    image = np.full((480, 640, 3), 120, np.uint8)
    clear = _face(0, 0.9)
    turned = replace(clear, active=np.zeros(12, bool), reason="profile")
    painted = [Painter(480, 640, AFFWILD2_AUS, THRESHOLDS).paint(image, [face]) for face in (clear, turned)]
    tags, panels = zip(*[(canvas[:, :640], canvas[32:, 640:]) for canvas in painted], strict=True)
    assert _count(tags[1], FACE_COLOURS[0]) > _count(tags[0], FACE_COLOURS[0]) + 100, "a longer tag"
    assert _count(panels[0], FACE_COLOURS[0]) > 0
    assert _count(panels[1], FACE_COLOURS[0]) == 0


def test_all_faces_have_boxes_and_the_largest_have_bars() -> None:
    image = np.full((480, 640, 3), 120, np.uint8)
    faces = [_face(i, 0.9, (10 + 100 * i, 200, 30 + 10 * i, 30 + 10 * i)) for i in range(6)]
    canvas = Painter(480, 640, AFFWILD2_AUS, THRESHOLDS).paint(image, faces)
    boxed = [_count(canvas[:, :640], colour) for colour in FACE_COLOURS]
    barred = [_count(canvas[:, 640:], colour) for colour in FACE_COLOURS]
    assert all(boxed)
    assert barred[:2] == [0, 0]
    assert all(barred[2:])


def test_an_unknown_au_has_no_bar_and_a_box_beyond_the_edge_is_drawn() -> None:
    image = np.full((480, 640, 3), 120, np.uint8)
    face = _face(0, float("nan"), (-500, -40, 5000, 60))
    canvas = Painter(480, 640, AFFWILD2_AUS, THRESHOLDS).paint(image, [face])
    legend_height = 32
    assert _count(canvas[legend_height:, 640:], FACE_COLOURS[0]) == 0


def test_the_overlay_of_a_picture_is_a_picture(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    path = tmp_path / "overlay.png"
    image = np.full((240, 320, 3), (200, 30, 30), np.uint8)
    write_overlay_picture(path, image, make_result([0.0], []).table, THRESHOLDS)
    read = cv2.imread(str(path))
    assert read.shape[0] == 480
    assert read[240, 100].tolist() == [30, 30, 200]  # BGR: red stays red
