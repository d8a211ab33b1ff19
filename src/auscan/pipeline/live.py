"""Read one face over time while it goes on: forward exactly, backward as far as has been seen.

Each block's forward memory is carried over what was given out. Behind it lies a window of frames that still
wait; the backward memory begins at the window's end as if the video ended there. So the first frames of the
window know all that came before and the look-ahead, and those are given out. With the whole video as the
window this is `inference.follow`.

In: the face frame after frame, the sound so far.  Out: logits of the frames that have waited long enough.

Action units while the video is being made: frames and sound go in, rows come out a little later.

    FaceFollower -> cut_out -> Looker       eight frames at a time, all faces together
    LiveSound                               the sound so far
    LiveTrack.give                          frames that have waited for `lag_s`

A row leaves when frames up to `lag_s` after it were looked at, so it comes at most `lag_s` and eight frames
late. Everything before a row counts in full, everything after it within the lag: with an unlimited lag the
rows are those of `detect`. Memory does not grow.

In: frames, sound.  Out: rows as in the table, None where nothing is known.
Not here: cameras and streams (media/stream.py), dropping frames (feed.py).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.core.config import CheckpointConfig, OperatingPoint, at_point
from auscan.faces.detector import FaceDetector
from auscan.faces.keyframe_tracking import FaceFollower
from auscan.faces.tracker import TrackedFace
from auscan.inference.engine import AudioTokens, Stages, SweepState, load
from auscan.inference.score_track import elapsed_frames, hear_around, probabilities
from auscan.media.audio import Waveform
from auscan.media.video import Frame
from auscan.pipeline.audio_stream import LiveSound
from auscan.pipeline.face_features import GONE_S, Looker, SeenFace, SeenFrame, cut_out
from auscan.results.quality import PART_COLUMNS, judge
from auscan.results.table import ACTIVE_COLUMNS, BOX_COLUMNS, NO_FACE


@dataclass(frozen=True, slots=True)
class Waiting:
    """One frame of the window."""

    index: int
    time_s: float
    seen: SeenFace


@dataclass
class LiveTrack:
    """One face of a video that has not ended."""

    stages: Stages
    window: list[Waiting] = field(default_factory=list)
    seen_s: float = -np.inf
    """When it was last in the picture."""
    _states: dict[int, SweepState] = field(default_factory=dict)
    """Of each block, after the last frame that was given out."""
    _given_s: float | None = None
    """Time of that frame."""

    def add(self, index: int, time_s: float, seen: SeenFace) -> None:
        """The face in the next frame."""
        self.window.append(Waiting(index, time_s, seen))
        self.seen_s = time_s

    def give(self, until_s: float, sound: AudioTokens | None) -> tuple[list[Waiting], NDArray[np.float32]]:
        """The frames up to a moment with their logits [n, A]; they leave the window."""
        times_s = np.array([frame.time_s for frame in self.window])
        count = int(np.searchsorted(times_s, until_s, side="right"))
        if count == 0:
            return [], np.empty((0, AU_COUNT), np.float32)
        embedding = np.stack([frame.seen.embedding for frame in self.window])  # [T, d]
        x, guide = hear_around(self.stages, embedding, times_s, sound)
        for block in range(self.stages.blocks):
            x = self._remember(block, x, guide, times_s, count)
        au_tokens = np.stack([frame.seen.au_tokens for frame in self.window[:count]])
        given, self.window = self.window[:count], self.window[count:]
        self._given_s = given[-1].time_s
        return given, self.stages.read(x[:count], au_tokens)

    def _remember(
        self,
        block: int,
        x: NDArray[np.float32],
        guide: NDArray[np.float32] | None,
        times_s: NDArray[np.float64],
        count: int,
    ) -> NDArray[np.float32]:
        """What a block makes of the window [T, d]; its forward memory goes on by `count` frames."""
        ahead, back = elapsed_frames(times_s)
        if self._given_s is not None:
            ahead = elapsed_frames(np.concatenate([[self._given_s], times_s]))[0][1:]
        out = x + self.stages.sweep(block, "back", x, guide, back, None)[0]
        state = self._states.get(block)
        for part in (slice(0, count), slice(count, None)):
            if len(x[part]):
                heard = None if guide is None else guide[part]
                update, state = self.stages.sweep(block, "ahead", x[part], heard, ahead[part], state)
                out[part] += update
            if part.stop is not None:
                assert state is not None
                self._states[block] = state
        return out


Row = dict[str, int | float | str | None]
"""A row of the table: its columns by name, None for unknown."""


class LiveDetector:
    """Use it in a `with`, push frames in order, and take `finish` at the end for what still waits.

    ```python
    with auscan.LiveDetector() as live:
        for image, time_s, sound in camera:
            for row in live.push(image, time_s, sound):
                ...
    ```
    """

    def __init__(
        self,
        model: str | Path | Stages = "nano",
        *,
        lag_s: float = 0.5,
        operating_point: OperatingPoint = "default",
        keep_all: bool = False,
    ) -> None:
        """Load the model; nothing is read yet.

        Args:
            model: as for `detect`
            lag_s: how far ahead a row may look, seconds; math.inf waits for the end
            operating_point: as for `detect`
            keep_all: as for `detect`

        Raises:
            CheckpointError: the model cannot be loaded
            InputError: it holds no such operating point
            ValueError: the lag is below 0
        """
        if math.isnan(lag_s) or lag_s < 0:
            raise ValueError(f"lag_s should be 0 or more seconds, got {lag_s}.")
        self.lag_s, self.keep_all = lag_s, keep_all
        self._stages = load(model) if isinstance(model, str | Path) else model
        self._config = at_point(self._stages.config, operating_point)
        self._side = self._stages.config.network.visual.crop_size
        self._follower = FaceFollower[Frame](FaceDetector())
        self._looker = Looker(self._stages)
        self._sound = LiveSound(self._stages)
        self._tracks: dict[int, LiveTrack] = {}
        self._frames: list[tuple[int, float]] = []  # looked at, not yet given out
        self._next = 0

    @property
    def config(self) -> CheckpointConfig:
        """The checkpoint's answers about itself; the thresholds are those of the operating point."""
        return self._config

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracks.clear()
        self._frames.clear()

    def push(
        self,
        image: NDArray[np.uint8],
        time_s: float,
        sound: Waveform | None = None,
        index: int | None = None,
    ) -> list[Row]:
        """Take the next frame; the rows that are now final, by frame and face_id.

        Args:
            image: [H, W, 3] RGB, upright
            time_s: of the frame, never less than that of the one before
            sound: what was recorded since the last call, on the same clock; `hear` takes it too
            index: the frame's number where frames were left out; else they are counted from 0
        """
        if sound is not None:
            self.hear(sound)
        index = self._next if index is None else index
        self._next = index + 1
        return self._look(self._follower.push(Frame(index, time_s, image)), self.lag_s)

    def hear(self, sound: Waveform) -> None:
        """Take sound without a frame."""
        self._sound.push(sound)

    def finish(self) -> list[Row]:
        """The video is over: the rows that still wait."""
        return self._look(self._follower.finish(), -math.inf)

    def _look(self, followed: list[tuple[Frame, list[TrackedFace]]], lag_s: float) -> list[Row]:
        seen = self._looker([cut_out(frame, faces, self._side) for frame, faces in followed])
        for frame in seen:
            self._add(frame)
        if not self._frames or not (seen or lag_s < 0):
            return []
        rows = self._give(self._frames[-1][1] - lag_s)
        now_s = seen[-1].time_s if seen else math.inf
        for face_id in [i for i, t in self._tracks.items() if not t.window and now_s - t.seen_s > GONE_S]:
            self._looker.forget(face_id)
            del self._tracks[face_id]
        return rows

    def _add(self, frame: SeenFrame) -> None:
        self._frames.append((frame.index, frame.time_s))
        for face in frame.faces:
            track = self._tracks.setdefault(face.face.face_id, LiveTrack(self._stages))
            track.add(frame.index, frame.time_s, face)

    def _give(self, until_s: float) -> list[Row]:
        """The rows of all frames up to a moment."""
        if self._frames[0][1] > until_s:
            return []
        reach_s = self.config.network.fusion.reach_s
        self._sound.forget(self._frames[0][1] - 2 * reach_s)
        sound = self._sound.tokens()
        faces: dict[int, list[Row]] = {}
        for face_id in sorted(self._tracks):
            given, logits = self._tracks[face_id].give(until_s, sound)
            for frame, share in zip(given, probabilities(logits, self.config), strict=True):
                row = self._row(frame.index, frame.time_s, frame.seen, share)
                faces.setdefault(frame.index, []).append(row)
        count = sum(time_s <= until_s for _, time_s in self._frames)
        given_frames, self._frames = self._frames[:count], self._frames[count:]
        nobody = np.full(len(AU_NAMES), np.nan, np.float32)
        return [
            row
            for index, time_s in given_frames
            for row in faces.get(index) or [self._row(index, time_s, None, nobody)]
        ]

    def _row(self, index: int, time_s: float, seen: SeenFace | None, share: NDArray[np.float32]) -> Row:
        face = None if seen is None else seen.face
        row: Row = {
            "frame": index,
            "timestamp": time_s,
            "face_id": NO_FACE if face is None else face.face_id,
            "success": int(face is not None),
            "confidence": 0.0 if face is None else float(face.score),
        }
        row.update(zip(BOX_COLUMNS, [None] * 4 if face is None else map(float, face.box), strict=True))
        parts = np.full(len(PART_COLUMNS), np.nan, np.float32) if seen is None else seen.parts
        quality, reason = judge(parts[None])
        row.update(quality=float(quality[0]), reason=str(reason[0]))
        row.update(zip(PART_COLUMNS, _known(parts), strict=True))
        known = _known(share)
        judged = self.keep_all or not reason[0]
        active = [
            int(p >= np.float32(threshold)) if judged and p is not None else None
            for p, threshold in zip(known, self.config.thresholds, strict=True)
        ]
        row.update(zip(AU_NAMES, known, strict=True))
        row.update(zip(ACTIVE_COLUMNS, active, strict=True))
        return row


def _known(values: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
