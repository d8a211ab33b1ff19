"""Score the tracks of an index with a checkpoint, as `auscan detect` scores a video.

    video   detect() reads the video. The track has the face that its pictures show; without pictures of
            single faces, the largest face of each frame.
    frames  the pictures are whole frames: detect() reads their folder as a video; the largest face
    crops   the pictures are aligned faces: they are encoded as they are, with the sound of the video

A frame whose face is absent or of too low quality has no score, as in the table of `auscan detect`. Crops are
all scored. Frame n of the index is the n-th frame of its video.

Inputs: an index (datasets/index.py) and an engine. Returns: tables of scores (training/scores.py).
See also: score.py (all jobs of an index), pipeline/detect.py, datasets/video_crops.py (similarity).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.errors import InputError, MediaError
from auscan.datasets.crops import read_crop, resize_crop
from auscan.datasets.index import Index
from auscan.datasets.video_crops import MIN_SIMILARITY, similarity
from auscan.faces.align import SIDE, TEMPLATE, crop_face, measure_quality
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import TrackedFace
from auscan.inference.engine import InferenceEngine, measure_level
from auscan.media.audio import read_waveform
from auscan.media.discover import numbered_images, read_image
from auscan.media.video import read_frames
from auscan.pipeline.audio_stream import AudioTokenReader
from auscan.pipeline.detect import BATCH_CROPS, detect
from auscan.pipeline.face_features import FaceCrop, FaceEncoder, FrameCrops, batch_frames
from auscan.pipeline.track import FaceTrack
from auscan.pipeline.track_queue import TrackQueue
from auscan.results.table import TrackScores, check_quality, intensity_columns
from auscan.training.scores import TIME_COLUMN

Crops = Literal["video", "pictures"]
"""Source of the faces of tracks that have a video and pictures."""
Kind = Literal["video", "frames", "crops"]
Progress = Callable[[int, int | None], None]
"""Called with the number of scored frames and the expected number."""

TEMPLATE_DISTANCE: Final = 0.15
"""Largest distance of the five points from the template in an aligned face, as a share of its side."""
SAMPLED_PICTURES: Final = 3
"""Pictures of a track that are examined to distinguish aligned faces from whole frames."""
SAMPLED_FRAMES: Final = 7
"""Frames in which a face of the video is compared with the pictures of a track."""


@dataclass(frozen=True, eq=False)
class IndexedTrack:
    """Rows of one track of an index."""

    name: str
    frames: NDArray[np.int64]
    """Indices [T] of the frames in the video, from 0."""
    times_s: NDArray[np.float64]
    """Frame times [T], seconds."""
    images: tuple[str | None, ...]
    """Picture paths [T] below the data set's folder; None without a picture."""
    video: str | None
    """Video file below the data set's folder."""
    has_audio: bool
    rate_hz: float

    @cached_property
    def pictured(self) -> NDArray[np.intp]:
        """Rows that have a picture."""
        return np.flatnonzero([image is not None for image in self.images])

    def sample(self, rows: NDArray[np.intp], count: int) -> list[tuple[int, str]]:
        """Return up to `count` of some rows with a picture, spread evenly, each with its picture."""
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        return [(int(row), image) for row in chosen if (image := self.images[row]) is not None]


@dataclass(frozen=True, eq=False)
class ScoringJob:
    """Tracks that are scored together: those of one video, or one track of pictures."""

    kind: Kind
    path: Path
    """The video, or the folder of the pictures."""
    tracks: tuple[IndexedTrack, ...]

    @property
    def key(self) -> str:
        """Name of the job's part, from the names of its tracks."""
        return hashlib.sha256("\n".join(track.name for track in self.tracks).encode()).hexdigest()[:16]

    @property
    def frames(self) -> int:
        """Number of rows."""
        return sum(len(track.frames) for track in self.tracks)


