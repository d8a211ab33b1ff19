"""List the pictures of a track by the frame number in their names.

A frame without a face has no picture, so numbers jump. Numbers are compared as numbers: 100000 comes after
99999, and 00007.jpg is 7.jpg.

In: a folder.  Out: file names by frame number.
Not here: decoding pictures (media/images.py); a picture that is cut off shows only then.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from auscan.core.errors import InputError
from auscan.media.images import IMAGE_SUFFIXES


@dataclass
class TrackPictures:
    """The pictures in one folder."""

    names: dict[int, str] = field(default_factory=dict)
    """File names by frame number."""
    empty: list[str] = field(default_factory=list)
    """Files of 0 bytes: as good as missing."""
    others: list[str] = field(default_factory=list)
    """Files that are no numbered picture, and second pictures of a number."""


def list_pictures(folder: Path, pattern: str = r"0*(\d+)") -> TrackPictures:
    """The pictures of `folder`; `pattern` matches names without suffix and its one group is the number.

    Hidden files are passed over.  Raises InputError if the folder cannot be read.
    """
    found = TrackPictures()
    named = re.compile(pattern)
    try:
        # scandir: there are millions of pictures.
        with os.scandir(folder) as listed:
            entries = sorted((e for e in listed if e.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from error
    for entry in entries:
        name = entry.name
        stem, dot, suffix = name.rpartition(".")
        match = named.fullmatch(stem) if dot + suffix.lower() in IMAGE_SUFFIXES else None
        if match is None or int(match[1]) in found.names:
            found.others.append(name)
        elif entry.stat().st_size == 0:
            found.empty.append(name)
        else:
            found.names[int(match[1])] = name
    return found
