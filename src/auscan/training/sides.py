"""Which tracks are learned from and which are validated on, and whether they fit together.

In: an index and the settings of the data.  Out: two lists of tracks; InputError where they do not fit.
Not here: reading tracks (windows.py), folds (datasets/names.py).
"""

from collections.abc import Callable

from auscan.core.errors import InputError
from auscan.datasets.features import Encoders
from auscan.datasets.index import Index
from auscan.training.config import DataConfig
from auscan.training.windows import LabelledTrack, deal, load_tracks, with_shuffled_labels


def split_tracks(
    index: Index, data: DataConfig, seed: int, crop_size: int | None, say: Callable[[str], None]
) -> tuple[list[LabelledTrack], list[LabelledTrack]]:
    """The tracks to learn from and to validate on; says so if they share a source video.

    seed: of shuffled labels; crop_size: side of the crops, None to learn from features
    """
    if data.folds is not None:
        pooled = load_tracks(index, data.cache, [*data.train, *data.validate_on], crop_size)
        learned, held = deal(pooled, data.folds)
    else:
        learned, held = (
            load_tracks(index, data.cache, each, crop_size) for each in (data.train, data.validate_on)
        )
        both = {track.source_video for track in learned} & {track.source_video for track in held}
        if both:  # the splits are the data set's own, so it is not ours to refuse them
            say(
                f"careful: {len(both)} source videos, such as {min(both)}, are both learned from and "
                "validated on, which flatters. data.folds deals them apart."
            )
    return (with_shuffled_labels(learned, seed) if data.shuffle_labels else learned), held


def check_alike(track: LabelledTrack, first: LabelledTrack) -> None:
    """Raise InputError unless the features of both are of the same encoders and grid."""
    ours, theirs = track.features.header, first.features.header
    if (ours.encoders, ours.grid) != (theirs.encoders, theirs.grid):
        raise InputError(
            f"The features of {track.name} come from other encoders or another grid than those of "
            f"{first.name}. Run auscan extract again with one model for all."
        )


def check_start(start: Encoders, track: LabelledTrack) -> None:
    """Raise InputError unless a track's features come from the encoders with which a run starts."""
    header = track.features.header
    if start.digest != header.encoders:
        raise InputError(
            f"The features of {track.name} come from {header.model}, not from the weights that model.encoder "
            f"starts with ({start.name}). Run auscan extract with those."
        )
