"""Cut tracks into windows and collate batches.

A window is a range of rows including those without a crop: such a frame keeps its position, its time and its
labels of -1, so frames stay aligned with the audio.

Inputs: tracks (tracks.py), the data settings. Returns: batches of tensors.
See also: epoch.py (windows of an epoch), module.py (frames without a crop).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from auscan.core.errors import InputError
from auscan.results.readers.annotations import NOT_ANNOTATED
from auscan.training.config import DataConfig
from auscan.training.tracks import LabelledTrack


@dataclass(frozen=True)
class Window:
    """Rows `start` to `stop` of a track, given by its position in the list of tracks."""

    track: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows, padded to the length of the longest."""

    face: Tensor | None
    """[B, T, Dv] float16; None with crops."""
    patches: Tensor | None
    """[B, T, N, Dv] float32; None with crops."""
    crops: Tensor | None
    """[B, T, S, S, 3] uint8 RGB, black for frames without a crop; None with features."""
    has_face: Tensor
    """[B, T] bool; False for frames without a crop and for padding."""
    times_s: Tensor
    """[B, T] float64."""
    labels: Tensor
    """[B, T, A] int8; -1 for padding."""
    covers: Tensor
    """[B, T, A] int8: 1 region covered, 0 visible, -1 unknown and for padding."""
    intensities: Tensor
    """[B, T, A] float32, 0 to 5; NaN if unknown and for padding."""
    audio: Tensor
    """[B, Ta, Da] float16."""
    audio_times_s: Tensor
    """[B, Ta] float64."""
    audio_valid: Tensor
    """[B, Ta] bool."""
    own_audio: Tensor
    """[B, T] bool; False for frames of a window that has the audio of another one, and for padding."""
    tracks: tuple[str, ...]
    """Name of the track of each window."""
    in_window: Tensor | None = None
    """[B, T] bool, False in the margins of a window and in padding; None: no margins."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device. The copy of a pinned batch to a GPU is not waited for."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch in pinned memory. A loader with `pin_memory` calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return type(self)(**{**values, **changed})

    def window(self, number: int) -> Self:
        """Return one window as a batch of one."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            values[name] = None if value is None else value[number : number + 1]
        return type(self)(**values)


def window_starts(rows: int, length: int, stride: int) -> list[int]:
    """First rows of the windows. The last window ends with the track; a shorter track is one window."""
    if rows <= length:
        return [0]
    starts = list(range(0, rows - length + 1, stride))
    return starts if starts[-1] + length == rows else [*starts, rows - length]


def training_windows(tracks: Sequence[LabelledTrack], data: DataConfig) -> list[Window]:
    """Return all windows with at least one labelled frame that has a crop.

    Raises InputError if there is none.
    """
    windows = []
    for track_number, track in enumerate(tracks):
        rows = len(track.labels)
        usable = (track.labels >= 0).any(axis=1) & track.features.has_image  # [T]
        length = rows if data.length is None else data.length
        for start in window_starts(rows, length, data.stride):
            stop = min(start + length, rows)
            if usable[start:stop].any():
                windows.append(Window(track_number, start, stop))
    if not windows:
        raise InputError("No training frame has both a label and a crop. See report.md in the index.")
    return windows


class WindowBatches(Dataset[Batch]):
    """Data set of batches, indexed by the numbers of their windows."""

    def __init__(
        self,
        tracks: Sequence[LabelledTrack],
        windows: Sequence[Window],
        audio_margin_s: float,
        margin: int | None = None,
    ) -> None:
        """audio_margin_s: audio of a window before its first and after its last frame; margin: see
        DataConfig.
        """
        self._tracks, self._windows, self._audio_margin_s = tracks, windows, audio_margin_s
        self._margin = margin

    def __getitem__(self, numbers: Sequence[int]) -> Batch:
        return collate([self.window(number) for number in numbers])

    def window(self, number: int) -> Batch:
        """Return one window as a batch of one."""
        window = self._windows[number]
        track = self._tracks[window.track]
        if self._margin is None:
            return slice_track(track, slice(window.start, window.stop), self._audio_margin_s)
        return slice_track_with_margin(track, window, self._margin, self._audio_margin_s)


