"""Pictures of a track: list them by the frame number in their names, read them as crops of one size.

A frame without a face has no picture, so numbers jump. Numbers are compared as numbers: 100000 comes after
99999, and 00007.jpg is 7.jpg. The pictures of a data set are aligned already, and only resized.

Inputs: a folder, or the paths of an index.  Returns: file names by frame number; uint8 [T, S, S, 3] RGB.
See also: media/images.py (decoding; a truncated picture shows only there), faces/align.py. No torch here.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from auscan.core.errors import InputError
from auscan.media.images import IMAGE_SUFFIXES, read_image


@dataclass
class TrackPictures:
    """The pictures in one folder."""

    names: dict[int, str] = field(default_factory=dict)
    """File names by frame number."""
    empty: list[str] = field(default_factory=list)
    """Files of 0 bytes: as good as missing."""
    others: list[str] = field(default_factory=list)
    """Files that are no numbered picture, and second pictures of a number."""

    def paths(self, folder: str | None, numbers: NDArray[np.int64]) -> list[str | None]:
        """Paths [N] of the pictures with these numbers [N], below `folder`; None where there is none."""
        names = [self.names.get(number) for number in numbers.tolist()]
        return [None if name is None else f"{folder}/{name}" for name in names]


def list_pictures(folder: Path, pattern: str = r"0*(\d+)") -> TrackPictures:
    """The pictures of `folder`; `pattern` matches names without suffix and its one group is the number.

    Hidden files are passed over.  Raises InputError if the folder cannot be read.
    """
    pictures = TrackPictures()
    name_pattern = re.compile(pattern)
    try:
        # scandir: there are millions of pictures.
        with os.scandir(folder) as listed:
            entries = sorted((e for e in listed if e.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from error
    for entry in entries:
        name = entry.name
        stem, dot, suffix = name.rpartition(".")
        match = name_pattern.fullmatch(stem) if dot + suffix.lower() in IMAGE_SUFFIXES else None
        if match is None or int(match[1]) in pictures.names:
            pictures.others.append(name)
        elif entry.stat().st_size == 0:
            pictures.empty.append(name)
        else:
            pictures.names[int(match[1])] = name
    return pictures


@dataclass(frozen=True, eq=False)
class TrackCrops:
    """The pictures of one track; each is read when it is asked for."""

    root: Path
    """The data set's folder."""
    images: Sequence[str | None]
    """[T] paths from there; None where a frame has no picture."""
    side: int
    """S, pixels."""

    def read(self, rows: NDArray[np.integer], wanted: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The crops [len(rows), S, S, 3] of some rows, black where one is not wanted or there is none.

        Raises MediaError where one cannot be read.
        """
        crops = np.zeros((len(rows), self.side, self.side, 3), np.uint8)
        for position in np.flatnonzero(wanted):
            image = self.images[rows[position]]
            if image is not None:
                crops[position] = read_crop(self.root / image, self.side)
        return crops


def read_crop(path: Path, side: int) -> NDArray[np.uint8]:
    """The picture, brought to [side, side, 3]. Raises MediaError where it cannot be read."""
    image = read_image(path)
    if image.shape[:2] == (side, side):
        return image
    shrinks = image.shape[0] > side
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)
