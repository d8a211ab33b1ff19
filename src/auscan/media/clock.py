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

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
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

MPEG_CLOCK_S: Final[Fraction] = Fraction(2**33, 90_000)
"""Range of the clock of MPEG streams, after which it starts again, in seconds."""


@dataclass
class ClockLog:
    """Repairs of the clock of one file."""

    steps: list[tuple[float, float]] = field(default_factory=list)
    """Repaired time of each step, and the seconds by which the clock went back there (below 0: ahead)."""
    outliers: list[float] = field(default_factory=list)
    """Repaired time of the packet before each outlier, seconds."""
    late_frames: list[float] = field(default_factory=list)
    """Time that each frame with a time before that of the previous frame got instead, seconds."""

    def clear(self) -> None:
        """Forget all repairs."""
        for entries in (self.steps, self.outliers, self.late_frames):
            entries.clear()

    def warnings(self, name: str) -> tuple[str, ...]:
        """Return one sentence for each kind of repair; `name` is that of the file."""
        sentences = []
        if self.steps:
            at_s, back_s = self.steps[0]
            direction = "back" if back_s > 0 else "ahead"
            more = f", and at {len(self.steps) - 1} more places" if len(self.steps) > 1 else ""
            sentences.append(
                f"{name}: the clock steps {direction} by {abs(back_s):.2f} s at {at_s:.2f} s{more}; the "
                "times after it were shifted, so that the recording goes on."
            )
        if self.outliers:
            sentences.append(
                f"{name}: {len(self.outliers)} packets have a wild time, the first after "
                f"{self.outliers[0]:.2f} s; it was replaced by that of the packets around them."
            )
        if self.late_frames:
            sentences.append(
                f"{name}: {len(self.late_frames)} frames have a time before that of the previous frame, the "
                f"first at {self.late_frames[0]:.2f} s; they got the time of the previous frame."
            )
        return tuple(sentences)


def repair_clock(packets: Iterable[Any], log: ClockLog | None = None) -> Iterator[Any]:
    """Yield the packets of a container in their order, with repaired times; add the repairs to `log`."""
    return _PacketClock(packets, ClockLog() if log is None else log).repaired()


@dataclass
class _StreamClock:
    """Times of one stream so far, seconds."""

    is_video: bool
    offset_s: Fraction
    """Offset of the part that the stream is in."""
    part: int
    """Number of this part."""
    last_s: Fraction | None = None
    """Stored time of the last packet of the part (`_order_s`)."""
    end_s: Fraction = Fraction(0)
    """Repaired presentation time of the end of the stream so far."""
    interval_s: Fraction = Fraction(0)
    """Duration of the last packet."""

    def join(self, part: int, offset_s: Fraction) -> None:
        """Go on with a new part, or with another offset."""
        self.part, self.offset_s, self.last_s = part, offset_s, None

    def add(self, packet: Any) -> None:
        """Shift the times of the next packet of the stream, and keep them."""
        time_s, duration_s = _order_s(packet), (packet.duration or 0) * packet.time_base
        if time_s is not None:
            if self.last_s is not None and not duration_s:
                duration_s = max(time_s - self.last_s, Fraction(0))
            self.last_s, self.interval_s = _latest(packet, self.last_s, time_s), duration_s
            self.end_s = max(self.end_s, _shown_s(packet) + self.offset_s + duration_s)
        elif not packet.is_discard:
            self.end_s += duration_s
        shift = round(self.offset_s / packet.time_base)
        if shift:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift


