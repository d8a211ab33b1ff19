"""Write a small data set of pictures in which AU01 is a bright bar."""

from pathlib import Path

import cv2
import numpy as np

from auscan.batch.extract import Extraction
from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.clock import ASSUMED, FrameClock
from auscan.datasets.frozen_encoders import Encoders, Sources, load_encoders
from auscan.datasets.index import Track, open_index_writer, read_index

TRACKS = {"900": ("train", 24), "901": ("train", 15), "902": ("val", 12)}
SIDE = 40
"""Side of the pictures in pixels; the tiny encoder uses 32."""


def make_pictures(
    folder: Path,
    model: str,
    visual: Sources = None,
    audio: Sources = None,
    grid: int | None = 2,
    encoders: Encoders | None = None,
) -> tuple[Path, Path]:
    """Write pictures, an index and the features of `model` or of `encoders`; returns both folders.

    Every fifth frame has no picture; the labels of all AUs are those of AU01.
    """
    rng = np.random.default_rng(0)
    with open_index_writer(folder / "index", {"root": str(folder)}) as index:
        for name, (split, frames) in TRACKS.items():
            (folder / name).mkdir(parents=True)
            active = np.repeat(rng.random(frames // 3 + 1) < 0.5, 3)[:frames]
            images: list[str | None] = []
            for row in range(frames):
                picture = rng.integers(60, 140, (SIDE, SIDE, 3)).astype(np.uint8)
                if active[row]:
                    picture[8:14, 10:30] = 255
                image = f"{name}/{row + 1:05d}.png"
                cv2.imwrite(str(folder / image), picture)
                images.append(None if row % 5 == 4 else image)
            index.add(
                Track(
                    name=name,
                    split=split,
                    source_video=name,
                    numbers=np.arange(1, frames + 1),
                    labels=np.repeat(active[:, None], len(AFFWILD2_AUS), axis=1).astype(np.int8),
                    images=images,
                    times_s=np.arange(frames) / 30,
                    clock=FrameClock(times_s=np.empty(0), rate_hz=30.0, source=ASSUMED),
                )
            )
    encoders = encoders or load_encoders(model, visual, audio)
    Extraction(read_index(folder / "index"), encoders, folder / "cache", grid).run_here()
    return folder / "index", folder / "cache"
