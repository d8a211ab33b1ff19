"""Audio at 16 kHz on the clock of the frames: starts, gaps, overlaps, mixing, lengths.

Voice activity detection separates speech from other sounds, independent of the chunk sizes.
"""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.core.errors import MediaError
from auscan.media import audio as audio_module
from auscan.media.audio import (
    SILENCE_DB,
    STEP,
    STEP_S,
    VoiceActivityDetector,
    Waveform,
    _fill_short_gaps,
    _make_contiguous,
    read_waveform,
)
from auscan.media.stream import read_stream

from .conftest import tone

MakeVideo = Callable[..., Path]
STEADY_S = [i / 25 for i in range(50)]
MS = SAMPLE_RATE_HZ // 1000


def read_all(path: Path, chunk_s: float = 30.0) -> Waveform:
    """Join all chunks, after a check that they are contiguous."""
    chunks = read_waveform(path, chunk_s)
    assert chunks is not None
    parts = list(chunks)
    ends_s = [p.start_s + len(p.samples) / SAMPLE_RATE_HZ for p in parts]
    assert [p.start_s for p in parts[1:]] == pytest.approx(ends_s[:-1], abs=1e-6)
    return Waveform(np.concatenate([p.samples for p in parts]), parts[0].start_s)


def sine_at(waveform: Waveform, start_s: float, stop_s: float, pitch_hz: float = 440.0) -> float:
    """Return the largest deviation from the test tone between two times of the container's clock."""
    time_s = waveform.start_s + np.arange(len(waveform.samples)) / SAMPLE_RATE_HZ
    inside = (time_s > start_s) & (time_s < stop_s)
    return float(np.abs(waveform.samples - 0.5 * np.sin(2 * np.pi * pitch_hz * time_s))[inside].max())


def lag_s(waveform: Waveform, pitch_hz: float = 440.0) -> float:
    """Return the delay of the test tone, from its phase; codecs add noise but do not change the phase."""
    time_s = waveform.start_s + np.arange(len(waveform.samples)) / SAMPLE_RATE_HZ
    inside = (time_s > 0.2) & (time_s < 1.8)
    correlation = np.sum(waveform.samples[inside] * np.exp(-2j * np.pi * pitch_hz * time_s[inside]))
    return float(-(np.angle(correlation) + np.pi / 2) / (2 * np.pi * pitch_hz))


def test_stereo_at_44100_becomes_mono_at_16000_of_the_same_length_and_level(make_video: MakeVideo) -> None:
    path = make_video(
        "a.mkv", STEADY_S, sound=tone(2, 44_100, 2), sound_rate_hz=44_100, sound_codec="pcm_s16le"
    )
    waveform = read_all(path)
    assert waveform.samples.dtype == np.float32
    assert waveform.samples.ndim == 1
    assert len(waveform.samples) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=MS)
    assert sine_at(waveform, 0.01, 1.99) < 0.01


def test_two_channels_become_their_mean(make_video: MakeVideo) -> None:
    sound = tone(1, 48_000, 2)
    sound[1] *= -1
    waveform = read_all(make_video("a.mkv", sound=sound, sound_rate_hz=48_000, sound_codec="pcm_s16le"))
    assert np.abs(waveform.samples).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.mp4", "aac", {}),
        ("a.mov", "pcm_s16le", {}),
        ("a.avi", "pcm_s16le", {"codec": "mpeg4"}),
        ("a.webm", "libopus", {"codec": "libvpx"}),
        ("a.mkv", "libmp3lame", {}),
    ],
)
def test_every_container_keeps_the_tone_on_the_clock(
    make_video: MakeVideo, name: str, codec: str, kind: dict[str, str]
) -> None:
    path = make_video(name, STEADY_S, sound=tone(2, 48_000), sound_rate_hz=48_000, sound_codec=codec, **kind)
    waveform = read_all(path)
    end_s = waveform.start_s + len(waveform.samples) / SAMPLE_RATE_HZ
    assert 2.0 - 0.001 <= end_s <= 2.0 + 0.06, "codecs may pad their last block"
    assert abs(lag_s(waveform)) < 1e-4


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "pcm_s16le"), (".mp4", "aac")])
def test_sound_that_starts_late_stays_late(make_video: MakeVideo, suffix: str, codec: str) -> None:
    path = make_video("late" + suffix, STEADY_S, sound=tone(1, 16_000), sound_codec=codec, sound_start_s=0.75)
    waveform = read_all(path)
    onset_s = waveform.start_s + int(np.argmax(np.abs(waveform.samples) > 0.1)) / SAMPLE_RATE_HZ
    assert onset_s == pytest.approx(0.75, abs=0.003)


