"""Measure frames a second of training from features, and of reading them.

    python benchmarks/speed/training_speed.py [--size base] [--grid 8] [--threads 2] [--precision no]

Writes random features of the size of `auscan extract` into a temporary folder, then measures in one run:
reading windows alone, whole steps (read, forward, losses, backward, optimiser), and a large matrix product as
the arithmetic limit of the machine. An epoch of Aff-Wild2 is 1.36 million frames, each in one window (stride
= length). The files are in the page cache. To include the disk, use `--wait` and empty the cache during the
pause.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.cache import CacheHeader, TrackWriter, open_track
from auscan.training.build import parameter_table
from auscan.training.config import LossConfig, ModelConfig
from auscan.training.losses import Criterion
from auscan.training.module import FeatureSizes, build_network
from auscan.training.optim import keep_freed_memory
from auscan.training.tracks import LabelledTrack
from auscan.training.windows import Batch, Window, WindowBatches

EPOCH_FRAMES = 1_360_000
"""Frames in an epoch of Aff-Wild2."""
LENGTH = 300
"""Frames in a window."""
TRACK = 4_000
"""Frames in a track: the median of Aff-Wild2."""
WIDTHS = {"nano": (256, 96), "base": (768, 768), "large": (1024, 1024)}
"""Visual and audio widths Dv, Da of each size."""


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(WIDTHS), default="base", help="size of encoders and network")
    parser.add_argument("--grid", type=int, default=8, help="patches per side")
    parser.add_argument("--frames", type=int, default=24_000, help="frames of random features")
    parser.add_argument("--batch", type=int, default=4, help="windows in a batch")
    parser.add_argument("--steps", type=int, default=8, help="training steps to time")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--precision", choices=["no", "bf16"], default="no", help="mixed precision")
    parser.add_argument("--wait", action="store_true", help="wait for Enter before reading")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as `auscan train` does
    width, audio_width = WIDTHS[args.size]
    sizes = FeatureSizes(width=width, grid=args.grid, audio_width=audio_width)
    with tempfile.TemporaryDirectory() as folder:
        tracks = random_tracks(Path(folder), sizes, args.frames)
        windows = [
            Window(place, start, start + LENGTH)
            for place, track in enumerate(tracks)
            for start in range(0, len(track.labels) - LENGTH + 1, LENGTH)
        ]
        if args.wait:
            input("Empty the page cache now, then press Enter. ")
        batches = WindowBatches(tracks, windows, 0.6)
        order = np.random.default_rng(0).permutation(len(windows))
        groups = [order[at : at + args.batch] for at in range(0, len(order), args.batch)]
        reading = frames_per_s(lambda group: batches[group], groups)
        step, flop = make_step(sizes, args.size, args.precision, batches[groups[0]])
        training = frames_per_s(lambda group: step(batches[group]), groups[: args.steps])
    limit = arithmetic_limit()
    epoch_min = EPOCH_FRAMES / training.wall / 60
    print(f"reading alone   {reading.wall:9.0f} frames/s, {reading.core:.0f} per second of processor time")
    print(f"whole steps     {training.wall:9.0f} frames/s: an epoch in {epoch_min:.1f} min")
    print(f"a core's share  {training.core:9.0f} frames per second of processor time")
    print(f"reading is {training.wall / reading.wall:.1%} of a step")
    print(f"{flop / 1e6:.0f} MFLOP a frame; {flop * training.wall / limit:.0%} of {limit / 1e9:.0f} GFLOP/s")


def random_tracks(folder: Path, sizes: FeatureSizes, frames: int) -> list[LabelledTrack]:
    """Make tracks of random features and labels."""
    rng, tracks = np.random.default_rng(0), []
    for number in range(max(1, frames // TRACK)):
        header = CacheHeader(
            track=str(number),
            model="made",
            encoders="made",
            rows=TRACK,
            rows_digest="",
            **sizes.model_dump(),
        )
        writer = TrackWriter(folder, header, np.arange(TRACK) / 30)
        for row in range(TRACK):
            tokens = rng.standard_normal((1 + sizes.grid**2, sizes.width), np.float32).astype(np.float16)
            writer.write_row(row, tokens[0], tokens[1:])
        audio = rng.standard_normal((TRACK * 5 // 3, sizes.audio_width), np.float32)
        writer.finish(audio.astype(np.float16), 0.0, [])
        labels = rng.integers(0, 2, (TRACK, len(AFFWILD2_AUS))).astype(np.int8)
        features = open_track(folder, str(number))
        tracks.append(
            LabelledTrack(
                name=str(number),
                source_video=str(number),
                numbers=np.arange(1, TRACK + 1),
                labels=labels,
                covers=np.full_like(labels, -1),
                intensities=np.full(labels.shape, np.nan, np.float32),
                features=features,
            )
        )
    return tracks


def make_step(
    sizes: FeatureSizes, size: str, precision: str, first: Batch
) -> tuple[Callable[[Batch], None], float]:
    """Return a training step and its floating-point operations a frame."""
    model = ModelConfig(size=size)
    network = build_network(sizes, model)
    print(parameter_table(network, sizes, model))
    criterion = Criterion(LossConfig(), torch.ones(len(AFFWILD2_AUS)), AFFWILD2_AUS)
    optimizer = torch.optim.AdamW(network.parameters())

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = network(batch)
        criterion(output).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step(first)  # and warm up
    return step, counter.get_total_flops() / first.has_face.sum().item()


class Pace(NamedTuple):
    """Frames a second."""

    wall: float
    """Per second of wall-clock time."""
    core: float
    """Per second of processor time, summed over cores."""


def frames_per_s(work: Callable[[np.ndarray], object], groups: list[np.ndarray]) -> Pace:
    """Measure the pace over groups of windows."""
    wall_s, core_s = time.perf_counter(), time.process_time()
    for group in groups:
        work(group)
    frames = sum(map(len, groups)) * LENGTH
    return Pace(frames / (time.perf_counter() - wall_s), frames / (time.process_time() - core_s))


def arithmetic_limit() -> float:
    """Measure floating-point operations a second of a large float32 matrix product, best of five."""
    a, b, best = torch.randn(2048, 2048), torch.randn(2048, 2048), 0.0
    for _ in range(5):
        began_s = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began_s))
    return best


if __name__ == "__main__":
    main()
