"""Store encoder features on disk, one folder per track, and read slices of them by memory mapping.

    CACHE/<track>/header.json                            encoders, sizes, digest of the rows
    CACHE/<track>/face.npy        [T, Dv] float16        global token
    CACHE/<track>/patches.npy     [T, G * G, Dv] int8    patch tokens, averaged to a grid of G x G
    CACHE/<track>/scales.npy      [T, G * G] float32     factor of each patch token
    CACHE/<track>/audio.npy       [Ta, Da] float16       50 tokens a second
    CACHE/<track>/times.npy       [T] float64            seconds, on the clock of video and sound
    CACHE/<track>/has_image.npy   [T] bool               False: no picture or face, zeros in face and patches

T is the number of rows of the track in the index, including frames without a picture, so row k is label k.
A folder gets its final name only when it is complete. This module does not import torch.

Patch tokens are nearly all of a cache, so they are stored as int8 with a scale per token: the largest number
of a token is 127 steps. Features of auscan 0.1.0 have float16 patches, and remain valid.

Inputs: a cache folder.  Returns: memory-mapped arrays.
See also: features.py (computing the features).
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

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, Settings, TokenPart
from auscan.core.environment import is_plain_name, is_utf8
from auscan.core.errors import InputError

HEADER_FILE: Final = "header.json"
"""Name of the header in a track's folder."""

FLOAT16_BYTES: Final = 2
"""Bytes of a number of global and audio tokens."""
SCALE_BYTES: Final = 4
"""Bytes of the scale of a patch token, whose numbers take one byte each."""
INT8_LIMIT: Final = 127
"""Largest absolute value of a stored number of a patch token."""


class CacheHeader(Settings):
    """Description of the features in a folder: encoders, sizes and rows."""

    format: Literal[1] = 1
    """Format number of the cache."""
    track: str
    """Name of the track."""
    model: str
    """Size or checkpoint whose encoders were used."""
    encoders: str
    """Digest of the settings and weights of both encoders."""
    rows: int
    """Number of rows T."""
    rows_digest: str
    """Digest of picture paths and times; changes with the index."""
    width: int
    """Width Dv of the visual tokens."""
    grid: int
    """Patches per side G; there are G x G patches."""
    patch_numbers: Literal["float16", "int8"] = "float16"
    """Number format of the patches; features of auscan 0.1.0 do not state it."""
    audio_width: int
    """Width Da of the audio tokens."""
    visual_parts: tuple[TokenPart, ...] = ()
    """Parts of a visual token, one for each of several encoders; empty for one encoder."""
    audio_parts: tuple[TokenPart, ...] = ()
    """Parts of an audio token, one for each encoder, with its groups of layers; empty for one encoder without
    groups."""
    audio_tokens: int = 0
    """Number of audio tokens Ta; 0 without sound."""
    audio_start_s: float = 0.0
    """Start of the sound, seconds."""
    unreadable: tuple[str, ...] = ()
    """Pictures that cannot be decoded; they count as missing."""
    crops: Literal["pictures", "video"] = "pictures"
    """Source of the crops: the pictures, or the frames of the video where a face matches the picture."""
    crop_size: int | None = None
    """Side S of the encoder's crops, pixels; features of auscan 0.1.0 do not state it."""
    picture_side: int | None = None
    """Shorter side of the smallest picture that was resized to a crop, pixels; None if not known or none."""

    def matches(self, other: "CacheHeader") -> bool:
        """Return whether two headers agree in all fields that are known before extraction.

        A finished track whose header does not match is extracted again. The number format may differ: float16
        patches of auscan 0.1.0 are more exact.
        """
        found = {"audio_tokens", "audio_start_s", "unreadable", "picture_side"}  # known only after extraction
        ignored = {"patch_numbers", "crop_size"} | found
        return self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)

    @property
    def enlarged_from(self) -> int | None:
        """Side in pixels of the smallest picture if it was enlarged to a crop, else None."""
        side, crop = self.picture_side, self.crop_size
        return side if side is not None and crop is not None and side < crop else None


def track_folder(cache: Path, track: str) -> Path:
    """Return the folder of a track's features; the track name is percent-encoded.

    Raises InputError if the encoded name is not a valid folder name, such as '..'.
    """
    name = quote(track, safe="") if is_utf8(track) else ""
    if not is_plain_name(name):
        raise InputError(f"The track {track!a} cannot name a folder. Rename it and run auscan prepare again.")
    return cache / name


