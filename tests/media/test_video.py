"""Frames are read once, in order, upright, with the time of the container."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from auscan.core.errors import MediaError
from auscan.media import video
from auscan.media.video import Frame, _sorted_times, frame_times, next_time, probe, read_frames

from .conftest import frame_picture, tone

MakeVideo = Callable[..., Path]
STEADY_S = [i / 25 for i in range(30)]
CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"


def plain_times(path: Path) -> list[float | None]:
    """Return the frame times of a plain PyAV decode."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def grey_levels(frames: list[Frame]) -> list[int]:
    """Return the grey level of the dark corner of each test image, which identifies it."""
    return [int(frame.image[-4, -4].mean()) for frame in frames]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", {}),
        ("a.mov", {"codec": "libx265"}),
        ("a.mkv", {"codec": "ffv1"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("ten_bit.mp4", {"pix_fmt": "yuv420p10le"}),
        ("grey.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
        ("deep_grey.mkv", {"codec": "ffv1", "pix_fmt": "gray16le"}),
        ("odd.mp4", {"size": (63, 47), "pix_fmt": "yuv444p"}),
        ("odd_subsampled.mkv", {"size": (63, 47), "codec": "ffv1"}),
    ],
)
def test_every_frame_of_every_format_is_read_once_with_the_time_of_pyav(
    make_video: MakeVideo, name: str, kind: dict[str, object]
) -> None:
    path = make_video(name, STEADY_S, **kind)
    frames = list(read_frames(path))
    width, height = kind.get("size", (64, 48))
    assert [f.index for f in frames] == list(range(30))
    assert [f.time_s for f in frames] == plain_times(path)
    expected = [frame_picture(i, width, height) for i in range(30)]
    for frame, picture in zip(frames, expected, strict=True):
        assert frame.image.shape == (height, width, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags["C_CONTIGUOUS"]
        assert np.abs(frame.image.astype(int) - picture).mean() < 6


def test_only_requested_frames_are_read_and_decoding_stops_after_them(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video("some.mp4", STEADY_S)
    all_frames = list(read_frames(path))
    decoded: list[float] = []

    def recorded(source: Path, log: object) -> Iterator[tuple[Any, float]]:
        for frame, time_s in timed(source):
            decoded.append(time_s)
            yield frame, time_s

    timed = video._timed_frames
    monkeypatch.setattr(video, "_timed_frames", recorded)
    some = list(read_frames(path, only={17, 4}))
    assert [frame.index for frame in some] == [4, 17]
    for frame in some:
        assert frame.time_s == all_frames[frame.index].time_s
        assert (frame.image == all_frames[frame.index].image).all()
    assert len(decoded) == 18
    assert list(read_frames(path, only=set())) == []
    assert len(decoded) == 18


def test_a_grey_mp4_becomes_rgb_of_equal_channels(make_video: MakeVideo) -> None:
    frame = next(read_frames(make_video("grey.mp4", STEADY_S, pix_fmt="gray")))
    assert frame.image.shape == (48, 64, 3)
    assert np.ptp(frame.image, axis=2).max() == 0
    assert frame.image[4, 4, 0] > frame.image[-4, -4, 0] + 80


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_keeps_its_uneven_times(make_video: MakeVideo, suffix: str) -> None:
    times_s = [0, 0.04, 0.5, 0.54, 3, 3.04, 10]
    frames = list(read_frames(make_video("vfr" + suffix, times_s)))
    assert [f.time_s for f in frames] == pytest.approx(times_s, abs=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_late_start_is_not_shifted_to_zero(make_video: MakeVideo, suffix: str) -> None:
    frames = list(read_frames(make_video("late" + suffix, [t + 3 for t in STEADY_S])))
    assert frames[0].time_s == 3.0
    assert len(frames) == 30


def test_frames_before_zero_keep_their_negative_time() -> None:
    assert next_time(-0.5, None, 0.04) == -0.5
    assert next_time(-0.46, -0.5, 0.04) == -0.46


def test_a_frame_without_a_time_is_one_average_period_after_the_previous_frame(make_video: MakeVideo) -> None:
    """A raw H.264 stream has no timestamps."""
    path = make_video("bare.h264", STEADY_S)
    times_s = [f.time_s for f in read_frames(path)]
    assert len(times_s) == 30
    assert times_s[0] >= 0.0
    assert np.diff(times_s) == pytest.approx(1 / 25, abs=1e-6)


def test_times_never_decrease() -> None:
    assert next_time(1.0, 2.0, 0.04) == 2.0
    assert next_time(None, 2.0, 0.04) == 2.04
    assert next_time(None, None, 0.04) == 0.0


def test_reordered_frames_of_an_avi_get_their_times_in_order(make_video: MakeVideo) -> None:
    """AVI stores the times of B-frames in decoding order; plain PyAV returns 0.04, 0.16, 0.12, ..."""
    path = make_video("b_frames.avi", STEADY_S, options={})
    plain = plain_times(path)
    assert plain != sorted(plain), "the file no longer has unsorted times"
    frames = list(read_frames(path))
    assert [f.time_s for f in frames] == sorted(plain)
    assert grey_levels(frames) == pytest.approx([40 + 10 * (i % 10) for i in range(30)], abs=8)


def test_sorting_times_leaves_frames_without_time_in_place() -> None:
    assert list(_sorted_times(iter([("a", 0.2), ("b", None), ("c", 0.1)]))) == [
        ("a", 0.1),
        ("b", 0.2),
        ("c", None),
    ]


@pytest.mark.parametrize(
    ("name", "times_s", "kind"),
    [
        ("steady.mp4", STEADY_S, {}),
        ("uneven.mov", [0, 0.04, 0.5, 0.54, 3, 3.04, 10], {}),
        ("late.mp4", [t + 3 for t in STEADY_S], {}),
        ("late_sound.mp4", [t + 0.5 for t in STEADY_S], {"sound": tone(2, 16_000)}),
        ("b_frames.avi", STEADY_S, {}),
        ("plain.avi", STEADY_S, {"codec": "mpeg4"}),
        ("altref.webm", STEADY_S, {"codec": "libvpx"}),
        ("bare.h264", STEADY_S, {}),
    ],
)
def test_frame_times_equal_the_times_of_read_frames(
    make_video: MakeVideo, name: str, times_s: list[float], kind: dict[str, object]
) -> None:
    """frame_times reads packets if their times are reliable; read_frames is the reference."""
    path = make_video(name, times_s, **kind)
    assert frame_times(path).tolist() == [frame.time_s for frame in read_frames(path)]


def test_the_times_of_a_cut_off_file_are_refused(make_video: MakeVideo) -> None:
    path = make_video("cut.mp4", STEADY_S, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MediaError, match="cut off"):
        frame_times(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("turn_deg", [90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_are_rotated_upright(
    make_video: MakeVideo, suffix: str, turn_deg: int, mirrored: bool
) -> None:
    path = make_video(
        "turned" + suffix, STEADY_S[:3], codec="libx264", rotation_deg=turn_deg, mirrored=mirrored
    )
    upright = frame_picture(0, 64, 48)
    # A positive angle is counterclockwise; mirroring is applied after the rotation.
    upright = np.rot90(upright, turn_deg // 90)
    upright = upright[:, ::-1] if mirrored else upright
    frame = next(read_frames(path))
    assert frame.image.shape == upright.shape
    assert np.abs(frame.image.astype(int) - upright).mean() < 6
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]


def test_probe_returns_size_duration_rate_and_audio(make_video: MakeVideo) -> None:
    info = probe(make_video("a.mp4", STEADY_S, sound=tone(1.2, 16_000)))
    assert (info.width, info.height, info.frames, info.has_audio) == (64, 48, 30, True)
    assert info.duration_s == pytest.approx(1.2, abs=0.05)
    assert info.rate_hz == pytest.approx(25)
    webm = probe(make_video("a.webm", STEADY_S, codec="libvpx"))
    assert (webm.frames, webm.has_audio) == (30, False)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".bmp", ".webp"])
def test_a_picture_is_one_frame_at_time_zero(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"Gesicht_ü_顔{suffix}"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0] = 200  # red
    path.write_bytes(cv2.imencode(suffix.lower(), picture[..., ::-1])[1].tobytes())
    (frame,) = read_frames(path)
    assert (frame.index, frame.time_s, frame.image.shape) == (0, 0.0, (48, 64, 3))
    assert frame.image[20, 20] == pytest.approx([200, 0, 0], abs=8)
    info = probe(path)
    assert (info.width, info.height, info.frames, info.has_audio) == (64, 48, 1, False)


def test_grey_deep_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    kinds = {"grey": ((48, 64), np.uint8), "deep": ((48, 64, 3), np.uint16), "clear": ((48, 64, 4), np.uint8)}
    for name, (shape, depth) in kinds.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(cv2.imencode(".png", np.full(shape, np.iinfo(depth).max // 2, depth))[1].tobytes())
        (frame,) = read_frames(path)
        assert (frame.image.shape, frame.image.dtype) == ((48, 64, 3), np.uint8)
        assert frame.image[0, 0, 0] == 127


def test_a_photo_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    """Phones store portraits rotated by 90 degrees; a rotated face is not detected."""
    jpeg = cv2.imencode(".jpg", frame_picture(0, 64, 48))[1].tobytes()
    orientation = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + orientation
    path = tmp_path / "portrait.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    (frame,) = read_frames(path)
    upright = np.rot90(frame_picture(0, 64, 48), -1)
    assert frame.image.shape == upright.shape
    assert np.abs(frame.image.astype(int) - upright).mean() < 6


def test_a_folder_of_numbered_pictures_is_a_video_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        size = (64, 48) if number < 10 else (32, 24)
        picture = np.full((*size[::-1], 3), 10 * number, np.uint8)
        (tmp_path / f"img{number}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    (tmp_path / "cover.png").write_bytes(b"not a numbered picture, so not read")
    (tmp_path / ".5.png").write_bytes(b"hidden")
    frames = list(read_frames(tmp_path, folder_rate_hz=4))
    assert [f.time_s for f in frames] == [0, 0.25, 0.5, 0.75]
    assert [int(f.image[0, 0, 0]) for f in frames] == [10, 20, 90, 100]
    assert frames[-1].image.shape == (24, 32, 3)
    info = probe(tmp_path, folder_rate_hz=4)
    assert (info.width, info.height, info.frames, info.duration_s, info.rate_hz) == (64, 48, 4, 1.0, 4)


def test_a_folder_without_numbered_pictures_or_without_a_valid_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no numbered pictures"):
        list(read_frames(tmp_path, folder_rate_hz=25))
    for rate_hz in (0, -1, float("nan")):
        with pytest.raises(MediaError, match="is not a frame rate"):
            list(read_frames(tmp_path, folder_rate_hz=rate_hz))
    with pytest.raises(MediaError, match="is a folder"):
        list(read_frames(tmp_path))


def test_a_rate_for_folders_does_not_change_other_inputs(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", STEADY_S)
    assert [f.time_s for f in read_frames(path, folder_rate_hz=1)] == plain_times(path)


@pytest.mark.parametrize("name", ["10:30.mp4", "name with  spaces %03d.mp4", "Gesprächsaufnahme_对话.mp4"])
def test_unusual_file_names_are_opened(make_video: MakeVideo, name: str, tmp_path: Path, monkeypatch) -> None:
    """FFmpeg reads `10:30.mp4` as the address of a server."""
    make_video(name, STEADY_S[:2])
    monkeypatch.chdir(tmp_path)
    assert len(list(read_frames(name))) == 2


def test_reading_may_stop_early_and_closes_the_file(make_video: MakeVideo) -> None:
    frames = read_frames(make_video("a.mp4", STEADY_S))
    assert next(frames).index == 0
    frames.close()


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are missing")
@pytest.mark.parametrize("name", ["no_face.mp4", "face_noface.mov", "vr_1.mp4", "talk_c.mp4"])
def test_real_clips_raise_no_false_error(name: str) -> None:
    """The clips have edit lists, variable frame rates and wrong frame counts in their headers."""
    assert [f.time_s for f in read_frames(CLIPS / name)] == plain_times(CLIPS / name)
    assert frame_times(CLIPS / name).tolist() == plain_times(CLIPS / name)
