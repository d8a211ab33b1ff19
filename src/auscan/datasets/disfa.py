"""Build tracks from DISFA: 27 people, one video each, AU intensities 0 to 5 in one file per AU.

    ActionUnit_Labels/SN001/SN001_au1.txt      frame,intensity      frames from 1, no header

An AU is active from intensity 2; the intensities are kept. Public lists number pictures from 0, so line k
belongs to picture k - 1. If a folder has no picture 0, line k belongs to picture k.

Inputs: the data set's folder.
Returns: one track per person; its split is the fold of the person in the usual three folds.
See also: dataset_tree.py (file search), prepare.py (index).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.datasets.clock import read_clock
from auscan.datasets.crops import list_pictures
from auscan.datasets.dataset_tree import DatasetTree
from auscan.datasets.find import Unused
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import length_warnings, relative_path
from auscan.datasets.track_lists import read_lines
from auscan.results.readers.annotations import NOT_ANNOTATED

ACTIVE_FROM: Final[int] = 2
"""Intensity at which an AU counts as active."""

RATE_HZ: Final[float] = 20.0
"""Frame rate of the videos, used if they are missing."""

FOLDS: Final[tuple[frozenset[int], ...]] = (
    frozenset({1, 2, 9, 10, 16, 26, 27, 30, 32}),
    frozenset({6, 11, 12, 13, 18, 21, 24, 28, 31}),
    frozenset({3, 4, 5, 7, 8, 17, 23, 25, 29}),
)
"""Numbers of the people in each of the three folds used in the literature."""

CODED: Final[tuple[str, ...]] = (
    *("AU01", "AU02", "AU04", "AU05", "AU06", "AU09", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26"),
)
"""AUs that DISFA codes."""

_LABEL_FILE = re.compile(r"(sn\d+)_au(\d+)\.txt", re.IGNORECASE)


@dataclass
class Disfa:
    """Reader of one copy of DISFA."""

    tree: DatasetTree
    """Files of the data set."""
    au_names: tuple[str, ...] = CODED
    """AUs of the tracks."""

    def tracks(self) -> Iterator[Track | None]:
        """Yield the track of each person, or None for an unusable one."""
        files: dict[str, dict[str, Path]] = {}
        for path in self.tree.files:
            match = _LABEL_FILE.fullmatch(path.name)
            self.tree.used.update([path] if match else [])
            if match and f"AU{int(match[2]):02d}" in CODED:
                files.setdefault(match[1].upper(), {})[f"AU{int(match[2]):02d}"] = path
        for person, by_au in sorted(files.items()):
            try:
                yield self._track(person, by_au)
            except InputError as error:
                self.tree.unused.append(Unused(person, str(error)))
                yield None
        self.tree.unused += self.tree.unused_files()

    def _track(self, person: str, by_au: dict[str, Path]) -> Track:
        rows = {name: _read(path) for name, path in by_au.items()}
        numbers = np.array(sorted(set().union(*rows.values())), np.int64)
        if not len(numbers):
            raise InputError(f"{person} has no label lines. Unpack the labels again.")
        intensities = np.full((len(numbers), len(CODED)), np.nan, np.float32)  # [N, A]
        for name, row in rows.items():
            intensities[:, CODED.index(name)] = [row.get(n, np.nan) for n in numbers.tolist()]
        labels = np.where(np.isnan(intensities), NOT_ANNOTATED, intensities >= ACTIVE_FROM).astype(np.int8)
        video = self.tree.video(person, substring=True)
        clock = read_clock(video, RATE_HZ)
        folder, images, beyond = self._images(person, numbers)
        missing = [name for name in CODED if name not in by_au]
        warnings = [f"no labels for {', '.join(missing)}"] if missing else []
        return Track(
            name=person,
            split=_fold(person),
            source_video=person,
            numbers=numbers,
            labels=labels,
            images=images,
            times_s=clock.at(numbers),
            clock=clock,
            video=None if video is None else relative_path(video, self.tree.root),
            image_folder=None if folder is None else relative_path(folder, self.tree.root),
            label_file=relative_path(next(iter(by_au.values())).parent, self.tree.root),
            images_beyond=beyond,
            au_names=CODED,
            coded=CODED,
            intensities=intensities,
            warnings=(*warnings, *clock.warnings, *length_warnings(clock, numbers)),
        )

    def _images(self, person: str, numbers: NDArray[np.int64]) -> tuple[Path | None, list[str | None], int]:
        """Return the picture folder, the paths [N] and the count of pictures without a row."""
        folder = self.tree.picture_folder(person)
        if folder is None:
            return None, [None] * len(numbers), 0
        pictures = list_pictures(folder)
        first = 0 if 0 in pictures.names else 1
        images = pictures.paths(relative_path(folder, self.tree.root), numbers - 1 + first)
        return folder, images, len(pictures.names) - sum(image is not None for image in images)


def _read(path: Path) -> dict[int, float]:
    """Return intensities by frame number; NaN for one outside 0 to 5."""
    rows = {}
    for line in read_lines(path):
        match = re.fullmatch(r"(\d+)\s*,\s*(-?\d+)(?:\.0*)?", line)
        if match is None:
            raise InputError(f"{path} has a line {line!r}; expected frame,intensity.")
        intensity = int(match[2])
        rows[int(match[1])] = float(intensity) if 0 <= intensity <= 5 else np.nan
    return rows


def _fold(person: str) -> str:
    number = int(person[2:])
    return next((f"fold{i}" for i, people in enumerate(FOLDS, start=1) if number in people), "other")
