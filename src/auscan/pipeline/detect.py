"""Detect action units in a file: decode, track, encode, score, build the table. Read from top to bottom.

    read_frames                         thread 1: decode
    track_faces -> crop_faces           thread 2: detect, track and crop faces
    read_waveform                       thread 3, in step with the frames: decode audio,
      -> VoiceActivityDetector.observe    measure loudness and speech
    FaceEncoder                         main thread: encode the crops of all faces together
    AudioTokenReader.advance            main thread: encode the audio around the faces
    TrackQueue                          main thread, once a face has left: find the offset of the sound
    FaceTrack.score -> TableBuilder     main thread: score its track, build rows
    FaceTrack.attributions              main thread: its attributions, if requested

Memory holds a few frames and crops, and the table; features of each frame are stored on disk.

Inputs: a video, a picture or a folder of numbered pictures.
Returns: a Result; its rows also as soon as they are final.
`write_result` also writes the files of the result.

See also: outputs.py (overlay and report), live.py (pushed frames), batch/ (many inputs).
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from auscan.core.config import OperatingPoint, Options, with_operating_point
from auscan.core.environment import VERSION, versions
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import TrackingClock, track_faces
from auscan.inference.engine import InferenceEngine, measure_level
from auscan.inference.load import load_engine, require_attributions
from auscan.media.audio import STEP_S, VoiceActivityDetector
from auscan.media.recording import FileRecording, Recording
from auscan.media.video import Frame
from auscan.pipeline.audio_stream import AudioTokenReader, prefetch
from auscan.pipeline.face_features import (
    MAX_GAP_S,
    FaceEncoder,
    FrameCrops,
    FrameFeatures,
    batch_frames,
    crop_faces,
)
from auscan.pipeline.track import FaceTrack, RowsCallback, TableBuilder
from auscan.pipeline.track_queue import TrackQueue, WaitingTrack
from auscan.results.attributions import (
    ATTRIBUTIONS_FILE,
    Attributions,
    AttributionsWriter,
    attributions_metadata,
    concatenate,
)
from auscan.results.events import MIN_BASELINE_FRAMES, NO_BASELINE, Speech, parse_baseline
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TableWriter, frame_durations_s, pause_warnings, table_metadata

BATCH_CROPS = 32
"""Crops of a batch of the visual encoder."""

PREFETCH_FRAMES = 4
"""Frames that the decoder may be ahead of face detection; low, because they are large."""

Progress = Callable[[int, int | None], None]
"""Called with the number of processed frames and the expected number (None if the container lacks it)."""

AttributionsCallback = Callable[[Attributions], None]
"""Called with consecutive parts of the attributions of a face."""


def detect(
    source: str | Path | Recording,
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
    """Detect action units of every face in every frame of `source`.

    Args:
        source: a video, a picture, a folder of numbered pictures, or a recording
        model: name of a shipped model, path of a checkpoint folder, or a loaded engine
        operating_point: set of thresholds: default, balanced, precise or sensitive
        folder_rate_hz: pictures per second, if `source` is a folder
        keep_all: also score low-quality faces
        baseline: neutral baseline to subtract for each face: none, median, or SECONDS-SECONDS
        progress: called with the number of processed frames, and the expected number or None
        rows: called with consecutive parts of the table, as soon as their rows are final
        attributions: True stores attention maps and gates in `Result.attributions`; a function is called
            with them face by face, in parts, and the result has none

    Raises:
        MediaError: the source cannot be read to its end
        CheckpointError: the model cannot be loaded, or its graphs have no attributions and they are requested
        InputError: the model has no such operating point, or `baseline` cannot be parsed
    """
    started_s = time.monotonic()
    recording = FileRecording(Path(source), folder_rate_hz) if isinstance(source, str | Path) else source
    engine = load_engine(model) if isinstance(model, str | Path) else model
    config = with_operating_point(engine.config, operating_point)
    if attributions:
        require_attributions(engine)
    attribution_parts: list[Attributions] = []
    on_attributions = attribution_parts.append if attributions is True else attributions or None
    expected = recording.expected_frames()
    builder = TableBuilder(
        *(config.thresholds, rows, keep_all, parse_baseline(baseline)),
        config.au_names,
        config.network.intensity,
    )
    voice_activity = VoiceActivityDetector()
    chunks, level = recording.audio(), None
    if chunks is not None and config.network.normalises_file:
        level = measure_level(chunks)
        chunks = recording.audio()
    with (
        closing(
            AudioTokenReader(engine, None if chunks is None else voice_activity.observe(chunks), level)
        ) as audio,
        closing(_read_crops(recording.frames(), engine)) as frames,
    ):
        report = None if progress is None else partial(_report, progress, expected)
        offset_s = _process_frames(frames, audio, engine, builder, report, on_attributions)
        has_audio = audio.has_audio
    table = builder.finish()
    info = RunInfo(
        source=recording.name,
        duration_s=float(np.sum(frame_durations_s(np.asarray(builder.times_s)))),
        frames=len(builder.times_s),
        has_audio=has_audio,
        seconds=time.monotonic() - started_s,
        model=config.name,
        reference=config.reference,
        operating_point=operating_point,
        au_names=config.au_names,
        thresholds=config.thresholds,
        untrained_aus=config.untrained_aus,
        keep_all=keep_all,
        baseline=baseline,
        command=recording.command,
        versions=versions(),
        sound_offset_s=offset_s,
        warnings=(
            *recording.warnings(),
            *pause_warnings(recording.name, np.asarray(builder.times_s)),
            *((sound_offset_warning(recording.name, offset_s),) if offset_s else ()),
        ),
    )
    side = engine.config.network.visual.crop_size
    kept = concatenate(attribution_parts, side, config.au_names) if attributions is True else None
    speech = _speech(voice_activity) if has_audio else None
    return Result(table, tuple(builder.tracks), info, kept, speech)


def _report(progress: Progress, expected: int | None, done: int) -> None:
    progress(done, expected)


def _speech(voice_activity: VoiceActivityDetector) -> Speech:
    level_db, speech = voice_activity.finish()
    return Speech(voice_activity.start_s, STEP_S, level_db, speech)


def _read_crops(frames: Iterator[Frame], engine: InferenceEngine) -> Generator[FrameCrops]:
    """Decode in one thread; detect, track and crop in another."""
    side = engine.config.network.visual.crop_size
    decoded = prefetch(frames, PREFETCH_FRAMES)
    tracked = track_faces(decoded, FaceDetector())
    return prefetch((crop_faces(frame, faces, side) for frame, faces in tracked), 2 * BATCH_CROPS)


def _process_frames(
    frames: Iterator[FrameCrops],
    audio: AudioTokenReader,
    engine: InferenceEngine,
    builder: TableBuilder,
    progress: Callable[[int], None] | None,
    on_attributions: AttributionsCallback | None,
) -> float | None:
    """Encode the faces of all frames, and score each track once its face has left.

    Returns the seconds by which the sound is late; None if that was not searched for.
    """
    queue = TrackQueue(engine)
    encoder = FaceEncoder(engine, attributions=on_attributions is not None)
    tracks: dict[int, FaceTrack] = {}
    clock, seen_s = TrackingClock(), dict[int, float]()  # time at which each face was last seen
    for batch in batch_frames(frames, BATCH_CROPS):
        for frame in encoder(batch):
            _add_faces(frame, tracks)
            now_s = clock.at(frame.time_s)
            seen_s.update((face.face.face_id, now_s) for face in frame.faces)
            audio.advance(frame.time_s, has_faces=bool(frame.faces))
            builder.times_s.append(frame.time_s)
            if progress is not None:
                progress(len(builder.times_s))
        for face_id in [face_id for face_id in tracks if now_s - seen_s[face_id] > MAX_GAP_S]:
            encoder.drop(face_id)
            queue.add(tracks.pop(face_id), audio.tokens)
        for waiting in queue.ready():
            _finish_track(waiting, queue.offset_s, audio, engine, builder, on_attributions)
        first_frames = (track.frames[0] for track in tracks.values())
        builder.flush(int(min(*first_frames, queue.first_frame, len(builder.times_s))))
    audio.advance(np.inf, has_faces=False)
    for face_id in sorted(tracks):
        queue.add(tracks.pop(face_id), audio.tokens)
    for waiting in queue.ready(at_end=True):
        _finish_track(waiting, queue.offset_s, audio, engine, builder, on_attributions)
    return queue.offset_s


def _add_faces(frame: FrameFeatures, tracks: dict[int, FaceTrack]) -> None:
    for face in frame.faces:
        face_id = face.face.face_id
        if face_id not in tracks:
            tracks[face_id] = FaceTrack(face_id, face)
        tracks[face_id].add(frame.index, frame.time_s, face)


def _finish_track(
    waiting: WaitingTrack,
    offset_s: float | None,
    audio: AudioTokenReader,
    engine: InferenceEngine,
    builder: TableBuilder,
    on_attributions: AttributionsCallback | None,
) -> None:
    """Score a track; the audio within reach of its last frame was encoded with that frame."""
    shift_s = offset_s or 0.0
    recorded = audio.tokens
    tokens = None if recorded is None else recorded.shifted(shift_s)
    builder.add_track(waiting.track.score(engine, tokens, waiting.opening, shift_s))
    if on_attributions is not None:
        for part in waiting.track.attributions(engine, tokens):
            on_attributions(part)


def write_result(
    source: Path,
    folder: Path,
    engine: InferenceEngine,
    options: Options,
    command: str,
    progress: Progress | None = None,
) -> Result:
    """Process one input and write its files into `folder`; return the result.

    command: command line that reproduces the result

    Raises MediaError if the input cannot be read.
    """
    config, point = with_operating_point(engine.config, options.operating_point), options.operating_point
    described = source.name, config.name, config.au_names, config.thresholds, config.untrained_aus, VERSION
    metadata = table_metadata(
        *described,
        operating_point=point,
        baseline=options.baseline,
        intensity=config.network.intensity,
    )
    with (
        TableWriter(folder, metadata) as writer,
        _attributions_writer(source, folder, engine, options) as attributions_writer,
    ):
        result = detect(
            source,
            model=engine,
            operating_point=point,
            folder_rate_hz=options.as_video_hz,
            keep_all=options.keep_all,
            baseline=options.baseline,
            progress=progress,
            rows=writer.write,
            attributions=False if attributions_writer is None else attributions_writer.write,
        )
    result = replace(result, info=replace(result.info, command=command))
    result.save_derived(folder)
    if options.overlay:
        from auscan.pipeline.outputs import (  # plotly and jinja2 are slow to import
            overlay_name,
            render_overlay,
        )

        render_overlay(result, source, folder / overlay_name(source), options.as_video_hz)
    file = folder / ATTRIBUTIONS_FILE
    try:
        if options.report:
            from auscan.pipeline.outputs import render_report

            drawn_file = None if attributions_writer is None else file
            render_report(result, source, folder / "report.html", drawn_file, options.as_video_hz)
    finally:
        if not options.attributions:
            file.unlink(missing_ok=True)  # written only for the report, or left by an earlier run
    return result


def sound_offset_warning(source: str, offset_s: float) -> str:
    """Describe the offset of the sound: positive seconds if the sound is late."""
    when = "late" if offset_s > 0 else "early"
    return f"{source}: the sound is {abs(offset_s):.2f} s {when}; it was shifted before scoring."


def missing_baseline_warning(result: Result) -> str | None:
    """Warn how many faces have too few frames for a baseline; None if all have enough."""
    levels = result.resting_levels() or {}
    unscored = [str(face_id) for face_id, level in levels.items() if all(value != value for value in level)]
    if not unscored:
        return None
    return (
        f"{result.info.source}: {len(unscored)} of {len(levels)} faces have fewer than "
        f"{MIN_BASELINE_FRAMES} scored frames for a baseline ({result.info.baseline}) and are not scored."
    )


def _attributions_writer(
    source: Path, folder: Path, engine: InferenceEngine, options: Options
) -> AbstractContextManager[AttributionsWriter | None]:
    """Return a writer if attributions are requested or the report can show them, else an empty context."""
    if not options.attributions and not (options.report and engine.has_attributions):
        return nullcontext()
    metadata = attributions_metadata(
        source.name,
        engine.config.name,
        engine.config.network.visual.crop_size,
        engine.config.au_names,
        VERSION,
    )
    return AttributionsWriter(folder / ATTRIBUTIONS_FILE, metadata)
