"""Unreadable files cause a one-line error with the file, the problem and what to do; no other output."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from auscan.core.errors import MediaError
from auscan.media.audio import read_waveform
from auscan.media.container import is_truncated
from auscan.media.video import probe, read_frames

from .conftest import tone

MakeVideo = Callable[..., Path]
TIMES_S = [i / 25 for i in range(100)]
KINDS = {
    "fast.mp4": {"options": {"movflags": "faststart"}},
    "fast.mov": {"options": {"movflags": "faststart"}},
    "pieces.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx", "sound_codec": "libopus"},
    "a.avi": {"codec": "mpeg4", "sound_codec": "pcm_s16le"},
}


def error_message(path: Path) -> str:
    """Return the error message of reading the frames; check that it is one line and names the file."""
    with pytest.raises(MediaError) as caught:
        list(read_frames(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def truncate(path: Path, share: float) -> Path:
    """Keep only the first `share` of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def corrupt_packet(path: Path, stream_type: str, number: int) -> Path:
    """Overwrite one packet of a stream with 0xFF."""
    with av.open(str(path)) as container:
        stream = container.streams.get({stream_type: 0})[0]
        packet = [p for p in container.demux(stream) if p.size][number]
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def test_a_text_file_named_mp4_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("The patient smiled twice.\n" * 50)
    assert "is not a video" in error_message(path)
    with pytest.raises(MediaError, match="is not a video"):
        probe(path)
    with pytest.raises(MediaError, match="is not a video"):
        read_waveform(path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 33\n",
    ],
    ids=["hls", "concat", "sdp"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_a_file_with_addresses_opens_no_connection(tmp_path: Path, text: str, suffix: str) -> None:
    """FFmpeg also reads playlists; a file must not make auscan open network connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        path = tmp_path / f"list{suffix}"
        path.write_text(text.format(port=server.getsockname()[1]))
        error_message(path)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_an_empty_file_is_reported_as_empty(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.png"):
        (tmp_path / name).touch()
        assert "is empty" in error_message(tmp_path / name)


def test_a_missing_path_is_reported_as_missing(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.png"):
        assert "does not exist" in error_message(tmp_path / name)


def test_a_path_too_long_for_any_disk_is_a_one_line_error(tmp_path: Path) -> None:
    assert "cannot be reached" in error_message(tmp_path / ("x" * 300 + ".mp4"))


def test_a_name_that_is_not_utf8_is_reported_with_escaped_bytes(make_video: MakeVideo) -> None:
    """Old archives contain names in Latin-1; UTF-8 files of results could not name the input."""
    path = make_video("a.mp4", TIMES_S[:2])
    path = path.rename(path.with_name(os.fsdecode(b"caf\xe9.mp4")))
    with pytest.raises(MediaError, match=r"caf\\xe9\.mp4 has a name that is not UTF-8. Rename it.") as caught:
        list(read_frames(path))
    assert str(caught.value).isascii()


def test_a_file_without_read_permission_is_reported(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video("a.mp4", TIMES_S[:2])
    monkeypatch.setattr("auscan.media.container.os.access", lambda *_: False)  # root may read everything
    assert "cannot be read (Permission denied)" in error_message(path)


def test_a_file_with_only_audio_has_its_own_error(make_video: MakeVideo) -> None:
    assert "has audio but no video stream" in error_message(make_video("talk.mp4", sound=tone(1, 16_000)))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_an_mp4_without_its_index_is_reported_as_cut_off(make_video: MakeVideo, share: float) -> None:
    """FFmpeg opens a file with a truncated index but finds no stream in it."""
    path = truncate(make_video("a.mp4", TIMES_S, sound=tone(4, 16_000)), share)
    assert "is cut off" in error_message(path)
    with pytest.raises(MediaError, match="is cut off"):
        read_waveform(path)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", KINDS)
def test_the_error_of_a_truncated_file_states_the_second(
    make_video: MakeVideo, name: str, share: float
) -> None:
    path = make_video(name, TIMES_S, **{"sound": tone(4, 48_000), "sound_rate_hz": 48_000, **KINDS[name]})
    assert not is_truncated(path)
    assert len(list(read_frames(path))) == 100
    assert len(list(read_waveform(path) or [])) == 1
    message = error_message(truncate(path, share))
    stop_s = float(message.split("stops at ")[1].split(" s")[0])
    assert "is cut off: its video" in message
    assert stop_s == pytest.approx(4 * share, abs=0.7)
    with pytest.raises(MediaError, match="is cut off: its audio stops at"):
        list(read_waveform(path) or [])


def test_the_frames_before_a_cut_are_still_delivered(make_video: MakeVideo) -> None:
    path = truncate(make_video("a.mp4", TIMES_S, options={"movflags": "faststart"}), 0.6)
    seen_s = []
    with pytest.raises(MediaError, match="is cut off"):  # noqa: PT012
        for frame in read_frames(path):
            seen_s.append(frame.time_s)
    assert len(seen_s) > 5
    assert seen_s == pytest.approx(TIMES_S[: len(seen_s)])


def test_a_file_that_ends_before_its_declared_duration_is_reported_as_cut_off(make_video: MakeVideo) -> None:
    """A recorder that lost power leaves a duration but no size in bytes: here the size is made unknown."""
    path = make_video("a.mkv", TIMES_S)
    data = bytearray(path.read_bytes())
    segment = data.index(b"\x18\x53\x80\x67") + 4
    data[segment : segment + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(data)
    assert len(list(read_frames(path))) == 100
    truncate(path, 0.5)
    assert not is_truncated(path)
    assert "is cut off" in error_message(path)


def test_bytes_appended_by_a_camera_are_not_a_truncation(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", TIMES_S)
    path.write_bytes(path.read_bytes() + b"CAMERA MODEL 7 trailer " * 20)
    assert not is_truncated(path)
    assert len(list(read_frames(path))) == 100


def test_the_error_of_a_damaged_video_states_the_second(make_video: MakeVideo) -> None:
    path = corrupt_packet(make_video("a.avi", TIMES_S, codec="mjpeg", pix_fmt="yuvj420p"), "video", 50)
    message = error_message(path)
    assert "its video cannot be decoded at 2." in message
    assert "Re-encode" in message


def test_sound_that_cannot_be_decoded_is_an_error(make_video: MakeVideo) -> None:
    path = corrupt_packet(make_video("a.mp4", TIMES_S, sound=tone(4, 16_000)), "audio", 20)
    assert len(list(read_frames(path))) == 100
    with pytest.raises(MediaError, match=r"its audio cannot be decoded at 1\."):
        list(read_waveform(path) or [])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    path = tmp_path / f"face{suffix}"
    path.write_bytes(cv2.imencode(suffix, noise)[1].tobytes())
    assert "cannot be read as a picture" in error_message(truncate(path, 0.6))
    path.write_text("not a picture")
    assert "cannot be read as a picture" in error_message(path)


def test_a_title_that_is_not_utf8_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "title.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "plain words"
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        container.mux([*stream.encode(frame), *stream.encode(None)])
    path.write_bytes(path.read_bytes().replace(b"plain words", b"plain w\xf6rds"))
    with pytest.raises(UnicodeDecodeError), av.open(str(path)):
        pass
    assert len(list(read_frames(path))) == 1


def test_ffmpeg_and_opencv_print_nothing(
    make_video: MakeVideo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = [
        make_video("a.mp4", TIMES_S, options={"movflags": "faststart"}, sound=tone(4, 16_000)),
        make_video("b.mp4", TIMES_S, sound=tone(4, 16_000)),
    ]
    picture = tmp_path / "face.png"
    picture.write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    capfd.readouterr()  # the encoders may print
    for path in [truncate(good[0], 0.5), truncate(good[1], 0.5), truncate(picture, 0.5)]:
        error_message(path)
    assert capfd.readouterr() == ("", "")
