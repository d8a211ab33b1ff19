"""Run the frozen encoders over a data set once, so that training reads features instead of pictures.

Batches are filled across the tracks of a video and never span two videos. The features of a video therefore
do not depend on the worker that extracts it or on the order of the videos. Sound is split into the same
segments as at inference and encoded once per video; for encoders that normalise over the file it is read
twice. For an audio transformer the tokens are the means of groups of its layers, whose weights training
learns (model/token_mix.py).

Crops are the pictures of the index, or are cut from the frames of the video (video_crops.py). Those of tracks
without pictures (own_labels.py) are always cut from the video.

Inputs: an index (index.py) and encoders (frozen_encoders.py).  Returns: folders of features (cache.py).
See also: batch/extract.py (pending tracks, workers), training/ (training on features).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from auscan.core.errors import MediaError
from auscan.datasets.cache import (
    CacheHeader,
    TrackWriter,
    rows_digest,
)
from auscan.datasets.crops import resize_crop
from auscan.datasets.frozen_encoders import Encoders, to_float16
from auscan.datasets.index import Index
from auscan.datasets.video_crops import DetectedCrop, detected_crops, find_shown, select_face
from auscan.inference.engine import encode_audio_stream, measure_level
from auscan.media.audio import read_waveform
from auscan.media.discover import read_image

DECODE_THREADS: Final = 4
"""Threads that decode pictures."""

CropSource = Literal["pictures", "video"]
"""Source of the crops of tracks with a video, see `CacheHeader`."""

Progress = Callable[[int, int | None], None]
"""Function called with the pictures done and the total number of pictures."""


@dataclass(frozen=True, eq=False)
class TrackRows:
    """Inputs of feature extraction for one track."""

    name: str
    """Name of the track."""
    source: str
    """Video file of the track, which other tracks may share; the track's name without a video."""
    video: str | None
    """Video file if it has sound, else None."""
    images: list[str | None]
    """Picture paths [T] below the data set's folder; None without a picture."""
    frames: NDArray[np.int64]
    """Indices [T] of the frames in the video, from 0."""
    shown_in: str | None
    """Video file that shows the track; None without a video."""
    times_s: NDArray[np.float64]
    """Frame times [T], seconds."""
    face: str | None = None
    """Face of a track without pictures, see `Track.face`; None if the pictures show it."""

    @property
    def crop_rows(self) -> list[int]:
        """Rows that may have a crop: those with a picture, or all of a track without pictures."""
        return [i for i, image in enumerate(self.images) if image is not None or self.face is not None]

    def crop_source(self, crops: CropSource) -> CropSource:
        """Return the source of the track's crops if `crops` is that of tracks with pictures."""
        if self.face is not None:
            return "video"
        return "pictures" if self.shown_in is None else crops

    @property
    def length_s(self) -> float:
        """Time from the first to the last frame, seconds."""
        return float(self.times_s[-1] - self.times_s[0]) if len(self.times_s) else 0.0


def read_tracks(index: Index) -> Iterator[TrackRows]:
    """Yield the tracks of an index, grouped by video."""
    rows = index.frames.groupby("track", observed=True, sort=False).indices
    for track in index.tracks.sort_values(["video", "track"]).itertuples():
        name = str(track.track)
        frames = index.frames.iloc[rows[name]]
        images = [image if isinstance(image, str) else None for image in frames["image"]]
        video = str(track.video) if isinstance(track.video, str) else None
        times_s = frames["timestamp"].to_numpy(np.float64)
        indices = frames["frame"].to_numpy(np.int64) - 1
        with_sound = video if track.has_audio else None
        face = getattr(track, "face", None)  # an index of auscan 0.1 does not have the column
        face = face if isinstance(face, str) else None
        yield TrackRows(name, video or name, with_sound, images, indices, video, times_s, face)


def expected_header(
    track: TrackRows, encoders: Encoders, grid: int, crops: CropSource = "pictures"
) -> CacheHeader:
    """Return the header of a track's features, without the fields known only after extraction."""
    return CacheHeader(
        track=track.name,
        model=encoders.name,
        encoders=encoders.digest,
        rows=len(track.images),
        rows_digest=rows_digest([*track.images, track.video, *_stated(track.face)], track.times_s),
        width=encoders.width,
        grid=grid,
        audio_width=encoders.audio_width,
        visual_parts=encoders.visual_parts,
        audio_parts=encoders.audio_parts,
        crops=track.crop_source(crops),
        crop_size=encoders.crop_size,
    )


def _stated(face: str | None) -> list[str]:
    return [] if face is None else [f"face {face}"]


