"""Clocks that step: joined recordings, resets, outliers; picture and sound go on together."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform, read_waveform
from auscan.media.clock import ClockLog, repair_clock
from auscan.media.recording import FileRecording
from auscan.media.stream import read_stream
from auscan.media.video import Frame, frame_times, read_frames

from .conftest import tone, write_video_file

FRAMES_S = [index / 25 for index in range(50)]

JoinParts = Callable[..., Path]


@pytest.fixture
def join_parts(tmp_path: Path) -> JoinParts:
    """Join videos of 2 s byte by byte: join_parts(name, starts_s, rates_hz) -> path."""

    def join(name: str, starts_s: Iterable[float], rates_hz: Iterable[int] = (48_000, 48_000)) -> Path:
        path, joined = tmp_path / name, b""
        for start_s, rate_hz in zip(starts_s, rates_hz, strict=True):
            part = write_video_file(
                tmp_path / f"part{path.suffix}",
                FRAMES_S,
                sound=tone(2, rate_hz) if rate_hz else None,
                sound_rate_hz=rate_hz,
                options={"output_ts_offset": str(start_s)},
            )
            joined += part.read_bytes()
        path.write_bytes(joined)
        return path

    return join


def waveform(path: Path) -> Waveform:
    chunks = list(read_waveform(path) or ())
    return Waveform(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].start_s)


@pytest.mark.parametrize(
    ("suffix", "first_s", "second_s"),
    [
        *(
            (".ts", 0.0, 0.0),
            (".ts", 0.0, 1.5),
            (".ts", 10.0, 8.0),
            (".ts", 100.0, 0.0),
            (".ts", 36_000.0, 0),
        ),
        *((".mkv", 0.0, 0.0), (".mkv", 0.0, 1.5), (".mkv", 36_000.0, 0.0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("sound_hz", [0, 48_000], ids=["mute", "sound"])
def test_a_recording_goes_on_after_its_clock_stepped_back(
    join_parts: JoinParts, suffix: str, first_s: float, second_s: float, sound_hz: int
) -> None:
    """The rest was frozen at one time, and its sound was dropped."""
    path = join_parts(f"joined{suffix}", (first_s, second_s), (sound_hz, sound_hz))
    log = ClockLog()
    times_s = [frame.time_s for frame in read_frames(path, log=log)]
    assert len(times_s) == 100
    assert np.diff(times_s) == pytest.approx(0.04, abs=1e-6)
    ((at_s, back_s),) = log.steps
    assert at_s == pytest.approx(times_s[50], abs=1e-6)
    assert back_s == pytest.approx(times_s[50] - (second_s + times_s[0] - first_s), abs=0.1)
    (warning,) = log.warnings(path.name)
    assert f"steps back by {back_s:.2f} s" in warning
    if sound_hz:
        sound = waveform(path)
        assert sound.start_s == pytest.approx(times_s[0], abs=0.1)
        assert len(sound.samples) == pytest.approx(4 * SAMPLE_RATE_HZ, abs=0.1 * SAMPLE_RATE_HZ)
        blocks = sound.samples[: len(sound.samples) // 1600 * 1600].reshape(-1, 1600)[1:-1]
        assert np.sqrt((blocks**2).mean(axis=1)).min() > 0.2, "a part of the sound is missing"


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_picture_and_sound_get_the_same_offset_in_every_reader(join_parts: JoinParts, suffix: str) -> None:
    path = join_parts(f"joined{suffix}", (0.0, 0.7))
    live = list(read_stream(str(path), log := ClockLog()))
    frames = [item for item in live if isinstance(item, Frame)]
    pieces = [item for item in live if isinstance(item, Waveform)]
    whole = waveform(path)
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in read_frames(path)]
    assert frame_times(path).tolist() == [frame.time_s for frame in frames]
    assert len(log.steps) == 1
    assert pieces[-1].start_s + len(pieces[-1].samples) / SAMPLE_RATE_HZ == pytest.approx(
        whole.start_s + len(whole.samples) / SAMPLE_RATE_HZ, abs=0.01
    )


def test_a_clock_that_steps_back_many_times_is_one_warning(join_parts: JoinParts) -> None:
    path = join_parts("dvr.ts", (5.0, 4.0, 3.0, 0.0), (0, 0, 0, 0))
    recording = FileRecording(path)
    times_s = [frame.time_s for frame in recording.frames()]
    assert np.diff(times_s) == pytest.approx(0.04, abs=1e-6)
    (warning,) = recording.warnings()
    assert "and at 2 more places" in warning
    list(recording.frames())
    assert recording.warnings() == (warning,), "reading again must not count the steps again"


def test_a_file_without_steps_has_no_warnings(join_parts: JoinParts) -> None:
    recording = FileRecording(join_parts("one.ts", (3.0,), (48_000,)))
    assert len(list(recording.frames())) == 50
    assert recording.warnings() == ()


def test_sound_whose_sample_rate_changes_in_the_middle_has_no_holes(join_parts: JoinParts) -> None:
    """FFmpeg computes most times of MPEG audio packets from the rate at the start of the file."""
    path = join_parts("rates.ts", (0.0, 10.0), (16_000, 44_100))
    samples = waveform(path).samples[round(10.1 * SAMPLE_RATE_HZ) :]
    blocks = samples[: len(samples) // 320 * 320].reshape(-1, 320)[:-5]
    assert len(blocks) == pytest.approx(1.9 * 50, abs=6)
    assert np.sqrt((blocks**2).mean(axis=1)).min() > 0.2


class FakeContainer:
    """Streams of packets with times in milliseconds."""

    def __init__(self, kind: str) -> None:
        self.format = SimpleNamespace(name=kind)
        self.streams = [
            SimpleNamespace(index=index, type=type_, container=self, time_base=Fraction(1, 1000))
            for index, type_ in enumerate(("video", "audio"))
        ]

    def packets(self, times_ms: Iterable[tuple[int, int]]) -> Iterator[Any]:
        """Return packets of 40 ms; times_ms: index of the stream and time of each packet."""
        for index, time_ms in times_ms:
            yield SimpleNamespace(
                **{"stream": self.streams[index], "pts": time_ms, "dts": time_ms, "duration": 40},
                **{"size": 1, "pos": 0, "is_discard": False, "is_keyframe": True},
            )


def repaired_ms(
    times_ms: list[tuple[int, int]], kind: str = "mpegts"
) -> tuple[list[tuple[int, Any]], ClockLog]:
    log = ClockLog()
    packets = repair_clock(FakeContainer(kind).packets(times_ms), log)
    return [(packet.stream.index, packet.pts) for packet in packets], log


def both(times_ms: Iterable[int]) -> list[tuple[int, int]]:
    """Return packets of video and audio at the same times, in turn."""
    return [(index, time_ms) for time_ms in times_ms for index in (0, 1)]


def collect(packets: Iterable[Any], received: list[Any]) -> None:
    for packet in packets:
        received.append(packet)


STEADY_MS = range(0, 2000, 40)


def test_packets_of_the_first_part_that_follow_a_step_stay_in_it() -> None:
    """Packets of audio wait for each other in MPEG streams, so the last ones follow the next part's video."""
    first = [*both(STEADY_MS), (0, 2000), (0, 2040)]
    late = [(1, 2000), (1, 2040)]
    second = [(0, 40 * i) for i in range(3)] + late + [(1, 0), (1, 40), (1, 80)] + both(range(120, 1000, 40))
    times, log = repaired_ms(first + second)
    for stream in (0, 1):
        assert [ms for index, ms in times if index == stream] == list(range(0, 3080, 40))
    assert log.steps == [pytest.approx((2.08, 2.08))]


