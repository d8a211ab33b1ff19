"""Load the tracks of a run with their labels and features, and split them into training and validation.

Labels are matched by the names of the AUs, so data sets with different AUs train one network.

Inputs: an index, a folder of features, the data settings.
Returns: lists of tracks. Raises InputError if index and features do not fit.
See also: windows.py (windows and batches of tracks), datasets/track_lists.py (folds).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

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
