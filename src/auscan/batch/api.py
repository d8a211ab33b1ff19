"""Detect action units from Python: in a file, in a part of it, in several files or in frames in memory.

`auscan.detect` is this function. It loads the model once, opens each input as a recording, and calls
`pipeline.detect.detect`; with `isolate`, it does so in a new process for each input. For collections use
`auscan detect`: it continues after errors, resumes, and runs on several machines.

Inputs: a path, several paths, or an array of frames with times. Returns: a Result, or one for each path.
See also: pipeline/detect.py (one recording), media/recording.py (inputs), isolate.py (the process).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from auscan.core.checkpoint_folder import pin_checkpoint
from auscan.core.config import OperatingPoint
from auscan.core.errors import InputError
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.media.audio import Waveform
from auscan.media.recording import ArrayRecording, FileRecording, Recording
from auscan.pipeline.detect import AttributionsCallback, Progress
from auscan.pipeline.detect import detect as detect_recording
from auscan.pipeline.track import RowsCallback
from auscan.results.attributions import Attributions
from auscan.results.events import NO_BASELINE
from auscan.results.result import Result
from auscan.results.table import TrackScores

Paths = list[str] | list[Path] | list[str | Path] | tuple[str | Path, ...]
"""Several inputs; not Sequence[str], which a single path is, too."""

Numbered = TypeVar("Numbered", TrackScores, Attributions)
"""Rows with the number of their frames."""


class DetectArguments(TypedDict, total=False):
    """Keyword arguments that `detect` takes with every kind of source."""

    model: str | Path | InferenceEngine
    device: str
    threads: int | None
    isolate: bool
    operating_point: OperatingPoint
    keep_all: bool
    baseline: str
    progress: Progress | None
    rows: RowsCallback | None
    attributions: bool | AttributionsCallback


@overload
def detect(
    source: str | Path,
    *,
    start: float | None = None,
    end: float | None = None,
    folder_rate_hz: float | None = None,
    **arguments: Unpack[DetectArguments],
) -> Result: ...


@overload
def detect(
    source: Paths,
    *,
    start: float | None = None,
    end: float | None = None,
    folder_rate_hz: float | None = None,
    **arguments: Unpack[DetectArguments],
) -> list[Result]: ...


@overload
def detect(
    source: NDArray[np.uint8],
    *,
    times_s: ArrayLike,
    sound: Waveform | None = None,
    **arguments: Unpack[DetectArguments],
) -> Result: ...


def detect(
    source: str | Path | Paths | NDArray[np.uint8],
    *,
    times_s: ArrayLike | None = None,
    sound: Waveform | None = None,
    start: float | None = None,
    end: float | None = None,
    folder_rate_hz: float | None = None,
    model: str | Path | InferenceEngine = "nano",
    device: str = "auto",
    threads: int | None = None,
    isolate: bool = False,
    operating_point: OperatingPoint = "default",
    keep_all: bool = False,
    baseline: str = NO_BASELINE,
    progress: Progress | None = None,
    rows: RowsCallback | None = None,
    attributions: bool | AttributionsCallback = False,
) -> Result | list[Result]:
    """Detect action units of every face in every frame of `source`.

    Args:
        source: a video, a picture, or a folder of numbered pictures; a list of them; or an array of frames
            [T, H, W, 3] uint8 RGB with `times_s`
        times_s: times [T] of the frames of an array in seconds; they do not decrease
        sound: audio of an array of frames, on the clock of `times_s`
        start: first time to process in seconds, on the clock of the file as in the column timestamp. The
            result is that of a file cut at `start` and `end`; frames keep their numbers and times
        end: time in seconds before which processing ends
        folder_rate_hz: pictures per second, if `source` is a folder
        model: name of a shipped model, path of a checkpoint folder, user/name[@revision] on the Hub, or a
            loaded engine
        device: device of a model that is given by name, as for `load_model`
        threads: threads of a model that is given by name, as for `load_model`
        isolate: process each input in a new process, so that a crash or a leak of a decoder cannot reach this
            one; takes about two seconds more for each input
        operating_point: set of thresholds: default, balanced, precise or sensitive
        keep_all: also score low-quality faces
        baseline: neutral baseline to subtract for each face: none, median, or SECONDS-SECONDS
        progress: called with the number of processed frames, and the expected number or None; for a list,
            with the number of finished inputs and of all inputs
        rows: called with consecutive parts of the table, as soon as their rows are final
        attributions: True stores attention maps and gates in `Result.attributions`; a function is called
            with them face by face, in parts, and the result has none

    Returns a Result, and for a list a list of Results in the same order. The first input of a list that fails
    raises its error.

    Raises:
        MediaError: the source cannot be read to its end, or has no frame between `start` and `end`
        CheckpointError: the model cannot be loaded, or its graphs have no attributions and they are requested
        InputError: an argument is wrong, or does not fit the kind of source
        CrashError: with `isolate`, the process ended unexpectedly
    """
    several = isinstance(source, list | tuple)
    if several or isolate:
        _refuse_callbacks("a list of inputs" if several else "isolate", rows, attributions)
    sources = source if isinstance(source, list | tuple) else [source]
    recordings = [_open(each, times_s, sound, start, end, folder_rate_hz) for each in sources]
    arguments: dict[str, Any] = {
        "operating_point": operating_point,
        "keep_all": keep_all,
        "baseline": baseline,
        "rows": rows,
        "attributions": attributions,
    }
    if isolate:
        run = partial(_detect_isolated, _name_of_model(model), device, threads, arguments)
    else:
        run = partial(_detect, _load(model, device, threads), "auto", None, arguments)
    if not several:
        return run(recordings[0], progress)
    results = []
    for recording in recordings:
        results.append(run(recording, None))
        if progress is not None:
            progress(len(results), len(recordings))
    return results


def _refuse_callbacks(
    where: str, rows: RowsCallback | None, attributions: bool | AttributionsCallback
) -> None:
    """Raise InputError for a callback that cannot be called."""
    for name, given in (("rows", rows), ("attributions", attributions)):
        if callable(given):
            raise InputError(f"{name} cannot be a function with {where}. Use the results that are returned.")


def _open(
    source: Any,
    times_s: ArrayLike | None,
    sound: Waveform | None,
    start: float | None,
    end: float | None,
    folder_rate_hz: float | None,
) -> Recording:
    """Return a recording of one path or array; raise InputError for arguments of the other kind."""
    if isinstance(source, str | Path):
        if times_s is not None or sound is not None:
            raise InputError(f"{source} has its own times and sound. Omit times_s and sound.")
        return FileRecording(Path(source), folder_rate_hz, start, end)
    if times_s is None:
        raise InputError(
            "Give a path, a list of paths, or an array of frames with times_s, the time of each frame in "
            f"seconds; got {type(source).__name__}."
        )
    if start is not None or end is not None or folder_rate_hz is not None:
        raise InputError(
            "start, end and folder_rate_hz are for files. Select the frames of the array instead."
        )
    return ArrayRecording(source, times_s, sound)


def _load(model: str | Path | InferenceEngine, device: str, threads: int | None) -> InferenceEngine:
    if isinstance(model, str | Path):
        return load_engine(model, device=device, threads=threads)
    if device != "auto" or threads is not None:
        raise InputError("The model is loaded already. Pass device and threads to load_model instead.")
    return model


def _name_of_model(model: str | Path | InferenceEngine) -> str | Path:
    """Return the name or folder of a model; a model on the Hub by its commit, the same for all inputs."""
    if not isinstance(model, str | Path):
        raise InputError("isolate needs the name or the folder of a model, because an engine cannot be sent.")
    return pin_checkpoint(model) if isinstance(model, str) else model


def _detect_isolated(
    model: str | Path,
    device: str,
    threads: int | None,
    arguments: dict[str, Any],
    recording: Recording,
    progress: Progress | None,
) -> Result:
    """Process a recording in a new process, which loads the model."""
    from auscan.batch.isolate import call_in_process  # psutil and multiprocessing, for this only

    task = partial(_detect, model, device, threads, arguments, recording)
    result = call_in_process(task, recording.name, progress)
    if progress is not None:
        progress(result.info.frames, result.info.frames)  # the process skips messages that follow each other
    return result


def _detect(
    model: str | Path | InferenceEngine,
    device: str,
    threads: int | None,
    arguments: dict[str, Any],
    recording: Recording,
    progress: Progress | None,
) -> Result:
    """Process a recording; number its frames as in the file."""
    rows, on_attributions = arguments["rows"], arguments["attributions"]

    def add_rows(part: pd.DataFrame) -> None:
        rows(_renumber_table(part, recording.first_frame))

    def add_attributions(part: Attributions) -> None:
        on_attributions(_renumber(part, recording.first_frame))

    callbacks = {
        "progress": progress,
        "rows": rows and add_rows,
        "attributions": add_attributions if callable(on_attributions) else on_attributions,
    }
    result = detect_recording(recording, **{**arguments, **callbacks, "model": _load(model, device, threads)})
    first = recording.first_frame
    if not first:
        return result
    return replace(
        result,
        table=_renumber_table(result.table, first),
        tracks=tuple(_renumber(track, first) for track in result.tracks),
        attributions=None if result.attributions is None else _renumber(result.attributions, first),
    )


def _renumber(part: Numbered, first: int) -> Numbered:
    """Return a part with its frames numbered from `first` instead of 0."""
    return replace(part, frames=part.frames + first)


def _renumber_table(table: pd.DataFrame, first: int) -> pd.DataFrame:
    return table.assign(frame=table["frame"] + first) if first else table
