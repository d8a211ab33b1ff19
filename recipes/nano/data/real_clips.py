"""Read clips with audio as training sequences: tracked faces with teacher labels.

Faces are detected, tracked and cropped as in `auscan detect`, so gaps, jitter and interpolated points match
real use. A frame has labels if the teacher's face is the tracked face; otherwise they are -1. The sound is
shifted by its measured lag; a clip whose sound is not in step with the face has none.

Inputs: the data folder (`clips/`, `clips_more/`, their teacher scores, people and lags).
Returns: a `ClipTrack` for each tracked face.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import track_faces
from auscan.media.audio import read_waveform
from auscan.media.video import read_frames
from recipes.nano.data.teacher_labels import NANO_AUS, Targets, teacher_targets

HELD_OUT = ("talk_a", "vr_3", "lp_d12", "ls_3", "vx_7", "ve_hb")
"""Clips for benchmarks only."""
DEVELOPMENT = ("lp_d13", "vr_5", "vx_9", "vx_15")
"""Clips to choose the settings of stage 2 by; not used in training."""
HELD_OUT_PEOPLE = ("p04", "p10", "p17", "p25")
"""People of clips_more/ for benchmarks only."""
DEVELOPMENT_PEOPLE = ("p08", "p20")
"""People of clips_more/ to choose the settings of stage 2 by; not used in training."""
MIN_FRAMES = 8
"""Minimum length of a track, frames."""


@dataclass(frozen=True)
class ClipTrack:
    """One face of one clip, with the clip's audio."""

    clip: str
    person: str
    """Name of the person; the clip's name where people are not known."""
    crops: NDArray[np.uint8]
    """[T, 112, 112] grey."""
    times_s: NDArray[np.float64]
    """[T] seconds."""
    labels: NDArray[np.int8]
    """[T, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[T, A] soft targets, 0 to 1."""
    intensities: NDArray[np.float32]
    """[T, A] 0 to 5; NaN if not annotated."""
    sound: NDArray[np.float32]
    """[M] at 16 kHz; empty without an audio stream."""
    sound_start_s: float
    """Time of the first sample, seconds."""


@dataclass(frozen=True)
class Frames:
    """n frames of many tracks as single faces."""

    crops: NDArray[np.uint8]
    """[n, 112, 112] grey, as cropped by `auscan detect`."""
    labels: NDArray[np.int8]
    """[n, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, A] soft targets, 0 to 1."""
    intensities: NDArray[np.float32]
    """[n, A] 0 to 5; NaN if not annotated."""
    sampling_weights: NDArray[np.float64]
    """[n] probability of drawing each frame."""


def training_tracks(tracks: list[ClipTrack]) -> list[ClipTrack]:
    """Select the tracks with labels outside the clips and people that are held out."""
    kept = (*DEVELOPMENT, *HELD_OUT, *DEVELOPMENT_PEOPLE, *HELD_OUT_PEOPLE)
    return [t for t in tracks if not {t.clip, t.person} & {*kept} and (t.labels >= 0).any()]


def development_tracks(tracks: list[ClipTrack]) -> list[ClipTrack]:
    """Select the tracks with labels of the clips and people that are held out for development."""
    kept = {*DEVELOPMENT, *DEVELOPMENT_PEOPLE}
    return [t for t in tracks if {t.clip, t.person} & kept and (t.labels >= 0).any()]


def single_frames(tracks: list[ClipTrack]) -> Frames:
    """Gather every labelled frame.

    A person is weighted by the square root of the number of frames, so that none dominates.
    """
    known = [(t.labels >= 0).any(axis=1) for t in tracks]
    frames: dict[str, int] = {}
    for track, rows in zip(tracks, known, strict=True):
        frames[track.person] = frames.get(track.person, 0) + int(rows.sum())
    sampling_weights = np.concatenate(
        [np.full(k.sum(), frames[t.person] ** -0.5) for t, k in zip(tracks, known, strict=True)]
    )

    def gathered(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(t, name)[k] for t, k in zip(tracks, known, strict=True)])

    return Frames(
        *(gathered(name) for name in ("crops", "labels", "soft", "intensities")),
        sampling_weights / sampling_weights.sum(),
    )