def read_header(folder: Path) -> CacheHeader | None:
    """Return the header of a finished track, or None if it is missing or of another format."""
    try:
        return CacheHeader.model_validate_json((folder / HEADER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def rows_digest(images: list[str | None], times_s: NDArray[np.float64]) -> str:
    """Return a digest of picture paths [T] and times [T] in seconds."""
    digest = hashlib.sha256(times_s.astype("<f8").tobytes())
    for image in images:
        digest.update(f"{image}\n".encode())
    return digest.hexdigest()[:16]


def all_finite(values: NDArray[np.float16]) -> bool:
    """Return whether no number is NaN or infinite, by the exponent bits: faster than `np.isfinite`."""
    bits = np.ascontiguousarray(values).view(np.uint16) & 0x7FFF
    return bool(bits.max(initial=0) < 0x7C00)


def quantise(tokens: NDArray[np.float16]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round finite tokens [..., Dv] to int8, with a scale [...] per token: see `restore`."""
    scales = np.abs(tokens).max(axis=-1).astype(np.float32) / INT8_LIMIT
    steps = tokens / np.where(scales > 0, scales, 1)[..., None]
    return np.rint(steps).astype(np.int8), scales


def restore(numbers: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the tokens [..., Dv] of int8 numbers [..., Dv] and scales [...], exact to half a scale."""
    return np.multiply(np.asarray(numbers), np.asarray(scales)[..., None], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class TrackFeatures:
    """Features of one track. Slicing the arrays reads from disk."""

    folder: Path
    """Folder of the files."""
    header: CacheHeader
    """Encoders, sizes and rows."""
    face: NDArray[np.float16]
    """Global tokens [T, Dv]."""
    patches: NDArray[Any]
    """Stored patch tokens [T, G * G, Dv], row by row, int8 or float16; `read` decodes them."""
    scales: NDArray[np.float32] | None
    """Scales [T, G * G] of int8 patches; None if they are float16."""
    audio: NDArray[np.float16]
    """Audio tokens [Ta, Da]."""
    times_s: NDArray[np.float64]
    """Frame times [T], seconds."""
    has_image: NDArray[np.bool_]
    """Mask [T] of the rows with a picture."""

    def read(
        self, name: Literal["face", "patches", "audio"], rows: slice | NDArray[np.intp] = slice(None)
    ) -> NDArray[np.float16] | NDArray[np.float32]:
        """Return rows of an array: float32 patches, or float16 global or audio tokens.

        Raises InputError if they hold NaN or infinite numbers.
        """
        if name == "patches" and self.scales is not None:
            scales = self.scales[rows]
            self._check("scales", bool(np.isfinite(scales).all()))
            return restore(self.patches[rows], scales)
        values: NDArray[np.float16] = getattr(self, name)[rows]
        self._check(name, all_finite(values))
        return values.astype(np.float32) if name == "patches" else values

    def _check(self, name: str, is_finite: bool) -> None:
        if not is_finite:
            raise InputError(
                f"{self.folder / name}.npy holds NaN or infinite features of track {self.header.track}. "
                f"Delete the folder {self.folder} and run auscan extract again."
            )

    def audio_times_s(self, tokens: slice = slice(None)) -> NDArray[np.float64]:
        """Return the times of audio tokens, s; token i is centred (i + 0.5) x 20 ms after the start."""
        positions = np.arange(len(self.audio), dtype=np.float64)[tokens]
        return self.header.audio_start_s + (positions + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)

    def audio_within(self, first_s: float, last_s: float) -> slice:
        """Return the slice of audio tokens that covers `first_s` to `last_s`, in seconds."""
        rate_hz = SAMPLE_RATE_HZ / TOKEN_HOP
        ends = ((time_s - self.header.audio_start_s) * rate_hz - 0.5 for time_s in (first_s, last_s))
        low, high = (int(np.clip(end, -1, len(self.audio))) for end in ends)
        return slice(max(low, 0), min(high + 1, len(self.audio)))


def open_track(cache: Path, track: str) -> TrackFeatures:
    """Return the features of a finished track.  Raises InputError if the cache does not hold them."""
    folder = track_folder(cache, track)
    header = read_header(folder)
    if header is None:
        raise InputError(f"{cache} has no features of track {track}. Run auscan extract again to resume it.")

    def array(name: str, count: int) -> Any:
        # An empty file cannot be memory-mapped.
        return np.load(folder / f"{name}.npy", mmap_mode="r" if count else None)

    return TrackFeatures(
        folder,
        header,
        face=array("face", header.rows),
        patches=array("patches", header.rows),
        scales=array("scales", header.rows) if header.patch_numbers == "int8" else None,
        audio=array("audio", header.audio_tokens),
        times_s=np.load(folder / "times.npy"),
        has_image=np.load(folder / "has_image.npy"),
    )


class TrackWriter:
    """Writer of one track's features, row by row. `finish` renames the partial folder to its final name."""

    def __init__(self, cache: Path, header: CacheHeader, times_s: NDArray[np.float64]) -> None:
        """Create a partial folder for times [T] in seconds; one left by an interrupted run is deleted."""
        self.header = header.model_copy(update={"patch_numbers": "int8"})
        self._folder = track_folder(cache, header.track)
        self._partial = self._folder.with_name(f".{self._folder.name}.part")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        np.save(self._partial / "times.npy", times_s.astype(np.float64))
        self._has_image = np.zeros(header.rows, bool)
        shape = (header.rows, header.grid**2)
        self._face = self._array("face", (header.rows, header.width), np.float16)
        self._patches = self._array("patches", (*shape, header.width), np.int8)
        self._scales = self._array("scales", shape, np.float32)

    def write_row(self, row: int, face: NDArray[np.float16], patches: NDArray[np.float16]) -> None:
        """Write the features [Dv] and [G * G, Dv] of one row.  Raises InputError if they are not finite."""
        self._check(f"visual encoder of {self.header.model}", f" in row {row}", face, patches)
        self._face[row], self._has_image[row] = face, True
        self._patches[row], self._scales[row] = quantise(patches)

    def finish(
        self,
        audio: NDArray[np.float16],
        audio_start_s: float,
        unreadable: list[str],
        picture_side: int | None = None,
    ) -> None:
        """Write audio tokens [Ta, Da], mask and header, and rename the folder to its final name.

        unreadable, picture_side: see CacheHeader.
        Raises InputError if the audio tokens are not finite.
        """
        self._check(f"audio encoder of {self.header.model}", "", audio)
        for written in (self._face, self._patches, self._scales):
            written.flush()
        np.save(self._partial / "audio.npy", audio)
        np.save(self._partial / "has_image.npy", self._has_image)
        header = self.header.model_copy(
            update={
                "audio_tokens": len(audio),
                "audio_start_s": audio_start_s,
                "unreadable": tuple(unreadable),
                "picture_side": picture_side,
            }
        )
        (self._partial / HEADER_FILE).write_text(header.model_dump_json(indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._partial.rename(self._folder)

    def _check(self, encoder: str, where: str, *features: NDArray[np.float16]) -> None:
        if not all(map(all_finite, features)):
            raise InputError(
                f"The {encoder} gives NaN or infinite features for track {self.header.track}{where}, so none "
                "of the track are written. On a GPU half precision may overflow: run auscan extract again "
                "with --device cpu, or with other weights."
            )

    def _array(self, name: str, shape: tuple[int, ...], numbers: type[np.generic]) -> Any:
        # A new file reads as zeros. On most file systems, rows that are never written use no space.
        return np.lib.format.open_memmap(self._partial / f"{name}.npy", "w+", numbers, shape)


@dataclass(frozen=True, kw_only=True)
class CacheSize:
    """Estimated size of the features on disk."""

    frames: int
    """Rows of all tracks."""
    sound_s: float
    """Seconds of sound in all tracks."""
    width: int
    """Width Dv of the visual tokens."""
    grid: int
    """Patches per side G."""
    audio_width: int
    """Width Da of the audio tokens."""

    @property
    def visual(self) -> int:
        """Bytes of global and patch tokens."""
        return self.frames * (self.width * FLOAT16_BYTES + self.grid**2 * (self.width + SCALE_BYTES))

    @property
    def audio(self) -> int:
        """Bytes of audio tokens."""
        return int(self.sound_s * SAMPLE_RATE_HZ / TOKEN_HOP) * self.audio_width * FLOAT16_BYTES

    @property
    def total(self) -> int:
        """Bytes of all tokens, times and masks."""
        return self.visual + self.audio + self.frames * 9


def format_bytes(size: float) -> str:
    """Return bytes as text in powers of 1,000, such as '1.4 TB', '70 GB' or '3.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
