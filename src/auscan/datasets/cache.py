"""Features on disk: a folder a track, read in stretches without loading the rest.

    CACHE/<track>/header.json                            whose features these are: encoders, sizes, rows
    CACHE/<track>/face.npy        [T, Dv] float16        the global token
    CACHE/<track>/patches.npy     [T, G * G, Dv] float16 patch tokens, averaged to a grid of G x G
    CACHE/<track>/audio.npy       [Ta, Da] float16       50 tokens a second
    CACHE/<track>/times.npy       [T] float64            seconds, on the clock of video and sound
    CACHE/<track>/has_image.npy   [T] bool               False: no picture, zeros in face and patches

T is the rows of the track in the index, with the frames that have no picture: holes keep their place. A
folder has its name only once it is whole, so whatever is there can be used.

In: a folder.  Out: memory-mapped arrays.  No torch here.
Not here: making the features (features.py).
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, Settings
from auscan.core.environment import is_plain_name, is_utf8
from auscan.core.errors import InputError

HEADER_FILE: Final = "header.json"
BYTES_PER_NUMBER: Final = 2
"""Of a number in float16."""


class CacheHeader(Settings):
    """Whose features a folder holds; a finished track is done again unless all but `unreadable` agrees."""

    format: Literal[1] = 1
    track: str
    model: str
    """The size or checkpoint that the encoders came from."""
    encoders: str
    """Digest of the settings and weights of both encoders."""
    rows: int
    """T."""
    rows_digest: str
    """Digest of pictures and times, so that an index made anew is noticed."""
    width: int
    """Dv."""
    grid: int
    """G; there are G x G patches."""
    audio_width: int
    """Da."""
    audio_tokens: int = 0
    """Ta; 0 without sound."""
    audio_start_s: float = 0.0
    """When the sound begins."""
    unreadable: tuple[str, ...] = ()
    """Pictures that could not be decoded; they count as missing."""

    def matches(self, other: "CacheHeader") -> bool:
        """Would extracting now give what is there?"""
        found = {"audio_tokens", "audio_start_s", "unreadable"}  # known only afterwards
        return self.model_dump(exclude=found) == other.model_dump(exclude=found)


def track_folder(cache: Path, track: str) -> Path:
    """Where the features of a track are; a track's name may hold what a folder's may not.

    Raises InputError for a name that is no folder's even so, such as '..'.
    """
    name = quote(track, safe="") if is_utf8(track) else ""
    if not is_plain_name(name):
        raise InputError(f"The track {track!a} cannot name a folder. Rename it and run auscan prepare again.")
    return cache / name


def read_header(folder: Path) -> CacheHeader | None:
    """The header of a finished track; None where there is none, or one of another version."""
    try:
        return CacheHeader.model_validate_json((folder / HEADER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def rows_digest(images: list[str | None], times_s: NDArray[np.float64]) -> str:
    """Tells whether two stretches of rows have the same pictures at the same times."""
    digest = hashlib.sha256(times_s.astype("<f8").tobytes())
    for image in images:
        digest.update(f"{image}\n".encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class TrackFeatures:
    """The features of one track; the arrays are read from disk as they are sliced."""

    header: CacheHeader
    face: NDArray[np.float16]
    """[T, Dv]."""
    patches: NDArray[np.float16]
    """[T, G * G, Dv]."""
    audio: NDArray[np.float16]
    """[Ta, Da]."""
    times_s: NDArray[np.float64]
    """[T]."""
    has_image: NDArray[np.bool_]
    """[T]."""

    def audio_times_s(self, tokens: slice = slice(None)) -> NDArray[np.float64]:
        """Times of the audio tokens in `tokens`: token i is centred (i + 0.5) x 20 ms after the start."""
        positions = np.arange(len(self.audio), dtype=np.float64)[tokens]
        return self.header.audio_start_s + (positions + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)

    def audio_within(self, first_s: float, last_s: float) -> slice:
        """The tokens from `first_s` to `last_s`."""
        rate_hz = SAMPLE_RATE_HZ / TOKEN_HOP
        ends = ((time_s - self.header.audio_start_s) * rate_hz - 0.5 for time_s in (first_s, last_s))
        low, high = (int(np.clip(end, -1, len(self.audio))) for end in ends)
        return slice(max(low, 0), min(high + 1, len(self.audio)))


def open_track(cache: Path, track: str) -> TrackFeatures:
    """The features of a finished track. Raises InputError where there are none."""
    folder = track_folder(cache, track)
    header = read_header(folder)
    if header is None:
        raise InputError(f"{cache} has no features of track {track}. Run auscan extract again; it goes on.")

    def array(name: str, count: int) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r" if count else None)  # nothing cannot be mapped

    return TrackFeatures(
        header,
        face=array("face", header.rows),
        patches=array("patches", header.rows),
        audio=array("audio", header.audio_tokens),
        times_s=np.load(folder / "times.npy"),
        has_image=np.load(folder / "has_image.npy"),
    )


class TrackWriter:
    """Takes the features of a track in any pieces; `finish` gives the folder its name."""

    def __init__(self, cache: Path, header: CacheHeader, times_s: NDArray[np.float64]) -> None:
        """A folder that a killed run left half-done is begun anew."""
        self.header = header
        self._folder = track_folder(cache, header.track)
        self._partial = self._folder.with_name(f".{self._folder.name}.part")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        np.save(self._partial / "times.npy", times_s.astype(np.float64))
        self._has_image = np.zeros(header.rows, bool)
        self._face = self._array("face", (header.rows, header.width))
        self._patches = self._array("patches", (header.rows, header.grid**2, header.width))

    def write_row(self, row: int, face: NDArray[np.float16], patches: NDArray[np.float16]) -> None:
        """The features [Dv], [G * G, Dv] of a row."""
        self._face[row], self._patches[row], self._has_image[row] = face, patches, True

    def finish(self, audio: NDArray[np.float16], audio_start_s: float, unreadable: list[str]) -> None:
        """Write sound [Ta, Da], mask and header; from now on the track is there."""
        self._face.flush()
        self._patches.flush()
        np.save(self._partial / "audio.npy", audio)
        np.save(self._partial / "has_image.npy", self._has_image)
        header = self.header.model_copy(
            update={
                "audio_tokens": len(audio),
                "audio_start_s": audio_start_s,
                "unreadable": tuple(unreadable),
            }
        )
        (self._partial / HEADER_FILE).write_text(header.model_dump_json(indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._partial.rename(self._folder)

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        # A new file reads as zeros, and rows that are never written take no room on most file systems.
        return np.lib.format.open_memmap(self._partial / f"{name}.npy", "w+", np.float16, shape)


@dataclass(frozen=True, kw_only=True)
class CacheSize:
    """How many bytes features take."""

    frames: int
    """T, all tracks together."""
    sound_s: float
    """Seconds of sound, all tracks together."""
    width: int
    """Dv."""
    grid: int
    """G."""
    audio_width: int
    """Da."""

    @property
    def visual(self) -> int:
        """Bytes of global and patch tokens."""
        return self.frames * (1 + self.grid**2) * self.width * BYTES_PER_NUMBER

    @property
    def audio(self) -> int:
        """Bytes of audio tokens."""
        return int(self.sound_s * SAMPLE_RATE_HZ / TOKEN_HOP) * self.audio_width * BYTES_PER_NUMBER

    @property
    def total(self) -> int:
        """Bytes of all, times and masks with it."""
        return self.visual + self.audio + self.frames * 9


def format_bytes(size: float) -> str:
    """'1.4 TB', '70 GB', '3.2 MB': bytes in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
