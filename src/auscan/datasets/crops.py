"""List the pictures of a track by frame number and read them as crops of one size.

A frame without a face has no picture, so frame numbers have gaps. Names are compared as numbers: 100000
follows 99999, and 00007.jpg equals 7.jpg. The pictures of a data set are already aligned and only resized.
This module does not import torch.

Inputs: a folder, or the paths of an index.
Returns: file names by frame number; crops [T, S, S, 3] uint8 RGB.
See also: media/discover.py (decoding, which detects truncated pictures), faces/align.py (alignment).
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
from auscan.media.discover import IMAGE_SUFFIXES, read_image


@dataclass
class TrackPictures:
    """Pictures in one folder."""

    names: dict[int, str] = field(default_factory=dict)
    """File names by frame number."""
    empty: list[str] = field(default_factory=list)
    """Files of 0 bytes; they count as missing."""
    others: list[str] = field(default_factory=list)
    """Files that are not numbered pictures, and pictures that repeat a number."""

    def paths(self, folder: str | None, numbers: NDArray[np.int64]) -> list[str | None]:
        """Return the paths [N], below `folder`, of the pictures with numbers [N]; None for a missing one."""
        names = [self.names.get(number) for number in numbers.tolist()]
        return [None if name is None else f"{folder}/{name}" for name in names]


def list_pictures(folder: Path, pattern: str = r"0*(\d+)") -> TrackPictures:
    """Return the pictures in `folder`; hidden files are skipped.

    pattern: regular expression for names without suffix; its one group is the frame number.
    Raises InputError if the folder cannot be read.
    """
    pictures = TrackPictures()
    name_pattern = re.compile(pattern)
    try:
        # scandir is fast enough for millions of pictures.
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
    """Crops of one track, read from disk on demand."""

    root: Path
    """Folder of the data set."""
    images: Sequence[str | None]
    """Picture paths [T] below `root`; None for a frame without a picture."""
    side: int
    """Side S of a crop, pixels."""

    def read(self, rows: NDArray[np.integer], wanted: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the crops [len(rows), S, S, 3] of `rows`; unwanted and missing ones are black.

        wanted: mask [len(rows)] of the crops to read.
        Raises MediaError if a picture cannot be read.
        """
        crops = np.zeros((len(rows), self.side, self.side, 3), np.uint8)
        for position in np.flatnonzero(wanted):
            image = self.images[rows[position]]
            if image is not None:
                crops[position] = read_crop(self.root / image, self.side)
        return crops

    def enlarged_from(self) -> int | None:
        """Return the shorter side of the first picture in pixels if it is smaller than a crop, else None."""
        first = next((image for image in self.images if image is not None), None)
        side = self.side if first is None else min(read_image(self.root / first).shape[:2])
        return side if side < self.side else None


def read_crop(path: Path, side: int) -> NDArray[np.uint8]:
    """Return the picture resized to [side, side, 3] RGB.  Raises MediaError if it cannot be read."""
    return resize_crop(read_image(path), side)


def resize_crop(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize a picture [H, W, 3] to [side, side, 3]."""
    if image.shape[:2] == (side, side):
        return image
    shrinks = image.shape[0] > side
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)
