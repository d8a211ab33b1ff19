"""Join the rows of a track with its pictures and its video.

Labels or a template determine the rows; pictures and video are matched to them. Row n, picture n and the n-th
frame of the video show the same instant.

Inputs: paths (find.py), frame numbers and labels.  Returns: a `Track`.
See also: affwild2.py (names of files), index.py (writing).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscan.datasets.clock import LENGTH_SLACK, FrameClock, read_clock
from auscan.datasets.crops import TrackPictures, list_pictures
from auscan.datasets.find import DatasetFiles, Unused
from auscan.datasets.index import Track
from auscan.datasets.track_lists import named_rate_hz, source_video, video_name


@dataclass
class TrackAssembler:
    """Builder of tracks from the pictures and videos of a data set; tracks of one video share its clock."""

    root: Path
    """Folder of the data set."""
    files: DatasetFiles
    """Files found in it."""
    used_videos: set[str] = field(default_factory=set)
    """Names of the videos that a track uses."""
    used_images: set[str] = field(default_factory=set)
    """Names of the picture folders that a track uses."""

    def __post_init__(self) -> None:
        # The tracks of one video are built consecutively, so a small cache is enough.
        self._clock = lru_cache(maxsize=8)(read_clock)

    def video(self, track: str) -> Path | None:
        """Return the video of a track, by its name without `_left` or `_right`, or None."""
        for name in (video_name(track), track):
            if name in self.files.videos:
                self.used_videos.add(name)
                return self.files.videos[name]
        return None

    def clock(self, track: str) -> FrameClock:
        """Return the clock of the track's video, or one with assumed times."""
        return self._clock(self.video(track), named_rate_hz(track))

    def pictures(self, track: str) -> TrackPictures:
        """Return the pictures of a track, by its full name; empty without a folder."""
        folder = self.files.images.get(track)
        if folder is None:
            return TrackPictures()
        self.used_images.add(track)
        return list_pictures(folder)

    def build(
        self,
        name: str,
        split: str,
        numbers: NDArray[np.int64],
        labels: NDArray[np.int8],
        label_file: Path | None,
        warnings: Iterable[str] = (),
    ) -> Track:
        """Build a track from frame numbers [N] and labels [N, A], with its pictures, video and times."""
        clock, pictures, video = self.clock(name), self.pictures(name), self.video(name)
        folder = self.files.images.get(name)
        prefix = None if folder is None else relative_path(folder, self.root)
        images_beyond = len(pictures.names) - len(set(numbers.tolist()) & pictures.names.keys())
        return Track(
            name=name,
            split=split,
            source_video=source_video(name),
            numbers=numbers,
            labels=labels,
            images=pictures.paths(prefix, numbers),
            times_s=clock.at(numbers),
            clock=clock,
            video=None if video is None else relative_path(video, self.root),
            image_folder=prefix,
            label_file=None if label_file is None else relative_path(label_file, self.root),
            named_rate_hz=named_rate_hz(name),
            images_beyond=images_beyond,
            warnings=(
                *warnings,
                *clock.warnings,
                *length_warnings(clock, numbers),
                *_picture_warnings(folder, pictures, images_beyond),
            ),
        )

    def unused_files(self) -> list[Unused]:
        """Return the videos and picture folders that no track uses."""
        reason = "no labels and no entry in a test list"
        videos = [path for name, path in self.files.videos.items() if name not in self.used_videos]
        images = [path for name, path in self.files.images.items() if name not in self.used_images]
        return [Unused(str(path), reason) for path in (*videos, *images)]


def relative_path(path: Path, root: Path) -> str:
    """Return the path relative to `root`, with `/`; absolute if it is outside `root`."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.resolve())


def length_warnings(clock: FrameClock, numbers: NDArray[np.int64]) -> Iterator[str]:
    """Yield a warning if rows [N] and video differ in length by more than LENGTH_SLACK frames."""
    surplus = clock.surplus(numbers)
    if surplus is not None and abs(surplus) > LENGTH_SLACK:
        note = "later times are extrapolated" if surplus > 0 else "the last frames have no rows"
        yield f"{len(numbers)} rows up to frame {numbers.max()}, {len(clock.times_s)} frames of video: {note}"


def _picture_warnings(folder: Path | None, pictures: TrackPictures, images_beyond: int) -> Iterator[str]:
    if folder is None:
        yield "no picture folder"
    if images_beyond:
        yield f"{images_beyond} pictures have a frame number without a row; they are ignored"
    if pictures.empty:
        count, first = len(pictures.empty), pictures.empty[0]
        yield f"{count} pictures are empty (0 bytes), such as {first}; they count as missing"
    if pictures.others:
        count, first = len(pictures.others), pictures.others[0]
        yield f"{count} files are not numbered pictures or repeat a number, such as {first}"