class IndexScorer:
    """Scorer of the tracks of one index with one engine."""

    def __init__(self, index: Index, engine: InferenceEngine) -> None:
        self.index, self.engine = index, engine
        self._side = engine.config.network.visual.crop_size
        self._aligned: dict[str, bool] = {}

    @cached_property
    def _detector(self) -> FaceDetector:
        return FaceDetector()

    def jobs(self, split: str | None = None, crops: Crops | None = None) -> list[ScoringJob]:
        """Return the jobs of all tracks, or of one split, in the order of their sources.

        crops: source of the faces of tracks with both; None: the video
        Raises InputError for another split, a track without video and pictures, and several tracks of one
        source that no pictures of single faces distinguish.
        """
        by_source: dict[tuple[Kind, Path, str], list[IndexedTrack]] = {}
        for track in self._tracks(split):
            kind, path = self._source(track, crops)
            by_source.setdefault((kind, path, track.name if kind == "crops" else ""), []).append(track)
        jobs = [ScoringJob(kind, path, tuple(tracks)) for (kind, path, _), tracks in by_source.items()]
        for job in jobs:
            unclear = [track.name for track in job.tracks if not self._is_aligned(track)]
            if len(job.tracks) > 1 and unclear:
                raise InputError(
                    f"{job.path} shows the tracks {', '.join(track.name for track in job.tracks)}, but "
                    f"{unclear[0]} has no pictures of its face that tell which one it is. Give each track "
                    "its own video, or pictures of aligned faces."
                )
        return jobs

    def score(self, job: ScoringJob, progress: Progress | None = None) -> tuple[pd.DataFrame, list[str]]:
        """Return the scores of the tracks of a job, and warnings.

        Raises MediaError if the video, or the folder, cannot be read.
        """
        if job.kind == "crops":
            return self._score_crops(job.tracks[0], progress)
        rate_hz = job.tracks[0].rate_hz if job.kind == "frames" else None
        found = detect(job.path, model=self.engine, folder_rate_hz=rate_hz, progress=progress).tracks
        tables, warnings = [], []
        for track in job.tracks:
            frames = track.frames if job.kind == "video" else self._picture_indices(track, job.path)
            faces: Sequence[TrackScores] = found
            if job.kind == "video" and self._is_aligned(track):
                faces = self._matching(track, found, job.path)
            if not faces:
                reason = "no face is found" if not found else "no face shows the pictures of the track"
                warnings.append(f"{track.name}: {reason} in {job.path}, so it has no scores")
            tables.append(_scores_table(self.engine, track, frames, faces))
        return pd.concat(tables, ignore_index=True), warnings

    def _tracks(self, split: str | None) -> Iterator[IndexedTrack]:
        """Yield the tracks, those of one video together."""
        table = self.index.tracks
        if split is not None:
            table = table[table["split"] == split]
        if table.empty:
            known = ", ".join(sorted(set(self.index.tracks["split"])))
            raise InputError(f"The index has no split {split!r}. It has {known or 'no tracks'}.")
        rows = self.index.frames.groupby("track", observed=True, sort=False).indices
        for track in table.sort_values(["video", "track"]).itertuples():
            frames = self.index.frames.iloc[rows[str(track.track)]]
            yield IndexedTrack(
                name=str(track.track),
                frames=frames["frame"].to_numpy(np.int64) - 1,
                times_s=frames["timestamp"].to_numpy(np.float64),
                images=tuple(image if isinstance(image, str) else None for image in frames["image"]),
                video=str(track.video) if isinstance(track.video, str) else None,
                has_audio=bool(track.has_audio),
                rate_hz=float(str(track.rate_hz)),
            )

    def _source(self, track: IndexedTrack, crops: Crops | None) -> tuple[Kind, Path]:
        if track.video is not None and (crops != "pictures" or not len(track.pictured)):
            return "video", self.index.root / track.video
        if not len(track.pictured):
            raise InputError(
                f"Track {track.name} has neither a video nor pictures. Put its video back and run auscan "
                "prepare again."
            )
        folder = (self.index.root / str(track.images[track.pictured[0]])).parent
        return ("crops" if self._is_aligned(track) else "frames"), folder

    def _is_aligned(self, track: IndexedTrack) -> bool:
        """Return whether the pictures of a track are aligned faces; False without pictures.

        An aligned face is square, and its points lie near the template, or it is too tight to be detected.
        """
        if track.name not in self._aligned:
            self._aligned[track.name] = self._sample_alignment(track)
        return self._aligned[track.name]

    def _sample_alignment(self, track: IndexedTrack) -> bool:
        votes = []
        for _, image in track.sample(track.pictured, SAMPLED_PICTURES):
            picture = read_image(self.index.root / image)
            faces = self._detector(picture) if picture.shape[0] == picture.shape[1] else None
            if faces:
                distances = np.linalg.norm(faces[0].points * (SIDE / len(picture)) - TEMPLATE, axis=1)
                votes.append(bool(np.median(distances) <= TEMPLATE_DISTANCE * SIDE))
            else:
                votes.append(faces is not None)
        return bool(votes) and sum(votes) * 2 > len(votes)

    def _picture_indices(self, track: IndexedTrack, folder: Path) -> NDArray[np.int64]:
        """Return the index [T] of each row's picture among those of the folder; -1 without a picture."""
        position = {path: number for number, path in enumerate(numbered_images(folder))}
        paths = (None if image is None else self.index.root / image for image in track.images)
        return np.array([-1 if path is None else position[path] for path in paths], np.int64)

    def _matching(self, track: IndexedTrack, faces: Sequence[TrackScores], video: Path) -> list[TrackScores]:
        """Return the faces of a video that the pictures of a track show."""
        compared: dict[int, list[tuple[int, str, TrackScores]]] = {}  # by frame
        similarities: dict[int, list[float]] = {face.face_id: [] for face in faces}
        for face in faces:
            both = track.pictured[np.isin(track.frames[track.pictured], face.frames)]
            for row, image in track.sample(both, SAMPLED_FRAMES):
                compared.setdefault(int(track.frames[row]), []).append((row, image, face))
        for frame in read_frames(video, only=compared):
            for _, image, face in compared[frame.index]:
                points = face.points[np.searchsorted(face.frames, frame.index)]
                crop, picture = crop_face(frame.image, points), read_image(self.index.root / image)
                similarities[face.face_id].append(similarity(picture, crop))
        shown = {
            face_id for face_id, found in similarities.items() if found and np.median(found) >= MIN_SIMILARITY
        }
        return [face for face in faces if face.face_id in shown]

    def _score_crops(self, track: IndexedTrack, progress: Progress | None) -> tuple[pd.DataFrame, list[str]]:
        """Score the pictures of a track as the crops of one face; all of them, of any quality."""
        encoder, face, warnings = FaceEncoder(self.engine), None, list[str]()
        with closing(self._open_audio(track)) as audio:
            for batch in batch_frames(self._crops(track, warnings), BATCH_CROPS):
                for frame in encoder(batch):
                    face = FaceTrack(0, frame.faces[0]) if face is None else face
                    face.add(frame.index, frame.time_s, frame.faces[0])
                    audio.advance(frame.time_s, has_faces=True)
                if progress is not None:
                    progress(batch[-1].index + 1, len(track.frames))
            audio.advance(np.inf, has_faces=False)
            faces = [] if face is None else [self._finish(face, audio)]
        table = _scores_table(self.engine, track, np.arange(len(track.frames)), faces, keep_all=True)
        return table, warnings

    def _finish(self, face: FaceTrack, audio: AudioTokenReader) -> TrackScores:
        """Score a track with the sound that was read, as detect() does."""
        queue = TrackQueue(self.engine)
        queue.add(face, audio.tokens)
        (waiting,) = queue.ready(at_end=True)
        shift_s = queue.offset_s or 0.0
        tokens = None if audio.tokens is None else audio.tokens.shifted(shift_s)
        return face.score(self.engine, tokens, waiting.opening, shift_s)

    def _open_audio(self, track: IndexedTrack) -> AudioTokenReader:
        chunks = level = None
        if track.video is not None and track.has_audio:
            chunks = read_waveform(self.index.root / track.video)
            if chunks is not None and self.engine.config.network.normalises_file:
                level = measure_level(chunks)
                chunks = read_waveform(self.index.root / track.video)
        return AudioTokenReader(self.engine, chunks, level)

    def _crops(self, track: IndexedTrack, warnings: list[str]) -> Iterator[FrameCrops]:
        """Yield the crops of the rows with a picture, numbered by row; warn of an unreadable picture."""
        scale = self._side / SIDE
        points, box = TEMPLATE * scale, np.array([0, 0, self._side, self._side], np.float32)
        transform = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
        for row in track.pictured:
            try:
                pixels = read_crop(self.index.root / str(track.images[row]), self._side)
            except MediaError as error:
                warnings.append(f"{track.name}: {error} The frame has no score.")
                continue
            quality = measure_quality(resize_crop(pixels, SIDE), transform)
            crop = FaceCrop(TrackedFace(0, box, points, 1.0), pixels, transform, quality)
            yield FrameCrops(int(row), float(track.times_s[row]), [crop])


