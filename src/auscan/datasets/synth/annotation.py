"""Spoil known labels the way human annotation is spoiled, and write the text files that Aff-Wild2 comes with.

In: labels [T, A] of the frames.  Out: annotation files, test lists, templates.
Not here: reading them (results/coders/annotations.py, datasets/lists.py).
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.datasets.synth.dynamics import Random
from auscan.datasets.synth.plan import Missing

Labels = NDArray[np.int8]

UNLABELLED: Final[float] = 0.05
"""Share of rows that carry -1."""

HEADER: Final[str] = ",".join(f"AU{int(name[2:])}" for name in AU_NAMES)

_LIST_NAME = "names_of_videos_in_each_test_set/Action_Unit_Detection_Challenge_test_set_release.txt"
_COUNTS_NAME = "names_of_videos_in_each_test_set/Action_Unit_Detection_Challenge_expected_frames.txt"
_FORMAT_5 = "prediction_files_format/CVPR_5th_ABAW_AU_test_set_sample.txt"
_FORMAT_6 = "prediction_files_format/CVPR_6th_ABAW_AU_test_set_example.txt"


def spoil(random: Random, labels: Labels, surplus: int, partly: bool) -> Labels:
    """Rows as annotators leave them, [T + surplus, A]: -1 in some stretches, an end that is off.

    partly: some rows have -1 in some AUs only.
    """
    rows = np.concatenate([labels, np.repeat(labels[-1:], max(0, surplus), axis=0)])[: len(labels) + surplus]
    rows = rows.copy()
    left = round(UNLABELLED * len(rows))
    while left > 0:
        length = min(left, int(random.integers(5, 60)))
        start = int(random.integers(0, max(1, len(rows) - length)))
        rows[start : start + length] = -1
        left -= length
    if partly:
        start = int(random.integers(0, max(1, len(rows) - 20)))
        rows[start : start + 20, random.choice(len(AU_NAMES), 3, replace=False)] = -1
    return rows


def missing_images(random: Random, count: int, yaw: NDArray[np.floating], how: Missing) -> NDArray[np.bool_]:
    """[T]: frames for which no face was found. Rare short gaps and profile views, or most of the track."""
    if how == "none":
        return np.zeros(count, bool)
    gone: NDArray[np.bool_] = np.abs(yaw) > 62
    for _ in range(1 + count // 400):
        start = int(random.integers(0, count))
        gone[start : start + int(random.integers(1, 7))] = True
    if how == "many":
        stretches = random.random(count // 40 + 1) < 0.65
        gone |= np.repeat(stretches, 40)[:count]
    gone[0] &= how == "many"
    if gone.all():
        gone[count // 2] = False
    return gone


def write_annotation(path: Path, rows: Labels) -> None:
    """One file of a track: a header and a line a row."""
    lines = [HEADER, *(",".join(map(str, row)) for row in rows.tolist())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "ascii")


def write_test_files(folder: Path, counts: dict[str, int], random: Random) -> None:
    """List, expected counts and both styles of template for test tracks with so many rows each."""
    locations = [f"{track}/{n:05d}.jpg" for track, count in counts.items() for n in range(1, count + 1)]
    header = f"image_location,{HEADER}"
    placeholders = random.integers(0, 2, (len(locations), len(AU_NAMES))).tolist()
    filled = [f"{at},{','.join(map(str, row))}" for at, row in zip(locations, placeholders, strict=True)]
    texts = {
        _LIST_NAME: list(counts),
        _COUNTS_NAME: [f"{track},{count}" for track, count in counts.items()],
        _FORMAT_5: [header, *(f"{at}," for at in locations)],
        _FORMAT_6: [header, *filled],
    }
    for name, lines in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", "ascii")
