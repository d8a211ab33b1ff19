"""Build tracks from CSV files of OpenFace, with its predicted presences as labels.

    frame, face_id, timestamp, confidence, success, AU01_r, ..., AU01_c, ...

The presences (`_c`) become labels. Rows without a face (success 0) become -1, because their AU values are
stale. The values are predictions of another program, suitable for comparison but not as ground truth.

Inputs: a folder with CSV files.  Returns: one track per face.
See also: results/readers/toolkits.py (reading one file).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from auscan.core.errors import InputError
from auscan.datasets.clock import CONTAINER, FrameClock, read_clock
from auscan.datasets.crops import TrackPictures, list_pictures
from auscan.datasets.dataset_tree import DatasetTree
from auscan.datasets.find import Unused
from auscan.datasets.index import Track
from auscan.datasets.track_assembly import length_warnings, relative_path
from auscan.results.readers.annotations import NOT_ANNOTATED
from auscan.results.readers.toolkits import read_openface_table

CODED: Final[tuple[str, ...]] = tuple(
    f"AU{number:02d}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45)
)
"""AUs that OpenFace 2 predicts."""


@dataclass
class OpenFace:
    """Reader of a folder of OpenFace's results."""

    tree: DatasetTree
    """Files of the folder."""
    au_names: tuple[str, ...] = CODED
    """AUs of the tracks."""

    def tracks(self) -> Iterator[Track | None]:
        """Yield the track of each face in each file, or None for an unusable file."""
        for path in self.tree.files:
            if path.suffix.lower() != ".csv":
                continue
            self.tree.used.add(path)
            try:
                table = read_openface_table(path)
            except InputError as error:
                self.tree.unused.append(Unused(str(path), str(error)))
                yield None
                continue
            faces = table["face_id"].unique().tolist()
            for face in faces:
                name = path.stem if len(faces) == 1 else f"{path.stem}_face{face}"
                yield self._track(name, path, table[table["face_id"] == face], int(face))
        self.tree.unused += self.tree.unused_files()

    def _track(self, name: str, path: Path, rows: pd.DataFrame, face: int) -> Track:
        numbers = rows["frame"].to_numpy(np.int64)
        times_s = rows["timestamp"].to_numpy(np.float64)
        labels = np.full((len(rows), len(CODED)), NOT_ANNOTATED, np.int8)  # [N, A]
        for j, au in enumerate(CODED):
            if f"{au}_c" in rows:
                values = rows[f"{au}_c"].to_numpy(np.float64)
                valid = np.isin(values, (0, 1)) & (rows["success"].to_numpy(np.float64) == 1)
                labels[valid, j] = values[valid]
        video = self.tree.video(path.stem)
        folder = self.tree.folder(f"{path.stem}_aligned")
        pattern = rf"frame_det_0*{face}_0*(\d+)"
        pictures = TrackPictures() if folder is None else list_pictures(folder, pattern)
        prefix = None if folder is None else relative_path(folder, self.tree.root)
        images = pictures.paths(prefix, numbers)
        clock = _clock_of_table(video, times_s)
        missing = [au for au in CODED if f"{au}_c" not in rows]
        warnings = [f"no presence columns for {', '.join(missing)}"] if missing else []
        return Track(
            name=name,
            split="all",
            source_video=path.stem,
            numbers=numbers,
            labels=labels,
            images=images,
            # The times in the file are used, because its video may be missing.
            times_s=times_s,
            clock=clock,
            video=None if video is None else relative_path(video, self.tree.root),
            image_folder=prefix,
            label_file=relative_path(path, self.tree.root),
            images_beyond=len(pictures.names) - sum(image is not None for image in images),
            au_names=CODED,
            coded=CODED,
            warnings=(*warnings, *clock.warnings, *length_warnings(clock, numbers)),
        )


def _clock_of_table(
    video: Path | None, times_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> FrameClock:
    """Return the clock of the video, or one with the mean frame rate of times [N] s without a video."""
    if video is not None:
        return read_clock(video, None)
    span_s = float(times_s[-1] - times_s[0]) if len(times_s) else 0.0
    rate_hz = (len(times_s) - 1) / span_s if span_s > 0 else 0.0
    return FrameClock(
        times_s=np.empty(0), rate_hz=rate_hz, source=CONTAINER, warnings=("no video, so no sound",)
    )