class _PacketClock:
    """Repair of the packets of one container."""

    def __init__(self, packets: Iterable[Any], log: ClockLog) -> None:
        self._packets, self._log = _Lookahead(packets), log
        self._streams: dict[int, _StreamClock] = {}
        self._part, self._offset_s = 0, Fraction(0)  # newest part that all streams join

    def repaired(self) -> Iterator[Any]:
        """Yield the packets with repaired times."""
        while (packet := self._packets.pop()) is not None:
            if packet.stream.type in ("video", "audio") and packet.size:
                self._repair(packet)
            yield packet

    def _repair(self, packet: Any) -> None:
        stream = self._streams.get(packet.stream.index)
        if stream is None:
            stream = _StreamClock(packet.stream.type == "video", self._offset_s, self._part)
            self._streams[packet.stream.index] = stream
        elif _is_interpolated(packet):
            packet.pts = packet.dts = None
        time_s = _order_s(packet)
        if time_s is not None and stream.last_s is not None:
            if stream.part < self._part and self._is_in_newest_part(packet, stream, time_s):
                stream.join(self._part, self._offset_s)
            elif _jumps(packet, stream.last_s) and self._is_outlier(packet, stream, time_s):
                self._log.outliers.append(float(stream.end_s))
                packet.pts = packet.dts = None
            elif _steps(packet, stream.last_s):
                self._start_part(packet, stream, stream.last_s)
        stream.add(packet)

    def _is_in_newest_part(self, packet: Any, stream: _StreamClock, time_s: Fraction) -> bool:
        """Return whether a packet of a stream in an older part continues it better in the newest one."""
        newer_s, older_s = time_s + self._offset_s, time_s + stream.offset_s
        if _steps(packet, stream.last_s):
            return newer_s > stream.end_s - Fraction(INTERLEAVING_S)
        others_s = max(each.end_s for each in self._streams.values())
        has_waited = stream.end_s < others_s - Fraction(INTERLEAVING_S)
        expected_s = others_s if has_waited else stream.end_s
        return abs(newer_s - expected_s) < abs(older_s - expected_s)

    def _is_outlier(self, packet: Any, stream: _StreamClock, time_s: Fraction) -> bool:
        """Return whether the next packet of the stream continues the packets before this one."""
        following = next((each for each in self._ahead() if each.stream.index == packet.stream.index), None)
        following_s = None if following is None else _order_s(following)
        if stream.last_s is None or following_s is None or _jumps(following, stream.last_s):
            return False
        step_s = stream.interval_s
        return abs(following_s - stream.last_s - 2 * step_s) < abs(following_s - time_s - step_s)

    def _ahead(self) -> Iterator[Any]:
        """Yield the next packets that have times of their own."""
        for packet in self._packets.peek(MAX_AHEAD):
            is_timed = (
                packet.stream.type in ("video", "audio") and packet.size and not _is_interpolated(packet)
            )
            if is_timed and _order_s(packet) is not None:
                yield packet

    def _start_part(self, packet: Any, stream: _StreamClock, last_s: Fraction) -> None:
        """Find the offset of a new part from the packets ahead; move the stream, or all streams, to it."""
        starts_s = {packet.stream.index: [_shown_s(packet)]}  # presentation times of the part, by stream
        ends_s = {index: each.end_s for index, each in self._streams.items()}
        lasts_s = {index: each.last_s for index, each in self._streams.items()}
        going_on = dict.fromkeys(self._streams, 0)  # number of packets ahead without a step, by stream
        for ahead in self._ahead():
            index, shown_s = ahead.stream.index, _shown_s(ahead)
            if index in starts_s:
                starts_s[index].append(shown_s)
            elif index not in self._streams or _steps(ahead, lasts_s[index]):
                starts_s[index] = [shown_s]
            elif not _waits(ahead, lasts_s[index]):
                going_on[index] += 1
                lasts_s[index] = _latest(ahead, lasts_s[index], _order_s(ahead))
                end_s = shown_s + self._streams[index].offset_s + (ahead.duration or 0) * ahead.time_base
                ends_s[index] = max(ends_s[index], end_s)
            if all(len(starts_s.get(i, ())) >= PART_PACKETS for i in self._streams):
                break
        is_alone = any(count >= PART_PACKETS and i not in starts_s for i, count in going_on.items())
        if is_alone:
            starts_s = {packet.stream.index: starts_s[packet.stream.index]}
            if _shown_s(packet) > last_s:
                return  # a long pause of one stream, which audio.py refuses
        at_s, offset_s = self._continue(ends_s, {i: min(each[:PART_PACKETS]) for i, each in starts_s.items()})
        self._log.steps.append((float(at_s), _back_s(packet, offset_s - stream.offset_s)))
        if not is_alone:
            self._part, self._offset_s = self._part + 1, offset_s
        stream.join(self._part if not is_alone else stream.part, offset_s)

    def _continue(
        self, ends_s: dict[int, Fraction], starts_s: dict[int, Fraction]
    ) -> tuple[Fraction, Fraction]:
        """Return the repaired start of a new part and its offset, seconds.

        ends_s: repaired end of each stream before the part    starts_s: stored start of streams within it
        """
        offsets_s = {index: ends_s[index] - start_s for index, start_s in starts_s.items() if index in ends_s}
        if len(offsets_s) > 1:
            for index in offsets_s:
                if not self._streams[index].is_video:
                    offsets_s[index] -= Fraction(ALLOWED_OVERLAP_S)
        index = max(offsets_s, key=lambda index: offsets_s[index])
        return starts_s[index] + offsets_s[index], offsets_s[index]