def test_a_gap_in_the_timestamps_is_filled_with_zeros(make_video: MakeVideo) -> None:
    path = make_video(
        "gap.mkv", STEADY_S, sound=tone(2, 16_000), sound_codec="pcm_s16le", sound_gap=(1.024, 0.5)
    )
    waveform = read_all(path)
    assert len(waveform.samples) == pytest.approx(2.5 * SAMPLE_RATE_HZ, abs=MS)
    gap = waveform.samples[round(1.03 * SAMPLE_RATE_HZ) : round(1.52 * SAMPLE_RATE_HZ)]
    assert not gap.any()
    after = Waveform(waveform.samples, waveform.start_s - 0.5)
    assert sine_at(after, 1.03, 1.99) < 0.01


def test_overlapping_sound_is_dropped(make_video: MakeVideo) -> None:
    path = make_video(
        "over.mkv", STEADY_S, sound=tone(2, 16_000), sound_codec="pcm_s16le", sound_gap=(1.024, -0.05)
    )
    waveform = read_all(path)
    assert len(waveform.samples) == pytest.approx(1.95 * SAMPLE_RATE_HZ, abs=MS)
    assert sine_at(waveform, 0.01, 1.02) < 0.01
    after = Waveform(waveform.samples, waveform.start_s + 0.05)
    assert sine_at(after, 1.09, 1.99) < 0.01


def test_rounded_timestamps_are_not_gaps(make_video: MakeVideo) -> None:
    """Matroska rounds to milliseconds; zeros between blocks would click 40 times a second."""
    path = make_video("a.mkv", STEADY_S, sound=tone(2, 44_100), sound_rate_hz=44_100, sound_codec="pcm_s16le")
    assert sine_at(read_all(path), 0.01, 1.99) < 0.01


def test_a_long_gap_is_filled_in_small_pieces() -> None:
    """A broken timestamp must not allocate the memory of a day of silence."""
    one_s: NDArray[np.float32] = np.ones(SAMPLE_RATE_HZ, np.float32)
    pieces = list(_make_contiguous(iter([(1.0, one_s), (None, one_s), (100.0, one_s)])))
    assert max(len(samples) for _, samples in pieces) == SAMPLE_RATE_HZ
    assert sum(len(samples) for _, samples in pieces) == 100 * SAMPLE_RATE_HZ
    assert {start_s for start_s, _ in pieces} == {1.0}


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_samples_that_are_not_finite_or_far_too_loud_change_no_other_samples(
    make_video: MakeVideo, suffix: str
) -> None:
    """One of them could otherwise make all outputs of the clip NaN, through the temporal state."""
    sound = tone(2, 16_000)
    clean = read_all(make_video(f"clean{suffix}", STEADY_S, sound=sound, sound_codec="pcm_f32le")).samples
    sound[0, [5000, 9000, 9001, 20_000]] = np.nan, np.inf, -np.inf, 3e38
    samples = read_all(make_video(f"bad{suffix}", STEADY_S, sound=sound, sound_codec="pcm_f32le")).samples
    assert np.isfinite(samples).all()
    assert np.flatnonzero(samples != clean).tolist() == [5000, 9000, 9001, 20_000]
    assert samples[[5000, 9000, 9001, 20_000]].tolist() == [0, 10, -10, 10]


def test_an_implausibly_long_gap_is_a_broken_timestamp(make_video: MakeVideo) -> None:
    """A flipped bit in a clip of two seconds must not cause years of processing."""
    path = make_video(
        "a.mkv", STEADY_S, sound=tone(2, 16_000), sound_codec="pcm_s16le", sound_gap=(1.024, 50_000)
    )
    for read in (read_waveform, lambda path: read_stream(str(path))):
        with pytest.raises(MediaError, match=r"a gap of 13\.9 h at 1\.0. s"):
            for _ in read(path) or []:
                pass


