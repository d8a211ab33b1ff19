"""From a file to its table: the only place from media to results; read it from top to bottom.

    read_frames                             a thread of its own: decode
    follow_faces -> cut_out                 a second one: find, follow, crop
    look                                    here: the crops of all faces together
    read_waveform -> VoiceActivity.listen   a third one, in step with the picture: how loud, who speaks
    Soundtrack.listen                       here: the sound around every face
    Track.score -> Ledger                   each face when it is gone: over time, then rows
    Track.evidence                          what it was read by, if asked for

Memory: some frames and crops, and the table; what a face leaves in every frame is on the disk.
In: a video, a picture or a folder of numbered pictures.  Out: a Result; its rows as soon as they are final.
Not here: writing files (results/), drawing (render.py), the engines (inference/).
"""

import shlex
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from auscan.core.config import OperatingPoint, at_point
from auscan.core.environment import versions
from auscan.faces.detector import FaceDetector
from auscan.faces.keyframe_tracking import follow_faces
from auscan.inference.engine import Stages, load, need_evidence
from auscan.media.audio import read_waveform
from auscan.media.speech_activity import STEP_S, VoiceActivity
from auscan.media.video import Frame, probe, read_frames
from auscan.pipeline.audio_stream import Soundtrack
from auscan.pipeline.face_features import GONE_S, CutFrame, Looker, SeenFrame, cut_out, in_batches
from auscan.pipeline.prefetch import ahead
from auscan.pipeline.table_builder import Ledger, Rows
from auscan.pipeline.track import Track
from auscan.results.baseline import NO_BASELINE, parse_baseline
from auscan.results.evidence import Evidence, join
from auscan.results.result import Result, RunInfo
from auscan.results.speech import Speech
from auscan.results.table import frame_durations_s

CHUNK = 32
"""Crops that are encoded together."""

FRAMES_AHEAD = 4
"""Whole frames that the decoder may be ahead of the face work; they are large."""

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the number there will be, where the container tells."""

Give = Callable[[Evidence], None]
"""Called with pieces of the evidence."""


def detect(
    source: str | Path,
    *,
    model: str | Path | Stages = "nano",
    operating_point: OperatingPoint = "default",
    folder_rate_hz: float | None = None,
    keep_all: bool = False,
    baseline: str = NO_BASELINE,
    progress: Progress | None = None,
    rows: Rows | None = None,
    evidence: bool | Give = False,
) -> Result:
    """Find the action units in every frame and every face of `source`.

    Args:
        source: a video, a picture, or a folder of numbered pictures
        model: a shipped name, a checkpoint folder, or stages that are already loaded
        operating_point: whose thresholds decide what counts as active: default, balanced, precise, sensitive
        folder_rate_hz: how many pictures of a folder make a second
        keep_all: judge faces that can hardly be read, too
        baseline: what to take off as usual for each face: none, median, or SECONDS-SECONDS
        progress: is called with the number of frames done, and of all where the container tells
        rows: is given the table's rows piece by piece, as soon as they are final
        evidence: True keeps what the network went by in `Result.evidence`; a function is given it face by
            face, in pieces, and nothing is kept

    Raises:
        MediaError: the source cannot be read to its end
        CheckpointError: the model cannot be read, or gives no evidence that is asked for
        InputError: the model holds no such operating point, or there is no such baseline
    """
    began_s, source = time.monotonic(), Path(source)
    stages = load(model) if isinstance(model, str | Path) else model
    config = at_point(stages.config, operating_point)
    if evidence:
        need_evidence(stages)
    kept: list[Evidence] = []
    give = kept.append if evidence is True else evidence or None
    expected = probe(source, folder_rate_hz).frames
    ledger, voice = Ledger(config.thresholds, rows, keep_all, parse_baseline(baseline)), VoiceActivity()
    chunks = read_waveform(source)
    with (
        closing(Soundtrack(stages, None if chunks is None else voice.listen(chunks))) as sound,
        closing(_cut_frames(read_frames(source, folder_rate_hz), stages)) as frames,
    ):
        _read(frames, sound, stages, ledger, progress and (lambda done: progress(done, expected)), give)
        has_audio = sound.is_there
    table = ledger.finish()
    info = RunInfo(
        source=source.name,
        duration_s=float(np.sum(frame_durations_s(np.asarray(ledger.times_s)))),
        frames=len(ledger.times_s),
        has_audio=has_audio,
        seconds=time.monotonic() - began_s,
        model=config.name,
        reference=config.reference,
        operating_point=operating_point,
        thresholds=config.thresholds,
        untaught=config.untaught,
        keep_all=keep_all,
        baseline=baseline,
        command=shlex.join(["auscan", "detect", str(source)]),
        versions=versions(),
    )
    side = stages.config.network.visual.crop_size
    shown = join(kept, side) if evidence is True else None
    return Result(table, tuple(ledger.tracks), info, shown, _speech(voice) if has_audio else None)


def _speech(voice: VoiceActivity) -> Speech:
    level_db, spoken = voice.finish()
    return Speech(voice.start_s, STEP_S, level_db, spoken)


def _cut_frames(frames: Iterator[Frame], stages: Stages) -> Generator[CutFrame]:
    """Decode in one thread, find, follow and crop in another."""
    side = stages.config.network.visual.crop_size
    decoded = ahead(frames, FRAMES_AHEAD)
    followed = follow_faces(decoded, FaceDetector())
    return ahead((cut_out(frame, faces, side) for frame, faces in followed), 2 * CHUNK)


def _read(
    frames: Iterator[CutFrame],
    sound: Soundtrack,
    stages: Stages,
    ledger: Ledger,
    progress: Callable[[int], None] | None,
    give: Give | None,
) -> None:
    """Look at the faces of all frames, and score each face when it is gone."""
    looker = Looker(stages, evidence=give is not None)
    tracks: dict[int, Track] = {}
    for batch in in_batches(frames, CHUNK):
        for frame in looker(batch):
            _add(frame, tracks)
            sound.listen(frame.time_s, is_heard=bool(frame.faces))
            ledger.times_s.append(frame.time_s)
            if progress is not None:
                progress(len(ledger.times_s))
        now_s = ledger.times_s[-1]
        for track in [track for track in tracks.values() if now_s - track.times_s[-1] > GONE_S]:
            looker.forget(track.face_id)
            _score(tracks.pop(track.face_id), sound, stages, ledger, give)
        ledger.settle(min((track.frames[0] for track in tracks.values()), default=len(ledger.times_s)))
    sound.listen(np.inf, is_heard=False)
    while tracks:
        _score(tracks.pop(min(tracks)), sound, stages, ledger, give)


def _add(frame: SeenFrame, tracks: dict[int, Track]) -> None:
    for face in frame.faces:
        face_id = face.face.face_id
        if face_id not in tracks:
            tracks[face_id] = Track(face_id, face)
        tracks[face_id].add(frame.index, frame.time_s, face)


def _score(
    track: Track,
    sound: Soundtrack,
    stages: Stages,
    ledger: Ledger,
    give: Give | None,
) -> None:
    """Read a face over time; all that its last frame can hear was heard with that frame."""
    ledger.add_track(track.score(stages, sound.tokens))
    if give is not None:
        for piece in track.evidence(stages, sound.tokens):
            give(piece)