def count_images(tracks: Iterable[TrackRows]) -> int:
    """Return the number of pictures in the tracks, and of frames in those without pictures."""
    return sum(len(track.crop_rows) for track in tracks)


@dataclass(eq=False)
class _OpenTrack:
    """Track whose features are being written."""

    track: TrackRows
    writer: TrackWriter
    unreadable: list[str]
    picture_side: int | None = None
    """Shorter side of the smallest picture that was resized to a crop so far, px."""
    without_match: int = 0
    """Number of pictures that no face of their frame matches, so far."""
    with_others: int = 0
    """Number of frames with other faces, so far; of tracks without pictures."""

    def warnings(self) -> list[str]:
        """Return a warning for each unreadable picture, and one for pictures that no face matches."""
        found = [f"not readable, counts as missing: {image}" for image in self.unreadable]
        if self.with_others and self.track.face is not None:
            found.append(
                f"{self.track.name}: {self.with_others} of {len(self.track.images)} frames have several "
                f"faces; the labels are taken for the face {self.track.face} (see docs/own_labels.md)"
            )
        if self.writer.header.crops == "video" and self.without_match:
            found.append(
                f"{self.track.name}: {self.without_match} of {len(self.track.crop_rows)} crops are the data "
                "set's pictures, because no face in the frame of the video surely matches them"
            )
        return found


_Row = tuple[_OpenTrack, int, Sequence[DetectedCrop]]
"""Track, row, and crops of the faces in its frame; none if crops are not cut from a video."""


@dataclass(frozen=True, eq=False)
class _PendingImage:
    """Picture that is being decoded."""

    track: _OpenTrack
    number: int
    """Row in the track."""
    image: str
    """Path below the data set's folder; empty without a picture."""
    crop: "Future[tuple[NDArray[np.uint8], int | None]]"
    """Crop [S, S, 3]; the shorter side of the picture in px, or None if the crop is from the video."""


@dataclass(frozen=True, eq=False)
class _ImageBatch:
    """Pictures to encode together."""

    rows: list[_PendingImage]
    complete: list[_OpenTrack]
    """Tracks whose last picture is in this batch or an earlier one."""


class Extractor:
    """Feature extractor: callable that writes the features of one video's tracks."""

    def __init__(
        self, root: Path, encoders: Encoders, grid: int, batch: int = 64, crops: CropSource = "pictures"
    ) -> None:
        """Store the settings.

        root: folder of the data set.  grid: patches per side after averaging.  batch: pictures per batch.
        """
        self.root, self.encoders, self.grid, self.batch, self.crops = root, encoders, grid, batch, crops
        self._audio_tokens = _AudioTokenCache(root, encoders)

    def __call__(self, tracks: Sequence[TrackRows], folder: Path, progress: Progress) -> list[str]:
        """Write the features of a video's tracks into the cache `folder`; return warnings."""
        warnings: list[str] = []
        total, done = count_images(tracks), 0
        with ThreadPoolExecutor(DECODE_THREADS) as decoders:
            for batch in _prefetch_one(self._batches(tracks, folder, decoders)):
                self._encode_batch(batch)
                for open_track in batch.complete:
                    audio, start_s = self._audio_tokens.tokens_of(open_track.track.video)
                    open_track.writer.finish(audio, start_s, open_track.unreadable, open_track.picture_side)
                    warnings += open_track.warnings()
                done += len(batch.rows)
                progress(done, total)
        return warnings

    def _encode_batch(self, batch: _ImageBatch) -> None:
        rows, crops = [], []
        for row in batch.rows:
            try:
                crop, picture_side = row.crop.result()
            except MediaError:
                row.track.unreadable.append(row.image)
                continue
            crops.append(crop)
            rows.append(row)
            if picture_side is not None:
                row.track.picture_side = min(picture_side, row.track.picture_side or picture_side)
                row.track.without_match += 1
        if crops:
            face, patches = self.encoders.encode_faces(np.stack(crops), self.grid)
            for position, row in enumerate(rows):
                row.track.writer.write_row(row.number, face[position], patches[position])

    def _batches(
        self, tracks: Sequence[TrackRows], folder: Path, decoders: ThreadPoolExecutor
    ) -> Iterator[_ImageBatch]:
        """Yield batches of pictures across tracks; a track is complete in the batch of its last picture."""
        batch = _ImageBatch([], [])
        for row in self._rows(tracks, folder):
            if isinstance(row, _OpenTrack):
                batch.complete.append(row)
                continue
            if len(batch.rows) == self.batch:
                yield batch
                batch = _ImageBatch([], [])
            track, number, detected = row
            image, face = track.track.images[number], track.track.face
            if face is not None:
                track.with_others += len(detected) > 1
                selected = select_face(detected, face)
                if selected is not None:
                    batch.rows.append(_PendingImage(track, number, "", _finished((selected, None))))
                continue
            assert image is not None
            crops = [each.pixels for each in detected]
            crop = decoders.submit(_read_crop, self.root / image, crops, self.encoders.crop_size)
            batch.rows.append(_PendingImage(track, number, image, crop))
        yield batch

    def _rows(self, tracks: Sequence[TrackRows], folder: Path) -> Iterator[_Row | _OpenTrack]:
        """Yield the rows with a picture, and each track after its last row."""
        video = tracks[0].shown_in
        if video is not None and tracks[0].crop_source(self.crops) == "video":
            yield from self._video_rows([self._open(track, folder) for track in tracks], self.root / video)
            return
        for track in tracks:
            open_track = self._open(track, folder)
            yield from ((open_track, number, ()) for number in track.crop_rows)
            yield open_track

    def _video_rows(self, tracks: list[_OpenTrack], video: Path) -> Iterator[_Row | _OpenTrack]:
        """Yield the rows of all tracks of a video in the order of its frames, with the faces of the frame."""
        rows: dict[int, list[tuple[_OpenTrack, int]]] = {}
        for track in tracks:
            for number in track.track.crop_rows:
                rows.setdefault(int(track.track.frames[number]), []).append((track, number))
        try:
            for index, crops in detected_crops(video, max(rows, default=-1), self.encoders.crop_size):
                yield from ((track, number, crops) for track, number in rows.pop(index, ()))
        except MediaError:  # auscan prepare has already reported it
            pass
        for index in sorted(rows):  # frames that the video does not have
            yield from ((track, number, ()) for track, number in rows[index])
        yield from tracks

    def _open(self, track: TrackRows, folder: Path) -> _OpenTrack:
        header = expected_header(track, self.encoders, self.grid, self.crops)
        return _OpenTrack(track, TrackWriter(folder, header, track.times_s), [])


