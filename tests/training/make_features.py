"""Write a small data set of index and features: AU01 is visible in the face features, AU25 in the audio."""

from pathlib import Path

import numpy as np

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.cache import CacheHeader, TrackWriter, rows_digest
from auscan.datasets.clock import ASSUMED, FrameClock
from auscan.datasets.index import Track, open_index_writer

WIDTH, GRID, AUDIO_WIDTH = 12, 2, 6
RATE_HZ = 30.0


TRACKS = {
    "900": ("train", 130),
    "901_left": ("train", 75),
    "901_right": ("train", 75),
    "mute902": ("train", 40),
    "903": ("val", 90),
    "904": ("val", 30),
    "905": ("test", 20),
}
"""Covers several windows, fewer than one window, two persons, and no audio."""


def make_features(
    folder: Path,
    tracks: dict[str, tuple[str, int]] = TRACKS,
    seed: int = 0,
    holes: float = 0.1,
    uncoded: tuple[str, ...] = (),
) -> tuple[Path, Path]:
    """Write an index and features of tracks {name: (split, frames)}; returns both folders.

    Every track has audio except those named `mute...`. A tenth of the labels and all labels of the AUs in
    `uncoded` are -1.
    """
    rng = np.random.default_rng(seed)
    face_of = np.random.default_rng(1).normal(size=(len(AFFWILD2_AUS), WIDTH))
    audio_of = np.random.default_rng(2).normal(size=AUDIO_WIDTH)
    with open_index_writer(folder / "index", {"root": str(folder)}) as index:
        for name, (split, frames) in tracks.items():
            active = rng.random((frames // 10 + 1, len(AFFWILD2_AUS))) < 0.4
            active = np.repeat(active, 10, axis=0)[:frames]
            labels = active.astype(np.int8)
            labels[rng.random(frames) < 0.1] = -1
            labels[:, [AFFWILD2_AUS.index(au) for au in uncoded]] = -1
            seen = rng.random(frames) >= holes
            images = [f"{name}/{row}.jpg" if seen[row] else None for row in range(frames)]
            times_s = np.arange(frames) / RATE_HZ
            source = name.removesuffix("_left").removesuffix("_right")
            clock = FrameClock(times_s=np.empty(0), rate_hz=RATE_HZ, source=ASSUMED)
            numbers = np.arange(1, frames + 1)
            index.add(
                Track(
                    name=name,
                    split=split,
                    source_video=source,
                    numbers=numbers,
                    labels=labels,
                    images=images,
                    times_s=times_s,
                    clock=clock,
                )
            )
            header = CacheHeader(
                track=name,
                model="made",
                encoders="0" * 16,
                rows=frames,
                rows_digest=rows_digest(images, times_s),
                width=WIDTH,
                grid=GRID,
                audio_width=AUDIO_WIDTH,
            )
            shown = active.copy()
            shown[:, AFFWILD2_AUS.index("AU25")] = False
            face = 0.3 * shown @ face_of + 0.3 * rng.normal(size=(frames, WIDTH))
            patches = np.repeat(face[:, None], GRID**2, axis=1)
            writer = TrackWriter(folder / "cache", header, times_s)
            for row in np.flatnonzero(seen):
                writer.write_row(row, face[row].astype(np.float16), patches[row].astype(np.float16))
            tokens = 0 if name.startswith("mute") else int(frames / RATE_HZ * 50)
            spoken = active[np.minimum((np.arange(tokens) + 0.5) * 0.02 * RATE_HZ, frames - 1).astype(int)]
            audio = spoken[:, AFFWILD2_AUS.index("AU25"), None] * audio_of
            audio = audio + 0.3 * rng.normal(size=(tokens, AUDIO_WIDTH))
            writer.finish(audio.astype(np.float16), 0.0, [])
    return folder / "index", folder / "cache"