def load_clips(data: Path, cache: Path) -> list[ClipTrack]:
    """Load all tracks of `clips/` and, if they are there, `clips_more/`; each clip is cached as one .npz."""
    cache.mkdir(parents=True, exist_ok=True)
    lags_s = pd.read_csv(data / "clips_sync.tsv", sep="\t", index_col="clip")["lag_s"]
    tracks = []
    for path in sorted(p for p in (data / "clips").iterdir() if p.suffix in {".mp4", ".mov"}):
        teacher = data / "clips_teacher" / f"{path.stem}.parquet"
        lag = str(lags_s.get(path.stem, "none"))
        found = _cached(cache / f"{path.stem}.npz", path, lambda teacher=teacher: pd.read_parquet(teacher))
        tracks += [_in_step(track, lag) for track in found]
    if (data / "clips_more").exists():
        scores = pd.read_parquet(data / "clips_more_teacher.parquet").groupby("clip")
        people = pd.read_csv(data / "clips_more_people.tsv", sep="\t", index_col="clip")["person"]
        for name, person in people.items():
            path = data / "clips_more" / str(name)
            found = _cached(cache / f"{path.stem}.npz", path, lambda name=name: scores.get_group(str(name)))
            tracks += [replace(track, person=str(person)) for track in found]
    return [track for track in tracks if len(track.times_s) >= MIN_FRAMES]


def _in_step(track: ClipTrack, lag: str) -> ClipTrack:
    """Shift the sound by its lag in seconds; "none" removes it."""
    if lag == "none":
        return replace(track, sound=np.zeros(0, np.float32))
    return replace(track, sound_start_s=track.sound_start_s - float(lag))


def _cached(file: Path, path: Path, scores: Callable[[], pd.DataFrame]) -> list[ClipTrack]:
    """Read the tracks of a clip from the cache; track it first if they are missing.

    scores: reads the teacher's scores.
    """
    if not file.exists():
        stored: dict[str, NDArray[np.generic]] = {}
        for number, track in enumerate(read_clip(path, scores())):
            stored |= {f"{number}/{name}": np.asarray(value) for name, value in track.__dict__.items()}
        with file.with_suffix(".part").open("wb") as out:
            np.savez(out, **stored)
        file.with_suffix(".part").replace(file)
    with np.load(file) as stored_file:
        count = len({name.split("/")[0] for name in stored_file.files})
        return [_unpack(stored_file, number) for number in range(count)]


def _unpack(stored: "np.lib.npyio.NpzFile", number: int) -> ClipTrack:
    """Read one track from a cache file."""
    fields = {name: stored[f"{number}/{name}"] for name in ClipTrack.__dataclass_fields__}
    fields |= {name: str(fields[name]) for name in ("clip", "person")}
    return ClipTrack(**fields | {"sound_start_s": float(fields["sound_start_s"])})


def read_clip(path: Path, scores: pd.DataFrame) -> list[ClipTrack]:
    """Track the faces of a clip and attach its targets.  scores: of the teacher, a row a frame."""
    found = scores["found"].to_numpy(bool)
    if not found.any():
        return []  # without a face, the file has no columns of scores
    lip_gaps, times_s = scores["lip_gap"].to_numpy(np.float32), scores["time"].to_numpy(np.float64)
    targets = teacher_targets(scores, lip_gaps, times_s=times_s)
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    points = np.stack([scores[[f"{n}_x", f"{n}_y"]].to_numpy(np.float32) for n in names], axis=1)
    chunks = read_waveform(path)
    pieces = [] if chunks is None else list(chunks)
    sound = np.concatenate([np.empty(0, np.float32), *(piece.samples for piece in pieces)])
    start_s = pieces[0].start_s if pieces else 0.0

    rows: dict[int, list[tuple[NDArray[np.uint8], float, int]]] = {}
    for frame, faces in track_faces(read_frames(path), FaceDetector()):
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        for face in faces:
            row = frame.index
            eyes = np.linalg.norm(face.points[1] - face.points[0])
            known = row < len(found) and found[row]
            same = known and np.linalg.norm(face.points - points[row], axis=1).mean() < 0.5 * eyes
            crop = crop_face(grey.astype(np.uint8), face.points)
            rows.setdefault(face.face_id, []).append((crop, frame.time_s, row if same else -1))
    return [_make_track(path.stem, track, targets, sound, start_s) for track in rows.values()]


def _make_track(
    clip: str,
    rows: list[tuple[NDArray[np.uint8], float, int]],
    targets: Targets,
    sound: NDArray[np.float32],
    start_s: float,
) -> ClipTrack:
    """Pack the rows of one track. rows: crop, time, and the teacher's row, -1 for none."""
    crops, times, matched = zip(*rows, strict=True)
    shape = (len(rows), len(NANO_AUS))
    labels, soft = np.full(shape, -1, dtype=np.int8), np.zeros(shape, dtype=np.float32)
    intensities = np.full(shape, np.nan, dtype=np.float32)
    known = np.asarray(matched) >= 0
    at = np.asarray(matched)[known]
    labels[known], soft[known], intensities[known] = (
        targets.labels[at],
        targets.soft[at],
        targets.intensities[at],
    )
    return ClipTrack(
        clip, clip, np.stack(crops), np.asarray(times), labels, soft, intensities, sound, start_s
    )