def test_the_lengths_of_gaps_are_added(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong rate in a header puts hours between all packets; each alone could be a valid gap."""
    monkeypatch.setattr("auscan.media.audio.LONGEST_PAUSE_S", 3000)
    path = make_video("a.avi", STEADY_S, codec="mpeg4", sound=tone(2, 16_000), sound_codec="mp3")
    data = bytearray(path.read_bytes())
    for stream in (b"vids", b"auds"):
        struct.pack_into("<II", data, data.index(stream) + 20, 1000, 1)  # seconds per frame, and per packet
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a gap of 0\.[23] h"):
        list(read_waveform(path) or [])


def test_audio_may_continue_after_a_gap_but_not_long_after_the_last_frame(make_video: MakeVideo) -> None:
    """A video of ten hours may have nine hours of silence; a clip of two seconds has no hour of silence."""
    long_s = [3600.0 * hour for hour in range(11)]
    for name, times_s, pause_s in (("a.mp4", long_s, 36_000 - 5), ("b.mp4", STEADY_S, 50)):
        chunks = read_waveform(make_video(name, times_s, sound=tone(2, 16_000), sound_gap=(1.024, pause_s)))
        assert chunks is not None
        assert next(iter(chunks)).start_s == 0
        assert sum(len(chunk.samples) for chunk in chunks) > (pause_s - 30) * SAMPLE_RATE_HZ
    path = make_video("c.mp4", STEADY_S, sound=tone(2, 16_000), sound_gap=(1.024, 3600))
    with pytest.raises(MediaError, match=r"a gap of 1\.0 h at 1\.0. s"):
        list(read_waveform(path) or [])


def test_a_very_low_sample_rate_is_a_broken_header(make_video: MakeVideo) -> None:
    path = make_video("a.mov", STEADY_S, sound=tone(1, 16_000), sound_codec="pcm_s16le")
    data = bytearray(path.read_bytes())
    # The sample description: its rate is a fixed-point number with 16 bits before the point.
    offset = data.index(b"sowt", data.index(b"stsd")) + 28
    assert data[offset : offset + 4] == (16_000 << 16).to_bytes(4, "big")
    data[offset : offset + 4] = (3 << 16).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(MediaError, match="a sample rate of 3 Hz"):
        list(read_waveform(path) or [])


@pytest.mark.parametrize("chunk_s", [0.1, 0.333, 2.0, 30.0])
def test_the_audio_does_not_depend_on_the_chunk_length(make_video: MakeVideo, chunk_s: float) -> None:
    path = make_video("a.mp4", STEADY_S, sound=tone(2, 44_100, 2), sound_rate_hz=44_100)
    chunks = read_waveform(path, chunk_s)
    assert chunks is not None
    sizes = [len(c.samples) for c in chunks]
    assert set(sizes[:-1]) <= {round(chunk_s * SAMPLE_RATE_HZ)}
    assert np.array_equal(read_all(path, chunk_s).samples, read_all(path).samples)


def test_videos_without_audio_pictures_and_folders_return_none(make_video: MakeVideo, tmp_path: Path) -> None:
    assert read_waveform(make_video("mute.mp4", STEADY_S)) is None
    assert read_waveform(tmp_path) is None
    assert read_waveform(tmp_path / "face.jpg") is None


def test_sound_without_pictures_can_still_be_read(make_video: MakeVideo) -> None:
    assert len(read_all(make_video("talk.m4a", sound=tone(1, 16_000))).samples) >= SAMPLE_RATE_HZ


def test_a_missing_file_is_an_error_and_not_silence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        read_waveform(tmp_path / "nowhere.mp4")


RATE_HZ = 16_000
Sound = NDArray[np.float32]


def detect_speech(
    sound: Sound, sizes: list[int] | None = None, start_s: float = 0.0
) -> tuple[Sound, NDArray[np.bool_]]:
    """Push the audio in pieces of these sizes, and the rest as one piece."""
    activity, at = VoiceActivityDetector(), 0
    for size in [*(sizes or []), len(sound)]:
        piece = sound[at : at + size]
        if len(piece):
            activity.push(Waveform(piece, at / RATE_HZ))
        at += len(piece)
    return activity.finish()


def harmonic_tone(seconds: float, hertz: float = 180.0, level: float = 0.1) -> Sound:
    at_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * sum(np.sin(2 * np.pi * hertz * k * at_s) / k for k in range(1, 9))).astype(np.float32)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Sound:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ)).astype(np.float32)


def synthetic_speech(seconds: float, seed: int = 0) -> Sound:
    """Return syllables of 0.12 s with gaps of 0.08 s: a gliding pitch filtered by two random formants."""
    rng = np.random.default_rng(seed)
    count, at_s = round(0.12 * RATE_HZ), np.arange(round(0.12 * RATE_HZ)) / RATE_HZ
    pieces = []
    for _ in range(round(seconds / 0.2)):
        pitch = rng.uniform(100, 140) + rng.uniform(-80, 80) * at_s
        phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
        formants = rng.uniform(300, 900), rng.uniform(1000, 3000)
        wave = np.zeros(count)
        for k in range(1, 30):
            gain = sum(np.exp(-(((k * 120 - formant) / 150) ** 2)) for formant in formants)
            wave += (gain + 0.01) * np.sin(k * phase)
        pieces += [0.1 * wave * np.sin(np.pi * at_s / 0.12), np.zeros(round(0.08 * RATE_HZ))]
    return np.concatenate(pieces).astype(np.float32)


def test_speech_in_a_quiet_room_is_found_at_its_time() -> None:
    sound = np.concatenate([np.zeros(2 * RATE_HZ), synthetic_speech(3), np.zeros(2 * RATE_HZ)]).astype(
        np.float32
    )
    _, speech = detect_speech(sound + noise(7, 0.001))
    at_s = (np.arange(len(speech)) + 0.5) * STEP_S
    is_speech = (at_s > 2) & (at_s < 5)
    assert speech[is_speech].mean() > 0.85
    assert speech[(at_s < 1.7) | (at_s > 5.3)].mean() == 0


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(3 * RATE_HZ, np.float32),
        noise(3),
        harmonic_tone(3),
        np.concatenate([noise(2, 0.001), noise(1), harmonic_tone(2)]),
    ],
    ids=["silence", "noise", "hum", "quiet noise, loud noise, then hum"],
)
def test_silence_noise_and_hum_are_not_speech(sound: Sound) -> None:
    assert not detect_speech(sound)[1].any()


@settings(max_examples=20)
@given(st.lists(st.integers(1, 20_000), max_size=6), st.integers(0, 40_000))
def test_the_result_does_not_depend_on_the_chunk_sizes(sizes: list[int], length: int) -> None:
    sound = np.concatenate([synthetic_speech(1.5), noise(1, 0.01)])[:length]
    for in_chunks, at_once in zip(detect_speech(sound, sizes), detect_speech(sound), strict=True):
        np.testing.assert_allclose(in_chunks, at_once, atol=1e-4)
    assert len(detect_speech(sound)[0]) == (length + STEP // 2) // STEP


def test_levels_are_in_decibels_of_full_scale() -> None:
    at_s = np.arange(RATE_HZ) / RATE_HZ
    level, _ = detect_speech(np.sin(2 * np.pi * 500 * at_s).astype(np.float32))
    assert level == pytest.approx(np.full(50, -3.01), abs=0.02)
    assert detect_speech(np.zeros(STEP, np.float32))[0].tolist() == [SILENCE_DB]


def test_chunks_are_passed_on_and_the_start_is_that_of_the_first() -> None:
    detector = VoiceActivityDetector()
    chunks = [
        Waveform(np.zeros(500, np.float32), 1.5),
        Waveform(np.zeros(300, np.float32), 1.5 + 500 / RATE_HZ),
    ]
    assert list(detector.observe(chunks)) == chunks
    assert detector.start_s == 1.5
    assert [len(each) for each in detector.finish()] == [3, 3]


def test_silence_is_not_analyzed_and_gets_the_values_of_the_analysis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten hours of zeros must cost less than ten hours of speech."""
    sound = np.concatenate(
        [synthetic_speech(2), np.zeros(60 * RATE_HZ, np.float32), synthetic_speech(2, seed=1)]
    )
    analyzed, analyze = [], audio_module._analyze

    def count(windows: Sound) -> tuple[NDArray[np.float64], Sound]:
        analyzed.append(len(windows))
        return analyze(windows)

    monkeypatch.setattr(audio_module, "_analyze", count)
    detect_speech(sound)
    assert 2 / STEP_S < sum(analyzed) <= 4 / STEP_S + 4
    sums, shapes = analyze(np.zeros((3, 640), np.float32))
    assert (sums == [SILENCE_DB, SILENCE_DB, 0]).all()
    assert (shapes == 0).all()


def test_empty_audio_has_no_steps() -> None:
    assert [len(each) for each in VoiceActivityDetector().finish()] == [0, 0]


@pytest.mark.parametrize(
    ("on", "expected"),
    [("1001", "1111"), ("10001", "10001"), ("0100", "0100"), ("", ""), ("101001", "111111")],
)
def test_short_gaps_are_filled_but_not_the_ends(on: str, expected: str) -> None:
    filled = _fill_short_gaps(np.array([c == "1" for c in on], bool), 3)
    assert "".join("01"[int(x)] for x in filled) == expected
