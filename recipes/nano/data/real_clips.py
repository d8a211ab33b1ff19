"""Read clips with audio as training sequences: tracked faces with teacher labels.

Faces are detected, tracked and cropped as in `auscan detect`, so gaps, jitter and interpolated points match
real use. A frame has labels if the teacher's face is the tracked face; otherwise they are -1.

Inputs: a folder of videos, a folder of teacher scores.
Returns: a `ClipTrack` for each tracked face.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.faces.align import crop_face
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import track_faces
from auscan.media.audio import read_waveform
from auscan.media.video import read_frames
from recipes.nano.data.teacher_labels import teacher_targets

HELD_OUT = ("talk_a", "vr_3", "lp_d12", "ls_3", "vx_7", "ve_hb")
"""Clips for benchmarks only."""
DEVELOPMENT = ("lp_d13", "vr_5", "vx_9", "vx_15")
"""Clips to choose the settings of stage 2 by; not used in training."""
MIN_FRAMES = 8
"""Minimum length of a track, frames."""


@dataclass(frozen=True)
class ClipTrack:
    """One face of one clip, with the clip's audio."""

    clip: str
    crops: NDArray[np.uint8]
    """[T, 112, 112] grey."""
    times_s: NDArray[np.float64]
    """[T] seconds."""
    labels: NDArray[np.int8]
    """[T, 12]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[T, 12] soft targets, 0 to 1."""
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
    """[n, 12]: 1 active, 0 inactive, -1 not annotated."""
    soft: NDArray[np.float32]
    """[n, 12] soft targets, 0 to 1."""
    sampling_weights: NDArray[np.float64]
    """[n] probability of drawing each frame."""


def training_tracks(tracks: list[ClipTrack]) -> list[ClipTrack]:
    """Select the tracks with labels outside DEVELOPMENT and HELD_OUT."""
    kept = (*DEVELOPMENT, *HELD_OUT)
    return [t for t in tracks if t.clip not in kept and (t.labels >= 0).any()]


def single_frames(tracks: list[ClipTrack]) -> Frames:
    """Gather every labelled frame.

    A track is weighted by the square root of its length, so that no person dominates.
    """
    known = [(t.labels >= 0).any(axis=1) for t in tracks]
    sampling_weights = np.concatenate([np.full(k.sum(), k.sum() ** -0.5) for k in known])

    def gathered(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(t, name)[k] for t, k in zip(tracks, known, strict=True)])

    return Frames(
        *(gathered(name) for name in ("crops", "labels", "soft")), sampling_weights / sampling_weights.sum()
    )


def load_clips(clips: Path, teacher: Path, cache: Path) -> list[ClipTrack]:
    """Load all tracks of all videos; each clip is cached as one .npz in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    tracks = []
    for path in sorted(p for p in clips.iterdir() if p.suffix in {".mp4", ".mov"}):
        for number, track in enumerate(_tracks_of(path, teacher / f"{path.stem}.parquet", cache)):
            if len(track.times_s) >= MIN_FRAMES:
                tracks.append(track)
            else:
                print(f"{path.name}: skipped track {number}, which has only {len(track.times_s)} frames")
    return tracks


def _tracks_of(path: Path, teacher: Path, cache: Path) -> list[ClipTrack]:
    """Read the tracks of a clip from the cache; track it first if they are missing."""
    file = cache / f"{path.stem}.npz"
    if not file.exists():
        stored: dict[str, NDArray[np.generic]] = {}
        for number, track in enumerate(read_clip(path, teacher)):
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
    fields["clip"], fields["sound_start_s"] = str(fields["clip"]), float(fields["sound_start_s"])
    return ClipTrack(**fields)


def read_clip(path: Path, teacher: Path) -> list[ClipTrack]:
    """Track the faces of a clip and attach the teacher's targets."""
    scores = pd.read_parquet(teacher)
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
    return [
        _make_track(path.stem, track, targets.labels, targets.soft, sound, start_s) for track in rows.values()
    ]


def _make_track(
    clip: str,
    rows: list[tuple[NDArray[np.uint8], float, int]],
    labels: NDArray[np.int8],
    soft: NDArray[np.float32],
    sound: NDArray[np.float32],
    start_s: float,
) -> ClipTrack:
    """Pack the rows of one track. rows: crop, time, and the teacher's row, -1 for none."""
    crops, times, matched = zip(*rows, strict=True)
    track_labels = np.full((len(rows), len(AFFWILD2_AUS)), -1, dtype=np.int8)
    track_soft = np.zeros((len(rows), len(AFFWILD2_AUS)), dtype=np.float32)
    here = np.asarray(matched)
    track_labels[here >= 0] = labels[here[here >= 0]]
    track_soft[here >= 0] = soft[here[here >= 0]]
    return ClipTrack(clip, np.stack(crops), np.asarray(times), track_labels, track_soft, sound, start_s)
