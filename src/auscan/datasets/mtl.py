"""s-Aff-Wild2, the multi-task sets of static frames (editions 3, 4, 7 and 11).

    image,valence,arousal,expression,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26
    900-30-1280x720/00007.jpg,-0.12,0.40,4,0,0,0,1,1,0,1,0,0,0,1,0

One text file a split, some frames of each track. Only the AUs are read: valence, arousal and expression are
not for a uni-task model.

In: the data set's folder.  Out: tracks whose rows are the listed frames, in order of their numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auscan.core.aus import AU_COUNT
from auscan.core.errors import InputError
from auscan.datasets.find import Pieces, Unused
from auscan.datasets.index import Track
from auscan.datasets.lists import image_location, read_lines
from auscan.datasets.media import Media
from auscan.results.coders.annotations import NOT_ANNOTATED, label_value

COLUMNS = 4 + AU_COUNT
"""Image, valence, arousal, expression, then the AUs; the header is skipped, its words vary."""

_Rows = dict[int, tuple[int, ...]]
"""Labels by frame number."""


@dataclass
class MultiTask:
    """The tracks of s-Aff-Wild2's text files, split by split."""

    root: Path
    pieces: Pieces

    def tracks(self) -> Iterator[Track | None]:
        """Every track in turn."""
        media, taken = Media(self.root, self.pieces), dict[str, str]()
        for path in sorted(p for p, kind in self.pieces.texts.items() if kind == "multitask"):
            split = _split(path)
            for name, rows in self._read(path).items():
                if taken.setdefault(name, split) != split:
                    reason = f"track {name} is in {taken[name]} already, not taken into {split} as well"
                    self.pieces.unused.append(Unused(str(path), reason))
                    continue
                numbers = sorted(rows)
                labels = np.array([rows[number] for number in numbers], np.int8)
                yield media.build(name, split, np.array(numbers, np.int64), labels, path)
        self.pieces.unused += media.left_over()

    def _read(self, path: Path) -> dict[str, _Rows]:
        """Labels by track and frame number."""
        tracks: dict[str, _Rows] = {}
        strange = repeats = 0
        for line in read_lines(path)[1:]:
            fields = line.removesuffix(",").split(",")
            location = image_location(fields[0])
            if location is None or len(fields) != COLUMNS:
                strange += 1
                continue
            values = [label_value(field) for field in fields[-AU_COUNT:]]
            strange += None in values
            rows = tracks.setdefault(location[0], {})
            repeats += location[1] in rows
            rows.setdefault(location[1], tuple(NOT_ANNOTATED if v is None else v for v in values))
        for count, what in ((strange, "cannot be understood in full"), (repeats, "repeat a frame")):
            if count:
                self.pieces.unused.append(Unused(str(path), f"{count} rows {what}"))
        return tracks


def _split(path: Path) -> str:
    name = path.stem.casefold()
    for word, split in (("train", "train"), ("val", "val"), ("test", "test")):
        if word in name:
            return split
    raise InputError(f"{path} does not say of which split it is. Put train, val or test into its name.")
