"""Bring pictures, video and rows together into a track.

The rows are given, by labels or by a template; pictures and video are fitted to them and never the other way
round. Row n, picture n and the n-th frame of the video are one instant.

In: paths found (find.py), frame numbers and labels.  Out: a `Track`.
Not here: what a data set's files are called (affwild2.py), writing (index.py).
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
    """The pictures and videos of a data set, looked up by track; sides and persons share a video's clock."""

    root: Path
    files: DatasetFiles
    used_videos: set[str] = field(default_factory=set)
    used_images: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        # The persons of one video come one after the other, so a few clocks suffice.
        self._clock = lru_cache(maxsize=8)(read_clock)

    def video(self, track: str) -> Path | None:
        """The video of a track: the bare name's, be the track the left or the right person in it."""
        for name in (video_name(track), track):
            if name in self.files.videos:
                self.used_videos.add(name)
                return self.files.videos[name]
        return None

    def clock(self, track: str) -> FrameClock:
        """The clock of the track's video, or a made-up one."""
        return self._clock(self.video(track), named_rate_hz(track))

    def pictures(self, track: str) -> TrackPictures:
        """The pictures of a track under its full name; none if it has no folder."""
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
        """A track of the rows given by frame numbers [N] and labels [N, A], with all that belongs to it."""
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
        """Videos and folders of pictures that no track asked for."""
        reason = "no labels and no entry in a test list"
        videos = [path for name, path in self.files.videos.items() if name not in self.used_videos]
        images = [path for name, path in self.files.images.items() if name not in self.used_images]
        return [Unused(str(path), reason) for path in (*videos, *images)]


def relative_path(path: Path, root: Path) -> str:
    """The path from the data set's folder, with `/`; absolute if it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.resolve())


def length_warnings(clock: FrameClock, numbers: NDArray[np.int64]) -> Iterator[str]:
    """Says so if rows and video differ in length by more than they usually do."""
    surplus = clock.surplus(numbers)
    if surplus is not None and abs(surplus) > LENGTH_SLACK:
        note = "the times of the last go on at its pace" if surplus > 0 else "its last frames have no rows"
        yield f"{len(numbers)} rows up to frame {numbers.max()}, {len(clock.times_s)} frames of video: {note}"


def _picture_warnings(folder: Path | None, pictures: TrackPictures, images_beyond: int) -> Iterator[str]:
    if folder is None:
        yield "no folder of pictures"
    if images_beyond:
        yield f"{images_beyond} pictures have a number that no row has; they are ignored"
    if pictures.empty:
        count, first = len(pictures.empty), pictures.empty[0]
        yield f"{count} pictures are empty (0 bytes), such as {first}; they count as missing"
    if pictures.others:
        count, first = len(pictures.others), pictures.others[0]
        yield f"{count} files are no numbered picture or repeat a number, such as {first}"
