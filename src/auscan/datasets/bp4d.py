"""Build tracks from BP4D: 41 people in eight tasks, with occurrence codes for part of each video.

    AUCoding/AU_OCC/F001_T1.csv     0,1,2,4,6,...       header: column 0 is the frame, column n is AU n
                                    2440,0,0,0,1,...    9: unknown
    F001/T1/2440.jpg                                    zero padding varies

Inputs: the data set's folder.
Returns: one track per video; its split is the fold of the person in the usual three folds.
See also: dataset_tree.py (file search), prepare.py (index).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS
from auscan.core.errors import InputError
from auscan.datasets.clock import read_clock
from auscan.datasets.crops import TrackPictures, list_pictures
from auscan.datasets.dataset_tree import DatasetTree
from auscan.datasets.find import Unused
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import length_warnings, relative_path
from auscan.datasets.track_lists import read_lines
from auscan.results.readers.annotations import NOT_ANNOTATED, label_value

RATE_HZ: Final[float] = 25.0
"""Frame rate of the recordings, used if the videos are missing."""

FOLDS: Final[tuple[str, ...]] = (
    "F001 F002 F008 F009 F010 F016 F018 F023 M001 M004 M007 M008 M012 M014",
    "F003 F005 F011 F013 F020 F022 M002 M005 M010 M011 M013 M016 M017 M018",
    "F004 F006 F007 F012 F014 F015 F017 F019 F021 M003 M006 M009 M015",
)
"""People in each of the three folds used in the literature."""

CODED: Final[tuple[str, ...]] = (
    *("AU01", "AU02", "AU04", "AU06", "AU07", "AU10", "AU12", "AU14", "AU15", "AU17", "AU23", "AU24"),
)
"""AUs that BP4D codes in every frame; its files have columns of others, too, mostly unknown (9)."""

_LABEL_FILE = re.compile(r"([FM]\d{3})_(T\d+)\.csv", re.IGNORECASE)


@dataclass
class Bp4d:
    """Reader of one copy of BP4D."""

    tree: DatasetTree
    """Files of the data set."""

    @property
    def au_names(self) -> tuple[str, ...]:
        """AUs that any of the code files has, in ascending order."""
        found = {name for path in self._code_files() for name in _column_of_au(path)}
        return tuple(name for name in ACTION_UNITS if name in found)

    def tracks(self) -> Iterator[Track | None]:
        """Yield the track of each person and task, or None for an unusable one."""
        au_names = self.au_names
        for path in self._code_files():
            self.tree.used.add(path)
            try:
                yield self._track(path, au_names)
            except InputError as error:
                self.tree.unused.append(Unused(str(path), str(error)))
                yield None
        self.tree.unused += self.tree.unused_files()

    def _code_files(self) -> list[Path]:
        """Return the files with codes of occurrence."""
        return [
            path
            for path in self.tree.files
            if _LABEL_FILE.fullmatch(path.name) and "occ" in path.parent.name.casefold()
        ]

    def _track(self, path: Path, au_names: tuple[str, ...]) -> Track:
        person, task = path.stem.upper().split("_")
        numbers, labels, unknown = _read(path, au_names)
        video = self.tree.video(f"{person}_{task}") or self.tree.video(task, inside=person)
        clock = read_clock(video, RATE_HZ)
        folder = self.tree.picture_folder(task, inside=person)
        pictures = TrackPictures() if folder is None else list_pictures(folder)
        prefix = None if folder is None else relative_path(folder, self.tree.root)
        images = pictures.paths(prefix, numbers)
        # 9 is the data set's code for unknown and needs no warning.
        warnings = [f"{unknown} codes other than 0, 1 and 9 are read as not annotated"] if unknown else []
        return Track(
            name=f"{person}_{task}",
            split=next((f"fold{i}" for i, people in enumerate(FOLDS, start=1) if person in people), "other"),
            # All tasks of a person must share a fold.
            source_video=person,
            numbers=numbers,
            labels=labels,
            images=images,
            times_s=clock.at(numbers),
            clock=clock,
            video=None if video is None else relative_path(video, self.tree.root),
            image_folder=prefix,
            label_file=relative_path(path, self.tree.root),
            images_beyond=len(pictures.names) - sum(image is not None for image in images),
            au_names=au_names,
            coded=CODED,
            warnings=(*warnings, *clock.warnings, *length_warnings(clock, numbers)),
        )


def _column_of_au(path: Path) -> dict[str, int]:
    """Return the column of each AU of a code file; empty if it is none."""
    header = (read_lines(path) or [""])[0]
    fields = [field.strip() for field in header.split(",")]
    names = {f"AU{int(field):02d}": j for j, field in enumerate(fields) if field.isdigit()}
    return {name: j for name, j in names.items() if name in ACTION_UNITS}


def _read(path: Path, au_names: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int8], int]:
    """Return frame numbers [N], labels [N, A] and the count of codes other than 0, 1 and 9.

    Raises InputError if the header or a line has another form.
    """
    header, *lines = read_lines(path) or [""]
    columns = [field.strip() for field in header.split(",")]
    if columns[0] != "0" or not lines:
        raise InputError(f"{path} is not a BP4D code file: its first line should number the AUs: 0,1,2,4,...")
    column_of_au = _column_of_au(path)
    rows, numbers, unknown = [], [], 0
    for line in lines:
        fields = line.split(",")
        if len(fields) != len(columns) or not fields[0].strip().isdigit():
            raise InputError(f"{path} has a line {line!r}; expected {len(columns)} numbers.")
        codes = [fields[column_of_au[name]].strip() if name in column_of_au else "9" for name in au_names]
        unknown += sum(label_value(code) is None and code != "9" for code in codes)
        values = [label_value(code) for code in codes]
        rows.append([NOT_ANNOTATED if value is None else value for value in values])
        numbers.append(int(fields[0]))
    return np.array(numbers, np.int64), np.array(rows, np.int8).reshape(-1, len(au_names)), unknown
