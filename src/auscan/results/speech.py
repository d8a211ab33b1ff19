"""Store the sound level and speech of a result, and compute the share of speech in a time span.

Speech moves the mouth, so each event states which share of it has speech.

Inputs: steps of equal length on the clock of the frames.
Returns: shares of speech; sound.parquet.
See also: media/speech_activity.py (speech detection), events.py (events).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fastparquet
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.atomic_write import atomic_path
from auscan.core.errors import InputError

SOUND_FILE: Final[str] = "sound.parquet"
"""File name in the folder of a result."""
METADATA_KEY: Final[str] = "auscan sound"
"""Key of the JSON in the Parquet metadata."""
UNITS: Final[dict[str, str]] = {
    "time": "middle of the step, seconds on the clock of the frames",
    "level_db": "root mean square level of the step, dB of full scale",
    "speech": "1 where somebody speaks, else 0",
}
"""Description of each column, in order; written into the Parquet metadata."""


@dataclass(frozen=True, eq=False)
class Speech:
    """Sound level and speech in L steps of equal length, without gaps."""

    start_s: float
    """Begin of the first step, seconds on the clock of the frames."""
    step_s: float
    """Length of a step, seconds."""
    level_db: NDArray[np.float32]
    """[L] root mean square level, dB of full scale."""
    speech: NDArray[np.bool_]
    """[L] whether the step has speech of any person."""

    def __post_init__(self) -> None:
        if self.level_db.shape != self.speech.shape or self.speech.ndim != 1:
            raise ValueError(
                f"level_db and speech should be [L], got {self.level_db.shape}, {self.speech.shape}."
            )
        if not self.step_s > 0:
            raise ValueError(f"step_s should be above 0, got {self.step_s}.")

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Middle of each step, [L] seconds."""
        return self.start_s + (np.arange(len(self.speech), dtype=np.float64) + 0.5) * self.step_s

    def share(self, begin_s: NDArray[np.float64], end_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of speech, 0 to 1, in each time span from begin to end, [E].

        Time before and after the sound counts as without speech. A span of length 0 has NaN.
        """
        edges = self.start_s + np.arange(len(self.speech) + 1) * self.step_s
        spoken_s = np.concatenate([[0.0], np.cumsum(self.speech) * self.step_s])  # up to each edge
        length = np.where(end_s > begin_s, end_s - begin_s, np.nan)
        spoken_in_span_s = np.interp(end_s, edges, spoken_s) - np.interp(begin_s, edges, spoken_s)
        return np.asarray(np.clip(spoken_in_span_s / length, 0.0, 1.0))


def write_speech(path: Path, sound: Speech, source: str, version: str) -> None:
    """Write sound.parquet: one row for each step, with the columns of `UNITS`.

    source: name of the input    version: version of auscan
    """
    metadata = {
        "auscan": version,
        "source": source,
        "start_s": sound.start_s,
        "step_s": sound.step_s,
        "units": UNITS,
    }
    columns = sound.times_s, sound.level_db, sound.speech.astype(np.int8)
    with atomic_path(path) as temporary:
        fastparquet.write(
            str(temporary),
            pd.DataFrame(dict(zip(UNITS, columns, strict=True))),
            compression="SNAPPY",
            has_nulls=False,
            write_index=False,
            custom_metadata={METADATA_KEY: json.dumps(metadata)},
        )


def read_speech(path: Path) -> Speech:
    """Read a sound.parquet.  Raises InputError if auscan did not write the file."""
    try:
        with path.open("rb") as file:
            stored = fastparquet.ParquetFile(file)
            metadata = json.loads(stored.key_value_metadata[METADATA_KEY])
            table = stored.to_pandas()
        level, speech = table["level_db"].to_numpy(np.float32), table["speech"].to_numpy(bool)
        return Speech(float(metadata["start_s"]), float(metadata["step_s"]), level, speech)
    except Exception as error:  # fastparquet raises many types for a damaged file
        raise InputError(
            f"{path} is not a sound file of auscan: {error!r}. Run `auscan detect` again."
        ) from error
