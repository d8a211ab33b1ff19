"""Split tracks into training and validation, cut them into windows and collate batches.

A window is a range of rows including those without a crop: such a frame keeps its position, its time and its
labels of -1, so frames stay aligned with the audio.

Inputs: an index, a folder of features, the data settings.
Returns: lists of tracks, batches of tensors. Raises InputError if index and features do not fit.
See also: epoch.py (windows of an epoch), module.py (frames without a crop), datasets/track_lists.py (folds).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from auscan.core.errors import InputError
from auscan.datasets.cache import TrackFeatures, open_track
from auscan.datasets.crops import TrackCrops
from auscan.datasets.frozen_encoders import Encoders
from auscan.datasets.index import Index, read_index
from auscan.datasets.track_lists import assign_folds
from auscan.results.readers.annotations import NOT_ANNOTATED
from auscan.results.table import intensity_columns
from auscan.training.config import DataConfig, FoldConfig, FurtherDataConfig


@dataclass(frozen=True, eq=False)
class LabelledTrack:
    """Labels and features of one track."""

    name: str
    source_video: str
    numbers: NDArray[np.int64]
    """[T] frame numbers, from 1."""
    labels: NDArray[np.int8]
    """[T, A] of 1, 0 and -1."""
    covers: NDArray[np.int8]
    """[T, A]: 1 the AU's region of the face is covered, 0 visible, -1 unknown."""
    intensities: NDArray[np.float32]
    """[T, A] 0 to 5; NaN if unknown."""
    features: TrackFeatures
    crops: TrackCrops | None = None
    """Crops, if the encoder is fine-tuned; they then replace face and patches."""


def load_tracks(
    index: Index,
    cache: Path,
    splits: Sequence[str],
    crop_size: int | None = None,
    au_names: Sequence[str] | None = None,
) -> list[LabelledTrack]:
    """Load the tracks of some splits, sorted by name, with crops if a side in pixels is given.

    au_names: AU of each column of the labels, -1 for those that the index does not have; None: its own

    Raises InputError if there is no track, or if its features do not match the index.
    """
    selected = index.tracks[index.tracks["split"].isin(splits)].sort_values("track")
    if selected.empty:
        available = ", ".join(sorted(set(index.tracks["split"])))
        raise InputError(f"The index has no track in {' or '.join(splits)}. It has {available}.")
    au_names = index.au_names if au_names is None else au_names
    rows = index.frames.groupby("track", observed=True, sort=False).indices
    tracks = []
    for track in selected.itertuples():
        name = str(track.track)
        frames, features = index.frames.iloc[rows[name]], open_track(cache, name)
        times_s = frames["timestamp"].to_numpy(np.float64)
        images = [image if isinstance(image, str) else None for image in frames["image"]]
        missing = [image is None for image in images]
        without_pictures = isinstance(getattr(track, "face", None), str)
        if without_pictures and crop_size is not None:
            raise InputError(
                f"{name} has no pictures of the face, which training of the encoder needs. Train on "
                "features: leave out model.encoder."
            )
        if (
            len(times_s) != features.header.rows
            or not np.allclose(times_s, features.times_s)
            or (features.has_image[missing].any() and not without_pictures)
        ):
            raise InputError(
                f"The features of {name} in {cache} do not match the rows of the index. Run auscan extract "
                "again; it processes only the tracks that have changed."
            )
        labels = _columns(frames, au_names)
        covers = _columns(frames, [f"{au}_covered" for au in au_names])
        intensities = frames.reindex(columns=intensity_columns(au_names)).to_numpy(np.float32)
        numbers = frames["frame"].to_numpy(np.int64)
        crops = None if crop_size is None else TrackCrops(index.root, images, crop_size)
        source = str(track.source_video)
        tracks.append(LabelledTrack(name, source, numbers, labels, covers, intensities, features, crops))
    return tracks


def _columns(frames: pd.DataFrame, names: Sequence[str]) -> NDArray[np.int8]:
    """Return columns by name [T, A]; -1 for those that the table does not have."""
    return frames.reindex(columns=list(names), fill_value=NOT_ANNOTATED).to_numpy(np.int8)