def _clock_at(stream: _StreamClock, last_s: Fraction | None) -> _StreamClock:
    """Return the clock of a stream after another packet."""
    return _StreamClock(stream.is_video, stream.offset_s, stream.part, last_s)


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


def _is_interpolated(packet: Any) -> bool:
    """Return whether FFmpeg computed the time of an audio packet from the one before.

    It assumes that the sample rate does not change, which files joined of two recordings do not keep.
    """
    return packet.stream.type == "audio" and packet.pos is None and _is_mpeg(packet)


def _is_mpeg(packet: Any) -> bool:
    """Return whether the container is an MPEG stream: a 33-bit clock, and several packets to a time."""
    return packet.stream.container.format.name in ("mpegts", "mpeg")


def _has_decoding_times(packet: Any) -> bool:
    """Return whether the container stores the decoding times of the packet, in which it never goes back."""
    return packet.stream.type == "audio" or not packet.stream.container.format.name.startswith("matroska")


def _order_s(packet: Any) -> Fraction | None:
    """Return the time that grows from packet to packet of a stream, seconds; None if it is not known.

    It is the decoding time. Without one it is the presentation time, which also goes back for reordered
    frames, but never for keyframes.
    """
    timestamp = packet.dts if _has_decoding_times(packet) else packet.pts
    return None if timestamp is None or packet.is_discard else Fraction(timestamp * packet.time_base)


def _latest(packet: Any, last_s: Fraction | None, time_s: Fraction | None) -> Fraction | None:
    """Return the time that the packets after this one are compared with; last_s: the one before."""
    if last_s is None or time_s is None or _has_decoding_times(packet):
        return time_s
    return max(last_s, time_s)


def _steps(packet: Any, last_s: Fraction | None) -> bool:
    """Return whether the clock steps between the time of the packets before and this packet."""
    time_s = _order_s(packet)
    if last_s is None or time_s is None:
        return False
    if _is_mpeg(packet) and time_s > last_s + Fraction(LONGEST_PAUSE_S):
        return True
    return time_s < last_s - Fraction(MIN_STEP_S) and (packet.is_keyframe or _has_decoding_times(packet))


def _waits(packet: Any, last_s: Fraction | None) -> bool:
    """Return whether a packet comes so long after the one before that it may belong to another part."""
    time_s = _order_s(packet)
    return last_s is not None and time_s is not None and time_s > last_s + Fraction(INTERLEAVING_S)


def _jumps(packet: Any, last_s: Fraction | None) -> bool:
    """Return whether the time of a packet may be an outlier."""
    time_s = _order_s(packet)
    is_far = last_s is not None and time_s is not None and time_s > last_s + Fraction(OUTLIER_S)
    return is_far or _steps(packet, last_s)


def _back_s(packet: Any, offset_s: Fraction) -> float:
    """Return the seconds by which the clock went back; FFmpeg adds the range of MPEG's clock if it did."""
    return float(offset_s % MPEG_CLOCK_S if _is_mpeg(packet) else offset_s)


def _shown_s(packet: Any) -> Fraction:
    """Return the presentation time of a packet that has a time, seconds."""
    return Fraction((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
