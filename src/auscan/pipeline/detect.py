"""From a file to its table: the only place from media to results; read it from top to bottom.

    read_frames                        a thread of its own: decode
    track_faces -> crop_faces          a second one: find, track, crop
    FaceEncoder                        here: the crops of all faces together
    read_waveform                      a third one, in step with the picture, through
      -> VoiceActivityDetector.observe   loudness and speech
    AudioTokenReader.advance           here: the sound around every face
    FaceTrack.score -> TableBuilder    each face when it is gone: over time, then rows
    FaceTrack.attributions             its attributions, if asked for

Memory: some frames and crops, and the table; what a face leaves in every frame is on the disk.
In: a video, a picture or a folder of numbered pictures.  Out: a Result; its rows as soon as they are final.
Not here: writing files (results/), drawing (outputs.py), the engines (inference/).
"""

import shlex
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from auscan.core.config import OperatingPoint, with_operating_point
from auscan.core.environment import versions
from auscan.faces.detector import FaceDetector
from auscan.faces.keyframe_tracking import track_faces
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine, require_attributions
from auscan.media.audio import read_waveform
from auscan.media.speech_activity import STEP_S, VoiceActivityDetector
from auscan.media.video import Frame, probe, read_frames
from auscan.pipeline.audio_stream import AudioTokenReader
from auscan.pipeline.face_features import (
    MAX_GAP_S,
    FaceEncoder,
    FrameCrops,
    FrameFeatures,
    batch_frames,
    crop_faces,
)
from auscan.pipeline.prefetch import prefetch
from auscan.pipeline.table_builder import RowsCallback, TableBuilder
from auscan.pipeline.track import FaceTrack
from auscan.results.attributions import Attributions, concatenate
from auscan.results.baseline import NO_BASELINE, parse_baseline
from auscan.results.result import Result, RunInfo
from auscan.results.speech import Speech
from auscan.results.table import frame_durations_s

BATCH_CROPS = 32
"""Crops that are encoded together."""