def test_sound_that_starts_late_in_the_second_part_gets_the_offset_of_its_picture() -> None:
    """It does not step itself: its times are those that it had reached in the first part."""
    second = [(0, ms) for ms in range(0, 5000, 40)] + both(range(5000, 6000, 40))
    times, log = repaired_ms(both(STEADY_MS) + second)
    assert [ms for index, ms in times if index == 1] == [*STEADY_MS, *range(7000, 8000, 40)]
    assert [ms for index, ms in times if index == 0] == list(range(0, 8000, 40))
    assert len(log.steps) == 1


@pytest.mark.parametrize("packets", [2, 5, 12, 25])
def test_parts_may_be_shorter_than_what_is_read_ahead(packets: int) -> None:
    """The start of a part must not be taken from the part after it."""
    parts_ms = [[start_ms + 40 * i for i in range(packets)] for start_ms in (9000, 8000, 7900, 20, 0)]
    first = both(range(8000, 9000, 40))
    times, log = repaired_ms(first + [each for part_ms in parts_ms for each in both(part_ms)])
    for stream in (0, 1):
        times_ms = [ms for index, ms in times if index == stream]
        assert np.diff(times_ms).tolist() == [40] * (24 + 5 * packets)
    assert len(log.steps) == 4


def test_sound_that_lags_by_two_parts_gets_the_offset_of_each() -> None:
    video = [[(0, 40 * i) for i in range(12)] for _ in range(4)]
    sound = [[(1, 40 * i) for i in range(12)] for _ in range(4)]
    times, log = repaired_ms(
        both(STEADY_MS)
        + video[0]
        + video[1]
        + sound[0]
        + video[2]
        + sound[1]
        + video[3]
        + sound[2]
        + sound[3]
    )
    for stream in (0, 1):
        assert [ms for index, ms in times if index == stream] == list(range(0, 2000 + 48 * 40, 40))
    assert len(log.steps) == 4


def test_a_stream_that_steps_back_alone_is_shifted_alone() -> None:
    second = [each for ms in range(2000, 4000, 40) for each in ((0, ms - 1000), (1, ms))]
    times, _ = repaired_ms(both(STEADY_MS) + second)
    for stream in (0, 1):
        assert [ms for index, ms in times if index == stream] == list(range(0, 4000, 40))


@pytest.mark.parametrize("wild_ms", [20, 500_000, 900_000_000])
def test_one_packet_with_a_wild_time_does_not_move_the_others(wild_ms: int) -> None:
    times_ms = both(range(0, 4000, 40))
    times_ms[50] = (0, wild_ms)
    times, log = repaired_ms(times_ms)
    assert times == [
        (index, None if i == 50 else ms) for i, (index, ms) in enumerate(both(range(0, 4000, 40)))
    ]
    assert log.outliers == [pytest.approx(1.0)]
    assert "1 packet has a wild time" in log.warnings("a.ts")[0]
    assert not log.steps


def test_jitter_and_pauses_are_left_as_they_are() -> None:
    times_ms = both([0, 40, 79, 78, 120, 160, 97_000, 97_040, 5_000_000])
    times, log = repaired_ms(times_ms)
    assert times == times_ms
    assert log == ClockLog()


def test_an_error_while_reading_ahead_comes_after_the_packets_before_it() -> None:
    def breaking() -> Iterator[Any]:
        yield from FakeContainer("mpegts").packets([*both(STEADY_MS), *both(range(0, 200, 40))])
        raise OSError("no more")

    received: list[Any] = []
    with pytest.raises(OSError, match="no more"):
        collect(repair_clock(breaking()), received)
    assert len(received) == 110
