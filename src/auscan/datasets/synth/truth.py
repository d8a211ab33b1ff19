"""Build tracks from the ground truth of a synthetic data set (`auscan synth`).

Unlike the annotation files beside it, the truth has every AU of the faces, labels without errors, and
intensities: the movement of the face model away from the resting face, times five.

Inputs: the data set's folder.  Returns: one track per person and video.
See also: video.py (what truth/ holds), datasets/prepare.py (index).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from auscan.core.aus import au_columns
from auscan.core.config import MAX_INTENSITY
from auscan.core.errors import InputError
from auscan.datasets.clock import read_clock
from auscan.datasets.dataset_tree import DatasetTree
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import length_warnings, relative_path


@dataclass
class SyntheticTruth:
    """Reader of the ground truth of one synthetic data set."""

    tree: DatasetTree
    """Files of the data set."""
    frames: pd.DataFrame = field(init=False)
    """truth/frames.parquet."""
    summaries: pd.DataFrame = field(init=False)
    """truth/tracks.parquet."""

    def __post_init__(self) -> None:
        folder = self.tree.root / "truth"
        try:
            self.frames = pd.read_parquet(folder / "frames.parquet")
            self.summaries = pd.read_parquet(folder / "tracks.parquet")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(
                f"{folder} is not the ground truth of a synthetic data set ({error}). Give a folder that "
                "auscan synth wrote."
            ) from error

    @property
    def au_names(self) -> tuple[str, ...]:
        """AUs of the faces, in ascending order."""
        return tuple(sorted(au_columns(self.frames.columns)))

    def tracks(self) -> Iterator[Track]:
        """Yield the track of each person in each video."""
        rows_by_track = {str(name): rows for name, rows in self.frames.groupby("track", sort=False)}
        for summary in self.summaries.itertuples():
            yield self._track(str(summary.track), str(summary.video), str(summary.split), rows_by_track)

    def _track(self, name: str, video: str, split: str, rows_by_track: dict[str, pd.DataFrame]) -> Track:
        rows, au_names = rows_by_track[name], list(self.au_names)
        numbers = rows["number"].to_numpy(np.int64)
        folder = f"cropped_aligned/{name}"
        has_image = rows["has_image"].to_numpy(bool)
        images = [
            f"{folder}/{n:05d}.jpg" if shown else None for n, shown in zip(numbers, has_image, strict=True)
        ]
        path = self.tree.video(video)
        clock = read_clock(path, None)
        movement = rows[au_names].to_numpy(np.float32)
        return Track(
            name=name,
            split=split,
            source_video=video,
            numbers=numbers,
            labels=rows[[f"{au}_label" for au in au_names]].to_numpy(np.int8),
            images=images,
            times_s=clock.at(numbers),
            clock=clock,
            video=None if path is None else relative_path(path, self.tree.root),
            image_folder=folder,
            label_file="truth/frames.parquet",
            au_names=self.au_names,
            coded=self.au_names,
            intensities=np.clip(MAX_INTENSITY * movement, 0, MAX_INTENSITY).astype(np.float32),
            warnings=(*clock.warnings, *length_warnings(clock, numbers)),
        )