def _scores_table(
    engine: InferenceEngine,
    track: IndexedTrack,
    frames: NDArray[np.integer],
    faces: Sequence[TrackScores],
    keep_all: bool = False,
) -> pd.DataFrame:
    """Return the scores of a track: in each frame those of the largest of the faces, if its quality suffices.

    frames: index [T] of each row's frame among those of the faces    keep_all: of any quality
    """
    config = engine.config
    names = [*config.au_names, *(intensity_columns(config.au_names) if config.network.intensity else ())]
    scores = np.full((len(frames), len(names)), np.nan, np.float32)
    has_face, largest = np.zeros(len(frames), bool), np.zeros(len(frames))
    for face in faces:
        at = pd.Index(face.frames).get_indexer(pd.Index(frames))  # [T], -1: not in the frame
        area = np.where(at < 0, -1.0, face.boxes[at, 2:].prod(axis=1))
        rows = np.flatnonzero(area > largest)
        usable = (check_quality(face.quality_features[at[rows]])[1] == "") | keep_all
        largest[rows], has_face[rows] = area[rows], usable
        values = [face.probabilities, *([] if face.intensities is None else [face.intensities])]
        scores[rows] = np.where(usable[:, None], np.concatenate(values, axis=1)[at[rows]], np.nan)
    table = pd.DataFrame(dict(zip(names, scores.T, strict=True)))
    table.insert(0, "track", track.name)
    table.insert(1, "frame", track.frames + 1)
    table.insert(2, "has_face", has_face)
    table[TIME_COLUMN] = track.times_s
    return table