PREFETCH_FRAMES = 4
"""Whole frames that the decoder may be ahead of the face work; they are large."""

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the number there will be, where the container tells."""

AttributionsCallback = Callable[[Attributions], None]
"""Called with pieces of the evidence."""


def detect(
    source: str | Path,
    *,
    model: str | Path | InferenceEngine = "nano",
    operating_point: OperatingPoint = "default",
    folder_rate_hz: float | None = None,
    keep_all: bool = False,
    baseline: str = NO_BASELINE,
    progress: Progress | None = None,
    rows: RowsCallback | None = None,
    attributions: bool | AttributionsCallback = False,
) -> Result:
    """Find the action units in every frame and every face of `source`.

    Args:
        source: a video, a picture, or a folder of numbered pictures
        model: a shipped name, a checkpoint folder, or an engine that is already loaded
        operating_point: whose thresholds decide what counts as active: default, balanced, precise, sensitive
        folder_rate_hz: how many pictures of a folder make a second
        keep_all: judge faces that can hardly be read, too
        baseline: what to take off as usual for each face: none, median, or SECONDS-SECONDS
        progress: is called with the number of frames done, and of all where the container tells
        rows: is given the table's rows piece by piece, as soon as they are final
        attributions: True keeps what the network went by in `Result.attributions`; a function is given it
            face by face, in pieces, and nothing is kept

    Raises:
        MediaError: the source cannot be read to its end
        CheckpointError: the model cannot be read, or gives no evidence that is asked for
        InputError: the model holds no such operating point, or there is no such baseline
    """
    started_s, source = time.monotonic(), Path(source)
    engine = load_engine(model) if isinstance(model, str | Path) else model
    config = with_operating_point(engine.config, operating_point)
    if attributions:
        require_attributions(engine)
    attribution_parts: list[Attributions] = []
    on_attributions = attribution_parts.append if attributions is True else attributions or None
    expected = probe(source, folder_rate_hz).frames
    builder = TableBuilder(config.thresholds, rows, keep_all, parse_baseline(baseline))
    voice_activity = VoiceActivityDetector()
    chunks = read_waveform(source)
    with (
        closing(
            AudioTokenReader(engine, None if chunks is None else voice_activity.observe(chunks))
        ) as sound,
        closing(_read_crops(read_frames(source, folder_rate_hz), engine)) as frames,
    ):
        report = None if progress is None else partial(_report, progress, expected)
        _process_frames(frames, sound, engine, builder, report, on_attributions)
        has_audio = sound.has_audio
    table = builder.finish()
    info = RunInfo(
        source=source.name,
        duration_s=float(np.sum(frame_durations_s(np.asarray(builder.times_s)))),
        frames=len(builder.times_s),
        has_audio=has_audio,
        seconds=time.monotonic() - started_s,
        model=config.name,
        reference=config.reference,
        operating_point=operating_point,
        thresholds=config.thresholds,
        untrained_aus=config.untrained_aus,
        keep_all=keep_all,
        baseline=baseline,
        command=shlex.join(["auscan", "detect", str(source)]),
        versions=versions(),
    )
    side = engine.config.network.visual.crop_size
    kept = concatenate(attribution_parts, side) if attributions is True else None
    speech = _speech(voice_activity) if has_audio else None
    return Result(table, tuple(builder.tracks), info, kept, speech)


def _report(progress: Progress, expected: int | None, done: int) -> None:
    progress(done, expected)


def _speech(voice_activity: VoiceActivityDetector) -> Speech:
    level_db, speech = voice_activity.finish()
    return Speech(voice_activity.start_s, STEP_S, level_db, speech)


def _read_crops(frames: Iterator[Frame], engine: InferenceEngine) -> Generator[FrameCrops]:
    """Decode in one thread, find, follow and crop in another."""
    side = engine.config.network.visual.crop_size
    decoded = prefetch(frames, PREFETCH_FRAMES)
    tracked = track_faces(decoded, FaceDetector())
    return prefetch((crop_faces(frame, faces, side) for frame, faces in tracked), 2 * BATCH_CROPS)


def _process_frames(
    frames: Iterator[FrameCrops],
    sound: AudioTokenReader,
    engine: InferenceEngine,
    builder: TableBuilder,
    progress: Callable[[int], None] | None,
    on_attributions: AttributionsCallback | None,
) -> None:
    """Look at the faces of all frames, and score each face when it is gone."""
    encoder = FaceEncoder(engine, attributions=on_attributions is not None)
    tracks: dict[int, FaceTrack] = {}
    for batch in batch_frames(frames, BATCH_CROPS):
        for frame in encoder(batch):
            _add_faces(frame, tracks)
            sound.advance(frame.time_s, has_faces=bool(frame.faces))
            builder.times_s.append(frame.time_s)
            if progress is not None:
                progress(len(builder.times_s))
        now_s = builder.times_s[-1]
        for track in [track for track in tracks.values() if now_s - track.times_s[-1] > MAX_GAP_S]:
            encoder.drop(track.face_id)
            _finish_track(tracks.pop(track.face_id), sound, engine, builder, on_attributions)
        builder.flush(min((track.frames[0] for track in tracks.values()), default=len(builder.times_s)))
    sound.advance(np.inf, has_faces=False)
    while tracks:
        _finish_track(tracks.pop(min(tracks)), sound, engine, builder, on_attributions)


def _add_faces(frame: FrameFeatures, tracks: dict[int, FaceTrack]) -> None:
    for face in frame.faces:
        face_id = face.face.face_id
        if face_id not in tracks:
            tracks[face_id] = FaceTrack(face_id, face)
        tracks[face_id].add(frame.index, frame.time_s, face)


def _finish_track(
    track: FaceTrack,
    sound: AudioTokenReader,
    engine: InferenceEngine,
    builder: TableBuilder,
    on_attributions: AttributionsCallback | None,
) -> None:
    """Read a face over time; all that its last frame can hear was heard with that frame."""
    builder.add_track(track.score(engine, sound.tokens))
    if on_attributions is not None:
        for part in track.attributions(engine, sound.tokens):
            on_attributions(part)