def _finished(crop: tuple[NDArray[np.uint8], int | None]) -> "Future[tuple[NDArray[np.uint8], int | None]]":
    """Return a crop as if it had been decoded."""
    future: Future[tuple[NDArray[np.uint8], int | None]] = Future()
    future.set_result(crop)
    return future


def _read_crop(
    path: Path, detected: Sequence[NDArray[np.uint8]], side: int
) -> tuple[NDArray[np.uint8], int | None]:
    """Return the crop [side, side, 3] RGB of a row, and the shorter side of its picture in px.

    detected: crops of the faces in the frame. If one shows the picture it is returned, with None.
    """
    image = read_image(path)
    shown = find_shown(image, detected)
    return (resize_crop(image, side), min(image.shape[:2])) if shown is None else (shown, None)


def _prefetch_one(batches: Iterator[_ImageBatch]) -> Iterator[_ImageBatch]:
    """Yield the same batches one step late, so that the next batch decodes while one is encoded."""
    pending: _ImageBatch | None = None
    for batch in batches:
        if pending is not None:
            yield pending
        pending = batch
    if pending is not None:
        yield pending


class _AudioTokenCache:
    """Cache of the audio tokens of the last video; its tracks are extracted consecutively."""

    def __init__(self, root: Path, encoders: Encoders) -> None:
        self._root, self._encoders = root, encoders
        self._video: str | None = None
        self._cached: tuple[NDArray[np.float16], float] = self._no_tokens()

    def tokens_of(self, video: str | None) -> tuple[NDArray[np.float16], float]:
        """Return tokens [Ta, Da] and the start of the sound in seconds; Ta is 0 without readable sound."""
        if video != self._video:
            self._video, self._cached = video, self._no_tokens() if video is None else self._encode(video)
        return self._cached

    def _no_tokens(self) -> tuple[NDArray[np.float16], float]:
        return np.empty((0, self._encoders.audio_width), np.float16), 0.0

    def _encode(self, video: str) -> tuple[NDArray[np.float16], float]:
        try:
            sound, level = read_waveform(self._root / video), None
            if sound is not None and self._encoders.config.normalises_file:
                level = measure_level(sound)
                sound = read_waveform(self._root / video)
            tokens = None if sound is None else encode_audio_stream(self._encoders, sound, level)
        except MediaError:  # auscan prepare has already reported it
            tokens = None
        if tokens is None:
            return self._no_tokens()
        half_token_s = (tokens.times_s[1] - tokens.times_s[0]) / 2 if len(tokens.times_s) > 1 else 0.01
        return to_float16(torch.from_numpy(tokens.tokens)), float(tokens.times_s[0] - half_token_s)
