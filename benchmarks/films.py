"""Rendered people who talk, as files with everything known: what sound is good for, with exact labels.

Rendering takes longer than reading, so films are rendered once into a folder, nearly without loss: of persons
that no training step saw, with nothing before their faces (recipes/nano/rendered_clips.py).

In: ict_facekit.npz, a folder.  Out: `Footage`.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from sources import Footage, Truth

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.media.audio import Waveform

SECONDS = 6.0
"""How long a film is."""
CLOCK = Fraction(1, 90_000)


def talking_films(data: Path, folder: Path, persons: int) -> list[Footage]:
    """The films; those that are in the folder already are taken from there."""
    from rendered_faces import TEST

    folder.mkdir(parents=True, exist_ok=True)
    for person in TEST[-persons:]:
        if not (folder / f"{person}.npz").exists():
            _shoot(data / "ict_facekit.npz", person, folder)
    return [_load(folder, person) for person in TEST[-persons:]]


def _shoot(ict: Path, person: int, folder: Path) -> None:
    """Render one film: the picture as .mp4, then sound and truth as .npz."""
    from expressions import labels_of, soft_targets
    from head import load_head
    from rendered_clips import draw_film, shoot

    film = draw_film(load_head(ict), person, SECONDS, mouth="free")
    pictures = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for shot in shoot(film):
            pictures.append(shot.picture)
            yield shot.image

    _write(folder / f"{person}.mp4", images(), film.times_s)
    gaps = np.asarray([picture.lip_gap for picture in pictures])
    truth: dict[str, Any] = {
        "labels": labels_of(film.intensities, gaps),
        "points": np.stack([picture.points for picture in pictures]),
        "soft": soft_targets(film.intensities, gaps),
        "scores": film.intensities,
    }
    np.savez(folder / f"{person}.npz", wave=film.wave, **truth)


def _load(folder: Path, person: int) -> Footage:
    with np.load(folder / f"{person}.npz") as stored:
        truth = Truth(**{name: stored[name] for name in ("labels", "points", "soft", "scores")})
        wave = Waveform(stored["wave"].astype(np.float32), 0.0)
    assert len(wave.samples) >= SAMPLE_RATE_HZ
    return Footage(folder / f"{person}.mp4", truth, wave)


def _write(path: Path, images: Iterator[NDArray[np.uint8]], times_s: NDArray[np.float64]) -> None:
    """H.264 with a colour for every pixel, hardly compressed."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8", "preset": "veryfast"})
        stream.pix_fmt = "yuv444p"
        stream.time_base = stream.codec_context.time_base = CLOCK
        for number, (image, time_s) in enumerate(zip(images, times_s, strict=True)):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base, frame.pts = CLOCK, round(time_s / CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
