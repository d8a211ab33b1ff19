"""Define a fake detector without a model, in its own module so that worker processes can import it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

import auscan.batch.jobs
import auscan.inference.load
import auscan.pipeline.detect
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.checkpoint_folder import find_checkpoint, read_config
from auscan.core.config import (
    CheckpointConfig,
    ConvVisualConfig,
    LogMelAudioConfig,
    NetworkConfig,
    OperatingPoints,
)
from auscan.media.video import probe, read_frames
from auscan.results.attributions import Attributions
from auscan.results.events import add_baseline_columns, parse_baseline, resting_levels
from auscan.results.result import Result
from auscan.results.run_info import RunInfo
from auscan.results.table import TrackScores, build_table

THRESHOLDS = (0.5,) * 12


def fake_detect(
    path: Path,
    model: SimpleNamespace,
    operating_point: str = "default",
    folder_rate_hz: float | None = None,
    keep_all: bool = False,
    baseline: str = "none",
    progress: Callable[[int, int | None], None] | None = None,
    rows: Callable[[pd.DataFrame], None] | None = None,
    attributions: Callable[[Attributions], None] | None = None,
) -> Result:
    """Return one face in every frame but the last: AU12 active, AU23 unknown, the others inactive."""
    if Path(path).stem == "surprise":
        raise KeyError("unexpected\nerror")
    if Path(path).stem == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    total = probe(path, folder_rate_hz).frames
    times = []
    for frame in read_frames(path, folder_rate_hz):
        times.append(frame.time_s)
        if progress is not None:
            progress(len(times), total)
    seen = np.arange(max(1, len(times) - 1))
    probabilities = np.full((len(seen), 12), 0.2, np.float32)
    probabilities[:, 6], probabilities[:, 8] = 0.8, np.nan
    track = TrackScores(
        face_id=0,
        frames=seen,
        boxes=np.tile(np.float32([8, 8, 20, 20]), (len(seen), 1)),
        points=np.zeros((len(seen), 5, 2), np.float32),
        scores=np.ones(len(seen), np.float32),
        quality_features=np.tile(np.float32([60, 1.2, 0.5, 0.2, 5, -3, 0.0]), (len(seen), 1)),
        probabilities=probabilities,
    )
    info = RunInfo(
        source=Path(path).name,
        duration_s=len(times) / 25,
        frames=len(times),
        has_audio=False,
        seconds=0.1,
        model=model.config.name,
        operating_point=operating_point,
        thresholds=THRESHOLDS,
        untrained_aus=("AU23",),
        keep_all=keep_all,
        baseline=baseline,
        command="auscan.detect(...)",
        versions={"auscan": "0.1.0"},
        warnings=("late.mp4: the sound is 0.20 s late.",) if Path(path).stem == "late" else (),
    )
    table = build_table(np.asarray(times), [track], THRESHOLDS)
    parsed = parse_baseline(baseline)
    if parsed is not None:
        table = add_baseline_columns(table, resting_levels(table, parsed, keep_all), THRESHOLDS, keep_all)
    if rows is not None:
        rows(table)
    if attributions:
        points = np.tile(np.float32([[20, 16], [44, 16], [32, 26], [24, 36], [40, 36]]), (len(seen), 1, 1))
        shares = (np.full((len(seen), *shape), 128, np.uint8) for shape in ((4,), (12, 4), (12,), ()))
        attributions(Attributions(32, AFFWILD2_AUS, seen, 0 * seen, points, *shares))
    return Result(table, (track,), info)


def fake_load(model: str = "nano", *engine: object) -> SimpleNamespace:
    """Return an engine with only a config; the model named "blind" has no attributions."""
    config = fake_config(read_config(find_checkpoint(model)).name)
    return SimpleNamespace(config=config, has_attributions=config.name != "blind")


def fake_config(name: str, points: bool = True) -> CheckpointConfig:
    """Return a config with or without operating points."""
    known = OperatingPoints(balanced=THRESHOLDS, precise=THRESHOLDS, sensitive=THRESHOLDS)
    return CheckpointConfig(
        name=name,
        untrained_aus=("AU23",),
        thresholds=THRESHOLDS,
        operating_points=known if points else None,
        auscan_version="0.1.0",
        network=NetworkConfig(visual=ConvVisualConfig(crop_size=32), audio=LogMelAudioConfig()),
    )


def load_fake_detect_worker(*request: object) -> auscan.batch.jobs.DetectWorker:
    """Replace the engine and `detect` by the fakes in this process and return the worker."""
    auscan.inference.load.load_engine = fake_load  # type: ignore[assignment]
    auscan.pipeline.detect.detect = fake_detect  # type: ignore[assignment]
    return auscan.batch.jobs.DetectWorker(*request)  # type: ignore[arg-type]