class CaughtErrors(Dataset[Batch | InputError]):
    """Data set that returns an InputError instead of raising it.

    A loader with worker processes would raise it as a traceback of the worker.
    """

    def __init__(self, batches: Dataset[Batch]) -> None:
        self._batches = batches

    def __getitem__(self, numbers: Sequence[int]) -> Batch | InputError:
        try:
            return self._batches[numbers]
        except InputError as error:
            return error


def slice_track(track: LabelledTrack, rows: slice, audio_margin_s: float) -> Batch:
    """Return rows of a track as a batch of one, with audio from `audio_margin_s` before to after them.

    Raises InputError for features that are not finite.
    """
    features = track.features
    times_s = features.times_s[rows]
    tokens = features.audio_within(float(times_s[0]) - audio_margin_s, float(times_s[-1]) + audio_margin_s)
    audio = features.read("audio", tokens)
    has_face = features.has_image[rows]
    arrays = {
        **_visual_inputs(track, rows, has_face),
        "has_face": has_face,
        "times_s": times_s,
        "labels": track.labels[rows],
        "covers": track.covers[rows],
        "intensities": track.intensities[rows],
        "audio": audio,
        "audio_times_s": features.audio_times_s(tokens),
        "audio_valid": np.ones(len(audio), bool),
        "own_audio": np.ones(len(times_s), bool),
    }
    tensors: dict[str, Any] = {"face": None, "patches": None, "crops": None, "tracks": (track.name,)}
    # Slices of a memory map are copied; decoded arrays, which are large, are not.
    owned = {name: np.require(array, requirements=["O", "W"]) for name, array in arrays.items()}
    tensors |= {name: torch.from_numpy(array)[None] for name, array in owned.items()}
    return Batch(**tensors)


def _visual_inputs(track: LabelledTrack, rows: slice, has_face: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return crops if the track has them, else features."""
    if track.crops is None:
        return {name: track.features.read(name, rows) for name in ("face", "patches")}
    return {"crops": track.crops.read(np.arange(rows.start, rows.stop), has_face)}


def slice_track_with_margin(
    track: LabelledTrack, window: Window, margin: int, audio_margin_s: float
) -> Batch:
    """Return a window with up to `margin` unlabelled frames on either side, as a batch of one."""
    rows = slice(max(0, window.start - margin), min(len(track.labels), window.stop + margin))
    batch = slice_track(track, rows, audio_margin_s)
    in_window = torch.zeros_like(batch.has_face)
    in_window[:, window.start - rows.start : window.stop - rows.start] = True
    beyond = ~in_window[..., None]
    labels, covers = (each.masked_fill(beyond, NOT_ANNOTATED) for each in (batch.labels, batch.covers))
    intensities = batch.intensities.masked_fill(beyond, torch.nan)
    return replace(batch, in_window=in_window, labels=labels, covers=covers, intensities=intensities)


def collate(windows: Sequence[Batch]) -> Batch:
    """Join batches of one into one batch; shorter windows are padded with frames without a face."""
    padding = {"labels": NOT_ANNOTATED, "covers": NOT_ANNOTATED, "intensities": torch.nan}
    collated: dict[str, Any] = {}
    for each in fields(Batch):
        if getattr(windows[0], each.name) is None:
            collated[each.name] = None
            continue
        if each.name == "tracks":
            collated[each.name] = tuple(track for window in windows for track in window.tracks)
            continue
        values = [getattr(window, each.name)[0] for window in windows]
        out = values[0].new_empty((len(values), max(map(len, values)), *values[0].shape[1:]))
        for row, value in enumerate(values):
            out[row, : len(value)] = value
            out[row, len(value) :] = padding.get(each.name, 0)
        collated[each.name] = out
    return Batch(**collated)
