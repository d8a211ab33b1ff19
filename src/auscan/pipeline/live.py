"""Detect action units in a live video: push frames and audio, receive rows a little later.

    KeyframeTracker -> crop_faces -> FaceEncoder    a third of a second at a time, all faces together
    AudioTokenBuffer                                audio so far
    LiveTrack.emit                                  frames that have waited for `lag_s`

A row is emitted once the frames up to `lag_s` after it are encoded, so it is at most `lag_s` and a third of a
second late. Each block carries its forward scan state past the emitted frames exactly. The backward scan
starts at the newest frame, as if the video ended there. A row therefore depends on all frames before it and
on those within the lag after it. With an unlimited lag the rows are those of `detect`. Memory does not grow.

Inputs: frames [H, W, 3] RGB and audio, with times in seconds. Returns: rows as in the table, None if unknown.
See also: media/stream.py (cameras and streams), audio_stream.py (dropping frames), inference/score_track.py
(the same for a whole track).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, CheckpointConfig, OperatingPoint, with_operating_point
from auscan.core.environment import chunk_slices
from auscan.core.errors import InputError
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import KeyframeTracker, TrackedFace, TrackingClock
from auscan.inference.engine import AudioTokens, InferenceEngine, ScanState
from auscan.inference.load import load_engine
from auscan.inference.score_track import (
    classify_frames,
    fuse_nearby_audio,
    predict_opening,
    probabilities,
    trained_intensities,
)
from auscan.inference.synchrony import MouthFrames, VoiceEvidence, VoiceTrust, follow_voice
from auscan.media.audio import LONGEST_PAUSE_AFTER_VIDEO_S, Waveform
from auscan.media.recording import check_images, check_sound, check_time
from auscan.media.video import Frame
from auscan.model.bidirectional import DIRECTIONS, Direction, elapsed_frames, scan_bidirectional
from auscan.pipeline.audio_stream import AudioTokenBuffer
from auscan.pipeline.face_features import MAX_GAP_S, FaceEncoder, FaceFeatures, FrameFeatures, crop_faces
from auscan.results.table import (
    BOX_COLUMNS,
    NO_FACE,
    QUALITY_FEATURE_COLUMNS,
    active_columns,
    check_quality,
    eye_roll,
    intensity_columns,
)


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """Frame of a track that is not emitted yet."""

    index: int
    """Frame number."""
    time_s: float
    """Time of the frame, seconds."""
    features: FaceFeatures
    """Features of the face in this frame."""


class ScoredFrame(NamedTuple):
    """Frame of a track with its scores."""

    frame: PendingFrame
    """Frame and features."""
    probabilities: NDArray[np.float32]
    """[A]; NaN for an untrained AU."""
    intensity: NDArray[np.float32] | None
    """[A], 0 to 5; NaN for an untrained AU, None for a checkpoint without intensities."""
    speaking: float
    """How far the voice heard is that of this face, and active, 0 to 1; NaN if unknown."""


@dataclass
class LiveTrack:
    """Track of one face in a live video."""

    engine: InferenceEngine
    """Engine that scores the track."""
    window: list[PendingFrame] = field(default_factory=list)
    """Frames that are not emitted yet."""
    last_seen_s: float = -np.inf
    """Time of the last frame with this face, seconds (TrackingClock)."""
    _states: dict[int, ScanState] = field(default_factory=dict)
    """Forward scan state of each block after the last emitted frame."""
    _emitted_s: float | None = None
    """Time of the last emitted frame, seconds; None before the first one."""
    _evidence: VoiceEvidence | None = None
    """Evidence whose voice the sound is, after the last emitted frame."""

    def add(self, index: int, time_s: float, features: FaceFeatures) -> None:
        """Append the features of the next frame with this face."""
        self.window.append(PendingFrame(index, time_s, features))

    def emit(self, until_s: float, audio: AudioTokens | None) -> list[ScoredFrame]:
        """Remove the frames up to `until_s` from the window, and return them with their scores."""
        times_s = np.array([frame.time_s for frame in self.window])
        count = int(np.searchsorted(times_s, until_s, side="right"))
        if count == 0:
            return []
        embedding = np.stack([frame.features.embedding for frame in self.window])  # [T, d]
        voice = self._follow_voice(embedding, times_s, audio, count)
        trust = None if voice is None else voice.trust
        fused = fuse_nearby_audio(self.engine, embedding, times_s, audio, trust)
        x = fused.x
        for block in range(self.engine.blocks):
            x = self._scan_window(block, x, fused.audio_condition, times_s, count)
        au_tokens = np.stack([frame.features.au_tokens for frame in self.window[:count]])
        emitted, self.window = self.window[:count], self.window[count:]
        self._emitted_s = emitted[-1].time_s
        audio_logits = None if fused.audio_logits is None else fused.audio_logits[:count]
        speaking = np.full(count, np.nan, np.float32) if voice is None else voice.speaking[:count]
        scores = classify_frames(self.engine, x[:count], au_tokens, audio_logits)
        shares = probabilities(scores.logits, self.engine.config)
        known = trained_intensities(scores.intensity, self.engine.config)
        intensity = [None] * count if known is None else known
        return [ScoredFrame(*each) for each in zip(emitted, shares, intensity, speaking, strict=True)]

    def _follow_voice(
        self,
        embedding: NDArray[np.float32],
        times_s: NDArray[np.float64],
        audio: AudioTokens | None,
        count: int,
    ) -> VoiceTrust | None:
        """Return trust and speaking of the window [T]; advance the evidence by `count` frames."""
        predicted = predict_opening(self.engine, embedding, times_s, audio)
        if predicted is None:
            return None
        seen, heard = predicted
        visible = np.array([frame.features.mouth_visible for frame in self.window], np.float32)
        faces = np.array([frame.features.face_count for frame in self.window], np.int64)
        mouth = MouthFrames(times_s, seen, visible, faces)
        emitted, self._evidence = follow_voice(mouth.rows(slice(0, count)), heard, self._evidence)
        rest, _ = follow_voice(mouth.rows(slice(count, None)), heard, self._evidence)
        return VoiceTrust(*(np.concatenate(each) for each in zip(emitted, rest, strict=True)))

    def _scan_window(
        self,
        block: int,
        x: NDArray[np.float32],
        audio_condition: NDArray[np.float32] | None,
        times_s: NDArray[np.float64],
        count: int,
    ) -> NDArray[np.float32]:
        """Return the output of a block for the window [T, d]; advance its forward state by `count` frames."""
        since, until = elapsed_frames(times_s)
        if self._emitted_s is not None:
            since = elapsed_frames(np.concatenate([[self._emitted_s], times_s]))[0][1:]

        def scan_chunk(
            direction: Direction, chunk: slice, state: ScanState | None
        ) -> tuple[NDArray[np.float32], ScanState]:
            condition = None if audio_condition is None else audio_condition[chunk]
            elapsed = (since if direction == "forward" else until)[chunk]
            return self.engine.scan_block(block, direction, x[chunk], condition, elapsed, state)

        window = slice(0, len(x))
        chunks = [slice(0, count), *chunk_slices(len(x) - count, len(x), count)]
        updates = {direction: np.empty_like(x) for direction in DIRECTIONS}
        for direction, chunk, update, state in scan_bidirectional(
            scan_chunk, chunks, backward_chunks=[window], state=self._states.get(block)
        ):
            updates[direction][chunk] = update
            if direction == "forward" and chunk.stop == count:
                self._states[block] = state
        return x + updates["backward"] + updates["forward"]


Row = dict[str, int | float | str | None]
"""Row of the table: values by column name, None if unknown."""


class LiveDetector:
    """Detector for live video; use it in a `with` block.

    ```python
    with auscan.LiveDetector() as live:
        for image, time_s, audio in camera:
            for row in live.push(image, time_s, audio):
                ...
        for row in live.finish():
            ...
    ```
    """

    def __init__(
        self,
        model: str | Path | InferenceEngine = "nano",
        *,
        lag_s: float = 0.5,
        operating_point: OperatingPoint = "default",
        keep_all: bool = False,
    ) -> None:
        """Load the model.

        Args:
            model: as for `detect`
            lag_s: look-ahead of a row, in seconds; math.inf waits for the end of the video
            operating_point: as for `detect`
            keep_all: as for `detect`

        Raises:
            CheckpointError: the model cannot be loaded
            InputError: the model has no such operating point
            ValueError: `lag_s` is negative or NaN
        """
        if math.isnan(lag_s) or lag_s < 0:
            raise ValueError(f"lag_s should be 0 or more seconds, got {lag_s}.")
        self.lag_s, self.keep_all = lag_s, keep_all
        self._engine = load_engine(model) if isinstance(model, str | Path) else model
        self._config = with_operating_point(self._engine.config, operating_point)
        self._crop_size = self._engine.config.network.visual.crop_size
        self._tracker = KeyframeTracker[Frame](FaceDetector())
        self._clock, self._now_s = TrackingClock(), -math.inf  # time of the last encoded frame
        self._encoder = FaceEncoder(self._engine)
        self._audio = AudioTokenBuffer(self._engine, self._engine.config.network.normalises_file)
        self._tracks: dict[int, LiveTrack] = {}
        self._pending: list[tuple[int, float]] = []  # number and time of encoded frames that are not emitted
        self._next_index = 0
        self._last_s = -math.inf  # time of the last frame
        self._audio_end_s: float | None = None  # end of the audio so far

    @property
    def config(self) -> CheckpointConfig:
        """Configuration of the checkpoint, with the thresholds of the operating point."""
        return self._config

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracks.clear()
        self._pending.clear()

    def push(
        self,
        image: NDArray[np.uint8],
        time_s: float,
        audio: Waveform | None = None,
        index: int | None = None,
    ) -> list[Row]:
        """Process the next frame; return the rows that are now final, ordered by frame and face_id.

        Args:
            image: [H, W, 3] uint8 RGB, upright
            time_s: time of the frame in seconds, not less than that of the previous frame
            audio: samples recorded since the last call, on the same clock; `push_audio` also accepts them
            index: frame number, needed if frames are dropped; by default frames are counted from 0

        Raises:
            InputError: an argument has another type or shape, or is out of order; nothing was processed
        """
        check_images(image, ("H", "W", "3"))
        time_s = check_time(time_s, self._last_s)
        index = self._next_index if index is None else index
        if index < self._next_index:
            raise InputError(f"index {index} should be at least {self._next_index}: frames come in order.")
        if audio is not None:
            self.push_audio(audio)
        self._next_index, self._last_s = index + 1, time_s
        return self._process(self._tracker.push(Frame(index, time_s, image)), self.lag_s)

    def push_audio(self, audio: Waveform) -> None:
        """Append audio samples without a frame; a gap becomes silence, an overlap is dropped.

        Raises InputError if they are no float32 samples of one channel, or if they begin more than a minute
        after the audio so far and after the last frame.
        """
        check_sound(audio)
        if self._audio_end_s is not None:
            expected_s = max(self._audio_end_s, self._last_s)
            if audio.start_s > expected_s + LONGEST_PAUSE_AFTER_VIDEO_S:
                raise InputError(
                    f"The sound begins at {audio.start_s} s, but sound and frames so far end at {expected_s} "
                    "s. Times are in seconds on the clock of the frames."
                )
        self._audio_end_s = audio.start_s + len(audio.samples) / SAMPLE_RATE_HZ
        self._audio.push(audio)

    def finish(self) -> list[Row]:
        """End the video; return the remaining rows."""
        return self._process(self._tracker.finish(), -math.inf)

    def _process(self, tracked: list[tuple[Frame, list[TrackedFace]]], lag_s: float) -> list[Row]:
        features = self._encoder([crop_faces(frame, faces, self._crop_size) for frame, faces in tracked])
        for frame in features:
            self._add_faces(frame)
        if not self._pending or not (features or lag_s < 0):
            return []
        rows = self._emit(self._pending[-1][1] - lag_s)
        for face_id in [
            i for i, t in self._tracks.items() if not t.window and self._now_s - t.last_seen_s > MAX_GAP_S
        ]:
            self._encoder.drop(face_id)
            del self._tracks[face_id]
        return rows

    def _add_faces(self, frame: FrameFeatures) -> None:
        self._pending.append((frame.index, frame.time_s))
        self._now_s = self._clock.at(frame.time_s)
        for face in frame.faces:
            track = self._tracks.setdefault(face.face.face_id, LiveTrack(self._engine))
            track.add(frame.index, frame.time_s, face)
            track.last_seen_s = self._now_s

    def _emit(self, until_s: float) -> list[Row]:
        """Remove the pending frames up to `until_s`; return their rows."""
        if self._pending[0][1] > until_s:
            return []
        reach_s = self.config.network.fusion.reach_s
        self._audio.drop_before(self._pending[0][1] - 2 * reach_s)
        audio = self._audio.tokens()
        faces: dict[int, list[Row]] = {}
        for face_id in sorted(self._tracks):
            for scored in self._tracks[face_id].emit(until_s, audio):
                row = self._build_row(scored.frame.index, scored.frame.time_s, scored)
                faces.setdefault(scored.frame.index, []).append(row)
        count = sum(time_s <= until_s for _, time_s in self._pending)
        ready, self._pending = self._pending[:count], self._pending[count:]
        return [
            row
            for index, time_s in ready
            for row in faces.get(index) or [self._build_row(index, time_s, None)]
        ]

    def _build_row(self, index: int, time_s: float, scored: ScoredFrame | None) -> Row:
        """Build the row of a face in a frame, or of a frame without a face."""
        features = None if scored is None else scored.frame.features
        face = None if features is None else features.face
        row: Row = {
            "frame": index,
            "timestamp": time_s,
            "face_id": NO_FACE if face is None else face.face_id,
            "success": int(face is not None),
            "confidence": 0.0 if face is None else float(face.score),
        }
        row.update(zip(BOX_COLUMNS, [None] * 4 if face is None else map(float, face.box), strict=True))
        quality_features = (
            np.full(len(QUALITY_FEATURE_COLUMNS), np.nan, np.float32)
            if features is None
            else features.quality_features
        )
        quality, reason = check_quality(quality_features[None])
        row.update(quality=float(quality[0]), reason=str(reason[0]))
        row.update(zip(QUALITY_FEATURE_COLUMNS, _none_for_nan(quality_features), strict=True))
        row["roll"] = None if features is None else float(eye_roll(features.points))
        unknown = np.full(len(self.config.au_names), np.nan, np.float32)
        values = _none_for_nan(unknown if scored is None else scored.probabilities)
        is_scored = self.keep_all or not reason[0]
        active = [
            int(p >= np.float32(threshold)) if is_scored and p is not None else None
            for p, threshold in zip(values, self.config.thresholds, strict=True)
        ]
        row.update(zip(self.config.au_names, values, strict=True))
        row.update(zip(active_columns(self.config.au_names), active, strict=True))
        if self.config.network.intensity:
            intensity = unknown if scored is None or scored.intensity is None else scored.intensity
            row.update(zip(intensity_columns(self.config.au_names), _none_for_nan(intensity), strict=True))
        row["speaking"] = None if scored is None or np.isnan(scored.speaking) else float(scored.speaking)
        return row


def _none_for_nan(values: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