def sample_audio(
    tracks: Sequence[LabelledTrack], per_track: int = 500, total: int = 200_000
) -> Iterator[Tensor]:
    """Yield audio tokens [n, Da] of each track, spread evenly over time, to measure their statistics.

    per_track, total: largest number of tokens of a track, and of all tracks
    """
    count = min(per_track, max(1, total // len(tracks)))
    for track in tracks:
        every = slice(None, None, max(1, len(track.features.audio) // count))
        yield torch.from_numpy(np.array(track.features.read("audio", every))).float()


def split_tracks(
    index: Index,
    au_names: tuple[str, ...],
    data: DataConfig,
    seed: int,
    crop_size: int | None,
    report: Callable[[str], None],
) -> tuple[list[LabelledTrack], list[LabelledTrack]]:
    """Return the tracks to train on and to validate on; report shared source videos and further data sets.

    au_names: AU of each label column; seed: seed of shuffled labels; crop_size: side of the crops in pixels,
    None to train on features
    """
    if data.folds is not None:
        pooled = load_tracks(index, data.cache, [*data.train, *data.validate_on], crop_size, au_names)
        training, validation = split_by_fold(pooled, data.folds)
    else:
        training, validation = (
            load_tracks(index, data.cache, each, crop_size, au_names)
            for each in (data.train, data.validate_on)
        )
        shared = {track.source_video for track in training} & {track.source_video for track in validation}
        if shared:  # the splits are defined by the data set, so this is not an error
            report(
                f"warning: {len(shared)} source videos, such as {min(shared)}, are in training and "
                "validation, so the validation score is optimistic. data.folds splits by source video."
            )
    sets = [training, *(_load_further_data(each, au_names, crop_size, report) for each in data.more)]
    if data.shuffle_labels:
        sets = [with_shuffled_labels(tracks, seed) for tracks in sets]
    return [track for tracks in sets for track in tracks], validation


def _load_further_data(
    further: FurtherDataConfig,
    au_names: tuple[str, ...],
    crop_size: int | None,
    report: Callable[[str], None],
) -> list[LabelledTrack]:
    """Load the training tracks of a further data set; report its AUs that are trained and those that are not.

    Source videos get the name of the index, so that those of two data sets are distinct.
    """
    index = read_index(further.index)
    tracks = load_tracks(index, further.cache, further.train, crop_size, au_names)
    labels = np.concatenate([track.labels for track in tracks])
    coded = [
        name for name, known in zip(au_names, np.any(labels >= 0, axis=0).tolist(), strict=True) if known
    ]
    unused = [name for name in index.au_names if name not in au_names]
    report(
        f"also training on {further.index}: {len(tracks)} tracks, {len(labels)} frames, "
        f"labels of {', '.join(coded) or 'no AU'}"
        + (f"; not trained: {', '.join(unused)} (see data.au_names)" if unused else "")
    )
    return [replace(track, source_video=f"{further.index}/{track.source_video}") for track in tracks]


def split_by_fold(
    tracks: Sequence[LabelledTrack], fold: FoldConfig
) -> tuple[list[LabelledTrack], list[LabelledTrack]]:
    """Return training and validation tracks; all tracks of a source video are on the same side."""
    fold_of = assign_folds((track.source_video for track in tracks), fold.count, fold.seed)
    training: list[LabelledTrack] = []
    validation: list[LabelledTrack] = []
    for track in tracks:
        (validation if fold_of[track.source_video] == fold.held_out else training).append(track)
    return training, validation


def with_shuffled_labels(tracks: Sequence[LabelledTrack], seed: int) -> list[LabelledTrack]:
    """Return the same tracks with labels and intensities permuted over all frames of all tracks."""
    order = np.random.default_rng([seed, 1]).permutation(sum(len(track.labels) for track in tracks))
    ends = np.cumsum([len(track.labels) for track in tracks])[:-1]
    labels, intensities = (
        np.split(np.concatenate(pooled)[order], ends)
        for pooled in ([track.labels for track in tracks], [track.intensities for track in tracks])
    )
    return [
        replace(track, labels=labels[number], intensities=intensities[number])
        for number, track in enumerate(tracks)
    ]


def smallest_enlarged(tracks: Sequence[LabelledTrack]) -> int | None:
    """Return the side in pixels of the smallest picture that was enlarged to a crop, or None."""
    sides = (
        track.features.header.enlarged_from if track.crops is None else track.crops.enlarged_from()
        for track in tracks
    )
    return min((side for side in sides if side is not None), default=None)


def check_same_encoders(track: LabelledTrack, reference: LabelledTrack) -> None:
    """Raise InputError unless both tracks have features of the same encoders and grid."""
    header, expected = track.features.header, reference.features.header
    if (header.encoders, header.grid) != (expected.encoders, expected.grid):
        raise InputError(
            f"The features of {track.name} come from other encoders or another grid than those of "
            f"{reference.name}. Run auscan extract again with one model for all tracks."
        )


def check_features_from(encoders: Encoders, track: LabelledTrack) -> None:
    """Raise InputError unless a track's features come from the run's initial encoders."""
    header = track.features.header
    if encoders.digest != header.encoders:
        raise InputError(
            f"The features of {track.name} come from {header.model}, not from the initial weights of "
            f"model.encoder ({encoders.name}). Run auscan extract with those weights."
        )


@dataclass(frozen=True)
class Window:
    """Rows `start` to `stop` of a track, given by its position in the list of tracks."""

    track: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows, padded to the length of the longest."""

    face: Tensor | None
    """[B, T, Dv] float16; None with crops."""
    patches: Tensor | None
    """[B, T, N, Dv] float32; None with crops."""
    crops: Tensor | None
    """[B, T, S, S, 3] uint8 RGB, black for frames without a crop; None with features."""
    has_face: Tensor
    """[B, T] bool; False for frames without a crop and for padding."""
    times_s: Tensor
    """[B, T] float64."""
    labels: Tensor
    """[B, T, A] int8; -1 for padding."""
    covers: Tensor
    """[B, T, A] int8: 1 region covered, 0 visible, -1 unknown and for padding."""
    intensities: Tensor
    """[B, T, A] float32, 0 to 5; NaN if unknown and for padding."""
    audio: Tensor
    """[B, Ta, Da] float16."""
    audio_times_s: Tensor
    """[B, Ta] float64."""
    audio_valid: Tensor
    """[B, Ta] bool."""
    own_audio: Tensor
    """[B, T] bool; False for frames of a window that has the audio of another one, and for padding."""
    tracks: tuple[str, ...]
    """Name of the track of each window."""
    in_window: Tensor | None = None
    """[B, T] bool, False in the margins of a window and in padding; None: no margins."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device. The copy of a pinned batch to a GPU is not waited for."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch in pinned memory. A loader with `pin_memory` calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return type(self)(**{**values, **changed})

    def window(self, number: int) -> Self:
        """Return one window as a batch of one."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            values[name] = None if value is None else value[number : number + 1]
        return type(self)(**values)


def window_starts(rows: int, length: int, stride: int) -> list[int]:
    """First rows of the windows. The last window ends with the track; a shorter track is one window."""
    if rows <= length:
        return [0]
    starts = list(range(0, rows - length + 1, stride))
    return starts if starts[-1] + length == rows else [*starts, rows - length]


def training_windows(tracks: Sequence[LabelledTrack], data: DataConfig) -> list[Window]:
    """Return all windows with at least one labelled frame that has a crop.

    Raises InputError if there is none.
    """
    windows = []
    for track_number, track in enumerate(tracks):
        rows = len(track.labels)
        usable = (track.labels >= 0).any(axis=1) & track.features.has_image  # [T]
        length = rows if data.length is None else data.length
        for start in window_starts(rows, length, data.stride):
            stop = min(start + length, rows)
            if usable[start:stop].any():
                windows.append(Window(track_number, start, stop))
    if not windows:
        raise InputError("No training frame has both a label and a crop. See report.md in the index.")
    return windows


class WindowBatches(Dataset[Batch]):
    """Data set of batches, indexed by the numbers of their windows."""

    def __init__(
        self,
        tracks: Sequence[LabelledTrack],
        windows: Sequence[Window],
        audio_margin_s: float,
        margin: int | None = None,
    ) -> None:
        """audio_margin_s: audio of a window before its first and after its last frame; margin: see
        DataConfig.
        """
        self._tracks, self._windows, self._audio_margin_s = tracks, windows, audio_margin_s
        self._margin = margin

    def __getitem__(self, numbers: Sequence[int]) -> Batch:
        return collate([self.window(number) for number in numbers])

    def window(self, number: int) -> Batch:
        """Return one window as a batch of one."""
        window = self._windows[number]
        track = self._tracks[window.track]
        if self._margin is None:
            return slice_track(track, slice(window.start, window.stop), self._audio_margin_s)
        return slice_track_with_margin(track, window, self._margin, self._audio_margin_s)


class CaughtErrors(Dataset[Batch | InputError]):
    """Data set that returns an InputError instead of raising it.

    A loader with worker processes would raise it as a traceback of the worker.
    """

    def __init__(self, batches: Dataset[Batch]) -> None:
        self._batches = batches

    def __getitem__(self, numbers: Sequence[int]) -> Batch | InputError:
        try:
            return self._batches[numbers]
        except InputError as error:
            return error


def slice_track(track: LabelledTrack, rows: slice, audio_margin_s: float) -> Batch:
    """Return rows of a track as a batch of one, with audio from `audio_margin_s` before to after them.

    Raises InputError for features that are not finite.
    """
    features = track.features
    times_s = features.times_s[rows]
    tokens = features.audio_within(float(times_s[0]) - audio_margin_s, float(times_s[-1]) + audio_margin_s)
    audio = features.read("audio", tokens)
    has_face = features.has_image[rows]
    arrays = {
        **_visual_inputs(track, rows, has_face),
        "has_face": has_face,
        "times_s": times_s,
        "labels": track.labels[rows],
        "covers": track.covers[rows],
        "intensities": track.intensities[rows],
        "audio": audio,
        "audio_times_s": features.audio_times_s(tokens),
        "audio_valid": np.ones(len(audio), bool),
        "own_audio": np.ones(len(times_s), bool),
    }
    tensors: dict[str, Any] = {"face": None, "patches": None, "crops": None, "tracks": (track.name,)}
    # Slices of a memory map are copied; decoded arrays, which are large, are not.
    owned = {name: np.require(array, requirements=["O", "W"]) for name, array in arrays.items()}
    tensors |= {name: torch.from_numpy(array)[None] for name, array in owned.items()}
    return Batch(**tensors)


def _visual_inputs(track: LabelledTrack, rows: slice, has_face: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return crops if the track has them, else features."""
    if track.crops is None:
        return {name: track.features.read(name, rows) for name in ("face", "patches")}
    return {"crops": track.crops.read(np.arange(rows.start, rows.stop), has_face)}


def slice_track_with_margin(
    track: LabelledTrack, window: Window, margin: int, audio_margin_s: float
) -> Batch:
    """Return a window with up to `margin` unlabelled frames on either side, as a batch of one."""
    rows = slice(max(0, window.start - margin), min(len(track.labels), window.stop + margin))
    batch = slice_track(track, rows, audio_margin_s)
    in_window = torch.zeros_like(batch.has_face)
    in_window[:, window.start - rows.start : window.stop - rows.start] = True
    beyond = ~in_window[..., None]
    labels, covers = (each.masked_fill(beyond, NOT_ANNOTATED) for each in (batch.labels, batch.covers))
    intensities = batch.intensities.masked_fill(beyond, torch.nan)
    return replace(batch, in_window=in_window, labels=labels, covers=covers, intensities=intensities)


def collate(windows: Sequence[Batch]) -> Batch:
    """Join batches of one into one batch; shorter windows are padded with frames without a face."""
    padding = {"labels": NOT_ANNOTATED, "covers": NOT_ANNOTATED, "intensities": torch.nan}
    collated: dict[str, Any] = {}
    for each in fields(Batch):
        if getattr(windows[0], each.name) is None:
            collated[each.name] = None
            continue
        if each.name == "tracks":
            collated[each.name] = tuple(track for window in windows for track in window.tracks)
            continue
        values = [getattr(window, each.name)[0] for window in windows]
        out = values[0].new_empty((len(values), max(map(len, values)), *values[0].shape[1:]))
        for row, value in enumerate(values):
            out[row, : len(value)] = value
            out[row, len(value) :] = padding.get(each.name, 0)
        collated[each.name] = out
    return Batch(**collated)
