"""Repair the clock of a container whose timestamps step: one offset for picture and sound together.

The clock of a file starts again in the middle if two recordings were joined byte by byte, or if a recorder
reset it. Then the recording goes on: the times of all streams after the step get one offset, so that the
first frame after it follows the last frame before it.

    step     the decoding times of a stream go back. In MPEG streams they may also jump ahead by more than
             `LONGEST_PAUSE_S`: FFmpeg adds 26.5 h, the range of their clock, to times before its start
    part     the packets after a step of all streams. Packets of the part before may follow in the file,
             because streams are interleaved; each packet belongs to the part that continues its stream
    offset   such that no stream overlaps its part before, but for `ALLOWED_OVERLAP_S` of the sound: audio
             encoders pad both ends. If the other streams go on without a step, only its own stream gets it
    outlier  a single packet with a wild time between two that fit; its time is removed

Shorter pauses stay pauses. Decisions depend only on the packets in the order of the file, so all readers of a
file agree on its clock.

Inputs: the packets of all video and audio streams. Returns: the packets with repaired times.
See also: container.py, stream.py (callers), results/table.py (how long frames last at a pause).
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

LONGEST_PAUSE_S: Final[float] = 12 * 3600.0
"""Longer gaps are broken timestamps. Sound filled with zeros would take hours or years to process."""

MIN_STEP_S: Final[float] = 0.02
"""Decoding times that go back by less are jitter."""

OUTLIER_S: Final[float] = 10.0
"""A time that jumps ahead by more is compared with the packet after it, which shows an outlier."""

ALLOWED_OVERLAP_S: Final[float] = 0.25
"""Sound that two parts may have at one time, in seconds; the later samples are dropped (audio.py)."""

INTERLEAVING_S: Final[float] = 1.0
"""Largest distance in time of packets that are neighbours in a file, in seconds."""

PART_PACKETS: Final[int] = 16
"""Packets of a stream that are read ahead to find the first time of a part: reordered frames are nearer."""
MAX_AHEAD: Final[int] = 256
"""Packets read ahead, at most, to find out which streams step."""

MPEG_CLOCK_S: Final[float] = 2**33 / 90_000
"""Range of the clock of MPEG streams, after which it starts again, in seconds."""


@dataclass
class ClockLog:
    """Repairs of the clock of one file."""

    steps: list[tuple[float, float]] = field(default_factory=list)
    """Repaired time of each step, and the seconds by which the clock went back there."""
    outliers: list[float] = field(default_factory=list)
    """Repaired time of the packet before each outlier, seconds."""
    late_frames: int = 0
    """Number of frames with a time before that of the previous frame; they got the time of that frame."""
    first_late_s: float = 0.0
    """Time of the first of these frames, seconds."""

    def add_late_frame(self, time_s: float) -> None:
        """Count a frame with a time before that of the previous frame, which is at `time_s`."""
        self.first_late_s = self.first_late_s if self.late_frames else time_s
        self.late_frames += 1

    def warnings(self, name: str) -> tuple[str, ...]:
        """Return one sentence for each kind of repair; `name` is that of the file."""
        sentences = []
        if self.steps:
            (at_s, back_s), more = self.steps[0], len(self.steps) - 1
            places = f"{at_s:.2f} s, and at {more} more places" if more else f"{at_s:.2f} s"
            sentences.append(
                f"{name}: the clock steps back by {back_s:.2f} s at {places}; the times after it were "
                "shifted, so that the recording goes on."
            )
        if self.outliers:
            packets = "1 packet has" if len(self.outliers) == 1 else f"{len(self.outliers)} packets have"
            sentences.append(
                f"{name}: {packets} a wild time, the first after {self.outliers[0]:.2f} s; their times were "
                "computed from the packets before them."
            )
        if self.late_frames:
            frames = "1 frame has" if self.late_frames == 1 else f"{self.late_frames} frames have"
            sentences.append(
                f"{name}: {frames} a time before that of the previous frame, the first at "
                f"{self.first_late_s:.2f} s; such a frame got the time of the previous frame."
            )
        return tuple(sentences)


def repair_clock(packets: Iterable[Any], log: ClockLog | None = None) -> Iterator[Any]:
    """Yield the packets of a container in their order, with repaired times; add the repairs to `log`."""
    return _PacketClock(packets, ClockLog() if log is None else log).repaired()


class _StreamClock:
    """Clock of one stream; times in seconds."""

    def __init__(self, stream: Any) -> None:
        name = stream.container.format.name
        self.is_video = stream.type == "video"
        self.is_mpeg = name in ("mpegts", "mpeg")
        """Whether FFmpeg computes times between those that are stored, and adds 26.5 h to early ones."""
        self.has_decoding_times = not (self.is_video and name.startswith("matroska"))
        """Whether the decoding times are stored. They grow from packet to packet."""
        self.part, self.offset_s = 0, 0.0
        """Number and offset of the part that the stream is in."""
        self.last_s: float | None = None
        """Stored time of the last packet of the part."""
        self.end_s, self.interval_s = -math.inf, 0.0
        """Repaired presentation time of the end of the last packet, and its duration."""
        self._tick_s = float(stream.time_base)

    def join(self, part: int, offset_s: float) -> None:
        """Go on with a new part, or with another offset."""
        self.part, self.offset_s, self.last_s = part, offset_s, None

    def order_s(self, packet: Any) -> float | None:
        """Return the stored time that grows from packet to packet; None if it is unknown.

        Without decoding times it is the presentation time. It also goes back for reordered frames, but never
        for keyframes.
        """
        timestamp = packet.dts if self.has_decoding_times else packet.pts
        return None if timestamp is None or packet.is_discard else timestamp * self._tick_s

    def shown_s(self, packet: Any) -> float:
        """Return the stored presentation time of a packet that has a time."""
        return float((packet.dts if packet.pts is None else packet.pts) * self._tick_s)

    def duration_s(self, packet: Any) -> float:
        """Return the duration of a packet; 0 if it is unknown."""
        return float((packet.duration or 0) * self._tick_s)

    def is_interpolated(self, packet: Any) -> bool:
        """Return whether FFmpeg computed the time of an audio packet from the one before.

        It assumes that the sample rate does not change, which joined recordings do not keep.
        """
        return self.is_mpeg and not self.is_video and packet.pos is None

    def steps(self, packet: Any, time_s: float, last_s: float) -> bool:
        """Return whether the clock steps between a packet at `last_s` and this packet at `time_s`."""
        if time_s < last_s - MIN_STEP_S:
            return bool(self.has_decoding_times or packet.is_keyframe)
        return self.is_mpeg and time_s > last_s + LONGEST_PAUSE_S

    def latest(self, time_s: float, last_s: float | None) -> float:
        """Return the time that the next packet is compared with after packets at `last_s` and `time_s`."""
        return time_s if last_s is None or self.has_decoding_times else max(time_s, last_s)

    def add(self, packet: Any, time_s: float | None) -> None:
        """Shift the times of the next packet of the stream, and keep them."""
        duration_s = self.duration_s(packet)
        if time_s is not None:
            if not duration_s and self.last_s is not None:
                duration_s = max(time_s - self.last_s, 0.0)
            self.last_s, self.interval_s = self.latest(time_s, self.last_s), duration_s
            self.end_s = max(self.end_s, self.shown_s(packet) + self.offset_s + duration_s)
        elif not packet.is_discard:
            self.end_s += duration_s
        if self.offset_s:
            shift = round(self.offset_s / self._tick_s)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift


class _PacketClock:
    """Repair of the packets of one container."""

    def __init__(self, packets: Iterable[Any], log: ClockLog) -> None:
        self._packets, self._log = _Lookahead(packets), log
        self._streams: dict[int, _StreamClock] = {}
        self._offsets_s = [0.0]  # offset of each part that all streams join

    def repaired(self) -> Iterator[Any]:
        """Yield the packets with repaired times."""
        while (packet := self._packets.pop()) is not None:
            if packet.size and packet.stream.type in ("video", "audio"):
                self._repair(packet)
            yield packet

    def _repair(self, packet: Any) -> None:
        stream = self._streams.get(packet.stream.index)
        if stream is None:
            stream = self._streams[packet.stream.index] = _StreamClock(packet.stream)
            stream.join(len(self._offsets_s) - 1, self._offsets_s[-1])
        elif stream.is_interpolated(packet):
            packet.pts = packet.dts = None
        time_s = stream.order_s(packet)
        if time_s is not None and stream.last_s is not None:
            part = stream.part
            if part < len(self._offsets_s) - 1:
                part = self._part_of(packet, stream, time_s, stream.last_s)
            if part > stream.part:
                stream.join(part, self._offsets_s[part])
            elif self._is_outlier(packet, stream, time_s, stream.last_s):
                self._log.outliers.append(stream.end_s)
                packet.pts = packet.dts = time_s = None
            elif stream.steps(packet, time_s, stream.last_s):
                self._start_part(packet, stream, time_s, stream.last_s)
        stream.add(packet, time_s)

    def _part_of(self, packet: Any, stream: _StreamClock, time_s: float, last_s: float) -> int:
        """Return the part that a packet continues best: that of its stream, or one that others began."""
        parts = range(stream.part, len(self._offsets_s))
        if stream.steps(packet, time_s, last_s):
            fitting = (i for i in parts[1:] if time_s + self._offsets_s[i] > stream.end_s - INTERLEAVING_S)
            return next(fitting, stream.part)
        others_s = max(each.end_s for each in self._streams.values())
        expected_s = others_s if stream.end_s < others_s - INTERLEAVING_S else stream.end_s
        offsets_s = [stream.offset_s, *self._offsets_s[stream.part + 1 :]]
        distances_s = [abs(time_s + offset_s - expected_s) for offset_s in offsets_s]
        return parts[distances_s.index(min(distances_s))]

    def _is_outlier(self, packet: Any, stream: _StreamClock, time_s: float, last_s: float) -> bool:
        """Return whether a packet is far from the one before, but the next one of the stream is not."""
        if time_s < last_s + OUTLIER_S and not stream.steps(packet, time_s, last_s):
            return False
        following = next((each for each in self._ahead() if each.stream.index == packet.stream.index), None)
        following_s = None if following is None else stream.order_s(following)
        if following_s is None or not last_s - MIN_STEP_S < following_s < last_s + OUTLIER_S:
            return False
        step_s = stream.interval_s
        return abs(following_s - last_s - 2 * step_s) < abs(following_s - time_s - step_s)

    def _ahead(self) -> Iterator[Any]:
        """Yield the next packets that have times of their own."""
        for packet in self._packets.peek(MAX_AHEAD):
            if packet.size and packet.stream.type in ("video", "audio"):
                stream = self._streams.get(packet.stream.index) or _StreamClock(packet.stream)
                if stream.order_s(packet) is not None and not stream.is_interpolated(packet):
                    yield packet

    def _start_part(self, packet: Any, stream: _StreamClock, time_s: float, last_s: float) -> None:
        """Find the offset of a new part from the packets ahead; move the stream, or all streams, to it."""
        ends_s, starts_s, is_alone = self._read_part(packet, stream, time_s)
        if is_alone and time_s > last_s:
            return  # a long pause of one stream, which audio.py refuses
        at_s, offset_s = self._continue(ends_s, starts_s)
        back_s = offset_s - stream.offset_s
        self._log.steps.append((at_s, back_s % MPEG_CLOCK_S if stream.is_mpeg else back_s))
        if not is_alone:
            self._offsets_s.append(offset_s)
        stream.join(stream.part if is_alone else len(self._offsets_s) - 1, offset_s)

    def _read_part(
        self, packet: Any, stream: _StreamClock, time_s: float
    ) -> tuple[dict[int, float], dict[int, float], bool]:
        """Read ahead from the first packet of a part.

        Returns the repaired end of each stream before the part, the stored start of each stream that steps,
        and whether the other streams go on without a step.
        """
        ends_s = {index: each.end_s for index, each in self._streams.items()}
        lasts_s = {index: each.last_s for index, each in self._streams.items()} | {
            packet.stream.index: time_s
        }
        starts_s = {packet.stream.index: stream.shown_s(packet)}
        counts = dict.fromkeys(self._streams, 0)  # packets of each stream since its step, or without a step
        for ahead in self._ahead():
            index = ahead.stream.index
            other, last_s = self._streams.get(index), lasts_s.get(index)
            ahead_s = None if other is None else other.order_s(ahead)
            if other is None or last_s is None or ahead_s is None or counts[index] >= PART_PACKETS:
                continue
            if other.steps(ahead, ahead_s, last_s):
                if index in starts_s:  # the part is short
                    counts[index] = PART_PACKETS
                    continue
                starts_s[index], counts[index] = other.shown_s(ahead), 0
            elif index in starts_s:
                starts_s[index] = min(starts_s[index], other.shown_s(ahead))
            elif ahead_s > last_s + INTERLEAVING_S:
                continue
            else:
                end_s = other.shown_s(ahead) + other.offset_s + other.duration_s(ahead)
                ends_s[index] = max(ends_s[index], end_s)
            counts[index] += 1
            lasts_s[index] = other.latest(ahead_s, last_s)
            if all(count >= PART_PACKETS for count in counts.values()):
                break
        is_alone = any(n >= PART_PACKETS and i not in starts_s for i, n in counts.items())
        own_s = {packet.stream.index: starts_s[packet.stream.index]}
        return ends_s, own_s if is_alone else starts_s, is_alone

    def _continue(self, ends_s: dict[int, float], starts_s: dict[int, float]) -> tuple[float, float]:
        """Return the repaired start of a new part and its offset, seconds.

        ends_s: repaired end of each stream before the part    starts_s: stored start of streams within it
        """
        offsets_s = {index: ends_s[index] - start_s for index, start_s in starts_s.items()}
        if len(offsets_s) > 1:
            for index in offsets_s:
                if not self._streams[index].is_video:
                    offsets_s[index] -= ALLOWED_OVERLAP_S
        index = max(offsets_s, key=lambda index: offsets_s[index])
        return starts_s[index] + offsets_s[index], offsets_s[index]


class _Lookahead:
    """Iterator over packets that can be read ahead; an error is raised after the packets before it."""

    def __init__(self, packets: Iterable[Any]) -> None:
        self._packets, self._waiting = iter(packets), deque[Any]()
        self._error: Exception | None = None

    def pop(self) -> Any | None:
        """Return the next packet; None at the end."""
        if self._waiting:
            return self._waiting.popleft()
        if self._error is not None:
            raise self._error
        return next(self._packets, None)

    def peek(self, count: int) -> Iterator[Any]:
        """Yield at most `count` packets that `pop` will return."""
        for number in range(count):
            if number == len(self._waiting) and not self._read():
                return
            yield self._waiting[number]

    def _read(self) -> bool:
        """Read one more packet; return False at the end, and if it cannot be read."""
        if self._error is not None:
            return False
        try:
            packet = next(self._packets, None)
        except Exception as error:  # raised again by `pop`
            self._error = error
            return False
        if packet is not None:
            self._waiting.append(packet)
        return packet is not None
